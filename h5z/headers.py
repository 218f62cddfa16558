"""An object's header and attributes -> Node."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import h5py
import numpy as np
from h5py import h5a, h5d, h5ds, h5f, h5g, h5o, h5p, h5s, h5t, h5z

from h5z import limits
from h5z.attributes import encode
from h5z.dimensions import is_bare
from h5z.dtypes import access, is_string, variable
from h5z.errors import H5zError, SourceError, one_line
from h5z.hdf5 import nulls
from h5z.hdf5.datatypes import describe
from h5z.hdf5.fetch import Contiguous, Fetch, local_fetch
from h5z.hdf5.files import open_dataset
from h5z.hdf5.filters import filter_available
from h5z.hdf5.identity import ChunkIndex
from h5z.hdf5.libhdf5 import DONT_FILTER_PARTIAL_CHUNKS, chunk_options, comment, read_attribute
from h5z.hdf5.ranged import Ranges
from h5z.hdf5.references import address, lone_paths, mapping_text, reference_text
from h5z.hdf5.roots import Roots
from h5z.hdf5.tables import attribute_names
from h5z.hdf5.typeids import has_text, layout, memory, regions
from h5z.isolation.heartbeat import beat
from h5z.leaves import leaves
from h5z.measure import LARGEST_CONTENT, measured
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Link, Node, Problem, TypeNode
from h5z.source import Dataset

_LAYOUTS = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}
_FILL_TIMES = {h5d.FILL_TIME_ALLOC: "alloc", h5d.FILL_TIME_NEVER: "never", h5d.FILL_TIME_IFSET: "ifset"}
_ALLOC_TIMES = {h5d.ALLOC_TIME_EARLY: "early", h5d.ALLOC_TIME_LATE: "late", h5d.ALLOC_TIME_INCR: "incr"}
# What libhdf5 keeps of attached dimension scales: `ArrayNode.scales` says the same, where these cannot be read.
_DERIVED = frozenset({"DIMENSION_LIST", "REFERENCE_LIST"})
_WORDS = {h5t.CSET_ASCII: h5py.string_dtype("ascii"), h5t.CSET_UTF8: h5py.string_dtype("utf-8")}
_COMMENT_MESSAGE = 13


@dataclass
class Headers:
    """Reads the headers of an open file's objects, once it is known which there are: references need their paths.

    Attributes
    ----------
    name : str
        The file's path or URL.
    measure, attributes : bool
        What to read beside the headers (`h5z.scan`).
    ranges : Ranges, optional
        What reads the bytes of a file by URL.
    paths : dict
        Where objects were met, by address; `whole` as far as all tables of links could be read.
    problems, notes : list
        What could not be read, and what else is to be told.
    """

    file: h5py.File
    name: str
    roots: Roots
    measure: bool = False
    attributes: bool = True
    storage_options: dict[str, Any] | None = None
    ranges: Ranges | None = None
    paths: dict[tuple[int, int], str] = field(default_factory=dict)
    whole: bool = True
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    index: ChunkIndex = field(default_factory=ChunkIndex)
    attributes_nbytes: int = 0

    def node(self, path: str, oid: Any, links: Sequence[Link] = (), names: Sequence[str] = ()) -> Node:
        """An open object's header; of a group with its links that are no objects of their own, and all their names in order."""
        if not self.attributes and not isinstance(oid, h5t.TypeID):
            return self._outline(path, oid) if isinstance(oid, h5d.DatasetID) else GroupNode(path, links=tuple(links))
        named = isinstance(oid, h5t.TypeID)
        plist = None if named else oid.get_create_plist()
        info = h5o.get_info(oid)
        attributes = tuple(self._attributes(path, oid, plist)) if info.num_attrs else ()
        remark = comment(oid) if info.hdr.mesg.present >> _COMMENT_MESSAGE & 1 else ""
        if named:
            return TypeNode(path, describe(oid), attributes, comment=remark)
        order = _order_flags(plist, isinstance(oid, h5g.GroupID))
        if isinstance(oid, h5g.GroupID):
            return GroupNode(path, attributes, tuple(links), order, tuple(names) if "links" in order else (), remark)
        return self._array(path, oid, plist, attributes, order, remark)

    def _outline(self, path: str, did: Any) -> ArrayNode:
        """What a listing shows of a dataset."""
        plist, space = did.get_create_plist(), did.get_space()
        shape = None if space.get_simple_extent_type() == h5s.NULL else tuple(map(int, space.get_simple_extent_dims()))
        layout = "external" if plist.get_external_count() else _LAYOUTS.get(plist.get_layout(), "unknown")
        chunks = tuple(plist.get_chunk()) if layout == "chunked" else None
        stored = int(did.get_storage_size())
        return ArrayNode(
            path, describe(did.get_type()), shape, None, layout, chunks, tuple(_filters(plist)), storage_nbytes=stored
        )

    def _attributes(self, path: str, oid: Any, plist: Any) -> Iterator[Attribute]:
        names, why = attribute_names(oid, plist)
        if why:
            self.problems.append(Problem(path, f"its attributes cannot be listed ({why})"))
        for raw in names:
            beat()
            name = text(raw)
            derived = name in _DERIVED and isinstance(oid, h5d.DatasetID)
            try:
                yield self._attribute(oid, raw, name, self._name_if_any if derived else None)
            except Exception as error:
                if not derived:
                    self.problems.append(Problem(f"{path}@{name}", reason(error)))

    def _attribute(self, oid: Any, raw: bytes, name: str, name_of: Callable[[Any], str | None] | None = None) -> Attribute:
        aid = h5a.open(oid, raw)
        tid, space = aid.get_type(), aid.get_space()
        dtype = describe(tid)
        committed = self._committed(tid)
        if space.get_simple_extent_type() == h5s.NULL:
            return Attribute(name, dtype, None, None, committed)
        shape, maxshape = _extent(space)
        nbytes = math.prod(shape) * max(8, tid.get_size())
        limits.at_most(limits.LARGEST_ATTRIBUTE_NBYTES, nbytes, "bytes of an attribute")
        self.attributes_nbytes = limits.at_most(
            limits.LARGEST_ATTRIBUTES_NBYTES, self.attributes_nbytes + nbytes, "bytes of attributes in all"
        )
        how = access(dtype)
        value: Any
        if isinstance(dtype, str) and 0 not in shape:
            value = np.zeros(shape, dtype)
            aid.read(value)
        elif shape == () and is_string(dtype) and cast(dict[str, Any], dtype)["size"] is None:
            word: Any = np.zeros((), _WORDS[tid.get_cset()])
            aid.read(word)
            value = word.item()
            value = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        elif how == "lent":
            inside, mtype = layout(dtype, False)
            value = regions(read_attribute(aid, mtype, inside, math.prod(shape)), shape)
        elif how == "h5py":
            holders = {h5d.DatasetID: h5py.Dataset, h5g.GroupID: h5py.Group}
            value = holders.get(type(oid), h5py.Datatype)(oid).attrs[raw]
        else:
            leaves(dtype)
            value, mtype = memory(dtype, tid, shape)
            aid.read(value, mtype)
        coded = encode(value, dtype, name_of or self._name_of)
        if nulls.pads_with_spaces(dtype):
            coded = nulls.with_zeros(coded, len(shape), nulls.stored(aid, dtype, shape))
        if has_text(dtype) and nulls.holds_empty(coded):
            coded = nulls.marked(coded, dtype, len(shape), nulls.in_attribute(aid, dtype))
        return Attribute(name, dtype, shape, coded, committed, maxshape)

    def _committed(self, tid: Any, path: str = "") -> str | None:
        """Where a datatype is committed, which may be a place that no link leads to."""
        found = self.paths.get(address(tid)) if tid.committed() else None
        if path and found is None and tid.committed():
            self.notes.append(f"{path}: its datatype is committed without a name; it is kept as the dataset's own")
        return found

    def _name_if_any(self, ref: Any) -> str | None:
        """Where a reference points; empty for a null reference, None where what it pointed to is gone."""
        try:
            return self._name_of(ref)
        except SourceError:
            return None

    def _name_of(self, ref: Any) -> str:
        return reference_text(ref, self.file.id, self.paths)

    def _array(self, path: str, did: Any, plist: Any, attributes: tuple[Attribute, ...], order: str, remark: str) -> ArrayNode:
        self.roots.check(did, plist=plist)  # before libhdf5 looks for the extent of virtual sources
        tid, space = did.get_type(), did.get_space()
        limits.at_most(limits.LARGEST_ELEMENT_NBYTES, tid.get_size(), "bytes of an element")
        dtype = describe(tid)
        null = space.get_simple_extent_type() == h5s.NULL
        shape, maxshape = (None, None) if null else _extent(space)
        layout = _LAYOUTS.get(plist.get_layout(), "unknown")
        external = [plist.get_external(i) for i in range(plist.get_external_count())]
        node = ArrayNode(
            path,
            dtype,
            shape,
            maxshape,
            "external" if external else layout,
            tuple(plist.get_chunk()) if layout == "chunked" else None,
            tuple(_filters(plist)),
            self._fill(did, plist, dtype),
            _FILL_TIMES.get(plist.get_fill_time(), "ifset"),
            _ALLOC_TIMES.get(plist.get_alloc_time(), "late"),
            int(did.get_storage_size()),
            attributes,
            tuple(self._scales(did, len(shape or ()))),
            self._committed(tid, path),
            tuple(text(item[0]) for item in external) if external else _virtual_files(plist, layout),
            tuple([text(item[0]), int(item[1]), int(item[2])] for item in external)
            if external
            else tuple(_virtual(plist, layout)),
            order=order,
            comment=remark,
            edges="unfiltered" if layout == "chunked" and chunk_options(plist) == DONT_FILTER_PARTIAL_CHUNKS else "",
            offset=Contiguous.offset_of(did) if layout == "contiguous" and not external and self._is_here(did) else None,
        )
        return self._measured(node, did) if self.measure else node

    def _fill(self, did: Any, plist: Any, dtype: Datatype) -> Json:
        state = plist.fill_value_defined()
        if state != h5d.FILL_VALUE_USER_DEFINED:
            return {"undefined": True} if state == h5d.FILL_VALUE_UNDEFINED else None
        handle = Dataset(self.name, "", dtype)
        if isinstance(dtype, str):
            value = np.zeros((1,), dtype)
            plist.get_fill_value(value)
        else:
            fresh = self._never_written(did, plist)
            value = handle.read_from(fresh, (slice(0, 1),))
            if has_text(dtype) and nulls.holds_empty(coded := encode(value, dtype, self._name_of)):
                return {"value": nulls.marked(coded, dtype, 1, nulls.in_dataset(fresh, dtype, (slice(0, 1),)))[0]}
        return {"value": encode(value, dtype, self._name_of)[0]}

    def _never_written(self, did: Any, plist: Any) -> Any:
        """A dataset of one element with another's datatype and fill value: reading it gives the fill value."""
        fresh = plist.copy()
        if fresh.get_nfilters():
            fresh.remove_filter(h5z.FILTER_ALL)
        fresh.set_layout(h5d.CONTIGUOUS)
        fresh.set_alloc_time(h5d.ALLOC_TIME_LATE)
        name = str(len(self.scratch)).encode()
        return h5d.create(self.scratch.id, name, did.get_type().copy(), h5s.create_simple((1,)), fresh)

    @cached_property
    def scratch(self) -> h5py.File:
        """A file in memory, for asking libhdf5 itself; by a name that no other thread's has."""
        return h5py.File(f"scratch {id(self)}", "w", driver="core", backing_store=False)

    def _scales(self, did: Any, rank: int) -> Iterator[tuple[str, ...]]:
        """The dimension scales attached to each axis, by path."""
        if not rank or not h5a.exists(did, b"DIMENSION_LIST"):
            return
        axis = 0
        try:
            if h5a.open(did, b"DIMENSION_LIST").shape != (rank,):  # libhdf5 would read past its end
                raise RuntimeError
            for axis in range(rank):
                attached: list[str] = []
                h5ds.iterate(did, axis, lambda scale, found=attached: found.append(self.paths.get(address(scale), "")), 0)
                yield tuple(attached)
        except (RuntimeError, SystemError):  # a reference to nothing: the attribute itself still names the others
            listed = self._attribute(did, b"DIMENSION_LIST", "DIMENSION_LIST", self._name_if_any).value
            yield from (tuple(item for item in refs if item) for refs in listed[axis:])

    def _measured(self, node: ArrayNode, did: Any) -> ArrayNode:
        self.index.add(node, did, self._folder)
        handle = Dataset(self.name, node.path, node.dtype, self.storage_options)
        if node.layout == "external":
            did.close()
            did = open_dataset(self.file, node.path, self.roots)
        if is_bare(node) and node.storage_nbytes > LARGEST_CONTENT:
            found = f"{node.storage_nbytes} bytes of a netCDF dimension without variable"
            self.notes.append(f"{node.path}: the {found} are not carried over")
        try:
            return measured(node, handle, did, self._fetch(did) if variable(node.dtype) else None, lambda: self.lone)
        except Exception as error:
            self.problems.append(Problem(node.path, reason(error)))
            return node

    def _fetch(self, did: Any) -> Fetch | None:
        """What reads bytes of the file; an external link leads into another, whose bytes are not read past libhdf5."""
        return self.fetch if self._is_here(did) else None

    def _is_here(self, did: Any) -> bool:
        """Whether an object lies in the file itself, not in another that it links to."""
        return bool(h5f.get_name(did) == self._file_name)

    @cached_property
    def _folder(self) -> str:
        return "" if "://" in self.name else os.path.dirname(os.path.abspath(self.name))

    @cached_property
    def _file_name(self) -> bytes:
        return bytes(h5f.get_name(self.file.id))

    @cached_property
    def lone(self) -> dict[tuple[int, int], str]:
        """Paths of the file's objects, for references to them."""
        return lone_paths(self.file.id) if self.whole else {}

    @cached_property
    def fetch(self) -> Fetch:
        """Reads bytes of the file past libhdf5."""
        return local_fetch(self.name) if self.ranges is None else self.ranges.read


def _extent(space: Any) -> tuple[tuple[int, ...], tuple[int | None, ...] | None]:
    """A dataspace's shape, and its limits where they are others."""
    shape = tuple(map(int, space.get_simple_extent_dims()))
    most = tuple(None if n == h5s.UNLIMITED else int(n) for n in space.get_simple_extent_dims(True))
    return shape, None if most == shape else most


def _order_flags(plist: Any, group: bool) -> str:
    flags = []
    for name, wanted in (("link", group), ("attr", True)):
        value = getattr(plist, f"get_{name}_creation_order")() if wanted else 0
        if value & h5p.CRT_ORDER_TRACKED:
            flags.append(f"{name}s indexed" if value & h5p.CRT_ORDER_INDEXED else f"{name}s")
    return ", ".join(flags)


def _filters(plist: Any) -> Iterator[tuple[int, str, int, tuple[int, ...]]]:
    for i in range(plist.get_nfilters()):
        filter_available(plist.get_filter(i)[0])  # once it is loaded, its name is the one that it gives itself
        number, flags, options, name = plist.get_filter(i)
        yield int(number), text(name), int(flags), tuple(map(int, options))


def _virtual_files(plist: Any, layout: str) -> tuple[str, ...]:
    count = plist.get_virtual_count() if layout == "virtual" else 0
    return tuple(dict.fromkeys(text(plist.get_virtual_filename(i)) for i in range(count)))


def _virtual(plist: Any, layout: str) -> Iterator[list[Any]]:
    for i in range(plist.get_virtual_count() if layout == "virtual" else 0):
        here, there = plist.get_virtual_vspace(i), plist.get_virtual_srcspace(i)
        names = [text(plist.get_virtual_filename(i)), text(plist.get_virtual_dsetname(i))]
        yield [*names, mapping_text(here), mapping_text(there), list(map(int, there.get_simple_extent_dims()))]


def reason(error: BaseException) -> str:
    """Why something could not be read, in one line."""
    plain = isinstance(error, OSError) and not isinstance(error, H5zError)
    return " ".join(str(error).split()) if plain else one_line(error)


def text(raw: Any) -> str:
    """A name or a comment as text; bytes that are not UTF-8 as surrogates."""
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
