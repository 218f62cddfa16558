"""Frames: the records that a container file is made of, one after the other, each found and checked without any index.

A frame is a head of 32 bytes, its key padded to a multiple of 8, its payload, padded likewise. All numbers are little-endian:

====== ==== =============================================================================
offset size content
====== ==== =============================================================================
0      4    ``h5zF``
4      1    kind: 1 a member, 2 a member's deletion, 3 an index
5      1    0
6      2    bytes of the key
8      8    the file's number, by chance, so that frames of a file stored in another are not taken for its own
16     8    bytes of the payload
24     4    CRC-32 of the payload
28     4    CRC-32 of the 28 bytes before, and of the key
====== ==== =============================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from isal import isal_zlib

from h5z.errors import SourceError

MAGIC = b"h5zF"
MEMBER, DELETION, INDEX = 1, 2, 3
HEAD_NBYTES = 32
LONGEST_KEY = 4096
_HEAD = struct.Struct("<4sBBHQQII")
_WINDOW = 1 << 16


class Frame(NamedTuple):
    """A frame by where it is: its first byte, its payload's first byte, and the first byte past it."""

    kind: int
    key: str
    start: int
    address: int
    nbytes: int
    crc: int
    ident: int

    @property
    def end(self) -> int:
        """The first byte past it."""
        return self.address + padded(self.nbytes)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Bytes, from and to, that no checksum is of: behind its key, and behind its payload."""
        key_end = self.start + HEAD_NBYTES + len(encode_key(self.key))
        return (key_end, self.address), (self.address + self.nbytes, self.end)


class Entry(NamedTuple):
    """Where a member's bytes are; in files that others wrote, `crc` is None, and `address` negative where only libhdf5 knows."""

    address: int
    nbytes: int
    crc: int | None


class Readable(Protocol):
    """What frames are read from."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """As many bytes as asked for, or up to the end."""


def padded(nbytes: int) -> int:
    """The next multiple of 8."""
    return -(-nbytes // 8) * 8


def crc32(data: bytes | bytearray | memoryview) -> int:
    """CRC-32 of a payload."""
    return int(isal_zlib.crc32(data))


def encode_key(key: str) -> bytes:
    """A key's bytes in the file; what was no UTF-8 as surrogates is itself again."""
    return key.encode("utf-8", "surrogateescape")


def head(kind: int, ident: int, key: str, nbytes: int, crc: int) -> bytes:
    """A frame's bytes before its payload."""
    name = encode_key(key)
    bare = _HEAD.pack(MAGIC, kind, 0, len(name), ident, nbytes, crc, 0)[:-4]
    return bare + struct.pack("<I", crc32(bare + name)) + name + bytes(-len(name) % 8)


def parse(data: bytes | memoryview, at: int, start: int, ident: int | None) -> Frame | None:
    """The frame whose head is at `at` of the data and at `start` of its file; None if none of that file's is."""
    if len(data) < at + HEAD_NBYTES:
        return None
    magic, kind, zero, length, owner, nbytes, crc, found = _HEAD.unpack_from(data, at)
    key = bytes(data[at + HEAD_NBYTES : at + HEAD_NBYTES + length])
    if magic != MAGIC or zero or (ident is not None and owner != ident) or len(key) < length:
        return None
    if found != crc32(bytes(data[at : at + 28]) + key):
        return None
    text = key.decode("utf-8", "surrogateescape")
    return Frame(kind, text, start, start + HEAD_NBYTES + padded(length), nbytes, crc, owner)


def begins_frame(data: bytes, ident: int | None) -> bool:
    """Whether bytes are the first of a frame of a file, be they the first few of its head alone."""
    if len(data) < HEAD_NBYTES:
        return MAGIC.startswith(data[: len(MAGIC)])
    magic, _, zero, length, owner, *_ = _HEAD.unpack_from(data)
    if magic != MAGIC or zero or owner != ident:
        return False
    return len(data) < HEAD_NBYTES + length or parse(data, 0, 0, ident) is not None


@dataclass
class Scan:
    """Frames from one place in a file on.

    Attributes
    ----------
    end : int
        After iteration, the first byte past the last whole frame.
    """

    file: Readable
    end: int
    size: int
    ident: int | None

    def __iter__(self) -> Iterator[Frame]:
        """Whole frames, until the file ends or no frame follows."""
        window, base = b"", 0
        while self.end < self.size:
            at = self.end - base
            if not window or at < 0 or at + HEAD_NBYTES + LONGEST_KEY > len(window):
                window, base = self.file.read(self.end, min(_WINDOW, self.size - self.end)), self.end
                at = 0
            frame = parse(window, at, self.end, self.ident)
            if frame is None or frame.end > self.size:
                return
            self.end = frame.end
            yield frame


def find(file: Readable, start: int, size: int, ident: int | None) -> Frame | None:
    """The first whole frame at or after a place, wherever it begins: what lies before it is damaged."""
    step = _WINDOW - HEAD_NBYTES - LONGEST_KEY
    while start < size:
        window = file.read(start, min(_WINDOW, size - start))
        at = window.find(MAGIC)
        while 0 <= at < step:
            frame = parse(window, at, start + at, ident)
            if frame is not None and frame.end <= size:
                return frame
            at = window.find(MAGIC, at + 1)
        start += step
    return None


def payload(file: Readable, name: str, frame: Frame) -> bytes:
    """A frame's payload.

    Raises
    ------
    SourceError
        If it is cut short or not what was written.
    """
    return checked(file.read(frame.address, frame.nbytes), f"{name}: {frame.key}", frame.nbytes, frame.crc)


def checked(data: bytes, what: str, nbytes: int, crc: int | None) -> bytes:
    """Data that were read, if they are as long as they should be and have the checksum that they were written with.

    Raises
    ------
    SourceError
        Otherwise.
    """
    if len(data) != nbytes:
        raise SourceError(f"{what}: expected {nbytes} bytes, found {len(data)}: the file is cut short")
    if crc is not None and crc32(data) != crc:
        raise SourceError(f"{what}: expected CRC-32 {crc:08x}, found {crc32(data):08x}: the data are damaged")
    return data
