"""SciTeX's words for codecs and paths, in h5z's."""

from __future__ import annotations

from typing import Any

from h5z.codecs import parse
from h5z.errors import PlanError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_COMPRESSORS = {"zstd": "zstd:3", "lz4": "blosc-lz4:5", "gzip": "gzip:5", "blosc": "blosc-zstd:3"}


def codec_of(compressor: Any) -> Any:
    """The codec that SciTeX's `compressor` stands for: a name, None, or a codec object.

    Raises
    ------
    PlanError
        For a name that is not known; listing those that are.

    Examples
    --------
    >>> codec_of("gzip"), codec_of(None), codec_of("blosc-zstd:9")
    ('gzip:5', None, 'blosc-zstd:9')
    """
    if not isinstance(compressor, str):
        parse(compressor)
        return compressor
    name = compressor.lower()
    if name in _COMPRESSORS:
        return _COMPRESSORS[name]
    try:
        parse(name)
    except PlanError as error:
        known = ", ".join(map(repr, _COMPRESSORS))
        raise PlanError(f"compressor: expected one of {known}, None or a codec object, found {compressor!r} ({error})") from None
    return name
