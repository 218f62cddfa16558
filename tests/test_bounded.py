"""Decoders outside libhdf5 stop at a chunk's size, and survive whatever bytes they are given."""

from __future__ import annotations

import bz2
import random
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest

import h5z
from h5z.errors import SourceError
from h5z.hdf5.bounded import bunzip2, inflate, unblosc, unlz4, unzstd
from h5z.hdf5.fetch import local_fetch
from h5z.isolation import run_isolated

from .test_isolation import Told

PLAIN = np.arange(4000, dtype="<i4").tobytes() + bytes(4000)
BOMB = 1 << 28


def lz4(data: bytes, block: int = 4096) -> bytes:
    """HDF5's LZ4 frame."""
    out = struct.pack(">QI", len(data), block)
    for start in range(0, len(data), block):
        piece = numcodecs.LZ4().encode(data[start : start + block])[4:]
        out += struct.pack(">I", len(piece)) + piece
    return out


CODECS: dict[str, tuple[Callable[[Any, int], Any], Callable[[bytes], bytes]]] = {
    "deflate": (inflate, zlib.compress),
    "bzip2": (bunzip2, bz2.compress),
    "zstd": (unzstd, numcodecs.Zstd().encode),
    "lz4": (unlz4, lz4),
    **{
        f"blosc {name} {shuffle}": (unblosc, numcodecs.Blosc(name, 5, shuffle, blocksize=1024).encode)
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle in (0, 1, 2)
    },
}


@pytest.mark.parametrize("name", CODECS)
def test_what_is_whole_is_decoded(name: str) -> None:
    decode, encode = CODECS[name]
    stored = encode(PLAIN)
    assert bytes(decode(stored, len(PLAIN))) == PLAIN
    assert bytes(decode(memoryview(stored), 2 * len(PLAIN))) == PLAIN
    with pytest.raises(ValueError):
        decode(stored, len(PLAIN) - 1)


def mutated(stored: bytes, chance: random.Random) -> bytes:
    out = bytearray(stored)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(out) if chance.random() < 0.5 else min(40, len(out)))
        out[at : at + 4] = chance.choice((chance.randbytes(1), chance.randbytes(4), b"\xff\xff\xff\x7f", bytes(4)))
    return bytes(out[: chance.randrange(len(out))] if chance.random() < 0.1 else out)


def decode_mutations(name: str, count: int) -> Told:
    """Decode so many; the number of those that gave anything."""
    decode, encode = CODECS[name]
    stored, given = encode(PLAIN), 0
    for seed in range(count):
        try:
            found = decode(mutated(stored, random.Random(f"{name}{seed}")), len(PLAIN))
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            continue
        given += 1
        assert memoryview(found).nbytes <= len(PLAIN)
    return Told(given)


@pytest.mark.parametrize("name", CODECS)
def test_whatever_bytes(name: str) -> None:
    """Decoded to no more than a chunk, or refused, in little memory; no crash."""
    assert run_isolated(decode_mutations, name, 500, subject=name, memory_limit=200 << 20, timeout=60) < 500


def bombs() -> dict[str, tuple[str, bytes]]:
    """Little that becomes 256 MiB, or says that it does."""
    squeeze = zlib.compressobj(9)
    deflated = b"".join(squeeze.compress(bytes(1 << 24)) for _ in range(BOMB >> 24)) + squeeze.flush()
    count = BOMB >> 17  # blocks of one byte, each repeated 128 Ki times
    heads = ((i == count - 1) | 1 << 1 | 1 << 20 for i in range(count))
    blocks = b"".join(head.to_bytes(3, "little") + b"x" for head in heads)
    return {
        "deflate": ("deflate", deflated),
        "bzip2": ("bzip2", bz2.compress(bytes(1 << 26)) * 4),
        "zstd that says so": ("zstd", b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", BOMB) + blocks),
        "zstd that says nothing": ("zstd", b"\x28\xb5\x2f\xfd\x00\x58" + blocks),
        "zstd that lies": ("zstd", b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1000) + blocks),
        "lz4": ("lz4", struct.pack(">QII", BOMB, BOMB, 10) + bytes(10)),
        "lz4 beyond all": ("lz4", struct.pack(">QII", (1 << 64) - 1, 1 << 31, 10) + bytes(10)),
        "lz4 of empty blocks": ("lz4", struct.pack(">QI", 1000, 0) + bytes(1 << 20)),
        "blosc": ("blosc lz4 1", b"\x02\x01\x21\x04" + struct.pack("<III", BOMB, 1 << 20, 1000) + bytes(984)),
        "blosc below nothing": ("blosc lz4 1", b"\x02\x01\x21\x04" + struct.pack("<III", 0xFFFFFFFF, 1 << 20, 1000) + bytes(984)),
    }


def set_off() -> Told:
    """Decode all bombs; the bytes that this process came to hold meanwhile, and what went off."""
    found = bombs()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    off = []
    for name, (codec, stored) in found.items():
        try:
            CODECS[codec][0](stored, 4096)
            off.append(name)
        except (ValueError, RuntimeError):
            continue
    return Told([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, off])


def test_bombs_do_not_go_off() -> None:
    kibibytes, off = run_isolated(set_off, subject="bombs", timeout=120)
    assert off == []
    assert kibibytes < 8 << 10


def test_deflate_without_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What isal makes of it is the same."""
    data = bytes(range(256)) * 400
    fast = bytes(inflate(zlib.compress(data), len(data)))
    monkeypatch.setattr("h5z.hdf5.bounded._libdeflate", lambda: None)
    assert bytes(inflate(zlib.compress(data), len(data))) == fast == data


def test_a_chunk_that_inflates_to_more(tmp_path: Path) -> None:
    """In a file: one line that names the dataset."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", (100, 100), "<i4", chunks=(10, 100), compression="gzip")
        data[...] = 1
        data.id.write_direct_chunk((30, 0), zlib.compress(bytes(1 << 28), 9))
    with pytest.raises(SourceError, match=r"a\.h5: /x\[.* cannot be read .*it holds more than 4000 bytes"):
        h5z.convert(tmp_path / "a.h5", tmp_path / "out.zarr", chunks=(100, 10))
    assert not (tmp_path / "out.zarr").exists()


def test_bytes_that_are_not_there(tmp_path: Path) -> None:
    """Past the file's end, before its beginning, more than there are: nothing is allocated for them."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        fetch = local_fetch(file.filename)
        size = (tmp_path / "a.h5").stat().st_size
        assert len(fetch(0, size)) == size
        for offset, nbytes in ((0, 1 << 50), (size, 1), (1 << 62, 8), (-1, 8), (8, -1)):
            with pytest.raises(OSError, match="found the file's end"):
                fetch(offset, nbytes)
