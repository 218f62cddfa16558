"""Reading past libhdf5: what the direct reader takes is, byte for byte, what libhdf5 reads; what it cannot read it names."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

import h5z
from h5z import filters
from h5z.direct import DirectReader, direct_reader, local_fetch
from h5z.errors import SourceError
from h5z.files import forget, open_dataset
from h5z.grid import Region
from h5z.source import Dataset

from .oddities.layouts import filtered, sample
from .running import DATA

TAKEN = (
    *("builtin_filters", "plugin_filters", "filter_masks", "chunk_indexes", "chunk_larger_than_the_array", "many_ranks"),
    *("compact_and_contiguous", "unallocated_chunks", "unlimited", "fill_values", "external_storage", "enumerations"),
    *("integers_of_every_size_and_order", "floats_of_every_size_and_order", "padded_compounds", "array_datatypes"),
    "fixed_strings",
)


def through_libhdf5(did: Any) -> bytes:
    """All of a dataset's bytes, unconverted."""
    tid = did.get_type()
    out = np.empty(did.shape, f"V{tid.get_size()}")
    did.read(h5s.ALL, h5s.ALL, out, tid)
    return out.tobytes()


def readers(path: Path) -> Iterator[tuple[str, Any, DirectReader]]:
    """Every dataset of a file that can be read directly: its path, itself open, its reader."""
    with h5py.File(path) as file:
        fetch = local_fetch(file)
        for node in h5z.scan(path).arrays:
            did = open_dataset(file, node.path)
            reader = direct_reader(did, node.dtype, fetch)
            if reader is not None:
                yield node.path, did, reader


def differing(path: Path) -> tuple[list[str], int]:
    """Datasets that the two ways read differently, and how many were compared."""
    wrong, count = [], 0
    for name, did, reader in readers(path):
        try:
            expected = through_libhdf5(did)
        except OSError:
            continue  # raw files that are not here
        count += 1
        if reader.read(tuple(slice(0, n) for n in did.shape)).tobytes() != expected:
            wrong.append(f"{path.name}: {name}")
    return wrong, count


def readable(path: Path) -> bool:
    """Whether a file's headers can be read: what cannot is for `test_real_files`."""
    try:
        h5z.scan(path)
    except SourceError:
        return False
    return True


@pytest.mark.archive
@pytest.mark.skipif(not (DATA / "MANIFEST.csv").exists(), reason=f"no real files at {DATA}")
def test_real_files_are_read_alike() -> None:
    wrong: list[str] = []
    total = 0
    for path in sorted(path for path in DATA.rglob("*") if readable(path)):
        found, count = differing(path)
        wrong, total = wrong + found, total + count
    assert wrong == []
    assert total > 3000


@pytest.mark.parametrize("name", TAKEN)
def test_oddities_are_read_alike(oddity: Callable[[str], Path], name: str) -> None:
    wrong, count = differing(oddity(name))
    assert wrong == []
    assert count > 0


PIPELINES: dict[str, dict[str, Any]] = {
    "deflate": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "shuffle deflate fletcher32": {"shuffle": True, "compression": "gzip", "fletcher32": True},
    "bzip2": dict(hdf5plugin.BZip2()),
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in blocks": dict(hdf5plugin.LZ4(nbytes=64)),
    "zstd": dict(hdf5plugin.Zstd()),
    "shuffle zstd fletcher32": {"shuffle": True, "fletcher32": True, **hdf5plugin.Zstd()},
} | {
    f"blosc {name} {shuffle}": dict(hdf5plugin.Blosc(cname=name, shuffle=shuffle))
    for name in ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
    for shuffle in (0, 1, 2)
}
DTYPES = ("u1", ">i2", "<f4", "<f8", "S3", [("a", "<i4"), ("b", "u1")])


def values(dtype: Any, *, smooth: bool) -> np.ndarray:
    """Data of two dimensions, with cut chunks at the end of both axes; noise does not compress."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.arange(70 * 45 * itemsize) // 64 if smooth else np.random.default_rng(7).integers(0, 256, 70 * 45 * itemsize)
    return raw.astype("u1").view(dtype).reshape(70, 45)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_each_filter_is_read_alike(tmp_path: Path, pipeline: str) -> None:
    """Whole, and in regions that cut chunks; smooth and incompressible values of every size."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for i, dtype in enumerate(DTYPES):
            for smooth in (True, False):
                data = values(dtype, smooth=smooth)
                file.create_dataset(f"{i}{smooth}", data=data, chunks=(32, 32), **PIPELINES[pipeline])
    chance, count = random.Random(3), 0
    for name, did, reader in readers(tmp_path / "in.h5"):
        count += 1
        whole = np.frombuffer(through_libhdf5(did), f"V{did.get_type().get_size()}").reshape(did.shape)
        for _ in range(6):
            region = tuple(slice(*sorted(chance.sample(range(n + 1), 2))) for n in did.shape)
            assert reader.read(region).tobytes() == whole[region].tobytes(), (name, region)
    assert count == 2 * len(DTYPES) or "snappy" in pipeline, "each filter of h5z.filters is read directly"


def test_all_filters_are_tried() -> None:
    numbers = {filters.DEFLATE, filters.SHUFFLE, filters.FLETCHER32, filters.BZIP2, filters.BLOSC, filters.LZ4, filters.ZSTD}
    assert {number for number in range(70_000) if filters.decodable([(number, "", 0, (2, 2, 4, 4096, 5, 1, 5))])} == numbers


def test_checksums_of_odd_lengths(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for n in (1, 2, 3, 719, 721, 100_001):
            file.create_dataset(f"odd{n}", data=(np.arange(n) % 251).astype("u1"), chunks=(n,), fletcher32=True)
    assert differing(tmp_path / "in.h5") == ([], 6)


def test_checksums_of_old_libraries(tmp_path: Path) -> None:
    """HDF5 up to 1.6.2 stored the bytes of a Fletcher checksum swapped in pairs; libhdf5 takes them either way."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        old = file.create_dataset("old", data=np.arange(8, dtype="u1"), chunks=(8,), fletcher32=True)
        file.flush()
        raw = old.id.read_direct_chunk((0,))[1]
        a, b, c, d = raw[-4:]
        old.id.write_direct_chunk((0,), raw[:-4] + bytes((b, a, d, c)))
    assert differing(tmp_path / "in.h5")[0] == []


def test_what_follows_a_deflate_stream_is_left_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("x", shape=(8,), dtype="u1", chunks=(8,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(range(8))) + b"\0\0\0\0")
    assert differing(tmp_path / "in.h5") == ([], 1)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_offsets_count_from_the_start_of_a_user_block(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "in.h5", "w", userblock_size=2048, libver=libver) as file:
        file["contiguous"] = sample()
        file.create_dataset("chunked", data=sample(), chunks=(4, 6), compression="gzip")
        file.create_dataset("one_chunk", data=sample(), chunks=sample().shape)
        file.create_dataset("growing", data=sample(), chunks=(4, 6), maxshape=(None, None))
    assert differing(tmp_path / "in.h5") == ([], 4)


def test_contiguous_data_never_written_are_fill_values(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("contiguous", shape=(6, 5), dtype="<i4", fillvalue=-3)
        file.create_dataset("chunked", shape=(6, 5), dtype="<i4", fillvalue=-3, chunks=(4, 2))[:3] = 7
    assert differing(tmp_path / "in.h5") == ([], 2)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_an_index_of_a_hundred_thousand_chunks_takes_linear_time(tmp_path: Path, libver: str) -> None:
    count = 100_000
    with h5py.File(tmp_path / "in.h5", "w", libver=libver) as file:
        file.create_dataset("x", data=np.arange(count, dtype="<i4").reshape(-1, 100), chunks=(1, 1), maxshape=(None, 100))
    with h5py.File(tmp_path / "in.h5") as file:
        start = time.perf_counter()
        reader = direct_reader(file["x"].id, "<i4", local_fetch(file))
        assert time.perf_counter() - start < 3
        assert reader is not None
        assert (reader.offsets >= 0).sum() == count
        assert reader.read((slice(500, 700), slice(10, 40))).tolist() == file["x"][500:700, 10:40].tolist()


LIMITS = [(30, None), (30, 60), (None, 60), (None, None)]


@pytest.mark.parametrize("created", ["earliest", "v108", "v110", "latest"])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_an_extensible_array_that_libhdf5_misindexes_is_not_read_directly(tmp_path: Path, created: str, limits: Any) -> None:
    """One axis unlimited and not the first; also in a file that an older library made, and a newer one added to."""
    data = np.arange(1800, dtype="<i4").reshape(30, 60)
    with h5py.File(tmp_path / "in.h5", "w", libver=(created, "latest")) as file:
        file["before"] = 1
    with h5py.File(tmp_path / "in.h5", "a", libver="latest") as file:
        file.create_dataset("x", data=data, chunks=(4, 7), maxshape=limits, compression="gzip")
    taken = {name for name, _, _ in readers(tmp_path / "in.h5")}
    assert "/x" in taken or limits == (30, None)
    assert differing(tmp_path / "in.h5")[0] == []
    read = Dataset(str(tmp_path / "in.h5"), "/x", "<i4").read((slice(0, 30), slice(0, 60)))
    assert (read == data).all()


@pytest.fixture
def spoilt(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset ``/group/x`` of eight chunks, and spoil the bytes of the sixth with a function."""

    def write(spoil: Callable[[bytearray], None], *pipeline: tuple[int, tuple[int, ...]]) -> Path:
        path = tmp_path / "in.h5"
        with h5py.File(path, "w") as file:
            plist, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple((8, 512))
            plist.set_chunk((1, 512))
            for number, options in pipeline:
                plist.set_filter(number, 0, options)
            did = h5d.create(file.create_group("group").id, b"x", h5t.STD_I32LE, space, plist)
            did.write(h5s.ALL, h5s.ALL, np.arange(4096, dtype="<i4").reshape(8, 512))
            file.flush()
            info = did.get_chunk_info_by_coord((5, 0))
        raw = bytearray(path.read_bytes())
        chunk = raw[info.byte_offset : info.byte_offset + info.size]
        spoil(chunk)
        raw[info.byte_offset : info.byte_offset + info.size] = chunk
        path.write_bytes(raw)
        return path

    return write


def flip(chunk: bytearray) -> None:
    """Change a byte in the middle."""
    chunk[len(chunk) // 2] ^= 0xFF


def assert_named(path: Path, region: Region = (slice(4, 7), slice(0, 512))) -> None:
    """A read that meets the sixth chunk fails and says where; one that does not, reads."""
    handle = Dataset(str(path), "/group/x", "<i4")
    with pytest.raises(SourceError) as caught:
        handle.read(region)
    text = str(caught.value)
    assert text.startswith(f"{path}: /group/x[4:7,0:512]")
    assert "\n" not in text
    assert handle.read((slice(2, 4), slice(0, 512))).tolist() == np.arange(1024, 2048).reshape(2, 512).tolist()
    forget(str(path))


@pytest.mark.parametrize("pipeline", [[(1, (4,))], [(3, ())], [(2, (4,)), (1, (4,)), (3, ())], [(32015, (3,))]], ids=str)
def test_a_spoilt_chunk_is_named(spoilt: Callable[..., Path], pipeline: Any) -> None:
    """Deflate's and zstd's own checks, and Fletcher's."""
    spoil = (lambda chunk: chunk.__setitem__(slice(0, 8), bytes(8))) if pipeline[0][0] == 32015 else flip
    assert_named(spoilt(spoil, *pipeline))


def truncated(path: Path) -> Path:
    """Cut a file (of superblock 0) within its sixth chunk, its own account of where it ends included."""
    with h5py.File(path) as file:
        end = file["group/x"].id.get_chunk_info_by_coord((5, 0)).byte_offset + 10
    raw = bytearray(path.read_bytes())
    assert raw[8] == 0, "superblock 0 has its end-of-file address at byte 40"
    raw[40:48] = end.to_bytes(8, "little")
    path.write_bytes(raw[:end])
    return path


@pytest.mark.parametrize("pipeline", [[], [(1, (4,))]], ids=["plain", "deflate"])
def test_a_chunk_past_the_end_of_the_file_is_named(spoilt: Callable[..., Path], pipeline: Any) -> None:
    assert_named(truncated(spoilt(lambda _: None, *pipeline)))


@pytest.mark.parametrize("policy", [{"chunks": "source", "codec": "keep"}, {"chunks": "source"}, {"chunks": (3, 500)}], ids=str)
def test_a_conversion_that_meets_a_lost_chunk_says_where(spoilt: Callable[..., Path], tmp_path: Path, policy: Any) -> None:
    """On each route; and leaves no target behind."""
    path = truncated(spoilt(lambda _: None, (1, (4,))))
    with pytest.raises(SourceError, match=r"in\.h5: /group/x\[\d+:\d+,\d+:\d+\]"):
        h5z.convert(path, tmp_path / "out.zarr", **policy)
    assert not (tmp_path / "out.zarr").exists()


def test_a_chunk_of_another_length_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        did = filtered(file, "x", sample(), (1, (4,)))
        did.write_direct_chunk((4, 6), zlib.compress(b"short"))
    with pytest.raises(SourceError, match=r"/x\[0:10,0:13\] .*96 bytes"):
        Dataset(str(tmp_path / "in.h5"), "/x", "<i4").read((slice(0, 10), slice(0, 13)))
