"""An HDF5 file's headers -> Tree.

Objects are told apart by their address, so that an object with several hard links is met once; links are walked with a
stack, so that neither cycles nor depth matter. On damaged bytes h5py may raise anything (`SystemError` from its callbacks): what
goes wrong with one object is that object's problem, whatever it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
from h5py import h5g, h5l, h5o

from h5z import limits
from h5z.credentials import joined, separate
from h5z.errors import PlanError, SourceError, one_line
from h5z.hdf5.files import open_file, open_url
from h5z.hdf5.identity import header_digest
from h5z.hdf5.listing import identify
from h5z.hdf5.references import address
from h5z.hdf5.roots import Roots
from h5z.hdf5.tables import link_names
from h5z.headers import Headers, reason, text
from h5z.isolation import run_isolated
from h5z.isolation.heartbeat import beat
from h5z.nodes import Json, Link, Node, Problem, Tree

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
        roots = Roots(name, tuple(external_roots))
        headers = Headers(file, name, roots, measure, attributes or measure, storage_options, ranges)
        size, mtime_ns = identify(name, storage_options)
        nodes = _Walk(headers, links == "follow").walk()
        block = _user_block(name, file.userblock_size, storage_options)
        digest = header_digest(name, storage_options, ranges) + headers.index.digest() if measure else ""
        creation = _creation(file.id.get_create_plist())
        problems, notes = tuple(headers.problems), tuple(headers.notes)
        return Tree(name, size, mtime_ns, nodes, problems, notes, block, access, digest, creation)


def node_at(file: h5py.File, path: str) -> Node:
    """One object of an open file, by its path: its header and attributes.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    headers = Headers(file, file.filename, Roots(file.filename, ()))
    try:
        return headers.node(path, h5o.open(file.id, path.encode("utf-8", "surrogateescape")))
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


@dataclass
class _Walk:
    """One walk over an open file."""

    headers: Headers
    follow: bool

    def walk(self) -> dict[str, Node]:
        """Meet every object, first the links, then the headers: references need to know every object's path."""
        found: list[_Met] = []
        copies = 0
        try:
            root = h5o.open(self.headers.file.id, b"/")
            self.headers.paths[address(root)] = "/"
        except Exception as error:
            raise SourceError(f"{self.headers.name}: its root group cannot be read ({one_line(error)})") from None
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
                raise SourceError(f"{self.headers.name}: expected at most {what}, found more")
            if len(met.ancestors) > limits.MOST_LEVELS:
                self.headers.problems.append(
                    Problem(met.path, f"expected at most {limits.MOST_LEVELS:,} levels of groups, found more below it")
                )
            elif met.group:
                stack.extend(reversed(list(self._children(met))))
            if self.headers.attributes:
                found.append(met)
            else:  # nothing refers to what comes later
                self._add(met, nodes)
        for met in found:
            self._add(met, nodes)
        if "/" not in nodes:
            why = next(problem.reason for problem in reversed(self.headers.problems) if problem.path == "/")
            raise SourceError(f"{self.headers.name}: its root group cannot be read ({why})")
        return nodes

    def _add(self, met: _Met, nodes: dict[str, Node]) -> None:
        beat()
        try:
            oid = met.open(self.headers.file.id)
        except Exception as error:
            self.headers.problems.append(Problem(met.path, f"cannot be opened ({one_line(error)})"))
            return
        try:
            nodes[met.path] = self.headers.node(met.path, oid, met.links, met.names)
        except Exception as error:
            self.headers.problems.append(Problem(met.path, reason(error)))

    def _children(self, met: _Met) -> Iterator[_Met]:
        """The objects that a group leads to for the first time; its other links are noted."""
        try:
            gid = met.open(self.headers.file.id)
        except Exception as error:
            self.headers.whole = False
            self.headers.problems.append(Problem(met.path, f"its links cannot be listed ({one_line(error)})"))
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
                if where in met.ancestors or (where in self.headers.paths and not met.copied):
                    met.links.append(Link(name, "hard", self.headers.paths.get(where, "/")))
                    continue
                if not met.copied:
                    self.headers.paths[where] = prefix + name
                oid = h5o.open(gid, raw) if met.copied else None
                yield _Met(prefix + name, (*met.ancestors, where), info.type == h5o.TYPE_GROUP, oid, copied=met.copied)
            except Exception as error:
                self.headers.problems.append(Problem(prefix + name, f"cannot be opened ({one_line(error)})"))

    def _link_names(self, path: str, gid: Any) -> list[bytes]:
        names, why = link_names(gid)
        if why:
            self.headers.whole = False
            self.headers.problems.append(Problem(path, f"its links cannot be listed ({why})"))
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            self.headers.problems.append(
                Problem(path, f"it has several links by the name {text(twice)!r}, of which one can be found")
            )
        return list(dict.fromkeys(names))

    def _link(self, gid: Any, raw: bytes, path: str, kind: int) -> tuple[Link, Any | None]:
        """Describe a soft, external or user-defined link; with the object that it leads to where links are followed."""
        name = path.rpartition("/")[2]
        if kind == h5l.TYPE_SOFT:
            link = Link(name, "soft", text(gid.links.get_val(raw)))
        elif kind == h5l.TYPE_EXTERNAL:
            file, target = gid.links.get_val(raw)
            link = Link(name, "external", text(target), text(file))
        else:
            return Link(name, "user", str(int(kind))), None
        if not self.follow:
            return link, None
        try:
            return link, self.headers.roots.open(gid, raw)
        except SourceError as error:
            self.headers.problems.append(Problem(path, one_line(error)))
        except (KeyError, OSError):
            pass  # dangling
        return link, None
