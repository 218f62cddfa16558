"""HDF5's filter pipeline <-> Zarr's codecs: one table, and the ways in which a user names a codec.

A codec chain is a list of Zarr v3 codec documents (``{"name": …, "configuration": …}``), bytes to bytes, in the order in which
they encode. Zarr v2's ``filters`` and ``compressor`` are made from it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import google_crc32c
import numcodecs
from isal import isal_zlib

from h5z.errors import PlanError
from h5z.hdf5.filters import blosc_name
from h5z.nodes import Json

Chain = list[dict[str, Any]]

_BLOSC_NAMES = ("lz4", "lz4hc", "blosclz", "zstd", "zlib", "snappy")
_LEVELS = {"zstd": 3, "gzip": 5, "blosc": 5, "zlib": 5, "lz4": 1, "bz2": 1, "lzma": 6}
_RANGES = {"zstd": range(-131072, 23), "gzip": range(10), "blosc": range(10), "zlib": range(10), "lzma": range(10)}
_RANGES["bz2"] = range(1, 10)
KNOWN = (*_LEVELS, *(f"blosc-{name}" for name in _BLOSC_NAMES), "none")
# Codecs of the Zarr v3 specification; the others are numcodecs' own, which few readers beside zarr-python and zarrs know.
PORTABLE = frozenset({"blosc", "gzip", "zstd", "crc32c", "transpose", "sharding_indexed", "bytes", "vlen-utf8", "vlen-bytes"})


def parse(spec: Any) -> Json:
    """Bring what a user gives as a codec into one form: ``"auto"``, ``"keep"`` or a codec chain.

    Parameters
    ----------
    spec : str, None, mapping, zarr codec, numcodecs codec, or a sequence of those
        ``"zstd:3"``, ``"blosc-lz4:5"``, ``"gzip:6"``, None for no compression, a codec document or object.

    Raises
    ------
    PlanError
        For a codec that is not known; the message lists those that are.

    Examples
    --------
    >>> parse("zstd:3")
    [{'name': 'zstd', 'configuration': {'level': 3, 'checksum': False}}]
    >>> parse(None), parse("keep")
    ([], 'keep')
    """
    if isinstance(spec, str) and spec in ("auto", "keep"):
        return spec
    chain = _chain(spec)
    try:
        trial = encoder(fit(chain, 4))
        if trial is not None:
            trial(bytes(64))
    except Exception as error:  # each library has errors of its own
        raise PlanError(f"codec: {spec!r} does not encode ({error})") from None
    return chain


def _chain(spec: Any) -> Chain:
    if spec is None or spec == "none":
        return []
    if isinstance(spec, str):
        return [_named(spec)]
    if isinstance(spec, Mapping):
        return [_document(spec)]
    if isinstance(spec, Sequence):
        return [document for item in spec for document in _chain(item)]
    if hasattr(spec, "get_config"):  # numcodecs
        return [_document(spec.get_config())]
    if hasattr(spec, "to_dict"):  # zarr
        return [_document(spec.to_dict())]
    raise PlanError(f"codec: expected one of {', '.join(KNOWN)}, 'auto', 'keep' or a codec object, found {spec!r}")


def _named(spec: str) -> dict[str, Any]:
    name, _, level_text = spec.partition(":")
    family = name.split("-")[0]
    if name not in KNOWN or (level_text and not level_text.lstrip("-").isdigit()):
        raise PlanError(f"codec: expected one of {', '.join(KNOWN)} (with :level), 'auto' or 'keep', found {spec!r}")
    level = int(level_text) if level_text else _LEVELS[family]
    if family in _RANGES and level not in _RANGES[family]:
        low, high = _RANGES[family].start, _RANGES[family].stop - 1
        raise PlanError(f"codec: expected a level of {name} from {low} to {high}, found {level}")
    if family == "blosc":
        return blosc(name.partition("-")[2] or "zstd", level)
    if family == "zstd":
        return {"name": "zstd", "configuration": {"level": level, "checksum": False}}
    if family == "gzip":
        return {"name": "gzip", "configuration": {"level": level}}
    key = {"lz4": "acceleration", "lzma": "preset"}.get(family, "level")
    return {"name": f"numcodecs.{family}", "configuration": {key: level}}


def blosc(cname: str, level: int, shuffle: str | None = None) -> dict[str, Any]:
    """A Blosc codec; its typesize, and its shuffle where not given, follow the array's dtype (`fit`)."""
    return {"name": "blosc", "configuration": {"cname": cname, "clevel": level, "shuffle": shuffle, "blocksize": 0}}


def _document(config: Mapping[str, Any]) -> dict[str, Any]:
    """A v3 codec document from one, or from a numcodecs configuration."""
    if "name" in config:
        return {"name": config["name"], "configuration": dict(config.get("configuration") or {})}
    if "id" not in config:
        raise PlanError(f"codec: expected a document with 'name' or 'id', found {dict(config)!r}")
    rest = {key: value for key, value in config.items() if key != "id"}
    if config["id"] == "zstd":
        return {"name": "zstd", "configuration": {"level": rest["level"], "checksum": bool(rest.get("checksum"))}}
    if config["id"] == "gzip":
        return {"name": "gzip", "configuration": {"level": rest["level"]}}
    if config["id"] == "blosc":
        shuffles = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
        return blosc(rest["cname"], rest["clevel"], shuffles.get(rest["shuffle"]))
    return {"name": f"numcodecs.{config['id']}", "configuration": rest}


def fit(chain: Chain, itemsize: int) -> Chain:
    """Complete a chain for an array's element size: Blosc's typesize and shuffle, the shuffle filter's element size.

    >>> fit(parse("blosc-zstd:1"), 4)[0]["configuration"]["shuffle"]
    'shuffle'
    """
    out = []
    for document in chain:
        config = dict(document["configuration"])
        if document["name"] == "blosc":
            config["typesize"] = max(1, min(itemsize, 255))
            config["shuffle"] = config.get("shuffle") or ("shuffle" if itemsize > 1 else "noshuffle")
        if document["name"] == "numcodecs.shuffle" and not config.get("elementsize"):
            config["elementsize"] = itemsize
        out.append({"name": document["name"], "configuration": config})
    return out


def default(itemsize: int, *, text: bool) -> Chain:
    """What ``"auto"`` stands for: fast to write and to read, and known to every Zarr v3 reader."""
    return parse("zstd:1") if text else fit([blosc("zstd", 1)], itemsize)


def from_filters(filters: Sequence[tuple[int, str, int, tuple[int, ...]]], itemsize: int) -> Chain | None:
    """The Zarr codecs that decode what an HDF5 filter pipeline wrote, byte for byte; None where one has no codec.

    Sources: HDF5's registry of filters; numcodecs' ``shuffle``, ``zlib`` and ``bz2`` read HDF5's own streams.

    >>> [c["name"] for c in from_filters([(2, "shuffle", 0, (4,)), (1, "deflate", 0, (6,))], 4)]
    ['numcodecs.shuffle', 'numcodecs.zlib']
    """
    out: Chain = []
    summed = filters[-1:] and filters[-1][0] == 3  # a checksum at the end is checked and left out
    for number, _, _, options in filters[:-1] if summed else filters:
        document = _from_filter(number, options, itemsize)
        if document is None:
            return None
        out.append(document)
    return out


def _from_filter(number: int, options: tuple[int, ...], itemsize: int) -> dict[str, Any] | None:
    if number == 1:
        return {"name": "numcodecs.zlib", "configuration": {"level": options[0] if options else 6}}
    if number == 2:
        return {"name": "numcodecs.shuffle", "configuration": {"elementsize": options[0] if options else itemsize}}
    if number == 307:
        return {"name": "numcodecs.bz2", "configuration": {"level": options[0] if options else 9}}
    if number == 32015:
        level = options[0] if options else 3  # a signed number in an unsigned place
        return {"name": "zstd", "configuration": {"level": level if level < 1 << 31 else level - (1 << 32), "checksum": False}}
    if number == 32001 and len(options) >= 7 and blosc_name(options[6]) is not None:
        cname = blosc_name(options[6]) or ""
        shuffle = ("noshuffle", "shuffle", "bitshuffle")[min(options[5], 2)]
        return fit([blosc(cname, options[4], shuffle)], options[2] or itemsize)[0]
    return None


def to_v2(chain: Chain) -> tuple[list[dict[str, Any]] | None, dict[str, Any] | None]:
    """Zarr v2's ``filters`` and ``compressor``: numcodecs configurations; the last codec is the compressor."""
    configs = []
    for document in chain:
        config = dict(document["configuration"])
        name = document["name"].removeprefix("numcodecs.")
        if name == "blosc":
            config = {key: config[key] for key in ("cname", "clevel", "shuffle", "blocksize")}
            config["shuffle"] = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[config["shuffle"]]
        configs.append({"id": name, **config})
    return (configs[:-1] or None, configs[-1]) if configs else (None, None)


def encoder(chain: Sequence[dict[str, Any]], text: str | None = None) -> Callable[[Any], Any] | None:
    r"""A function that encodes a contiguous array's bytes as Zarr's codec pipeline would; None where only that can.

    Text needs the codec that makes bytes of it (`text`): ``vlen-utf8`` or ``vlen-bytes``.

    >>> encoder(parse("gzip:1"))(b"abc")[:2], encoder([{"name": "transpose", "configuration": {}}])
    (b'\x1f\x8b', None)
    """
    steps: list[Callable[[Any], Any]] = [numcodecs.get_codec({"id": text}).encode] if text else []
    for document in chain:
        name, config = document["name"], dict(document["configuration"])
        if name not in ("zstd", "gzip", "blosc", "crc32c") and not name.startswith("numcodecs."):
            return None
        if name == "blosc":
            config["shuffle"] = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[config["shuffle"]]
        if name == "crc32c":
            steps.append(lambda data: bytes(data) + google_crc32c.value(bytes(data)).to_bytes(4, "little"))
        elif name in ("gzip", "numcodecs.gzip"):  # numcodecs would write the time of day into it
            steps.append(partial(gzip.compress, compresslevel=config["level"], mtime=0))
        else:
            steps.append(numcodecs.get_codec({"id": name.removeprefix("numcodecs."), **config}).encode)

    def encode(data: Any) -> Any:
        for step in steps:
            data = step(data)
        return data

    return encode


def decoder(chain: Sequence[dict[str, Any]]) -> Callable[[Any], Any] | None:
    """A function that decodes what `encoder` has encoded; None where only Zarr's own pipeline can.

    >>> decoder(parse("gzip:1"))(encoder(parse("gzip:1"))(b"abc"))
    b'abc'
    """
    steps: list[Callable[[Any], Any]] = []
    for document in chain:
        name, config = document["name"], dict(document["configuration"])
        if name not in ("zstd", "gzip", "blosc") and not name.startswith("numcodecs."):
            return None
        if name == "blosc":
            config["shuffle"] = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[config["shuffle"]]
        if name in ("gzip", "numcodecs.gzip"):
            steps.append(partial(isal_zlib.decompress, wbits=31))
        elif name == "numcodecs.zlib":
            steps.append(isal_zlib.decompress)
        else:
            steps.append(numcodecs.get_codec({"id": name.removeprefix("numcodecs."), **config}).decode)

    def decode(data: Any) -> Any:
        for step in reversed(steps):
            data = step(data)
        return data

    return decode


def from_v2(filters: Sequence[dict[str, Any]] | None, compressor: dict[str, Any] | None) -> Chain:
    """The codec chain of Zarr v2's ``filters`` and ``compressor``.

    >>> from_v2(None, {"id": "zstd", "level": 1})
    [{'name': 'zstd', 'configuration': {'level': 1, 'checksum': False}}]
    """
    return [_document(config) for config in (*(filters or ()), *([compressor] if compressor else ()))]
