"""What HDF5 files have: each feature by name, and where a described hierarchy has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from h5z.codecs import from_filters
from h5z.dtypes import class_of, parts
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Tree, TypeNode
from h5z.restore.stored import StoredArray
from h5z.runs import decode_runs

Places: TypeAlias = Iterator[str]  # paths of objects; path@name of attributes


@dataclass(frozen=True)
class Feature:
    """A feature, the part of HDF5 that it belongs to, and what finds it."""

    part: str
    name: str
    find: Callable[[Tree], Places]
    told: bool = True  # whether Zarr has a word for it, so that finding it without h5z's records means anything

    def places(self, tree: Tree) -> set[str]:
        """Where a hierarchy has it."""
        return set(self.find(tree))


# --- Datatypes: by kind, as datasets have them, and attributes.


def kinds(dtype: Datatype) -> set[str]:
    """The kinds of datatype that one is made of.

    >>> sorted(kinds({"class": "vlen", "base": ">f4"}))
    ['big-endian numbers', 'floats', 'sequences of variable length']
    """
    return {kind for part in parts(dtype) for kind in _kinds_of(part)}


def _kinds_of(dtype: Datatype) -> Iterator[str]:
    found = class_of(dtype)
    if isinstance(dtype, str):
        yield {"i": "integers", "u": "integers", "f": "floats"}[dtype[1]]
        if dtype[0] == ">" and np.dtype(dtype).itemsize > 1:
            yield "big-endian numbers"
        return
    if found == "string":
        yield f"text of {'fixed' if dtype['size'] else 'variable'} length, {dtype['charset'].upper()}"
        if dtype["size"] and dtype["padding"] != "nullpad":
            yield {"nullterm": "text that ends with a zero", "spacepad": "text padded with spaces"}[dtype["padding"]]
    elif found == "complex":
        yield "complex numbers, HDF5 2.0's own" if dtype["class"] == "complex" else "complex numbers, h5py's"
    elif found == "reference":
        yield {"object": "object references", "region": "region references"}.get(dtype["kind"], "references of HDF5 1.12")
    elif found == "compound":
        yield "compounds"
        if any(class_of(member) == "compound" for _, _, member in dtype["members"]):
            yield "compounds in compounds"
    else:
        yield _OTHERS[found]


_OTHERS = {
    "bool": "booleans",
    "enum": "enumerations",
    "integer": "integers of other sizes and precisions",
    "float": "floats of other formats",
    "array": "array datatypes",
    "vlen": "sequences of variable length",
    "opaque": "opaque bytes",
    "bitfield": "bitfields",
    "time": "times",
}
KINDS = (
    *("integers", "integers of other sizes and precisions", "floats", "floats of other formats", "big-endian numbers"),
    *("booleans", "enumerations", "complex numbers, h5py's", "complex numbers, HDF5 2.0's own"),
    *(f"text of {length} length, {charset}" for length in ("variable", "fixed") for charset in ("ASCII", "UTF-8")),
    *("text that ends with a zero", "text padded with spaces"),
    *("compounds", "compounds in compounds", "array datatypes", "sequences of variable length"),
    *("opaque bytes", "bitfields", "times", "object references", "region references", "references of HDF5 1.12"),
)


def _of_datasets(kind: str) -> Callable[[Tree], Places]:
    return _arrays(lambda node: kind in kinds(node.dtype))


def _of_attributes(kind: str) -> Callable[[Tree], Places]:
    return _attributes(lambda item: kind in kinds(item.dtype))


# --- What else datasets, attributes and groups have.


def _arrays(has: Callable[[ArrayNode], Any]) -> Callable[[Tree], Places]:
    return lambda tree: (node.path for node in tree.arrays if has(node))


def _attributes(has: Callable[[Attribute], Any]) -> Callable[[Tree], Places]:
    return lambda tree: (
        f"{node.path}@{item.name}" for node in tree.nodes.values() for item in node.attributes if has(item)
    )  # fmt: skip


def _groups(has: Callable[[GroupNode], Any]) -> Callable[[Tree], Places]:
    return lambda tree: (node.path for node in tree.groups if has(node))


def _nodes(has: Callable[[Any], Any]) -> Callable[[Tree], Places]:
    return lambda tree: (node.path for node in tree.nodes.values() if has(node))


def _links(kind: str) -> Callable[[Tree], Places]:
    return lambda tree: (
        f"{node.path.rstrip('/')}/{link.name}" for node in tree.groups for link in node.links if link.kind == kind
    )


def _cycles(tree: Tree) -> Places:
    for node in tree.groups:
        above = f"{node.path.rstrip('/')}/"
        yield from (above + item.name for item in node.links if item.kind == "hard" and f"{above}/".startswith(item.target))


def _of_file(has: Callable[[Tree], Any]) -> Callable[[Tree], Places]:
    return lambda tree: iter(["/"] if has(tree) else [])


def _limits(node: ArrayNode) -> tuple[int | None, ...]:
    return node.maxshape or node.shape or ()


def _states(node: ArrayNode) -> set[int]:
    """What `ArrayNode.allocated` says of a dataset's chunks."""
    if node.allocated is None:
        return {0}
    grid = [-(-n // c) for n, c in zip(node.shape or (), node.chunks or node.shape or (), strict=True) if c]
    return set(decode_runs(node.allocated, int(np.prod(grid))).tolist())


def _filter(number: int) -> Callable[[Tree], Places]:
    return _arrays(lambda node: any(item[0] == number for item in node.filters))


def _non_ascii(name: str) -> bool:
    return not name.isascii()


FILTERS = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scale-offset",
    307: "bzip2",
    32000: "lzf",
    32001: "Blosc",
    32002: "MAFISC",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32019: "JPEG",
    32020: "VBZ",
    32022: "BitGroom",
    32023: "Granular BitRound",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
}
FEATURES = (
    *(Feature("Datasets of", kind, _of_datasets(kind)) for kind in KINDS),
    *(Feature("Attributes of", kind, _of_attributes(kind)) for kind in KINDS),
    Feature("Attributes", "scalar", _attributes(lambda item: item.shape == ())),
    Feature("Attributes", "lists", _attributes(lambda item: item.shape is not None and len(item.shape) == 1)),
    Feature("Attributes", "tables of more dimensions", _attributes(lambda item: len(item.shape or ()) > 1)),
    Feature("Attributes", "null dataspaces", _attributes(lambda item: item.shape is None)),
    Feature("Attributes", "zero-sized", _attributes(lambda item: 0 in (item.shape or ()))),
    Feature("Attributes", "of a maximum shape", _attributes(lambda item: item.maxshape)),
    Feature("Attributes", "of a committed datatype", _attributes(lambda item: item.committed)),
    Feature("Attributes", "names that are not ASCII", _attributes(lambda item: _non_ascii(item.name))),
    Feature("Attributes", "in the order of their creation", _nodes(lambda node: "attrs" in node.order), told=False),
    Feature("Dataspaces", "scalar", _arrays(lambda node: node.shape == ())),
    Feature("Dataspaces", "null", _arrays(lambda node: node.shape is None)),
    Feature("Dataspaces", "zero-sized", _arrays(lambda node: 0 in (node.shape or ()))),
    Feature("Dataspaces", "unlimited", _arrays(lambda node: None in _limits(node))),
    Feature("Dataspaces", "resizable within bounds", _arrays(lambda node: node.maxshape and None not in node.maxshape)),
    Feature("Storage", "contiguous", _arrays(lambda node: node.layout == "contiguous")),
    Feature("Storage", "compact", _arrays(lambda node: node.layout == "compact")),
    Feature("Storage", "chunked", _arrays(lambda node: node.layout == "chunked")),
    Feature("Storage", "external files", _arrays(lambda node: node.layout == "external")),
    Feature("Storage", "virtual", _arrays(lambda node: node.layout == "virtual")),
    Feature("Storage", "unallocated, whole or in chunks", _arrays(lambda node: -1 in _states(node))),
    Feature("Storage", "chunks that skip filters", _arrays(lambda node: max(_states(node), default=0) > 0)),
    Feature("Storage", "edge chunks that skip all filters", _arrays(lambda node: node.edges)),
    Feature("Storage", "early or incremental allocation", _arrays(lambda node: node.alloc_time != "late"), told=False),
    *(Feature("Filters", f"{name} ({number})", _filter(number)) for number, name in FILTERS.items()),
    Feature("Filters", "others", _arrays(lambda node: any(item[0] not in FILTERS for item in node.filters))),
    Feature("Fill values", "given", _arrays(lambda node: node.fill and "value" in node.fill)),
    Feature("Fill values", "undefined", _arrays(lambda node: node.fill and "undefined" in node.fill)),
    Feature("Fill values", "written always or never", _arrays(lambda node: node.fill_time != "ifset"), told=False),
    Feature("Hierarchy", "groups in groups", _groups(lambda node: node.path != "/")),
    Feature("Hierarchy", "several hard links to an object", _links("hard")),
    Feature("Hierarchy", "cycles of hard links", _cycles),
    Feature("Hierarchy", "soft links", _links("soft")),
    Feature("Hierarchy", "external links", _links("external")),
    Feature("Hierarchy", "links of users' kinds", _links("user")),
    Feature("Hierarchy", "links in the order of their creation", _groups(lambda node: "links" in node.order), told=False),
    Feature("Hierarchy", "names that are not ASCII", _nodes(lambda node: _non_ascii(node.path.rpartition("/")[2]))),
    Feature("Hierarchy", "committed datatypes", _nodes(lambda node: isinstance(node, TypeNode))),
    Feature("Hierarchy", "datasets of a committed datatype", _arrays(lambda node: node.committed)),
    Feature("Hierarchy", "comments", _nodes(lambda node: node.comment)),
    Feature("Hierarchy", "dimension scales, attached", _arrays(lambda node: any(node.scales))),
    Feature("Hierarchy", "labels of dimensions", _arrays(lambda node: node.attribute("DIMENSION_LABELS"))),
    Feature("File", "user block", _of_file(lambda tree: tree.user_block)),
    Feature("File", "superblock, sizes or space not the default", _of_file(lambda tree: tree.creation), told=False),
)


def plainly(node: ArrayNode, array: StoredArray, source: ArrayNode | None) -> tuple[Any, ...]:
    """Those filters of a source's dataset that an array of a store has as codecs, whatever is under ``h5z``."""
    chain = {item["name"].removeprefix("numcodecs.") for item in array.chain or ()}
    out = []
    for item in source.filters if source is not None else ():
        wanted = from_filters([item], array.dtype.itemsize) or []
        names = {codec["name"].removeprefix("numcodecs.") for codec in wanted}
        if names and (names <= chain or (names == {"zlib"} and "gzip" in chain)):
            out.append(item)
    return tuple(out)
