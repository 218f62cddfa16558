"""HDF5 metadata written by hand: a superblock, object headers, and groups as symbol tables over data that are there already.

libhdf5 cannot make a dataset of bytes that lie in a file already, and changes its metadata in place, so that a kill leaves a
file that does not open. What is built here is only ever appended; one write of the superblock's 48 bytes then makes it the
file's content. The structures are those that every libhdf5 since 1.8 reads: superblock version 2, object headers version 1,
groups by B-tree version 1, local heap and symbol table nodes.

Source: HDF5 File Format Specification, version 3.0, sections II.A.2, III.A.1, III.B, III.C, III.D, III.E, IV.A.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

SUPERBLOCK_NBYTES = 48
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = (1 << 64) - 1
_LEAF, _INTERNAL = 8, 32  # entries of a symbol table node, children of a B-tree node: what superblock 2 implies
_SNOD_NBYTES, _TREE_NBYTES, _HEAP_NBYTES = 8 + 40 * _LEAF, 24 + 16 * _INTERNAL + 8, 32
_DATASPACE, _DATATYPE, _LAYOUT, _ATTRIBUTE, _SYMBOL_TABLE = 0x1, 0x3, 0x8, 0xC, 0x11
_SCALAR, _NULL = b"\1\0\0" + bytes(5), b"\2\0\0\2"
_INT8, _INT64 = b"\x10\x08\0\0\1\0\0\0\0\0\x08\0", b"\x10\x08\0\0\x08\0\0\0\0\0\x40\0"
_VLEN_STRING = b"\x19\1\1\0\x10\0\0\0" + b"\x10\0\0\0\1\0\0\0\0\0\x08\0"

Value: TypeAlias = str | int


def checksum(data: bytes) -> int:
    """The checksum of HDF5's metadata: Bob Jenkins' lookup3 (hashlittle) from 0.

    >>> hex(checksum(b"Four score and seven years ago"))
    '0x17770551'
    """
    mask = 0xFFFFFFFF

    def rotated(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    for start in range(0, len(data), 12):
        part = data[start : start + 12]
        x, y, z = struct.unpack("<III", part.ljust(12, b"\0"))
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        if start + 12 < len(data):
            for k, m, n in ((4, 6, 8), (16, 19, 4)):
                a = (a - c) & mask ^ rotated(c, k)
                c = (c + b) & mask
                b = (b - a) & mask ^ rotated(a, m)
                a = (a + c) & mask
                c = (c - b) & mask ^ rotated(b, n)
                b = (b + a) & mask
        else:
            c = ((c ^ b) - rotated(b, 14)) & mask
            a = ((a ^ c) - rotated(c, 11)) & mask
            b = ((b ^ a) - rotated(a, 25)) & mask
            c = ((c ^ b) - rotated(b, 16)) & mask
            a = ((a ^ c) - rotated(c, 4)) & mask
            b = ((b ^ a) - rotated(a, 14)) & mask
            c = ((c ^ b) - rotated(b, 24)) & mask
    return c


def superblock(end: int, root: int) -> bytes:
    """A superblock: where the file's content ends, and where its root group's object header is."""
    head = _SIGNATURE + struct.pack("<BBBBQQQQ", 2, 8, 8, 0, 0, _UNDEFINED, end, root)
    return head + struct.pack("<I", checksum(head))


def parse_superblock(data: bytes) -> tuple[int, int] | None:
    """What `superblock` was given; None for anything else, a torn one included.

    >>> parse_superblock(superblock(800, 760))
    (800, 760)
    >>> parse_superblock(superblock(800, 760)[:-1] + b"!") is None
    True
    """
    if len(data) < SUPERBLOCK_NBYTES or not data.startswith(_SIGNATURE + b"\2\x08\x08\0"):
        return None
    (found,) = struct.unpack_from("<I", data, 44)
    if found != checksum(data[:44]):
        return None
    _, _, end, root = struct.unpack_from("<QQQQ", data, 12)
    return end, root


def _message(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("<HHB3x", kind, len(body), 0) + body


def _header(messages: bytes, count: int) -> bytes:
    return struct.pack("<BxHII4x", 1, count, 1, len(messages)) + messages


def _layout(address: int, nbytes: int) -> bytes:
    return _message(_LAYOUT, struct.pack("<BBQQ", 3, 1, address if nbytes else _UNDEFINED, nbytes))


def _opaque(address: int, nbytes: int) -> bytes:
    """The object header of a scalar opaque dataset; of no bytes, of a null dataset."""
    space = _message(_DATASPACE, _SCALAR if nbytes else _NULL)
    kind = _message(_DATATYPE, struct.pack("<B3xI", 0x15, max(1, nbytes)))
    return _header(space + kind + _layout(address, nbytes), 3)


def _vector(address: int, nbytes: int, notes: list[bytes]) -> bytes:
    """The object header of a one-dimensional dataset of int8, with attributes."""
    space = _message(_DATASPACE, struct.pack("<BBB5xQ", 1, 1, 0, nbytes))
    messages = space + _message(_DATATYPE, _INT8) + _layout(address, nbytes) + b"".join(notes)
    return _header(messages, 3 + len(notes))


@dataclass(frozen=True)
class View:
    """How members appear to those who read a container as HDF5.

    Attributes
    ----------
    vectors : bool
        As one-dimensional datasets of int8; else as opaque scalars, as `numpy.void` is stored.
    root : mapping
        Attributes of the root group.
    members : mapping
        Attributes of vectors, by path.
    """

    vectors: bool = False
    root: Mapping[str, Value] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


class _Texts:
    """A global heap collection of texts, each once; attributes of variable length point into it."""

    def __init__(self, address: int, view: View) -> None:
        self.address = address
        values = (value for notes in (view.root, *view.members.values()) for value in notes.values())
        self._numbers = {text: i for i, text in enumerate(dict.fromkeys(v for v in values if isinstance(v, str)), 1)}
        self._cache: dict[tuple[str, Value], bytes] = {}

    def collection(self) -> bytes:
        """The collection's bytes; none without texts."""
        objects = b""
        for text, number in self._numbers.items():
            raw = text.encode("utf-8", "surrogateescape")
            objects += struct.pack("<HHIQ", number, 1, 0, len(raw)) + raw + bytes(-len(raw) % 8)
        if not objects:
            return b""
        nbytes = max(4096, 16 + len(objects))
        free = nbytes - 16 - len(objects)
        tail = struct.pack("<HHIQ", 0, 0, 0, free) if free >= 16 else b""
        return (b"GCOL" + struct.pack("<B3xQ", 1, nbytes) + objects + tail).ljust(nbytes, b"\0")

    def attributes(self, notes: Mapping[str, Value]) -> list[bytes]:
        """Attribute messages, version 3: 64-bit integers and texts of variable length."""
        for item in notes.items():
            if item not in self._cache:
                self._cache[item] = self._attribute(*item)
        return [self._cache[item] for item in notes.items()]

    def _attribute(self, name: str, value: Value) -> bytes:
        if isinstance(value, int):
            datatype, data = _INT64, struct.pack("<q", value)
        else:
            length = len(value.encode("utf-8", "surrogateescape"))
            datatype, data = _VLEN_STRING, struct.pack("<IQI", length, self.address, self._numbers[value])
        title = name.encode() + b"\0"
        head = struct.pack("<BBHHHB", 3, 0, len(title), len(datatype), len(_SCALAR), 1)
        return _message(_ATTRIBUTE, head + title + datatype + _SCALAR + data)


@dataclass(frozen=True)
class Hierarchy:
    """HDF5 metadata to append to a file, and where in it the root group's object header begins."""

    data: bytearray
    root: int


def hierarchy(members: Iterable[tuple[str, int, int]], base: int, view: View) -> Hierarchy:
    """Build datasets of bytes that are in the file, and the groups that hold them.

    Parameters
    ----------
    members : iterable of (path, address, nbytes)
        Paths with ``/`` between groups, relative to the root. A path that HDF5 cannot have (an empty component, ``.``, a
        group of the name of a dataset) is left out.
    base : int
        The address, a multiple of 8, at which the result will be written.
    """
    texts = _Texts(base, view)
    out = bytearray(texts.collection())
    datasets = []
    for path, address, nbytes in members:
        datasets.append((path.encode("utf-8", "surrogateescape"), base + len(out)))
        notes = texts.attributes(view.members.get(path, {}))
        out += _vector(address, nbytes, notes) if view.vectors else _opaque(address, nbytes)
    tree, heap = _group(out, base, *_tree(datasets))
    root = base + len(out)
    notes = texts.attributes(view.root)
    out += _header(_message(_SYMBOL_TABLE, struct.pack("<QQ", tree, heap)) + b"".join(notes), 1 + len(notes))
    return Hierarchy(out, root)


_Links: TypeAlias = dict[bytes, int]
_Groups: TypeAlias = dict[bytes, "tuple[_Links, _Groups]"]


def _tree(datasets: Iterable[tuple[bytes, int]]) -> tuple[_Links, _Groups]:
    links: _Links = {}
    groups: _Groups = {}
    for path, address in datasets:
        at, below = links, groups
        *parents, name = path.split(b"/")
        if not name or name == b"." or b"\0" in path or any(part in (b"", b".") for part in parents):
            continue
        for part in parents:
            if part in at:
                break
            at, below = below.setdefault(part, ({}, {}))
        else:
            if name not in below:
                at[name] = address
    return links, groups


def _group(out: bytearray, base: int, links: _Links, groups: _Groups) -> tuple[int, int]:
    """Append a group's subgroups, local heap, symbol table nodes and B-tree; return the addresses of B-tree and heap."""
    entries = {name: (address, b"") for name, address in links.items()}
    for name, (inner, below) in groups.items():
        if name not in entries:
            tree, heap = _group(out, base, inner, below)
            entries[name] = (base + len(out), struct.pack("<QQ", tree, heap))
            out += _header(_message(_SYMBOL_TABLE, struct.pack("<QQ", tree, heap)), 1)
    heap, places = base + len(out), []
    names = bytearray(8)
    order = sorted(entries)
    for name in order:
        places.append(len(names))
        names += name + bytes(8 - len(name) % 8)
    out += b"HEAP" + struct.pack("<B3xQQQ", 0, len(names), 1, heap + _HEAP_NBYTES) + names
    nodes = []
    for start in range(0, len(order), _LEAF):
        inside = range(start, min(start + _LEAF, len(order)))
        nodes.append((base + len(out), places[inside[-1]]))
        node = bytearray(b"SNOD" + struct.pack("<BxH", 1, len(inside)))
        for i in inside:
            address, cache = entries[order[i]]
            node += struct.pack("<QQI4x16s", places[i], address, 1 if cache else 0, cache)
        out += node.ljust(_SNOD_NBYTES, b"\0")
    return _btree(out, base, nodes), heap


def _btree(out: bytearray, base: int, nodes: list[tuple[int, int]]) -> int:
    """Append a B-tree over nodes (address, place of the greatest name); return its root's address."""
    level = 0
    while True:
        above, least = [], 0
        first = base + len(out)
        split = [nodes[i : i + _INTERNAL] for i in range(0, len(nodes), _INTERNAL)] or [[]]
        for i, children in enumerate(split):
            address = first + i * _TREE_NBYTES
            left = address - _TREE_NBYTES if i else _UNDEFINED
            right = address + _TREE_NBYTES if i + 1 < len(split) else _UNDEFINED
            node = b"TREE" + struct.pack("<BBHQQQ", 0, level, len(children), left, right, least)
            node += b"".join(struct.pack("<QQ", *child) for child in children)
            least = children[-1][1] if children else 0
            above.append((address, least))
            out += node.ljust(_TREE_NBYTES, b"\0")
        if len(above) == 1:
            return above[0][0]
        nodes, level = above, level + 1
