"""HDF5's filter pipeline, decoded outside libhdf5 and so outside its lock, by the fastest libraries at hand.

What is decoded here is what libhdf5 would have decoded, or an error; a pipeline with any other filter is read through h5py.
Sources: the HDF5 filter registry and the filters' own formats (deflate: RFC 1950; LZ4: registry page of filter 32004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numcodecs
from h5py import h5z
from numcodecs import blosc

from h5z.bounded import bunzip2, inflate, unblosc, unlz4, unzstd

_SLACK = 1 << 16  # what a filter may add to a chunk, beyond doubling it, before the next one encodes it
BUILTIN = range(1, 7)  # libhdf5's own filters
Filter = tuple[int, str, int, tuple[int, ...]]
Decoder = Callable[[Any, int], Any]

DEFLATE, SHUFFLE, FLETCHER32, BZIP2, BLOSC, LZ4, ZSTD = 1, 2, 3, 307, 32001, 32004, 32015


@cache
def load_plugins() -> None:
    """Have libhdf5 know hdf5plugin's filters in this process, where that is installed."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401


def filter_available(number: int) -> bool:
    """Whether libhdf5 can decode a filter here."""
    if number not in BUILTIN:
        load_plugins()
    return bool(h5z.filter_avail(number))


def decodable(filters: Sequence[Filter]) -> bool:
    """Whether a whole pipeline can be decoded here.

    >>> decodable([(2, "shuffle", 0, (4,)), (1, "deflate", 0, (6,))]), decodable([(6, "scaleoffset", 0, ())])
    (True, False)
    """
    for number, _, _, options in filters:
        if number not in _DECODERS or (number == SHUFFLE and not options):
            return False
        if number == BLOSC and blosc_name(options[6] if len(options) > 6 else 0) is None:
            return False
    return True


def without_checksum(stored: Any, filters: Sequence[Filter]) -> Any:
    """A chunk's stored bytes, checked and without their checksum, where that is the pipeline's last filter."""
    return _fletcher32(stored, 0) if filters and filters[-1][0] == FLETCHER32 else stored


def blosc_name(code: int) -> str | None:
    """The name of a compressor inside Blosc by HDF5's number for it; None where numcodecs was built without it."""
    names = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
    name = names[code] if code < len(names) else ""
    return name if name in blosc.list_compressors() else None


def decode(stored: Any, filters: Sequence[Filter], mask: int, nbytes: int) -> Any:
    """Decode a chunk's stored bytes.

    Parameters
    ----------
    stored : bytes-like
        The chunk as it lies in the file.
    filters : sequence of Filter
        The dataset's pipeline, in the order in which it encodes.
    mask : int
        The chunk's filter mask: bit i is set where filter i was skipped.
    nbytes : int
        Bytes of the decoded chunk.

    Raises
    ------
    ValueError
        If a checksum fails, or the bytes are not what the pipeline writes.
    """
    most = nbytes if all(number == SHUFFLE for number, _, _, _ in filters[:-1]) else 2 * nbytes + _SLACK
    for i in reversed(range(len(filters))):
        if mask >> i & 1:
            continue
        number, name, _, options = filters[i]
        try:
            stored = _DECODERS[number](stored, options[0] if number == SHUFFLE else most)
        except Exception as error:  # each library has errors of its own
            raise ValueError(f"filter {number} ({name}) cannot decode a chunk ({error})") from None
    if memoryview(stored).nbytes != nbytes:
        raise ValueError(f"expected a chunk of {nbytes} bytes, found {memoryview(stored).nbytes}")
    return stored


def _shuffle(stored: Any, itemsize: int) -> Any:
    data = memoryview(stored).cast("B")
    whole = len(data) // itemsize * itemsize
    if itemsize < 2 or whole == 0:
        return data
    plain = numcodecs.Shuffle(itemsize).decode(data[:whole])
    return plain if whole == len(data) else bytes(plain) + bytes(data[whole:])


def _fletcher32(stored: Any, _: int) -> Any:
    """HDF5 sums 16-bit words, and takes a zero for the byte that an odd length lacks; numcodecs wants it there."""
    data = bytes(stored)
    words, found = data[:-4] + bytes(len(data) % 2), data[-4:]
    try:
        numcodecs.Fletcher32().decode(words + found)
    except RuntimeError:  # libraries before 1.6.3 stored the halves' bytes swapped on some machines; libhdf5 takes both
        numcodecs.Fletcher32().decode(words + bytes((found[1], found[0], found[3], found[2])))
    return memoryview(data)[:-4]


_DECODERS: dict[int, Decoder] = {
    DEFLATE: inflate,
    SHUFFLE: _shuffle,
    FLETCHER32: _fletcher32,
    BZIP2: bunzip2,
    BLOSC: unblosc,
    LZ4: unlz4,
    ZSTD: unzstd,
}
