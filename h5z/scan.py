"""An HDF5 file's headers -> Tree.

Objects are told apart by their address, so that an object with several hard links is met once; links are walked with a
stack, so that neither cycles nor depth matter. On damaged bytes h5py may raise anything (`SystemError` from its callbacks): what
goes wrong with one object is that object's problem, whatever it is.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import h5py
import numpy as np
from h5py import h5a, h5d, h5ds, h5f, h5g, h5l, h5o, h5p, h5s, h5t, h5z

from h5z import limits
from h5z.attributes import encode
from h5z.credentials import joined, separate
from h5z.dimensions import is_bare
from h5z.dtypes import access, describe, is_string, leaves, memory, variable
from h5z.errors import H5zError, PlanError, SourceError, one_line
from h5z.hdf5 import nulls
from h5z.hdf5.direct import Fetch, local_fetch
from h5z.hdf5.files import open_dataset, open_file, open_url
from h5z.hdf5.filters import filter_available
from h5z.hdf5.identity import ChunkIndex, header_digest
from h5z.hdf5.listing import identify
from h5z.hdf5.ranged import Ranges
from h5z.hdf5.references import address, lone_paths, mapping_text, reference_text
from h5z.hdf5.roots import Roots
from h5z.hdf5.tables import attribute_names, link_names
from h5z.hdf5.typeids import has_text
from h5z.isolation import run_isolated
from h5z.isolation.heartbeat import beat
from h5z.libhdf5 import DONT_FILTER_PARTIAL_CHUNKS, chunk_options, comment
from h5z.measure import LARGEST_CONTENT, measured
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Link, Node, Problem, Tree, TypeNode
from h5z.source import Dataset

_LAYOUTS = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}
_FILL_TIMES = {h5d.FILL_TIME_ALLOC: "alloc", h5d.FILL_TIME_NEVER: "never", h5d.FILL_TIME_IFSET: "ifset"}
_ALLOC_TIMES = {h5d.ALLOC_TIME_EARLY: "early", h5d.ALLOC_TIME_LATE: "late", h5d.ALLOC_TIME_INCR: "incr"}
# What libhdf5 keeps of attached dimension scales: `ArrayNode.scales` says the same, where these cannot be read.
_DERIVED = frozenset({"DIMENSION_LIST", "REFERENCE_LIST"})
_WORDS = {h5t.CSET_ASCII: h5py.string_dtype("ascii"), h5t.CSET_UTF8: h5py.string_dtype("utf-8")}
_COMMENT_MESSAGE = 13
_STRATEGIES = ("fsm_aggr", "page", "aggr", "none")


def scan(
    path: str | os.PathLike[str],
    *,
    measure: bool = False,
    attributes: bool = True,
    links: str = "record",
    external_roots: Sequence[str] = (),
    storage_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> Tree:
    """Read the headers of an HDF5 file.

    Parameters
    ----------
    path : path or URL
        The HDF5 file.
    measure : bool
        Also pass once over variable-length data, whose size no header says, and read one element of each dataset that
        may turn out unreadable (virtual, external, unusual datatypes); without it no data are read.
    attributes : bool
        Also read attributes, and of datasets all that only a migration needs (fill values, creation orders). Without them a
        file of very many objects is listed several times faster.
    links : {"record", "follow"}
        Whether soft and external links are only recorded, or their objects also taken in at the link's place.
    external_roots : sequence of paths
        Folders, besides the source's own, in which external links, external storage and virtual sources may lie.
    isolated : bool
        Scan in a process of its own, so that a file on which libhdf5 crashes costs an error, not the program.
    timeout : float, optional
        Seconds that an isolated scan may take without progress: an object, or a slab of variable-length data.
    memory_limit : int, optional
        Bytes of memory that an isolated scan may take; the machine's by default.

    Returns
    -------
    Tree
        Every object once, at the path where it was first met; what cannot be read is among its ``problems``.

    Raises
    ------
    SourceError
        If the file is missing, is no HDF5 file, is damaged, crashes the library, or takes it too long or too much memory.
    """
    if links not in ("record", "follow"):
        raise PlanError(f"links: expected 'record' or 'follow', found {links!r}")
    name, storage_options = separate(os.fspath(path), storage_options)
    access = None if name == os.fspath(path) else separate(os.fspath(path))[1]
    if isolated:
        found = run_isolated(
            scan,
            name,
            subject=name,
            timeout=timeout,
            memory_limit=memory_limit,
            measure=measure,
            attributes=attributes,
            links=links,
            external_roots=tuple(external_roots),
            storage_options=storage_options,
        )
        return replace(Tree.from_dict(found), access=access)
    opened, ranges = open_url(name, storage_options) if "://" in name else (open_file(name, storage_options), None)
    with opened as file:
        scanner = _Scanner(file, name, measure, attributes or measure, links == "follow", tuple(external_roots), storage_options)
        scanner.ranges = ranges
        size, mtime_ns = identify(name, storage_options)
        nodes = scanner.walk()
        block = _user_block(name, file.userblock_size, storage_options)
        digest = header_digest(name, storage_options, ranges) + scanner.index.digest() if measure else ""
        creation = _creation(file.id.get_create_plist())
        problems, notes = tuple(scanner.problems), tuple(scanner.notes)
        return Tree(name, size, mtime_ns, nodes, problems, notes, block, access, digest, creation)


def node_at(file: h5py.File, path: str) -> Node:
    """One object of an open file, by its path: its header and attributes.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    scanner = _Scanner(file, file.filename, False, True, False, (), None)
    try:
        met = _Met(path, (), group=False)
        return scanner._node(met, met.open(file.id))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise SourceError(f"{file.filename}: {path} cannot be read ({one_line(error)})") from None


def _user_block(name: str, nbytes: int, storage_options: dict[str, Any] | None) -> str:
    if nbytes == 0:
        return ""
    limits.at_most(limits.LARGEST_USER_BLOCK_NBYTES, nbytes, f"bytes of a user block in {name}")
    if "://" in name:
        import fsspec

        url, options = joined(name, storage_options)
        with fsspec.open(url, "rb", **options) as raw:
            return base64.b64encode(raw.read(nbytes)).decode()
    with open(name, "rb") as raw:
        return base64.b64encode(raw.read(nbytes)).decode()


def _creation(plist: Any) -> dict[str, Json] | None:
    """What a file was created with, where that is not HDF5's oldest default."""
    strategy, persist, threshold = plist.get_file_space_strategy()
    found = {
        "superblock": int(plist.get_version()[0]),
        "sizes": list(map(int, plist.get_sizes())),
        "space": [_STRATEGIES[strategy], bool(persist), int(threshold)],
        "page": int(plist.get_file_space_page_size()),
    }
    usual = {"superblock": 0, "sizes": [8, 8], "space": ["fsm_aggr", False, 1], "page": 4096}
    return {key: value for key, value in found.items() if value != usual[key]} or None


@dataclass
class _Met:
    """An object met on the walk, with the addresses of the groups above it.

    Attributes
    ----------
    oid : h5py identifier, optional
        The open object, of what no path of hard links leads to: all others are closed between a look at them and the next, for
        an open one takes ten times the memory of what is known of it.
    copied : bool
        Whether it lies below a link that is followed.
    """

    path: str
    ancestors: tuple[tuple[int, int], ...]
    group: bool
    oid: Any = None
    copied: bool = False
    links: list[Link] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def open(self, fid: Any) -> Any:
        """The object, open."""
        return h5o.open(fid, self.path.encode("utf-8", "surrogateescape")) if self.oid is None else self.oid


class _Scanner:
    """One walk over an open file."""

    def __init__(
        self,
        file: h5py.File,
        name: str,
        measure: bool,
        attributes: bool,
        follow: bool,
        roots: tuple[str, ...],
        storage_options: dict[str, Any] | None,
    ) -> None:
        self.file, self.name, self.measure, self.follow = file, name, measure, follow
        self.attributes = attributes
        self.storage_options = storage_options
        self.ranges: Ranges | None = None  # what reads a file by URL
        self.roots = Roots(name, roots)
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.whole = True  # as far as tables of links were met
        self.attributes_nbytes = 0
        self.paths: dict[tuple[int, int], str] = {}
        self.index = ChunkIndex()

    def walk(self) -> dict[str, Node]:
        """Meet every object, first the links, then the headers: references need to know every object's path."""
        found: list[_Met] = []
        copies = 0
        try:
            root = h5o.open(self.file.id, b"/")
            self.paths[address(root)] = "/"
        except Exception as error:
            raise SourceError(f"{self.name}: its root group cannot be read ({one_line(error)})") from None
        stack = [_Met("/", (address(root),), group=True)]
        nodes: dict[str, Node] = {}
        while stack:
            beat()
            met = stack.pop()
            copies += met.copied
            if len(found) + len(nodes) >= limits.MOST_OBJECTS or copies > limits.MOST_COPIES:
                what = (
                    f"{limits.MOST_COPIES:,} copies of objects by links"
                    if copies > limits.MOST_COPIES
                    else f"{limits.MOST_OBJECTS:,} objects"
                )
                raise SourceError(f"{self.name}: expected at most {what}, found more")
            if len(met.ancestors) > limits.MOST_LEVELS:
                self.problems.append(
                    Problem(met.path, f"expected at most {limits.MOST_LEVELS:,} levels of groups, found more below it")
                )
            elif met.group:
                stack.extend(reversed(list(self._children(met))))
            if self.attributes:
                found.append(met)
            else:  # nothing refers to what comes later
                self._add(met, nodes)
        for met in found:
            self._add(met, nodes)
        return nodes

    def _add(self, met: _Met, nodes: dict[str, Node]) -> None:
        beat()
        try:
            oid = met.open(self.file.id)
        except Exception as error:
            self.problems.append(Problem(met.path, f"cannot be opened ({one_line(error)})"))
            return
        try:
            nodes[met.path] = self._node(met, oid)
        except Exception as error:
            self.problems.append(Problem(met.path, _reason(error)))

    def _children(self, met: _Met) -> Iterator[_Met]:
        """The objects that a group leads to for the first time; its other links are noted."""
        try:
            gid = met.open(self.file.id)
        except Exception as error:
            self.whole = False
            self.problems.append(Problem(met.path, f"its links cannot be listed ({one_line(error)})"))
            return
        prefix = met.path if met.path.endswith("/") else met.path + "/"
        for raw in self._link_names(met.path, gid):
            name = raw.decode("utf-8", "surrogateescape")
            met.names.append(name)
            try:
                kind = gid.links.get_info(raw).type
                if kind != h5l.TYPE_HARD:
                    link, oid = self._link(gid, raw, prefix + name, kind)
                    met.links.append(link)
                    if oid is not None and address(oid) not in met.ancestors:
                        above = (*met.ancestors, address(oid))
                        yield _Met(prefix + name, above, isinstance(oid, h5g.GroupID), oid, copied=True)
                    continue
                info = h5o.get_info(gid, raw)
                where = (info.fileno, info.addr)
                if where in met.ancestors or (where in self.paths and not met.copied):
                    met.links.append(Link(name, "hard", self.paths.get(where, "/")))
                    continue
                if not met.copied:
                    self.paths[where] = prefix + name
                oid = h5o.open(gid, raw) if met.copied else None
                yield _Met(prefix + name, (*met.ancestors, where), info.type == h5o.TYPE_GROUP, oid, copied=met.copied)
            except Exception as error:
                self.problems.append(Problem(prefix + name, f"cannot be opened ({one_line(error)})"))

    def _link_names(self, path: str, gid: Any) -> list[bytes]:
        names, why = link_names(gid)
        if why:
            self.whole = False
            self.problems.append(Problem(path, f"its links cannot be listed ({why})"))
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            self.problems.append(Problem(path, f"it has several links by the name {_text(twice)!r}, of which one can be found"))
        return list(dict.fromkeys(names))

    def _link(self, gid: Any, raw: bytes, path: str, kind: int) -> tuple[Link, Any | None]:
        """Describe a soft, external or user-defined link; with the object that it leads to where links are followed."""
        name = path.rpartition("/")[2]
        if kind == h5l.TYPE_SOFT:
            link = Link(name, "soft", _text(gid.links.get_val(raw)))
        elif kind == h5l.TYPE_EXTERNAL:
            file, target = gid.links.get_val(raw)
            link = Link(name, "external", _text(target), _text(file))
        else:
            return Link(name, "user", str(int(kind))), None
        if not self.follow:
            return link, None
        try:
            return link, self.roots.open(gid, raw)
        except SourceError as error:
            self.problems.append(Problem(path, one_line(error)))
        except (KeyError, OSError):
            pass  # dangling
        return link, None

    def _measured(self, node: ArrayNode, did: Any) -> ArrayNode:
        self.index.add(node.path, did, node.files, "" if "://" in self.name else os.path.dirname(os.path.abspath(self.name)))
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
            self.problems.append(Problem(node.path, _reason(error)))
            return node

    def _fetch(self, did: Any) -> Fetch | None:
        """What reads bytes of the file; an external link leads into another, whose bytes are not read past libhdf5."""
        return self.fetch if h5f.get_name(did) == h5f.get_name(self.file.id) else None

    @cached_property
    def lone(self) -> dict[tuple[int, int], str]:
        """Paths of the file's objects, for references to them."""
        return lone_paths(self.file.id) if self.whole else {}

    @cached_property
    def fetch(self) -> Fetch:
        """Reads bytes of the file past libhdf5."""
        return local_fetch(self.file) if self.ranges is None else self.ranges.read

    def _node(self, met: _Met, oid: Any) -> Node:
        path = met.path
        if not self.attributes and not isinstance(oid, h5t.TypeID):
            return self._outline(path, oid) if isinstance(oid, h5d.DatasetID) else GroupNode(path, links=tuple(met.links))
        named = isinstance(oid, h5t.TypeID)
        plist = None if named else oid.get_create_plist()
        info = h5o.get_info(oid)
        attributes = tuple(self._attributes(path, oid, plist)) if info.num_attrs else ()
        remark = comment(oid) if info.hdr.mesg.present >> _COMMENT_MESSAGE & 1 else ""
        if named:
            return TypeNode(path, describe(oid), attributes, comment=remark)
        order = _order_flags(plist, isinstance(oid, h5g.GroupID))
        if isinstance(oid, h5g.GroupID):
            names = tuple(met.names) if "links" in order else ()
            return GroupNode(path, attributes, tuple(met.links), order, names, remark)
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
            name = _text(raw)
            derived = name in _DERIVED and isinstance(oid, h5d.DatasetID)
            try:
                yield self._attribute(oid, raw, name, self._name_if_any if derived else None)
            except Exception as error:
                if not derived:
                    self.problems.append(Problem(f"{path}@{name}", _reason(error)))

    def _attribute(self, oid: Any, raw: bytes, name: str, name_of: Callable[[Any], str | None] | None = None) -> Attribute:
        aid = h5a.open(oid, raw)
        tid, space = aid.get_type(), aid.get_space()
        dtype = describe(tid)
        committed = self.paths.get(address(tid)) if tid.committed() else None
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

    def _name_if_any(self, ref: Any) -> str | None:
        """Where a reference points; empty for a null reference, None where what it pointed to is gone."""
        try:
            return self._name_of(ref)
        except SourceError:
            return None

    def _name_of(self, ref: Any) -> str:
        return reference_text(ref, self.file.id, self.paths)

    def _array(self, path: str, did: Any, plist: Any, attributes: tuple[Attribute, ...], order: str, remark: str) -> ArrayNode:
        self.roots.check(did)  # before libhdf5 looks for the extent of virtual sources
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
            self.paths.get(address(tid)) if tid.committed() else None,
            tuple(_text(item[0]) for item in external) if external else _virtual_files(plist, layout),
            tuple([_text(item[0]), int(item[1]), int(item[2])] for item in external)
            if external
            else tuple(_virtual(plist, layout)),
            order=order,
            comment=remark,
            edges="unfiltered" if layout == "chunked" and chunk_options(plist) == DONT_FILTER_PARTIAL_CHUNKS else "",
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


def _extent(space: Any) -> tuple[tuple[int, ...], tuple[int | None, ...] | None]:
    """A dataspace's shape, and its limits where they are others."""
    shape = tuple(map(int, space.get_simple_extent_dims()))
    most = tuple(None if n == h5s.UNLIMITED else int(n) for n in space.get_simple_extent_dims(True))
    return shape, None if most == shape else most


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)


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
        yield int(number), _text(name), int(flags), tuple(map(int, options))


def _virtual_files(plist: Any, layout: str) -> tuple[str, ...]:
    count = plist.get_virtual_count() if layout == "virtual" else 0
    return tuple(dict.fromkeys(_text(plist.get_virtual_filename(i)) for i in range(count)))


def _virtual(plist: Any, layout: str) -> Iterator[list[Any]]:
    for i in range(plist.get_virtual_count() if layout == "virtual" else 0):
        here, there = plist.get_virtual_vspace(i), plist.get_virtual_srcspace(i)
        names = [_text(plist.get_virtual_filename(i)), _text(plist.get_virtual_dsetname(i))]
        yield [*names, mapping_text(here), mapping_text(there), list(map(int, there.get_simple_extent_dims()))]


def _reason(error: BaseException) -> str:
    plain = isinstance(error, OSError) and not isinstance(error, H5zError)
    return " ".join(str(error).split()) if plain else one_line(error)
