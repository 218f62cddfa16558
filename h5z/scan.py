"""An HDF5 file's headers -> Tree.

Objects are told apart by their address, so that an object with several hard links is met once; links are walked with a
stack, so that neither cycles nor depth matter. `python -m h5z.scan` does the same in a process of its own, because
libhdf5 can crash on a hostile file: `scan(..., isolated=True)`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from h5py import h5, h5a, h5d, h5ds, h5g, h5l, h5o, h5p, h5s, h5t, h5z

from h5z.attributes import encode
from h5z.dimensions import is_bare
from h5z.dtypes import access, describe, is_string, leaves, memory, parts, variable
from h5z.errors import H5zError, PlanError, SourceError, UnsupportedError, one_line
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Link, Node, Problem, Tree, TypeNode
from h5z.source import Dataset, address, open_dataset, open_file, reference_text, space_text, split

_LAYOUTS = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}
_FILL_TIMES = {h5d.FILL_TIME_ALLOC: "alloc", h5d.FILL_TIME_NEVER: "never", h5d.FILL_TIME_IFSET: "ifset"}
_ALLOC_TIMES = {h5d.ALLOC_TIME_EARLY: "early", h5d.ALLOC_TIME_LATE: "late", h5d.ALLOC_TIME_INCR: "incr"}
_BUILTIN_FILTERS = range(1, 7)
# What libhdf5 keeps of attached dimension scales: `ArrayNode.scales` says the same.
_DERIVED = frozenset({"DIMENSION_LIST", "REFERENCE_LIST"})
_COMMENT_MESSAGE = 13
_LARGEST_CONTENT = 1 << 16
MAX_OBJECTS = 10_000_000


def scan(
    path: str | os.PathLike[str],
    *,
    measure: bool = False,
    links: str = "record",
    external_roots: Sequence[str] = (),
    storage_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
) -> Tree:
    """Read the headers of an HDF5 file.

    Parameters
    ----------
    path : path or URL
        The HDF5 file.
    measure : bool
        Also pass once over variable-length data, whose size no header says, and read one element of each dataset that
        may turn out unreadable (virtual, external, unusual datatypes); without it no data are read.
    links : {"record", "follow"}
        Whether soft and external links are only recorded, or their objects also taken in at the link's place.
    external_roots : sequence of paths
        Folders, besides the source's own, in which external links, external storage and virtual sources may lie.
    isolated : bool
        Scan in a process of its own, so that a file on which libhdf5 crashes costs an error, not the program.
    timeout : float, optional
        Seconds that an isolated scan may take.

    Returns
    -------
    Tree
        Every object once, at the path where it was first met; what cannot be read is among its ``problems``.

    Raises
    ------
    SourceError
        If the file is missing, is no HDF5 file, is damaged, or crashes the library.
    """
    if isolated:
        return _scan_isolated(path, measure, links, external_roots, storage_options, timeout)
    if links not in ("record", "follow"):
        raise PlanError(f"links: expected 'record' or 'follow', found {links!r}")
    name = os.fspath(path)
    with open_file(name, storage_options) as file:
        scanner = _Scanner(file, name, measure, links == "follow", tuple(external_roots), storage_options)
        nodes = scanner.walk()
        size, mtime_ns = _identity(name, file)
        block = _user_block(name, file.userblock_size, storage_options)
        return Tree(name, size, mtime_ns, nodes, tuple(scanner.problems), tuple(scanner.notes), block)


def _user_block(name: str, nbytes: int, storage_options: dict[str, Any] | None) -> str:
    if nbytes == 0:
        return ""
    if "://" in name:
        import fsspec

        opened = fsspec.open(name, "rb", **(storage_options or {}))
    else:
        opened = open(name, "rb")
    with opened as raw:
        return base64.b64encode(raw.read(nbytes)).decode()


def _identity(name: str, file: h5py.File) -> tuple[int, int]:
    if "://" in name:
        return int(file.id.get_filesize()), 0
    stat = os.stat(name)
    return stat.st_size, stat.st_mtime_ns


def _scan_isolated(
    path: str | os.PathLike[str],
    measure: bool,
    links: str,
    external_roots: Sequence[str],
    storage_options: dict[str, Any] | None,
    timeout: float | None,
) -> Tree:
    request = {
        "path": os.fspath(path),
        "measure": measure,
        "links": links,
        "external_roots": list(map(str, external_roots)),
        "storage_options": storage_options,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "h5z.scan"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"{path}: reading its headers took more than {timeout:g} s") from None
    if done.returncode < 0:
        raise SourceError(f"{path}: libhdf5 crashed while reading it (signal {-done.returncode}); the file is damaged")
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SourceError(f"{path}: scanning ended with status {done.returncode}: {done.stderr[-300:]}") from None
    if "error" in answer:
        kind = {cls.__name__: cls for cls in (PlanError, SourceError, UnsupportedError)}
        raise kind.get(answer["kind"], SourceError)(answer["error"])
    return Tree.from_dict(answer)


class _Scanner:
    """One walk over an open file."""

    def __init__(
        self,
        file: h5py.File,
        name: str,
        measure: bool,
        follow: bool,
        roots: tuple[str, ...],
        storage_options: dict[str, Any] | None,
    ) -> None:
        self.file, self.name, self.measure, self.follow = file, name, measure, follow
        self.storage_options = storage_options
        remote = "://" in name
        folder = Path(name).resolve().parent
        self.folder = folder
        self.roots = () if remote else (folder, *(Path(root).resolve() for root in roots))
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.paths: dict[tuple[int, int], str] = {}
        self.kept: list[Any] = []

    def walk(self) -> dict[str, Node]:
        """Meet every object, first the links, then the headers: references need to know every object's path."""
        found: dict[str, tuple[Any, tuple[Link, ...]]] = {}
        try:
            root = h5o.open(self.file.id, b"/")
            self.paths[address(root)] = "/"
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise SourceError(f"{self.name}: its root group cannot be read ({one_line(error)})") from None
        stack: list[tuple[str, Any, tuple[tuple[int, int], ...]]] = [("/", root, (address(root),))]
        while stack:
            path, oid, ancestors = stack.pop()
            links: list[Link] = []
            children: list[tuple[str, Any, tuple[tuple[int, int], ...]]] = []
            if isinstance(oid, h5g.GroupID):
                children = list(self._children(path, oid, ancestors, links))
            found[path] = oid, tuple(links)
            if len(found) > MAX_OBJECTS:
                raise SourceError(f"{self.name}: more than {MAX_OBJECTS:,} objects")
            stack.extend(reversed(children))
        nodes: dict[str, Node] = {}
        for path, (oid, linked) in found.items():
            try:
                nodes[path] = self._node(path, oid, linked)
            except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
                self.problems.append(Problem(path, _reason(error)))
        return nodes

    def _children(
        self, path: str, gid: Any, ancestors: tuple[tuple[int, int], ...], links: list[Link]
    ) -> Iterator[tuple[str, Any, tuple[tuple[int, int], ...]]]:
        names: list[bytes] = []
        try:
            tracked = gid.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_INDEXED
            gid.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            self.problems.append(Problem(path, f"its links cannot be listed ({one_line(error)})"))
        prefix = path if path.endswith("/") else path + "/"
        for raw in names:
            name = raw.decode("utf-8", "surrogateescape")
            try:
                kind = gid.links.get_info(raw).type
                if kind == h5l.TYPE_HARD:
                    oid = h5o.open(gid, raw)
                    where = address(oid)
                    if where in self.paths:
                        links.append(Link(name, "hard", self.paths[where]))
                        continue
                    self.paths[where] = prefix + name
                    yield prefix + name, oid, (*ancestors, where) if isinstance(oid, h5g.GroupID) else ancestors
                    continue
                link, oid = self._link(gid, raw, name, kind)
                links.append(link)
                if oid is not None and address(oid) not in ancestors:
                    yield prefix + name, oid, (*ancestors, address(oid))
            except (OSError, KeyError, RuntimeError, ValueError) as error:
                self.problems.append(Problem(prefix + name, f"cannot be opened ({one_line(error)})"))

    def _link(self, gid: Any, raw: bytes, name: str, kind: int) -> tuple[Link, Any | None]:
        """Describe a soft, external or user-defined link; with the object that it leads to where links are followed."""
        if kind == h5l.TYPE_SOFT:
            link = Link(name, "soft", _text(gid.links.get_val(raw)))
        elif kind == h5l.TYPE_EXTERNAL:
            file, target = gid.links.get_val(raw)
            link = Link(name, "external", _text(target), _text(file))
        else:
            return Link(name, "user", str(int(kind))), None
        if not self.follow:
            return link, None
        if link.kind == "external":
            return link, self._external(link)
        try:
            return link, h5o.open(gid, raw)
        except (KeyError, OSError):
            return link, None

    def _external(self, link: Link) -> Any | None:
        path = self._inside(cast(str, link.file))
        if path is None:
            self.problems.append(Problem(link.name, f"external link to {link.file!r} leads outside the external roots"))
            return None
        try:
            other = h5py.File(path, "r")
            self.kept.append(other)
            return h5o.open(other.id, link.target.encode("utf-8", "surrogateescape"))
        except (KeyError, OSError):
            return None

    def _inside(self, file: str) -> Path | None:
        """The real path of a file that the source names, or None where it leaves the roots."""
        path = (self.folder / file).resolve()
        return path if any(path.is_relative_to(root) for root in self.roots) else None

    def _node(self, path: str, oid: Any, links: tuple[Link, ...]) -> Node:
        attributes = tuple(self._attributes(path, oid))
        if h5o.get_info(oid).hdr.mesg.present >> _COMMENT_MESSAGE & 1:
            self.notes.append(f"{path} has a comment, which h5py cannot read: it is not carried over")
        if isinstance(oid, h5t.TypeID):
            return TypeNode(path, describe(oid), attributes)
        plist = oid.get_create_plist()
        order = _order_flags(plist, isinstance(oid, h5g.GroupID))
        if isinstance(oid, h5g.GroupID):
            return GroupNode(path, attributes, links, order)
        return self._array(path, oid, plist, attributes, order)

    def _attributes(self, path: str, oid: Any) -> Iterator[Attribute]:
        names: list[bytes] = []
        try:
            h5a.iterate(oid, names.append)
        except (OSError, RuntimeError, ValueError) as error:
            self.problems.append(Problem(path, f"its attributes cannot be listed ({one_line(error)})"))
        for raw in names:
            name = _text(raw)
            if name in _DERIVED and isinstance(oid, h5d.DatasetID):
                continue
            try:
                yield self._attribute(oid, raw, name)
            except (OSError, RuntimeError, ValueError, TypeError, KeyError, H5zError, OverflowError) as error:
                self.problems.append(Problem(f"{path}@{name}", _reason(error)))

    def _attribute(self, oid: Any, raw: bytes, name: str) -> Attribute:
        aid = h5a.open(oid, raw)
        tid, space = aid.get_type(), aid.get_space()
        dtype = describe(tid)
        committed = self.paths.get(address(tid)) if tid.committed() else None
        if space.get_simple_extent_type() == h5s.NULL:
            return Attribute(name, dtype, None, None, committed)
        shape = tuple(map(int, space.get_simple_extent_dims()))
        how = access(dtype)
        if how == "h5py":
            holder = h5py.Dataset(oid) if isinstance(oid, h5d.DatasetID) else h5py.Group(oid) if isinstance(oid, h5g.GroupID) else h5py.Datatype(oid)
            value = holder.attrs[raw]
        else:
            leaves(dtype)
            value, mtype = memory(dtype, tid, shape)
            aid.read(value, mtype)
        return Attribute(name, dtype, shape, encode(value, dtype, self._name_of), committed)

    def _name_of(self, ref: Any) -> str:
        return reference_text(ref, self.file.id, self.paths)

    def _array(self, path: str, did: Any, plist: Any, attributes: tuple[Attribute, ...], order: str) -> ArrayNode:
        tid, space = did.get_type(), did.get_space()
        dtype = describe(tid)
        null = space.get_simple_extent_type() == h5s.NULL
        shape = None if null else tuple(map(int, space.get_simple_extent_dims()))
        limits = None if null else tuple(None if n == h5s.UNLIMITED else int(n) for n in space.get_simple_extent_dims(True))
        layout = _LAYOUTS.get(plist.get_layout(), "unknown")
        external = [plist.get_external(i) for i in range(plist.get_external_count())]
        node = ArrayNode(
            path,
            dtype,
            shape,
            limits if limits != shape else None,
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
            tuple([_text(item[0]), int(item[1]), int(item[2])] for item in external) if external else tuple(_virtual(plist, layout)),
            order=order,
        )
        return self._check(node, did) if self.measure else node

    def _fill(self, did: Any, plist: Any, dtype: Datatype) -> Json:
        state = plist.fill_value_defined()
        if state != h5d.FILL_VALUE_USER_DEFINED:
            return {"undefined": True} if state == h5d.FILL_VALUE_UNDEFINED else None
        handle = Dataset(self.name, "", dtype)
        if isinstance(dtype, str):
            value = np.zeros((1,), dtype)
            plist.get_fill_value(value)
        else:
            value = handle.read_from(self._never_written(did, plist), (slice(0, 1),))
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
        """A file in memory, for asking libhdf5 itself."""
        return h5py.File("scratch", "w", driver="core", backing_store=False)

    def _scales(self, did: Any, rank: int) -> Iterator[tuple[str, ...]]:
        """The dimension scales attached to each axis, by path."""
        if not rank or not h5a.exists(did, b"DIMENSION_LIST"):
            return
        try:
            for axis in range(rank):
                attached: list[str] = []
                h5ds.iterate(did, axis, lambda scale, found=attached: found.append(self.paths.get(address(scale), "")), 0)
                yield tuple(attached)
        except RuntimeError:  # a reference to nothing: the attribute itself still names the others
            listed = self._attribute(did, b"DIMENSION_LIST", "DIMENSION_LIST").value
            yield from (tuple(item for item in refs if item) for refs in listed[axis:])

    def _check(self, node: ArrayNode, did: Any) -> ArrayNode:
        """Refuse now what reading would fail on later, and count what no header counts."""
        for file in node.files:
            if file != "." and self._inside(file) is None:
                self.problems.append(Problem(node.path, f"{node.layout} storage in {file!r} lies outside the external roots"))
                return node
        handle = Dataset(self.name, node.path, dtype=node.dtype, storage_options=self.storage_options)
        if node.layout == "external":
            did.close()  # who opens a dataset first decides where its external files are looked for
            did = open_dataset(self.file, node.path)
        try:
            found = leaves(node.dtype)
            if node.shape is None or 0 in node.shape:
                return node
            where = _stored_element(did, node)
            if node.layout in ("virtual", "external") or _unusual(node) or variable(node.dtype):
                handle.read_from(did, tuple(slice(i, i + 1) for i in where))
            if is_bare(node):
                return self._bare(node, handle, did)
            if variable(node.dtype):
                return _count(node, handle, did, ragged=any(leaf.ragged or leaf.steps[-1:] == ("lengths",) for leaf in found))
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, H5zError) as error:
            self.problems.append(Problem(node.path, _reason(error)))
        return node


    def _bare(self, node: ArrayNode, handle: Dataset, did: Any) -> ArrayNode:
        """What a dimension that is no variable holds all the same, where it is little; a note where it is much."""
        if node.storage_nbytes == 0:
            return node
        if node.storage_nbytes > _LARGEST_CONTENT:
            self.notes.append(f"{node.path}: the {node.storage_nbytes} bytes of a netCDF dimension without variable are not carried over")
            return node
        values = handle.read_from(did, (slice(0, *cast(tuple[int], node.shape)),))
        return replace(node, content=base64.b64encode(values.tobytes()).decode() if values.any() else None)


def _reason(error: BaseException) -> str:
    return one_line(error) if not isinstance(error, OSError) or isinstance(error, H5zError) else " ".join(str(error).split())


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
        number, flags, options, name = plist.get_filter(i)
        yield int(number), _text(name), int(flags), tuple(map(int, options))


def _virtual_files(plist: Any, layout: str) -> tuple[str, ...]:
    count = plist.get_virtual_count() if layout == "virtual" else 0
    return tuple(dict.fromkeys(_text(plist.get_virtual_filename(i)) for i in range(count)))


def _virtual(plist: Any, layout: str) -> Iterator[list[Any]]:
    for i in range(plist.get_virtual_count() if layout == "virtual" else 0):
        spaces = (plist.get_virtual_vspace(i), plist.get_virtual_srcspace(i))
        names = [_text(plist.get_virtual_filename(i)), _text(plist.get_virtual_dsetname(i))]
        yield [*names, *(space_text(space) for space in spaces)]


def _unusual(node: ArrayNode) -> bool:
    return any(f[0] not in _BUILTIN_FILTERS for f in node.filters) or access(node.dtype) != "h5py"


def _stored_element(did: Any, node: ArrayNode) -> tuple[int, ...]:
    """An element of a stored chunk, after checking that each filter that was applied to it is at hand."""
    origin = (0,) * len(node.shape or ())
    if node.layout != "chunked" or not node.filters:
        return origin
    missing = [(i, f) for i, f in enumerate(node.filters) if not filter_available(f[0])]
    if did.get_num_chunks() == 0:
        return origin
    if missing:
        masks: set[int] = set()
        did.chunk_iter(lambda info: masks.add(info.filter_mask) or None)  # type: ignore[func-returns-value]
        for i, (number, name, _, _) in missing:
            if any(not mask >> i & 1 for mask in masks):
                raise UnsupportedError(f"HDF5 filter {number} ({name or 'unnamed'}) is not available here")
    first = did.get_chunk_info(0).chunk_offset
    return tuple(map(int, first)) if all(o < n for o, n in zip(first, node.shape or (), strict=True)) else origin


def filter_available(number: int) -> bool:
    """Whether libhdf5 can decode a filter here, with hdf5plugin's filters where that is installed."""
    if number not in _BUILTIN_FILTERS:
        try:
            import hdf5plugin  # noqa: F401
        except ImportError:
            pass
    return bool(h5z.filter_avail(number))


def _count(node: ArrayNode, handle: Dataset, did: Any, *, ragged: bool) -> ArrayNode:
    """Pass over variable-length data in pieces: elements of each row per leaf, and whether all text is UTF-8."""
    shape = cast(tuple[int, ...], node.shape)
    strings = any(is_string(p) and cast(dict[str, Any], p)["size"] is None for p in parts(node.dtype))
    if not ragged and not strings:
        return node
    counts: dict[str, list[int]] = {}
    utf8 = True
    wanted = leaves(node.dtype)
    for region in handle.rows(shape):
        block = handle.read_from(did, region)
        for leaf in wanted:
            for row in _rows(block) if leaf.ragged else [block]:
                values = split(row, leaf.steps)
                utf8 = utf8 and (leaf.dtype != "string" or not _has_surrogates(values))
                if leaf.ragged:
                    counts.setdefault("/".join(leaf.steps), []).append(len(values))
    return replace(node, counts=counts, utf8=utf8)


def _rows(block: Any) -> Iterator[Any]:
    if block.ndim == 0:
        yield block
    for i in range(len(block) if block.ndim else 0):
        yield block[i : i + 1]


def _has_surrogates(values: Any) -> bool:
    for item in np.asarray(values, dtype=object).ravel():
        try:
            if isinstance(item, bytes):
                item.decode("utf-8")
            elif isinstance(item, str):
                item.encode("utf-8")
        except UnicodeError:
            return True
    return False


def main() -> None:
    """Answer one request (JSON on standard input) with a Tree or an error (JSON on standard output)."""
    request = json.load(sys.stdin)
    answer: Callable[[], dict[str, Any]] = lambda: scan(request.pop("path"), **request).to_dict()  # noqa: E731
    try:
        document = answer()
    except H5zError as error:
        document = {"error": one_line(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
