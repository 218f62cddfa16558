"""A digest of an array's values that no chunking, codec or byte order changes, and that anybody can compute again.

Cut each element's bytes, little-endian, into 32-bit words, the last one filled up with zero bytes; of elements of one or two
bytes, four or two neighbours on the last axis make one word, of which the first has an index divisible by four or two, and which
has that index divided by them. With *k* the splitmix64 generator's output (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", 2014) made odd, ``k(n) = splitmix64(n) | 1``, let the key of index *i* on axis *a* be
``key(a, i) = k(2⁴⁸·(128·l + 2·a) + i mod 2¹⁶) · k(2⁴⁸·(128·l + 2·a + 1) + i div 2¹⁶)``, and that of an element's word *w*
``key(62, w)``. The digest is, for each of the lanes l = 0 and l = 1, the sum over all words of the word times the keys of its
indices and of its place in the element, modulo 2⁶⁴; written as 32 hexadecimal digits, lane 0 first. Of text and bytes of variable
length the words are the two of each element's BLAKE2b of 8 bytes (of text, its UTF-8), and none where it is empty.

It is a multilinear hash (Lemire and Kaser, "Strongly universal string hashing is fast", 2014) whose keys are products, so that
the digests of disjoint regions add up to that of the whole. Any change of a single word changes it; others go unseen with a
chance of about 2⁻⁶⁴. It tells of accidents, not of forgers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from h5z.grid import Region

_LANES = (0, 1)
_LOW = 1 << 16  # indices whose keys differ in their low factor alone
_WORD_AXIS = 62
_VECTOR = 1 << 14  # keys in one vector at most, but for slices of the low factors, which are views
_ENOUGH = 1 << 10  # keys in a vector that make numpy's overhead small; a sixteenth is bearable
_MASK = (1 << 64) - 1

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Digest:
    """The digest of some elements of an array, by lane; disjoint ones add up."""

    lanes: tuple[int, int] = (0, 0)

    def __add__(self, other: Digest) -> Digest:
        """The digest of two disjoint sets of elements together."""
        a, b = self.lanes, other.lanes
        return Digest(((a[0] + b[0]) & _MASK, (a[1] + b[1]) & _MASK))

    def __sub__(self, other: Digest) -> Digest:
        """The digest of a set of elements without some of them."""
        a, b = self.lanes, other.lanes
        return Digest(((a[0] - b[0]) & _MASK, (a[1] - b[1]) & _MASK))

    def __str__(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.lanes[0]:016x}{self.lanes[1]:016x}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest that `str` wrote."""
        return cls((int(text[:16], 16), int(text[16:], 16)))


def total(digests: Iterable[Digest]) -> Digest:
    """The digest of disjoint sets of elements together."""
    return sum(digests, Digest())


def digest(values: Any, region: Region) -> Digest:
    """The digest of a region's values.

    Parameters
    ----------
    values : numpy.ndarray
        Of the region's shape; of objects (str or bytes) where elements vary in length.
    region : tuple of slice
        Where they lie in their array; ``()`` for a scalar.

    Examples
    --------
    >>> whole = np.arange(10, dtype="<f4")
    >>> parts = digest(whole[:3], (slice(0, 3),)) + digest(whole[3:], (slice(3, 10),))
    >>> parts == digest(whole.astype(">f4"), (slice(0, 10),))
    True
    """
    values = np.asarray(values)
    if not values.size or not values.dtype.itemsize:
        return Digest()
    starts = [s.start for s in region]
    words = _hashed(values) if values.dtype.kind in "OT" else _words(_little(values), starts)
    axes = (*range(values.ndim), _WORD_AXIS)
    lanes = (_lane(lane, words.reshape(-1), words.shape, (*starts, 0), axes) for lane in _LANES)
    return Digest(cast(tuple[int, int], tuple(lanes)))


def constant_digest(value: Any, region: Region) -> Digest:
    """The digest of a region whose values are all the same, at a cost that hardly grows with it.

    The keys of an element are products of one for each axis, so that their sum is the product of the axes' sums.

    Parameters
    ----------
    value : numpy.ndarray
        The value, without axes; of objects (str or bytes) where elements vary in length.

    Examples
    --------
    >>> region = (slice(3, 9), slice(1, 8))
    >>> constant_digest(np.int16(7), region) == digest(np.full((6, 7), 7, "<i2"), region)
    True
    """
    value = np.asarray(value)
    if not value.dtype.itemsize or any(s.start >= s.stop for s in region):
        return Digest()
    words = _hashed(value) if value.dtype.kind in "OT" else _words(_little(value), [])
    parts = [(words, region)]
    together = 4 // value.dtype.itemsize if value.dtype.itemsize in (1, 2) and region else 1
    if together > 1:  # neighbours on the last axis share words, of which the first and the last may be filled in part
        parts = [
            (_words(_little(np.full(stop - start, value, value.dtype)), [start])[0], (*region[:-1], slice(at, end)))
            for start, stop, at, end in _shared(region[-1], together)
        ]
    return total(Digest((_even(0, *part), _even(1, *part))) for part in parts)


def _shared(span: slice, together: int) -> Iterator[tuple[int, int, int, int]]:
    """Of elements that share words: which a word holds of those that it could, and which words are like it."""
    first, last = span.start // together, (span.stop - 1) // together
    before, after = span.start % together, (span.stop - 1) % together + 1
    if first == last:
        yield before, after, first, first + 1
        return
    yield before, together, first, first + 1
    if first + 1 < last:
        yield 0, together, first + 1, last
    yield 0, after, last, last + 1


def _even(lane: int, words: Any, region: Region) -> int:
    """A lane of the digest of a region whose elements all have these words."""
    out = sum(int(word) * _key_sum(lane, _WORD_AXIS, i, i + 1) for i, word in enumerate(words.flat))
    for axis, span in enumerate(region):
        out = out * _key_sum(lane, axis, span.start, span.stop) & _MASK
    return out & _MASK


@lru_cache(maxsize=4096)
def _key_sum(lane: int, axis: int, start: int, stop: int) -> int:
    """The sum of the keys of a range of an axis's indices."""
    sums, out = _low_sums(lane, axis), 0
    first, last = start // _LOW, (stop - 1) // _LOW
    for high in dict.fromkeys((first, last)):
        low, end = max(start - high * _LOW, 0), min(stop - high * _LOW, _LOW)
        out += _key(lane, 2 * axis + 1, high) * (int(sums[end]) - int(sums[low]))
    for at in range(first + 1, last, _LOW):
        between = np.arange(at, min(at + _LOW, last), dtype=np.uint64)
        out += int(_mixed(lane, 2 * axis + 1, between).sum(dtype=np.uint64)) * int(sums[_LOW])
    return out & _MASK


@lru_cache(maxsize=16)
def _low_sums(lane: int, axis: int) -> Keys:
    """The sums of the low factors of a block's keys up to each."""
    sums: Keys = np.zeros(_LOW + 1, np.uint64)
    np.cumsum(_low_keys(lane, axis), out=sums[1:])
    return sums


def _words(values: Any, starts: list[int]) -> Any:
    """The elements' words, by index and place in the element; neighbours that share a word put the last start in words."""
    itemsize = values.dtype.itemsize
    data = values.reshape(*values.shape, 1).view(np.uint8)
    if itemsize in (1, 2) and starts:
        together = 4 // itemsize
        before = starts[-1] % together
        starts[-1] //= together
        row = data.reshape(*values.shape[:-1], -1)
        data = _filled(row, before * itemsize)
        return data.view("<u4").reshape(*data.shape[:-1], -1, 1)
    return _filled(data, 0).view("<u4")


def _filled(data: Any, before: int) -> Any:
    """Bytes with zeros before the last axis and after it, up to whole words."""
    length = data.shape[-1]
    whole = -(-(before + length) // 4) * 4
    if whole == length:
        return data
    out = np.zeros((*data.shape[:-1], whole), np.uint8)
    if length < 16:
        for i in range(length):
            out[..., before + i] = data[..., i]
    else:
        out[..., before : before + length] = data
    return out


def _little(values: Any) -> Any:
    """The same values contiguous and little-endian, in every member; unused bytes of a struct are zero."""
    dtype = values.dtype
    if dtype.names:
        out = np.zeros(values.shape, [(name, _little(np.zeros((), dtype[name])).dtype) for name in dtype.names])
        for name in dtype.names:
            out[name] = _little(values[name])
        return out
    return np.ascontiguousarray(values, dtype.newbyteorder("<")).reshape(values.shape)


def _hashed(values: Any) -> Any:
    def one(item: Any) -> bytes:
        data = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else bytes(item)
        return hashlib.blake2b(data, digest_size=8).digest() if data else bytes(8)

    return np.frombuffer(b"".join(map(one, values.flat)), "<u4").reshape(*values.shape, 2)


def _lane(lane: int, words: Any, shape: tuple[int, ...], starts: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """Sum words times keys: the last axes at once by one vector, the axis before them in runs, the others by rows."""
    inner, axis = 1, len(shape)
    while axis and inner < _ENOUGH and inner * shape[axis - 1] <= _VECTOR:
        axis -= 1
        inner *= shape[axis]
    last = [(a, s, s + n) for a, s, n in zip(axes[axis:], starts[axis:], shape[axis:], strict=True)]
    if not axis:
        return int(_contract(words.reshape(1, inner), lane, last)[0])
    if inner >= _ENOUGH >> 4:
        rows = words.reshape(-1, inner)
        return _sum(_contract(rows, lane, last), _product(lane, axes[:axis], starts[:axis], shape[:axis]))
    axis -= 1  # a long axis: cut where its keys' low factors come round, so that they are made once
    matrix = words.reshape(-1, shape[axis] * inner)
    run = _LOW if inner == 1 else 1 << (max(1, _VECTOR // inner).bit_length() - 1)
    rows, at, stop = np.zeros(len(matrix), np.uint64), starts[axis], starts[axis] + shape[axis]
    while at < stop:
        end = min(stop, (at // run + 1) * run)
        part = matrix[:, (at - starts[axis]) * inner : (end - starts[axis]) * inner]
        rows += _contract(part, lane, [(axes[axis], at, end), *last])
        at = end
    return _sum(rows, _product(lane, axes[:axis], starts[:axis], shape[:axis]))


def _contract(rows: Any, lane: int, ranges: list[tuple[int, int, int]]) -> Keys:
    """Each row's words times the keys of the last axes, summed."""
    low, high = [], 1
    for axis, start, stop in ranges:
        together = start // _LOW == (stop - 1) // _LOW
        if together:
            high = high * _key(lane, 2 * axis + 1, start // _LOW) & _MASK
            start, stop = start % _LOW, start % _LOW + stop - start
        if together and stop - start == 1:
            high = high * _key(lane, 2 * axis, start) & _MASK
        else:
            low.append((axis, start, stop, together))
    found: Keys = np.einsum("ij,j->i", rows, _vector(lane, tuple(low)), dtype=np.uint64)
    return found * np.uint64(high)


@lru_cache(maxsize=64)
def _vector(lane: int, ranges: tuple[tuple[int, int, int, bool], ...]) -> Keys:
    """Products of the keys of several axes' ranges, in C order; of low factors alone where so marked."""
    out: Keys | None = None
    for axis, start, stop, low in ranges:
        keys = _low_keys(lane, axis)[start:stop] if low else _keys(lane, axis, start, stop)
        out = keys if out is None else np.multiply.outer(out, keys).reshape(-1)
    return np.ones(1, np.uint64) if out is None else out


def _product(lane: int, axes: tuple[int, ...], starts: tuple[int, ...], shape: tuple[int, ...]) -> Keys:
    out = np.ones(1, np.uint64)
    for axis, start, length in zip(axes, starts, shape, strict=True):
        out = np.multiply.outer(out, _keys(lane, axis, start, start + length)).reshape(-1)
    return out


def _sum(rows: Keys, keys: Keys) -> int:
    return int(np.einsum("i,i->", rows, keys))


def _keys(lane: int, axis: int, start: int, stop: int) -> Keys:
    """The keys of a range of an axis's indices."""
    index = np.arange(start, stop, dtype=np.uint64)
    high = _mixed(lane, 2 * axis + 1, index // np.uint64(_LOW))
    keys: Keys = _low_keys(lane, axis)[index % np.uint64(_LOW)] * high
    return keys


@lru_cache(maxsize=16)
def _low_keys(lane: int, axis: int) -> Keys:
    return _mixed(lane, 2 * axis, np.arange(_LOW, dtype=np.uint64))


@lru_cache(maxsize=4096)
def _key(lane: int, stream: int, index: int) -> int:
    return int(_mixed(lane, stream, np.array([index], np.uint64))[0])


def _mixed(lane: int, stream: int, index: Keys) -> Keys:
    """splitmix64 of indices, made odd."""
    x = index + np.uint64((128 * lane + stream) << 48) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)
