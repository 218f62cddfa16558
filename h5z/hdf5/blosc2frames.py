"""HDF5's Blosc2 filter: a frame that holds one Blosc2 chunk, cut into blocks where the frame says so.

Sources: C-Blosc2's `README_CFRAME_FORMAT`, `README_CHUNK_FORMAT` and `README_B2ND_METALAYER`; registered HDF5 filter 32026.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

_MAGIC = b"b2frame\0"
_HEADER_AT, _OPTIONS = 11, 4
_SPECIAL, _ZEROS = 0x80, 0x81  # of an offset's highest byte: there is no chunk, all its bytes are alike
_COMPRESSORS = frozenset({0, 1, 3, 4})  # BloscLZ, LZ4, zlib, zstd; others are plugins
_LAST_FILTER = 4  # likewise


class UnusualError(ValueError):
    """What the filter may write, and only libhdf5 reads."""


def known(options: Sequence[int]) -> bool:
    """Whether a filter's options say what can be decoded here."""
    return len(options) >= _OPTIONS


def unframe(stored: Any, nbytes: int | None, options: Sequence[int]) -> Any:
    """Decode a chunk.

    Parameters
    ----------
    stored : bytes-like
        The frame.
    nbytes : int, optional
        Its decoded length, where it is known.
    options : sequence of int
        Revision, format, bytes of an element, decoded length, and more.

    Raises
    ------
    UnusualError
        If it is a frame that only libhdf5 reads.
    ValueError
        If it is none.
    """
    data = memoryview(stored).cast("B")
    header = _header(data)
    chunk, frame_nbytes, total, length = int(header[1]), int(header[2]), int(header[4]), int(header[5])
    wanted = options[3] if nbytes is None else nbytes
    if len(data) < frame_nbytes or min(chunk, total, length) < 0 or chunk + length > frame_nbytes:
        raise ValueError(f"a frame of {frame_nbytes} bytes in {len(data)}")
    if total != header[8]:
        raise UnusualError("a frame of several chunks")
    grid = _grid(header[13])
    if grid is None and total != wanted:
        raise ValueError(f"expected {wanted} bytes, found a frame of {total}")
    offset = int.from_bytes(bytes(_chunk(data[chunk + length : frame_nbytes], 8)), "little")
    if offset >> 56 & _SPECIAL:
        if offset >> 56 != _ZEROS:
            raise UnusualError("a chunk of a special value")
        return np.zeros(wanted, "u1")
    plain = _chunk(data[chunk + offset : chunk + length], total)
    return plain if grid is None else _joined(plain, wanted, int(header[6]), *grid)


def _header(data: memoryview) -> list[Any]:
    """A frame's header: MessagePack."""
    import msgpack

    if len(data) < _HEADER_AT + 4 or data[2:10] != _MAGIC:
        raise ValueError("no Blosc2 frame")
    nbytes = struct.unpack_from(">I", data, _HEADER_AT)[0]
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(data[: min(nbytes, len(data))])
    header = unpacker.unpack()
    if not isinstance(header, list) or len(header) < 14 or not all(isinstance(header[i], int) for i in (1, 2, 4, 5, 6, 8)):
        raise ValueError("no Blosc2 frame")
    return header


def _grid(layers: Any) -> tuple[list[int], list[int]] | None:
    """Shapes of a frame's chunk and of its blocks, where it has more than one dimension."""
    import msgpack

    names = layers[1] if isinstance(layers, list) and len(layers) == 3 and isinstance(layers[1], dict) else {}
    if list(names) not in ([], [b"b2nd"]):
        raise UnusualError("a frame with metadata")
    if not names:
        return None
    _, _, shape, chunk, block = msgpack.unpackb(layers[2][0], raw=True)[:5]
    if not (len(shape) == len(chunk) == len(block)) or not all(isinstance(n, int) and n > 0 for n in (*chunk, *block)):
        raise ValueError("its chunk has no shape")
    if list(shape) != list(chunk):
        raise UnusualError("a frame of several chunks")
    return list(chunk), list(block)


def _joined(plain: Any, wanted: int, itemsize: int, chunk: list[int], block: list[int]) -> Any:
    """A chunk's values in C order, from one block after the other; blocks that reach past its end are padded."""
    counts = [-(-n // b) for n, b in zip(chunk, block, strict=True)]
    if math.prod(chunk) * itemsize != wanted or math.prod(counts) * math.prod(block) * itemsize != len(plain):
        raise ValueError(f"a chunk of {chunk} elements of {itemsize} bytes in {len(plain)} bytes, expected {wanted}")
    rank = len(chunk)
    blocks = np.frombuffer(plain, f"V{itemsize}").reshape(*counts, *block)
    joined = blocks.transpose([axis + part * rank for axis in range(rank) for part in (0, 1)])
    whole = joined.reshape([n * b for n, b in zip(counts, block, strict=True)])
    return np.ascontiguousarray(whole[tuple(slice(0, n) for n in chunk)]).reshape(-1).view("u1")


def _chunk(data: memoryview, wanted: int) -> Any:
    """Decode the Blosc2 chunk with which some bytes start."""
    import imagecodecs

    if len(data) < 16:
        raise ValueError("its chunk is cut off")
    nbytes, _, encoded = struct.unpack_from("<iii", data, 4)
    if nbytes != wanted or not 16 <= encoded <= len(data):
        raise ValueError(f"expected a chunk of {wanted} bytes, found {nbytes} in {encoded} bytes")
    flags = data[2]
    if flags & 5 == 5 and encoded >= 32 and any(code > _LAST_FILTER for code in data[16:22]):
        raise UnusualError("a filter that is a plugin")
    if flags >> 5 not in _COMPRESSORS:
        raise UnusualError("a compressor that is a plugin")
    found = imagecodecs.blosc2_decode(bytes(data[:encoded]), numthreads=1, out=np.empty(wanted, "u1").data)
    if len(found) != wanted:
        raise ValueError(f"expected {wanted} bytes, found {len(found)}")
    return found
