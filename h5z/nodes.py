"""One description of a hierarchy, for HDF5 files and Zarr stores alike: pure data, no I/O.

A datatype is described as JSON (`Datatype`, see `h5z.hdf5.datatypes`): a numpy type string such as ``"<f4"`` where that says it
all, a mapping with a ``class`` otherwise. Attribute and fill values are JSON by `h5z.attributes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
Datatype: TypeAlias = str | dict[str, Any]
Shape: TypeAlias = tuple[int, ...]


def _shape(value: list[int] | None) -> Shape | None:
    return None if value is None else tuple(value)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as JSON's own types; fields that hold their default are left out."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple or kind is list:
        return [item if type(item) in _SCALARS else _plain(item) for item in value]
    if kind is dict:
        return {key: item if type(item) in _SCALARS else _plain(item) for key, item in value.items()}
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@cache
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    """A record's fields that are shown, and their defaults."""
    return tuple((item.name, item.default) for item in fields(kind) if item.repr)


class Record:
    """What travels: a frozen dataclass that becomes JSON, leaving out what holds its default and what is not shown."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON's own types."""
        out = {}
        for name, default in _defaults(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if value is not default and value != default:
                out[name] = value if type(value) in _SCALARS else _plain(value)
        return out

    def __init_subclass__(cls, **given: Any) -> None:
        """Show IPython what `print` shows; it looks for that beside a class's own `__repr__`, not above it."""
        super().__init_subclass__(**given)
        cls._repr_pretty_ = Record._repr_pretty_  # type: ignore[method-assign]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("…" if cycle else str(self))


@dataclass(frozen=True)
class Attribute(Record):
    """An attribute: its datatype, its dataspace (`shape` is None for a null one) and its value as JSON.

    `maxshape` is None where it equals the shape; an element None is unlimited.
    """

    name: str
    dtype: Datatype
    shape: Shape | None
    value: Json
    committed: str | None = None
    maxshape: tuple[int | None, ...] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Attribute:
        """Build the attribute that `to_dict` described."""
        return cls(**{**data, "shape": _shape(data["shape"]), "maxshape": _shape(data.get("maxshape"))})


@dataclass(frozen=True)
class Link(Record):
    """A link that is not the first hard link to its object: recorded, and followed only by policy."""

    name: str
    kind: Literal["hard", "soft", "external", "user"]
    target: str
    file: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Link:
        """Build the link that `to_dict` described."""
        return cls(**data)


@dataclass(frozen=True)
class Problem(Record):
    """Something in the source that cannot be read or carried over."""

    path: str
    reason: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """Build the problem that `to_dict` described."""
        return cls(**data)


@dataclass(frozen=True)
class GroupNode(Record):
    """A group.

    Attributes
    ----------
    order : str
        What its links and attributes track of their creation order.
    children : tuple of str
        The names of all its links, in that order, where it is tracked.
    """

    path: str
    attributes: tuple[Attribute, ...] = ()
    links: tuple[Link, ...] = ()
    order: str = ""
    children: tuple[str, ...] = ()
    comment: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GroupNode:
        """Build the group that `to_dict` described."""
        links = tuple(map(Link.from_dict, data.get("links", ())))
        return cls(**{**data, "attributes": _attributes(data), "links": links, "children": tuple(data.get("children", ()))})


@dataclass(frozen=True)
class TypeNode(Record):
    """A committed datatype."""

    path: str
    dtype: Datatype
    attributes: tuple[Attribute, ...] = ()
    order: str = ""
    comment: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TypeNode:
        """Build the committed datatype that `to_dict` described."""
        return cls(**{**data, "attributes": _attributes(data)})


@dataclass(frozen=True)
class ArrayNode(Record):
    """A dataset's header.

    Attributes
    ----------
    shape : tuple of int, or None
        None for a null dataspace, ``()`` for a scalar.
    maxshape : tuple of (int or None), or None
        None where it equals the shape; an element None is unlimited.
    layout : str
        ``compact``, ``contiguous``, ``chunked``, ``virtual`` or ``external``.
    filters : tuple
        ``(id, name, flags, options)`` of each filter, in the order in which HDF5 applies them.
    fill : JSON
        None for HDF5's default (zeros), ``{"undefined": true}``, or ``{"value": …}``.
    storage_nbytes : int
        Bytes that the dataset takes in the file, as HDF5 says.
    offset : int, optional
        Where in the file the bytes of a contiguous dataset begin; None where they are not allocated, or lie in another file.
    shards, names : tuple
        Of a Zarr array: the shape of its shards, and its dimensions' names.
    content : str, optional
        What is stored, as base64, of a netCDF-4 dimension that is no variable: its readers show none of it.
    counts : mapping
        What `scan(measure=True)` counted of variable-length data: per path below the dataset, the elements of each row.
    payload : tuple of (int, int, int)
        What it weighed of them: for runs of consecutive elements of the dataset, how many, the bytes in memory of their
        variable-length parts, and those of the largest.
    allocated : JSON
        Per chunk in C order, as `h5z.runs` writes numbers: -1 where it is not allocated, else which filters it skipped, a
        bit each; of a layout without chunks one number. Where not all are 0; measured.
    nulls : mapping
        Per path below the dataset, which of its strings are null pointers rather than empty, or, of fixed length, padded with
        zeros rather than spaces, as runs; measured.
    edges : str
        ``unfiltered`` where chunks that reach past the array's end skip the filters.
    """

    path: str
    dtype: Datatype
    shape: Shape | None
    maxshape: tuple[int | None, ...] | None = None
    layout: str = "contiguous"
    chunks: Shape | None = None
    filters: tuple[tuple[int, str, int, tuple[int, ...]], ...] = ()
    fill: Json = None
    fill_time: str = "ifset"
    alloc_time: str = "late"
    storage_nbytes: int = 0
    attributes: tuple[Attribute, ...] = ()
    scales: tuple[tuple[str, ...], ...] = ()
    committed: str | None = None
    files: tuple[str, ...] = ()
    sources: tuple[Any, ...] = ()
    counts: dict[str, list[int]] = field(default_factory=dict)
    payload: tuple[tuple[int, int, int], ...] = ()
    utf8: bool = True
    content: str | None = None
    order: str = ""
    comment: str = ""
    allocated: Json = None
    nulls: Json = None
    edges: str = ""
    offset: int | None = None
    shards: Shape | None = None
    names: tuple[str | None, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArrayNode:
        """Build the array that `to_dict` described."""
        return cls(
            **{
                **data,
                "shape": _shape(data["shape"]),
                "maxshape": _shape(data.get("maxshape")),
                "chunks": _shape(data.get("chunks")),
                "shards": _shape(data.get("shards")),
                "names": tuple(data.get("names", ())),
                "filters": tuple((f[0], f[1], f[2], tuple(f[3])) for f in data.get("filters", ())),
                "attributes": _attributes(data),
                "scales": tuple(tuple(axis) for axis in data.get("scales", ())),
                "files": tuple(data.get("files", ())),
                "sources": tuple(data.get("sources", ())),
                "payload": tuple(map(tuple, data.get("payload", ()))),
            }
        )

    def attribute(self, name: str) -> Attribute | None:
        """Return the attribute of that name, or None."""
        return next((item for item in self.attributes if item.name == name), None)


Node: TypeAlias = GroupNode | ArrayNode | TypeNode
_KINDS: dict[str, type[GroupNode] | type[ArrayNode] | type[TypeNode]] = {
    "group": GroupNode,
    "array": ArrayNode,
    "type": TypeNode,
}


def _attributes(data: Mapping[str, Any]) -> tuple[Attribute, ...]:
    return tuple(map(Attribute.from_dict, data.get("attributes", ())))


@dataclass(frozen=True)
class Tree(Record):
    """A file's or a store's hierarchy: each object once, at the path where it was first met, parents before children.

    Attributes
    ----------
    notes : tuple of str
        What is not carried over and would not be missed.
    user_block : str
        The bytes before the HDF5 superblock, base64.
    access : dict, optional
        Credentials that the file's URL carried, as storage options; neither shown nor written.
    digest : str
        Of a file's header and of where its data lie (`h5z.hdf5.identity`); empty of a tree that was not measured.
    creation : mapping, optional
        What the file was created with, where it is not HDF5's default: version of the superblock, sizes, strategy of space.
    """

    file: str
    size: int
    mtime_ns: int
    nodes: dict[str, Node]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    user_block: str = ""
    access: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    digest: str = ""
    creation: Json = None

    @property
    def groups(self) -> Iterator[GroupNode]:
        """The groups, parents before children."""
        return (node for node in self.nodes.values() if isinstance(node, GroupNode))

    @property
    def arrays(self) -> Iterator[ArrayNode]:
        """The arrays, in the order of their links."""
        return (node for node in self.nodes.values() if isinstance(node, ArrayNode))

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as JSON's own types."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        nodes = [{"kind": kinds[type(node)], **node.to_dict()} for node in self.nodes.values()]
        return {**super().to_dict(), "nodes": nodes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tree:
        """Build the tree that `to_dict` described."""
        nodes: dict[str, Node] = {}
        for item in data["nodes"]:
            item = dict(item)
            node = _KINDS[item.pop("kind")].from_dict(item)
            nodes[node.path] = node
        problems = tuple(map(Problem.from_dict, data.get("problems", ())))
        return cls(**{**data, "nodes": nodes, "problems": problems, "notes": tuple(data.get("notes", ()))})
