"""How members are compressed and told from each other: Blosc2 as HDF5Vault uses it, and checksums of content."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from h5z.errors import PlanError, SourceError, one_line

_NAMES = ("zstd", "lz4", "lz4hc", "zlib", "blosclz")
_LEVELS = range(10)
DIGESTS = ("xxh3-128", "sha256")
DIGEST_NBYTES = 16
LARGEST = (1 << 31) - (1 << 16)  # bytes of one Blosc2 chunk
KNOWN = ("none", *(f"blosc2-{name}:LEVEL[:TYPESIZE]" for name in _NAMES))


@dataclass(frozen=True)
class VaultCodec:
    """A codec by its name: ``none``, or ``blosc2-zstd:5`` (a level from 0 to 9, and the size of the numbers within, 8).

    Raises
    ------
    PlanError
        If the name is none of these, or Blosc2 is not installed.
    """

    name: str

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _compressor(self.name)

    def encode(self, data: bytes) -> bytes | None:
        """Compress; None where that saves nothing."""
        compress = _compressor(self.name)
        if compress is None or not data:
            return None
        packed = compress(data)
        return packed if len(packed) < len(data) else None


@cache
def _compressor(name: str) -> Callable[[bytes], bytes] | None:
    if name == "none":
        return None
    family, _, rest = name.partition(":")
    level, _, typesize = rest.partition(":")
    cname = family.removeprefix("blosc2-")
    numbers = (level or "5", typesize or "8")
    if not family.startswith("blosc2-") or cname not in _NAMES or not all(n.isascii() and n.isdigit() for n in numbers):
        raise PlanError(f"codec: expected one of {', '.join(KNOWN)}, found {name!r}")
    if int(numbers[0]) not in _LEVELS or not 1 <= int(numbers[1]) <= 255:
        raise PlanError(f"codec: expected a level from 0 to 9 and a typesize from 1 to 255, found {name!r}")
    blosc2 = _blosc2()
    options = {"codec": blosc2.Codec[cname.upper()], "clevel": int(numbers[0]), "typesize": int(numbers[1]), "nthreads": 1}

    def compress(data: bytes) -> bytes:
        packed: bytes = blosc2.compress2(data, **options)
        return packed

    return compress


@cache
def _blosc2() -> Any:
    """The library, which keeps all other threads waiting while it works unless it is told not to."""
    try:
        import blosc2
    except ImportError:
        raise PlanError("codec: expected the package blosc2 (pip install 'h5z[vault]'), found none") from None
    blosc2.set_releasegil(True)
    return blosc2


def decoded_nbytes(packed: bytes) -> int:
    """How many bytes a Blosc2 chunk, of which its first 16 suffice, decodes to.

    Source: the Blosc2 chunk format, ``nbytes`` in its header.
    """
    return int(struct.unpack_from("<i", packed, 4)[0]) if len(packed) >= 16 else -1


def decode(packed: bytes, what: str, nbytes: int | None = None) -> bytes:
    """Decompress what Blosc2 has compressed.

    Parameters
    ----------
    nbytes : int, optional
        How many bytes it should decode to; known before they are.

    Raises
    ------
    SourceError
        If it does not decode to that.
    """
    found = decoded_nbytes(packed)
    if nbytes is not None and found != nbytes:
        raise SourceError(f"{what}: expected {nbytes} bytes compressed, found {found}: the data are damaged")
    if not found:
        return b""
    try:
        data: bytes = _blosc2().decompress2(packed, nthreads=1)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise SourceError(f"{what}: cannot be decompressed ({one_line(error)})") from None
    if len(data) != found:
        raise SourceError(f"{what}: expected {found} bytes decompressed, found {len(data)}: the data are damaged")
    return data


def digest(data: bytes, kind: str) -> bytes:
    """A checksum of content, its first 16 bytes.

    Raises
    ------
    PlanError
        If it is not known, or the package for it is not installed.
    """
    if kind == "sha256":
        return hashlib.sha256(data).digest()[:DIGEST_NBYTES]
    if kind != "xxh3-128":
        raise PlanError(f"digest: expected one of {', '.join(DIGESTS)}, found {kind!r}")
    try:
        import xxhash
    except ImportError:
        raise PlanError("digest: expected the package xxhash (pip install 'h5z[vault]'), found none") from None
    found: bytes = xxhash.xxh3_128_digest(data)
    return found
