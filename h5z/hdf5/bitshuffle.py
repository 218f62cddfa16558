"""HDF5's bitshuffle filter, with or without compression inside.

Source: the format notes of bitshuffle (registered HDF5 filter 32008): a header of the decoded length and the block's, both
big-endian, then blocks of whole multiples of 8 elements, each with its length where it is compressed; what is left of fewer than
8 elements follows as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

_NONE, _LZ4, _ZSTD = 0, 2, 3
_MULTIPLE = 8  # elements, of which every block holds a whole number
_BLOCK_NBYTES = 8192
_LEAST_BLOCK = 128  # elements
_HEADER = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")


def known(options: Sequence[int]) -> bool:
    """Whether a filter's options say what can be decoded here."""
    return len(options) > 2 and options[2] > 0 and _compression(options) in (_NONE, _LZ4, _ZSTD)


def bitunshuffle(stored: Any, nbytes: int | None, options: Sequence[int]) -> Any:
    """Decode a chunk.

    Parameters
    ----------
    stored : bytes-like
        The encoded chunk.
    nbytes : int, optional
        Its decoded length, where it is known; 2 GiB at most.
    options : sequence of int
        Version (two numbers), bytes of an element, elements of a block (0: the default), compression.

    Raises
    ------
    ValueError
        If the chunk is not what the filter writes.
    """
    data, itemsize, compression = memoryview(stored).cast("B"), options[2], _compression(options)
    block = options[3] if len(options) > 3 else 0
    if compression != _NONE:
        if len(data) < _HEADER.size:
            raise ValueError("its header is cut off")
        total, block_nbytes = _HEADER.unpack_from(data)
        if total > (nbytes if nbytes is not None else 255 * len(data)):
            raise ValueError(f"its header tells of {total} bytes")
        block = block_nbytes // itemsize
    else:
        total = len(data)
    block = block or max(_BLOCK_NBYTES // itemsize // _MULTIPLE * _MULTIPLE, _LEAST_BLOCK)
    if total % itemsize or block % _MULTIPLE:
        raise ValueError(f"{total} bytes in blocks of {block} elements of {itemsize} bytes")
    if total == 0:
        return b""
    shuffled = data if compression == _NONE else _decompress(data, total, block * itemsize, itemsize, compression)
    return _codecs().bitshuffle_decode(np.frombuffer(shuffled, f"V{itemsize}"), blocksize=block).view("u1")


def _decompress(data: memoryview, total: int, block: int, itemsize: int, compression: int) -> Any:
    """All blocks of a compressed chunk in one call: calls for 8 KiB each would make threads wait for each other."""
    rest = total % (itemsize * _MULTIPLE)
    whole = total - rest
    pieces, at, verbatim = [], _HEADER.size, False
    for start in range(0, whole, block):
        if at + _LENGTH.size > len(data):
            raise ValueError("it is cut off")
        length = _LENGTH.unpack_from(data, at)[0]
        pieces.append(data[at + _LENGTH.size : at + _LENGTH.size + length])
        verbatim |= length == min(block, whole - start)
        at += _LENGTH.size + length
    if at + rest > len(data):
        raise ValueError("it is cut off")
    out = np.empty(total, "u1")
    out[whole:] = data[at : at + rest]
    if not whole:
        return out
    if compression == _ZSTD:  # frames one after the other are one stream
        found = _codecs().zstd_decode(b"".join(pieces), out=out.data[:whole])
    elif verbatim:  # the LZ4 format of HDF5 would take a piece of the block's own length for plain
        return _each(pieces, out, whole, block)
    else:  # the LZ4 format of HDF5, a header apart
        found = _codecs().lz4h5_decode(_HEADER.pack(whole, block) + data[_HEADER.size : at], out=out.data[:whole])
    if len(found) != whole:
        raise ValueError(f"expected {whole} bytes, found {len(found)}")
    return out


def _each(pieces: Sequence[memoryview], out: Any, whole: int, block: int) -> Any:
    for start, piece in zip(range(0, whole, block), pieces, strict=True):
        wanted = min(block, whole - start)
        found = _codecs().lz4_decode(piece, out=out.data[start : start + wanted])
        if len(found) != wanted:
            raise ValueError(f"expected a block of {wanted} bytes, found {len(found)}")
    return out


def _compression(options: Sequence[int]) -> int:
    return options[4] if len(options) > 4 else _NONE


def _codecs() -> Any:
    import imagecodecs

    return imagecodecs
