"""A container's index, as h5z and libhdf5 read it; and whole new files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from h5z.container.frames import HEAD_NBYTES, INDEX, MEMBER, Entry, crc32, encode_key, head, padded
from h5z.hdf5.symboltable import SUPERBLOCK_NBYTES, View, hierarchy, superblock

LOCATOR = struct.Struct("<8sQ")
LOCATOR_MAGIC = b"h5zINDEX"
_COUNTS = struct.Struct("<QQ")
_VECTOR = 512  # buffers in one call of pwritev; POSIX grants 16, Linux 1,024


def write_all(descriptor: int, buffers: Sequence[Any], offset: int) -> None:
    """Write buffers one after the other at a place of a file, in as few calls as the system takes them."""
    left = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    while left:
        written = os.pwritev(descriptor, left[:_VECTOR], offset)
        offset += written
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if written:
            left[0] = left[0][written:]


def index_payload(entries: dict[str, Entry], start: int, view: View) -> tuple[bytearray, int]:
    """The payload of an index frame that begins at `start`, and the address of HDF5's root group in it.

    Counts of members and of bytes of their keys; keys, each followed by a zero; addresses, sizes and CRC-32s; HDF5's
    metadata; the locator, by which the index is found from the end of the file as HDF5 knows it.
    """
    keys = b"".join(encode_key(key) + b"\0" for key in entries)
    columns = list(zip(*entries.values(), strict=True)) or [(), (), ()]
    parts = [
        _COUNTS.pack(len(entries), len(keys)),
        keys + bytes(-len(keys) % 8),
        np.asarray(columns[0], "<u8").tobytes(),
        np.asarray(columns[1], "<u8").tobytes(),
        np.asarray(columns[2], "<u4").tobytes() + bytes(len(entries) % 2 * 4),
    ]
    own = b"".join(parts)
    base = start + HEAD_NBYTES + len(own)
    shown = hierarchy(((key, entry.address, entry.nbytes) for key, entry in entries.items()), base, view)
    data = shown.data
    data += bytes(-len(data) % 8) + LOCATOR.pack(LOCATOR_MAGIC, start)
    data[:0] = own
    return data, shown.root


def unpacked(data: bytes) -> dict[str, Entry]:
    """The entries of an index frame's payload."""
    count, length = _COUNTS.unpack_from(data)
    at = _COUNTS.size
    keys = data[at : at + length].decode("utf-8", "surrogateescape").split("\0")[:-1]
    at += padded(length)
    addresses = np.frombuffer(data, "<u8", count, at).tolist()
    sizes = np.frombuffer(data, "<u8", count, at + 8 * count).tolist()
    checks = np.frombuffer(data, "<u4", count, at + 16 * count).tolist()
    return dict(zip(keys, map(Entry, addresses, sizes, checks), strict=True))


def write_new(path: str, ident: int, items: Iterable[tuple[str, bytes, int | None]], view: View, *, sync: bool) -> None:
    """Write a whole container file (key, payload, CRC-32 if known), sealed, at a path where there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        entries: dict[str, Entry] = {}
        at = SUPERBLOCK_NBYTES
        for key, data, known in items:
            crc = crc32(data) if known is None else known
            before = head(MEMBER, ident, key, len(data), crc)
            entries[key] = Entry(at + len(before), len(data), crc)
            write_all(descriptor, [before, data, bytes(-len(data) % 8)], at)
            at += len(before) + padded(len(data))
        index, root = index_payload(entries, at, view)
        write_all(descriptor, [head(INDEX, ident, "", len(index), crc32(index)), index], at)
        end = at + HEAD_NBYTES + len(index)
        write_all(descriptor, [superblock(end, root)], 0)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
