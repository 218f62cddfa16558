"""A node in words: its datatype, shape, chunks, filters and bytes; a link, and where it leads; a value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from h5z.dtypes import class_of, plain
from h5z.explore.finding import follow
from h5z.nodes import ArrayNode, Datatype, GroupNode, Link, Node, Tree
from h5z.report import size

_LONGEST_VALUE = 100


def line(node: Node) -> str:
    """A node in a line."""
    name = node.path.rpartition("/")[2]
    if isinstance(node, GroupNode):
        return f"{name}/"
    if not isinstance(node, ArrayNode):
        return f"{name} committed datatype {datatype_text(node.dtype)}"
    return " ".join([name, *facts(node), bytes_text(node)]).rstrip()


def facts(node: ArrayNode) -> list[str]:
    """An array's datatype, shape, chunks and filters."""
    out = [datatype_text(node.dtype), shape_text(node.shape)]
    if node.chunks and (node.layout == "chunked" and node.shape):
        out.append(f"chunks {shape_text(node.chunks)}")
    elif node.layout not in ("contiguous", "chunked"):
        out.append(node.layout)
    if node.shards:
        out.append(f"shards {shape_text(node.shards)}")
    if node.filters:
        out.append(filters_text(node))
    return out


def filters_text(node: ArrayNode) -> str:
    """Filters or codecs, in the order in which they encode."""
    return "+".join(_filter_text(number, name, options) for number, name, _, options in node.filters)


_KNOWN = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 307: "bzip2", 32015: "zstd"}
_LEVELLED = (1, 307, 32015)  # whose first option is the level


def _filter_text(number: int, name: str, options: tuple[int, ...]) -> str:
    """A filter in a word: HDF5's by its number, whose registered name may be a sentence.

    >>> _filter_text(1, "deflate", (6,)), _filter_text(32001, "blosc; see http://blosc.org", ()), _filter_text(0, "zstd:3", ())
    ('deflate:6', 'blosc', 'zstd:3')
    """
    short_name = _KNOWN.get(number) or name.partition(";")[0].strip()[:40] or str(number)
    return f"{short_name}:{options[0]}" if number in _LEVELLED and options else short_name


def shape_text(shape: tuple[int, ...] | None) -> str:
    """A shape.

    >>> shape_text((2, 3)), shape_text(()), shape_text(None)
    ('2×3', 'scalar', 'null')
    """
    return "null" if shape is None else "×".join(map(str, shape)) or "scalar"


def logical_nbytes(node: ArrayNode) -> int | None:
    """Bytes of an array's elements; None where those vary."""
    each = element_nbytes(node.dtype)
    return None if each is None else (0 if node.shape is None else math.prod(node.shape)) * each


def element_nbytes(dtype: Datatype) -> int | None:
    """Bytes of one element; None where they vary.

    >>> element_nbytes("<f4"), element_nbytes({"class": "array", "shape": [2, 3], "base": "<f8"})
    (4, 48)
    """
    found_dtype = numpy_dtype(dtype)
    if found_dtype is not None:
        return found_dtype.itemsize
    if isinstance(dtype, dict) and dtype["class"] == "array":
        inner = element_nbytes(dtype["base"])
        return None if inner is None else inner * math.prod(dtype["shape"])
    if isinstance(dtype, dict) and dtype["class"] == "compound":
        sizes = [element_nbytes(member) for _, _, member in dtype["members"]]
        return None if None in sizes else sum(nbytes for nbytes in sizes if nbytes is not None)
    return None


def numpy_dtype(dtype: Datatype) -> np.dtype[Any] | None:
    """The numpy dtype of a datatype's elements, or None."""
    try:
        return plain(dtype)
    except (TypeError, KeyError, ValueError):
        return None


def bytes_text(node: ArrayNode) -> str:
    """What an array is in memory, what it takes, and the ratio."""
    logical = logical_nbytes(node)
    if logical is None or not node.storage_nbytes:
        return f"{size(node.storage_nbytes)} stored" if node.storage_nbytes else "" if logical is None else size(logical)
    if logical == node.storage_nbytes:
        return size(logical)
    return f"{size(logical)}, {size(node.storage_nbytes)} stored ({logical / node.storage_nbytes:.3g}:1)"


def link_text(tree: Tree, group: GroupNode, link: Link) -> str:
    """A link, and whether it leads in a circle or nowhere."""
    target = f"{link.file}:{link.target}" if link.file is not None else link.target
    kind: str = link.kind
    if kind == "hard" and f"{group.path.rstrip('/')}/".startswith(link.target.rstrip("/") + "/"):
        kind += ", a circle"
    elif kind == "soft":
        reached = follow(tree, group.path, link.target)
        if reached is None:
            kind += ", dangling"
        elif f"{group.path.rstrip('/')}/".startswith(reached.rstrip("/") + "/"):
            kind += ", a circle"
    return f"{link.name} -> {target} ({kind})"


def datatype_text(dtype: Datatype) -> str:
    """A datatype in a word or two.

    >>> datatype_text("<f4"), datatype_text({"class": "vlen", "base": "<i4"})
    ('float32', 'vlen of int32')
    """
    if isinstance(dtype, str):
        try:
            found_dtype = np.dtype(dtype)
        except TypeError:
            return dtype
        big = dtype.startswith(">") and found_dtype.itemsize > 1
        return ("big-endian " if big else "") + found_dtype.newbyteorder("=").name
    kind = class_of(dtype)
    if kind == "string":
        return "string" if dtype["size"] is None else f"string[{dtype['size']}]"
    if kind == "compound":
        return "{" + ", ".join(f"{name}: {datatype_text(member)}" for name, _, member in dtype["members"]) + "}"
    if kind in ("vlen", "array", "enum"):
        shape = f"[{shape_text(tuple(dtype['shape']))}]" if kind == "array" else ""
        return f"{kind}{shape} of {datatype_text(dtype['base'])}"
    if kind == "complex":
        carried = numpy_dtype(dtype)
        return carried.name if carried is not None and carried.kind == "c" else kind
    return kind


def short(value: Any) -> str:
    """A value in a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
