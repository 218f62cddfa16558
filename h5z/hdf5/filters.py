"""HDF5's filter pipeline, decoded outside libhdf5 and so outside its lock, by the fastest libraries at hand.

What is decoded here is what libhdf5 would have decoded, or an error; a pipeline with any other filter is read through h5py.
Sources: the HDF5 filter registry and the filters' own formats (deflate: RFC 1950; LZ4: registry page of filter 32004).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numcodecs
from h5py import h5z
from numcodecs import blosc

from h5z.errors import one_line
from h5z.hdf5 import bitshuffle, blosc2frames, scaleoffset
from h5z.hdf5.bounded import bunzip2, inflate, unblosc, unlz4, unlzo, unzstd
from h5z.hdf5.shuffle import unshuffle

_SLACK = 1 << 16  # what a filter may add to a chunk, beyond doubling it, before the next one encodes it
BUILTIN = range(1, 7)  # libhdf5's own filters
Filter = tuple[int, str, int, tuple[int, ...]]
Decoder = Callable[[Any, "int | None", Sequence[int]], Any]

DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET = BUILTIN
BZIP2, LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2 = 307, 32000, 32001, 32004, 32008, 32015, 32026
LZO = 305  # PyTables'; hdf5plugin has none
BITGROOM, GRANULAR_BITROUND = 32022, 32023  # which round values when they are written, and leave all as it is when they are read
# What imagecodecs decodes, by its name for each codec; without it, libhdf5 does.
_CODECS = {SZIP: ("SZIP",), LZF: ("LZF",), BITSHUFFLE: ("BITSHUFFLE", "LZ4", "ZSTD"), BLOSC2: ("BLOSC2",), LZO: ("LZO",)}


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

    >>> decodable([(2, "shuffle", 0, (4,)), (1, "deflate", 0, (6,))]), decodable([(32013, "zfp", 0, ())])
    (True, False)
    """
    return all(
        (number in _DECODERS or number in _BOUNDED) and _known(number, options) and at_hand(number)
        for number, _, _, options in filters
    )


def _known(number: int, options: Sequence[int]) -> bool:
    """Whether a filter's options are such as can be decoded here."""
    if number == BLOSC:
        return blosc_name(options[6] if len(options) > 6 else 0) is not None
    if number == NBIT:  # where there is nothing to pack it leaves all as it is; else values have a width of their own
        return len(options) > 1 and options[0] == len(options) and options[1] != 0
    test = {
        SHUFFLE: lambda found: len(found) > 0,
        SZIP: lambda found: len(found) == 4,
        SCALEOFFSET: scaleoffset.known,
        BITSHUFFLE: bitshuffle.known,
        BLOSC2: blosc2frames.known,
    }.get(number)
    return test is None or test(options)


@cache
def at_hand(number: int) -> bool:
    """Whether what decodes a filter here, past libhdf5, is installed."""
    if number not in _DECODERS and number not in _BOUNDED:
        return False
    try:
        import imagecodecs
    except ImportError:
        return number not in _CODECS
    return all(getattr(imagecodecs, name).available for name in _CODECS.get(number, ()))


def without_checksum(stored: Any, filters: Sequence[Filter]) -> Any:
    """A chunk's stored bytes, checked and without their checksum, where that is the pipeline's last filter."""
    return _fletcher32(stored, None, ()) if filters and filters[-1][0] == FLETCHER32 else stored


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
    UnusualError
        If it may be right, but only libhdf5 can tell.
    ValueError
        If a checksum fails, or the bytes are not what the pipeline writes.
    """
    applied = [item for i, item in enumerate(filters) if not mask >> i & 1]
    for (number, name, _, options), wanted in reversed(list(zip(applied, _sizes(applied, nbytes), strict=True))):
        try:
            if not memoryview(stored).nbytes:
                raise ValueError("it is empty")
            if number in _BOUNDED:
                stored = _BOUNDED[number](stored, 2 * nbytes + _SLACK if wanted is None else wanted)
            else:
                stored = _DECODERS[number](stored, wanted, options)
        except blosc2frames.UnusualError:
            raise
        except Exception as error:  # each library has errors of its own
            raise ValueError(f"filter {number} ({name}) cannot decode a chunk ({one_line(error)})") from None
    if memoryview(stored).nbytes != nbytes:
        raise ValueError(f"expected a chunk of {nbytes} bytes, found {memoryview(stored).nbytes}")
    return stored


def _sizes(filters: Sequence[Filter], nbytes: int) -> list[int | None]:
    """The bytes that each filter of a pipeline was given, where they are known before it is decoded."""
    out: list[int | None] = []
    size: int | None = nbytes
    for number, _, _, _ in filters:
        out.append(size)
        if number == FLETCHER32:
            size = None if size is None else size + 4
        elif number not in (SHUFFLE, NBIT, BITGROOM, GRANULAR_BITROUND):
            size = None
    return out


def _shuffle(stored: Any, _: int | None, options: Sequence[int]) -> Any:
    return unshuffle(stored, options[0])


def _fletcher32(stored: Any, _: int | None, __: Sequence[int]) -> Any:
    """HDF5 sums 16-bit words, and takes a zero for the byte that an odd length lacks; numcodecs wants it there."""
    data = bytes(stored)
    words, found = data[:-4] + bytes(len(data) % 2), data[-4:]
    try:
        numcodecs.Fletcher32().decode(words + found)
    except RuntimeError:  # libraries before 1.6.3 stored the halves' bytes swapped on some machines; libhdf5 takes both
        numcodecs.Fletcher32().decode(words + bytes((found[1], found[0], found[3], found[2])))
    return memoryview(data)[:-4]


def _lzf(stored: Any, nbytes: int | None, _: Sequence[int]) -> Any:
    import imagecodecs

    return imagecodecs.lzf_decode(stored, out=90 * len(stored) if nbytes is None else nbytes)  # 3 bytes say at most 264


def _szip(stored: Any, nbytes: int | None, options: Sequence[int]) -> Any:
    """The decoded length in 4 bytes, little-endian, before what szip writes."""
    import imagecodecs

    data = memoryview(stored).cast("B")
    (total,) = struct.unpack_from("<I", data)
    if nbytes is not None and total != nbytes:
        raise ValueError(f"expected {nbytes} bytes, found {total}")
    return imagecodecs.szip_decode(bytes(data[4:]), *options, out=total)


def _same(stored: Any, _: int | None, __: Sequence[int]) -> Any:
    return stored


_DECODERS: dict[int, Decoder] = {
    SHUFFLE: _shuffle,
    FLETCHER32: _fletcher32,
    SZIP: _szip,
    NBIT: _same,
    BITGROOM: _same,
    GRANULAR_BITROUND: _same,
    SCALEOFFSET: scaleoffset.unscale,
    LZF: _lzf,
    BITSHUFFLE: bitshuffle.bitunshuffle,
    BLOSC2: blosc2frames.unframe,
}
_BOUNDED: dict[int, Callable[[Any, int], Any]] = {
    DEFLATE: inflate,
    LZO: unlzo,
    BZIP2: bunzip2,
    BLOSC: unblosc,
    LZ4: unlz4,
    ZSTD: unzstd,
}
