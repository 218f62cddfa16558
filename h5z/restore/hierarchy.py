"""Tree -> an HDF5 file's objects: groups, links, committed datatypes, datasets without their data, attributes."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import h5py
from h5py import h5a, h5d, h5f, h5g, h5o, h5p, h5s, h5t

from h5z.errors import H5zError, TargetError, one_line
from h5z.hdf5 import libhdf5
from h5z.hdf5.typeids import InMemory, build, raw_name
from h5z.nodes import Attribute, GroupNode, Link, Node, Problem, Tree, TypeNode
from h5z.restore.headers import in_order
from h5z.restore.image import image_of_json
from h5z.restore.properties import BUILTIN_OPTIONS, dataset_creation, dataspace, file_access, file_creation, order_flags, simple
from h5z.restore.selections import region_of, selection
from h5z.restore.standins import stand_ins

_FAILURES = (H5zError, OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)


def open_new(path: Path, tree: Tree) -> h5py.File:
    """Create an HDF5 file as a tree says.

    Raises
    ------
    TargetError
        If it cannot be created.
    """
    plist = file_creation(tree.creation, cast(GroupNode, tree.nodes["/"]).order, len(base64.b64decode(tree.user_block)))
    try:
        fid = h5f.create(os.fsencode(path), h5f.ACC_EXCL, plist, file_access(tree.creation))
    except (OSError, ValueError, RuntimeError) as error:
        raise TargetError(f"{path}: cannot be created ({one_line(error)})") from None
    return h5py.File(fid)


class Hierarchy:
    """The objects of a file that is being restored.

    Attributes
    ----------
    problems : list of Problem
        What could not be made, each named.
    """

    def __init__(self, file: h5py.File, tree: Tree) -> None:
        self.file, self.tree = file, tree
        self.problems: list[Problem] = []
        self.made: set[str] = set()
        self.in_use: set[int] = set()  # filters that another open dataset uses, which may compute their options anew
        self.names: dict[str, list[str]] = {}
        self._types: dict[str, Any] = {}
        self._waiting: list[tuple[GroupNode, str]] = []
        self._of, self._linked = "", dict[str, Link]()
        self._known: dict[tuple[str, str], bytes] = {}
        for path in tree.nodes:
            if path != "/":
                above, _, name = path.rpartition("/")
                self.names.setdefault(above or "/", []).append(name)

    def create(self) -> None:
        """Create every object and link, as a scan meets them, so that each hard link's object is there before it."""
        filters = {f[0]: f[1] for node in self.tree.arrays for f in node.filters if f[0] not in BUILTIN_OPTIONS}
        with stand_ins(filters) if filters else _nothing() as standing:
            self.in_use = set(filters) - standing
            for path, node in self.tree.nodes.items():
                if isinstance(node, TypeNode):
                    with self._naming(path):
                        self._types[path] = build(node.dtype)
                        libhdf5.commit_anonymously(self.file.id, self._types[path])
            self.made.add("/")
            stack = ["/"]
            while stack:
                path = stack.pop()
                stack += reversed(list(self._members(cast(GroupNode, self.tree.nodes[path]))))
            self._end_waiting()
            self._types.clear()

    def _end_waiting(self) -> None:
        """Create what waited for other objects: datasets whose fill value refers to them, links to those datasets."""
        count = len(self._waiting) + 1
        while self._waiting and len(self._waiting) < count:
            count = len(self._waiting)
            waiting, self._waiting = self._waiting, []
            for group, name in waiting:
                self._member(group, name)
        for group, name in self._waiting:
            reason = "cannot be restored: it refers to objects that were not"
            self.problems.append(Problem(f"{group.path.rstrip('/')}/{name}", reason))

    def _members(self, group: GroupNode) -> Iterator[str]:
        """Create a group's members; yield the paths of those that are groups."""
        names = {*self.names.get(group.path, ()), *self._links(group)}
        for name in in_order(names, group.children):
            path = self._member(group, name)
            if path in self.made and isinstance(self.tree.nodes[path], GroupNode):
                yield path

    def _member(self, group: GroupNode, name: str) -> str:
        """Create one member, or have it wait until what it refers to is there."""
        path = f"{group.path.rstrip('/')}/{name}"
        link = self._links(group).get(name)
        with self._naming(path):
            gid = self.open(group.path)
            try:
                if link is not None:
                    self._link(gid, link)
                else:
                    self._node(gid, name, self.tree.nodes[path])
                    self.made.add(path)
            except KeyError:
                self._waiting.append((group, name))
        return path

    def _links(self, group: GroupNode) -> dict[str, Link]:
        if self._of != group.path:
            self._of, self._linked = group.path, {link.name: link for link in group.links}
        return self._linked

    def _link(self, gid: Any, link: Link) -> None:
        name, target, plist = raw_name(link.name), raw_name(link.target), _link_creation(link.name)
        if link.kind == "hard":
            h5o.link(self.open(link.target), gid, name, plist)
        elif link.kind == "soft":
            gid.links.create_soft(name, target, plist)
        elif link.kind == "external":
            gid.links.create_external(name, raw_name(cast(str, link.file)), target, plist)

    def _node(self, gid: Any, name: str, node: Node) -> None:
        raw, links = raw_name(name), _link_creation(name)
        if isinstance(node, GroupNode):
            plist = h5p.create(h5p.GROUP_CREATE)
            order_flags(plist, node.order)
            plist.set_obj_track_times(False)
            h5g.create(gid, raw, links, plist)
        elif isinstance(node, TypeNode):
            h5o.link(self._types[node.path], gid, raw, links)
        else:
            tid = self._types[node.committed] if node.committed in self._types else build(node.dtype)
            h5d.create(gid, raw, tid, dataspace(node), dataset_creation(node, self.refer), links)

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Note what cannot be made, and go on."""
        try:
            yield
        except _FAILURES as error:
            self.problems.append(Problem(path, f"cannot be restored ({one_line(error)})"))

    def open(self, path: str) -> Any:
        """Open an object."""
        return h5o.open(self.file.id, raw_name(path))

    def attributes(self) -> None:
        """Write the attributes, and comments, of every object."""
        for path, node in self.tree.nodes.items():
            if path not in self.made or not (node.attributes or node.comment):
                continue
            oid = self.open(path)
            for item in node.attributes:
                with self._naming(f"{path}@{item.name}"):
                    self._attribute(oid, item)
            if node.comment:
                h5o.set_comment(oid, raw_name(node.comment))

    def _attribute(self, oid: Any, item: Attribute) -> None:
        named = item.committed if item.committed in self.made else None
        tid = h5t.open(self.file.id, raw_name(named)) if named else build(item.dtype)
        if item.shape is None:
            h5a.create(oid, raw_name(item.name), tid, h5s.create(h5s.NULL))
            return
        items = [item.value]
        for _ in item.shape:
            items = [inner for outer in items for inner in outer]
        image = image_of_json(item.dtype, items, self.refer)
        space = simple(item.shape, item.maxshape)
        aid = h5a.create(oid, raw_name(item.name), tid, space)
        if len(items):
            libhdf5.write_attribute(aid, image.tid, image.values)

    def refer(self, text: str, kind: str) -> bytes:
        """The bytes of the reference that a text names; nulls for none.

        Raises
        ------
        KeyError
            If it names nothing in the file.
        """
        if not text:
            return bytes(InMemory.of({"class": "reference", "kind": kind}).dtype.itemsize)
        key = (text, kind)
        if key not in self._known:
            if kind == "object":
                self._known[key] = libhdf5.reference(self.open(text), kind)
            else:
                path, region = (text, "all") if text in self.made else region_of(text)
                did = self.open(path)
                self._known[key] = libhdf5.reference(did, kind, selection(region, did.shape or ()))
        return self._known[key]


def _link_creation(name: str) -> Any:
    plist = h5p.create(h5p.LINK_CREATE)
    text = not any("\udc80" <= letter <= "\udcff" for letter in name)
    plist.set_char_encoding(h5t.CSET_UTF8 if text and not name.isascii() else h5t.CSET_ASCII)
    return plist


@contextmanager
def _nothing() -> Iterator[frozenset[int]]:
    yield frozenset()
