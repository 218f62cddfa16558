"""HDF5's scale-offset filter: integers, or decimally scaled floats, less their minimum, in as few bits as they need.

Source: HDF5's `H5Zscaleoffset.c`. A chunk starts with the number of bits (4 bytes, little-endian), the width of the minimum
(1 byte), the minimum, and padding up to byte 21; then the values follow, each of that many bits, highest first, without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_DECIMAL, _INTEGER = 0, 2  # kinds of scaling; HDF5 itself refuses the one between
_START = 21
_LANES = 8  # values, which fill a whole number of bytes


def known(options: Sequence[int]) -> bool:
    """Whether a filter's options say what can be decoded here, and by libhdf5."""
    if len(options) != 20:
        return False
    scaling, factor, _, kind, size, sign, order = options[:7]
    if order not in (0, 1) or sign not in (0, 1):
        return False
    if kind == 1:
        return scaling == _DECIMAL and size in (4, 8)
    return kind == 0 and scaling == _INTEGER and size in (1, 2, 4, 8) and (_signed(factor) <= 8 * size)


def unscale(stored: Any, nbytes: int | None, options: Sequence[int]) -> Any:
    """Decode a chunk.

    Parameters
    ----------
    stored : bytes-like
        The encoded chunk.
    nbytes : int, optional
        Its decoded length, where it is known.
    options : sequence of int
        Kind of scaling, its factor, number of elements, their class, size, sign and byte order, whether there is a fill
        value, and that, in 32-bit pieces.

    Raises
    ------
    ValueError
        If the chunk is not what the filter writes.
    """
    scaling, factor, count, _, size, _, order, filled = options[:8]
    data = np.frombuffer(stored, "u1")
    if nbytes is not None and count * size != nbytes:
        raise ValueError(f"its parameters tell of {count} elements of {size} bytes")
    if scaling == _INTEGER and _signed(factor) == 8 * size:
        return data
    if len(data) < _START:
        raise ValueError("its header is cut off")
    bits = int.from_bytes(data[:4].tobytes(), "little")
    width = min(8, int(data[4]))
    least = data[5 : 5 + width].tobytes().ljust(8, b"\0")
    if bits > 8 * size or len(data) < _START + -(-count * bits // 8):
        raise ValueError(f"{count} elements of {bits} bits in {len(data)} bytes")
    if bits == 8 * size:
        plain = data[_START : _START + count * size].view(f"<u{size}")
    else:
        plain = _unpack(data[_START:], count, bits, size)
        fill = np.array(options[8 : 8 + -(-size // 4)], "<u4").view(f"<u{size}")[0] if filled == 1 else None
        plain = _restored(plain, bits, least, fill, _signed(factor) if scaling == _DECIMAL else None)
    return plain.view(f"<u{size}").astype(f">u{size}") if order == 1 else plain


def _restored(packed: Any, bits: int, least: bytes, fill: Any, places: int | None) -> Any:
    """Values from their distances to the least; the greatest distance that the bits can say stands for the fill value."""
    size = packed.dtype.itemsize
    absent = None if fill is None else packed == (1 << bits) - 1
    if places is None:
        with np.errstate(over="ignore"):
            plain = packed + np.frombuffer(least, f"<u{size}", 1)[0]
    else:
        real = np.dtype(f"<f{size}")
        with np.errstate(all="ignore"):
            plain = packed.view(f"<i{size}").astype(real)
            plain /= real.type(_power_of_ten(places))
            plain += np.frombuffer(least, real, 1)[0]
        plain = plain.view(f"<u{size}")
    if absent is not None:
        plain[absent] = fill
    return plain


def _power_of_ten(places: int) -> float:
    """10 to a power as C has it: out of range, infinite or zero."""
    try:
        return 10.0**places
    except OverflowError:
        return np.inf


def _unpack(data: Any, count: int, bits: int, size: int) -> Any:
    """Unsigned numbers of a few bits each, highest first, from a stream without gaps.

    >>> _unpack(np.array([0b00100101, 0b00000000], "u1"), 4, 3, 1)
    array([1, 1, 2, 0], dtype=uint8)
    """
    dtype: Any = np.dtype(f"<u{size}")
    if bits == 0:
        return np.zeros(count, dtype)
    groups = -(-count // _LANES)
    if len(data) < groups * bits:
        data = np.concatenate((data, np.zeros(groups * bits - len(data), "u1")))
    stream = data[: groups * bits].reshape(groups, bits)
    out = np.empty((groups, _LANES), dtype)
    mask = dtype.type((1 << bits) - 1)
    for lane in range(_LANES):
        first, end = lane * bits, (lane + 1) * bits
        value = np.zeros(groups, dtype)
        for column in range(first // 8, -(-end // 8)):
            shift = end - 8 * (column + 1)
            part = stream[:, column].astype(dtype)
            value |= part << dtype.type(shift) if shift >= 0 else part >> dtype.type(-shift)
        out[:, lane] = value & mask
    return out.reshape(-1)[:count]


def _signed(option: int) -> int:
    return option - (1 << 32) if option >> 31 else option
