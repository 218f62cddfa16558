"""What h5z recorded of an HDF5 file's headers in a Zarr store -> Tree: the inverse of `h5z.planner`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from h5z.dtypes import BOOL, STRING, refers
from h5z.errors import SourceError
from h5z.leaves import leaves
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Link, Node, Problem, Tree, TypeNode
from h5z.records import clean, hdf5_name
from h5z.restore.stored import StoredArray, StoredNode
from h5z.target import Target

Parts = dict[tuple[str, ...], StoredArray]  # by the steps of a leaf (`h5z.leaves.Leaf`)
_ARRAY_FIELDS = ("layout", "fill", "fill_time", "alloc_time", "committed", "allocated", "nulls", "edges", "order", "comment")


@dataclass
class Headers:
    """What a store says of the HDF5 file that it came from, or that it shall become.

    Attributes
    ----------
    tree : Tree
        As `h5z.scan` shall find the restored file.
    parts : mapping
        Path of a dataset -> the arrays that carry it.
    checksums : mapping
        Path of an array in the store -> the checksum of its stored bytes, taken when they were written.
    not_carried, notes :
        What did not come over when the store was made; what cannot go back.
    """

    tree: Tree
    parts: dict[str, Parts]
    checksums: dict[str, str] = field(default_factory=dict)
    not_carried: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_ours(nodes: dict[str, StoredNode]) -> bool:
    """Whether h5z made a store: its root has the commit record."""
    record = nodes[""].attributes.get("h5z")
    return isinstance(record, dict) and "fingerprint" in record and not nodes[""].is_array


def recorded_headers(target: Target, nodes: dict[str, StoredNode]) -> Headers:
    """Read the headers that h5z recorded in a store that it made.

    Raises
    ------
    SourceError
        If a record is not what h5z writes.
    """
    try:
        return _Reader(target, nodes).read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{target.name}: expected the records of h5z, found others ({type(error).__name__}: {error})") from None


class _Reader:
    def __init__(self, target: Target, nodes: dict[str, StoredNode]) -> None:
        self.target, self.nodes = target, nodes
        self.root = cast(dict[str, Json], nodes[""].attributes["h5z"])
        self.escaped = bool(self.root.get("escaped"))
        self.members: dict[str, list[StoredNode]] = defaultdict(list)
        for path, node in nodes.items():
            if path:
                self.members[path.rpartition("/")[0]].append(node)
        self.found: dict[str, Node] = {}
        self.parts: dict[str, Parts] = {}

    def read(self) -> Headers:
        stack: list[tuple[str, StoredNode | Node]] = [("/", self.nodes[""])]
        while stack:  # as a scan walks a file
            path, item = stack.pop()
            if not isinstance(item, StoredNode):
                self.found[path] = item
            elif item.is_array or "dataset" in _record(item):
                self.found[path] = self._array(path, item)
            else:
                stack += reversed(list(self._group(path, item)))
        root = self.root
        block, creation = root.get("user_block", ""), root.get("creation")
        tree = Tree(self.target.name, 0, 0, self.found, user_block=block, creation=creation)
        problems = [Problem(self.text(item["path"]), item["reason"]) for item in root.get("not_carried", ())]
        return Headers(tree, self.parts, dict(root.get("checksums", {})), problems)

    def text(self, value: Json) -> Json:
        """JSON's text as HDF5 holds it: bytes that are not UTF-8 were escaped when it was written."""
        if not self.escaped:
            return value
        if isinstance(value, str):
            return hdf5_name(value)
        if isinstance(value, dict):
            return {self.text(key): self.text(item) for key, item in value.items()}
        return [self.text(item) for item in value] if isinstance(value, list) else value

    def _group(self, path: str, stored: StoredNode) -> Iterator[tuple[str, StoredNode | Node]]:
        """Add a group, and yield its members."""
        record = stored.attributes.get("h5z", {})
        links = tuple(self._link(name, item) for name, item in record.get("links", {}).items())
        children = tuple(self.text(record.get("children", [])))
        self.found[path] = GroupNode(
            path, self._attributes(stored), links, record.get("order", ""), children, self.text(record.get("comment", ""))
        )
        linked = {link.name for link in links}
        below: dict[str, StoredNode | Node] = {}
        prefix = path.rstrip("/")
        for member in self.members[stored.path]:
            name = self.text(_record(member).get("name", member.path.rpartition("/")[2]))
            below[name] = member
        for name, item in record.get("types", {}).items():
            below[self.text(name)] = TypeNode.from_dict({**self.text(item), "path": f"{prefix}/{self.text(name)}"})
        for name, item in record.get("dimensions", {}).items():
            below[self.text(name)] = ArrayNode.from_dict({**self.text(item), "path": f"{prefix}/{self.text(name)}"})
        for name in in_order(set(below) - linked, children):
            yield f"{prefix}/{name}", below[name]

    def _link(self, name: str, item: dict[str, Json]) -> Link:
        ((kind, target),) = self.text(item).items()
        if kind == "external":
            return Link(self.text(name), "external", target[1], target[0])
        return Link(self.text(name), kind, target)

    def _array(self, path: str, stored: StoredNode) -> ArrayNode:
        record = dict(_record(stored))
        record |= record.pop("dataset", {})
        if stored.is_array:
            array = StoredArray(self.target, stored)
            dtype = self.text(record.get("dtype")) or _implied(array)
            extra = len(leaves(dtype)[0].extra) if leaves(dtype)[0].steps == () else 0
            shape = record.get("shape", array.shape[: len(array.shape) - extra])
            self.parts[path] = {(): array}
        else:
            shape = record["shape"]
            self.parts[path] = dict(self._several(stored.path))
            dtype = self.text(record["dtype"])
        fields = {name: self.text(record[name]) for name in _ARRAY_FIELDS if name in record}
        sources = tuple(self.text(record.get("sources", [])))
        return ArrayNode(
            path,
            dtype,
            None if record.get("null") else tuple(shape),
            tuple(record["maxshape"]) if "maxshape" in record else None,
            chunks=tuple(record["chunks"]) if "chunks" in record else None,
            filters=tuple((f[0], self.text(f[1]), f[2], tuple(f[3])) for f in record.get("filters", ())),
            attributes=self._attributes(stored),
            scales=tuple(tuple(axis) for axis in self.text(record.get("scales", []))),
            sources=sources,
            files=tuple(dict.fromkeys(source[0] for source in sources)),
            **fields,
        )

    def _several(self, path: str) -> Iterator[tuple[tuple[str, ...], StoredArray]]:
        """The arrays below a group that stands for a dataset."""
        for member in self.members[path]:
            if member.is_array:
                yield tuple(self.text(_record(member)["part"])), StoredArray(self.target, member)
            else:
                yield from self._several(member.path)

    def _attributes(self, stored: StoredNode) -> tuple[Attribute, ...]:
        """A node's attributes: exact where recorded, implied by JSON alone where not."""
        record = _record(stored)
        exact = record.get("attributes", {})
        shown = dict(stored.attributes)
        shown.pop("h5z", None)
        if stored.zarr_format == 2 and "value" not in exact.get("_ARRAY_DIMENSIONS", {}):
            shown.pop("_ARRAY_DIMENSIONS", None)
        for name in record.get("added", ()):
            shown.pop(name, None)
        out: dict[str, Attribute] = {}
        for name in dict.fromkeys([*shown, *exact]):
            if name in exact:
                entry = exact[name]
                shape = None if entry["shape"] is None else tuple(entry["shape"])
                value = entry["value"] if "value" in entry else shown.get(name) if shape is not None else None
                limits = tuple(entry["maxshape"]) if "maxshape" in entry else None
                committed = self.text(entry.get("committed"))
                dtype = self.text(entry["dtype"])
                value = clean(value, hdf5_name) if refers(dtype) else value
                item = Attribute(self.text(name), dtype, shape, value, committed, limits)
            else:
                item = implied_attribute(self.text(name), shown[name])
            out[item.name] = item
        return tuple(out[name] for name in in_order(set(out), tuple(self.text(record.get("attribute_order", [])))))


def implied_attribute(name: str, value: Json) -> Attribute:
    """The attribute that plain JSON of one type stands for: a scalar, or a list of scalars."""
    first = value[0] if isinstance(value, list) else value
    kinds: dict[type, Datatype] = {bool: BOOL, str: STRING, int: "<i8", float: "<f8"}
    return Attribute(name, kinds[type(first)], (len(value),) if isinstance(value, list) else (), value)


def in_order(names: set[str], tracked: tuple[str, ...]) -> list[str]:
    """Names in the order of their creation where it was tracked, else in that of their bytes, as HDF5 lists them."""
    first = [name for name in dict.fromkeys(tracked) if name in names]
    return first + sorted(names - set(first), key=lambda name: name.encode("utf-8", "surrogateescape"))


def _record(stored: StoredNode) -> dict[str, Json]:
    return cast(dict[str, Json], stored.attributes.get("h5z", {}))


def _implied(array: StoredArray) -> Datatype:
    if array.text:
        return STRING
    if array.dtype == bool:
        return BOOL
    found = array.dtype.str
    return "<" + found[1:] if found[0] in "|>" else found
