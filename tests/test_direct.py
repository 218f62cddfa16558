"""Reading past libhdf5: what the direct reader takes is, byte for byte, what libhdf5 reads; what it cannot read it names."""

from __future__ import annotations

import ctypes
import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numcodecs
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given, settings
from hypothesis import strategies as st

import h5z
from h5z.doctor import examine
from h5z.errors import SourceError
from h5z.grid import Region
from h5z.hdf5 import files, filters
from h5z.hdf5.blosc2frames import UnusualError
from h5z.hdf5.direct import DirectReader, direct_reader
from h5z.hdf5.fetch import local_fetch
from h5z.hdf5.files import forget, open_dataset
from h5z.source import Dataset

from .oddities.layouts import filtered, sample
from .running import DATA

HOME = Path(h5z.__file__).parents[1]
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
        fetch = local_fetch(file.filename)
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
    "lzf": {"compression": "lzf"},
    "shuffle lzf fletcher32": {"shuffle": True, "compression": "lzf", "fletcher32": True},
    "szip entropy": {"compression": "szip", "compression_opts": ("ec", 16)},
    "szip neighbour": {"compression": "szip", "compression_opts": ("nn", 8)},
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="none")),
    "bitshuffle lz4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "bitshuffle lz4 in blocks": dict(hdf5plugin.Bitshuffle(cname="lz4", nelems=16)),
    "bitshuffle zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle zstd in blocks": dict(hdf5plugin.Bitshuffle(cname="zstd", nelems=16)),
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
PIPELINES |= {
    f"blosc2 {name} {shuffle}": dict(hdf5plugin.Blosc2(cname=name, filters=shuffle))
    for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
    for shuffle in (0, 1, 2, 3)
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
        dtypes = DTYPES[:-2] if "szip" in pipeline else DTYPES  # numbers alone
        for i, dtype in enumerate(dtypes):
            for smooth in (True, False):
                data = values(dtype, smooth=smooth)
                file.create_dataset(f"{i}{smooth}", data=data, chunks=(32, 32), **PIPELINES[pipeline])
                file.create_dataset(f"{i}{smooth}flat", data=data.ravel(), chunks=(1001,), **PIPELINES[pipeline])
    chance, count = random.Random(3), 0
    for name, did, reader in readers(tmp_path / "in.h5"):
        count += 1
        whole = np.frombuffer(through_libhdf5(did), f"V{did.get_type().get_size()}").reshape(did.shape)
        for _ in range(6):
            region = tuple(slice(*sorted(chance.sample(range(n + 1), 2))) for n in did.shape)
            assert reader.read(region).tobytes() == whole[region].tobytes(), (name, region)
    assert count == 4 * len(dtypes) or "snappy" in pipeline, "each filter of h5z.hdf5.filters is read directly"


def test_all_filters_are_tried() -> None:
    tried = (*PIPELINES.values(), {"scaleoffset": 0})
    lacking = {filters.LZO, filters.BITGROOM, filters.GRANULAR_BITROUND}  # which libhdf5 cannot write here
    found = {filters.NBIT, *lacking}
    for options in tried:
        plist = in_memory().create_dataset(None, shape=(40,), dtype="<i4", chunks=(40,), **options).id.get_create_plist()
        found |= {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    assert {number for number in range(70_000) if filters.at_hand(number)} == found


def test_the_doctor_names_them() -> None:
    found = examine()
    past = set(found["HDF5 filters read past libhdf5"].split(", "))
    assert {"deflate", "scaleoffset", "lzf", "bitshuffle", "blosc2"} < past < set(found["HDF5 filters readable"].split(", "))
    assert not past & {"zfp", "sz", "sz3", "sperr", "nbit"}


def test_skipped_filters_are_not_decoded(tmp_path: Path) -> None:
    """Each filter behind a shuffle: with both applied, with either, with none."""
    data = np.arange(64, dtype="<i4").reshape(4, 16)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name, options in {**PIPELINES, "scaleoffset": {"scaleoffset": 0}}.items():
            if "fletcher32" in options or ("shuffle" in options and len(options) == 1):
                continue
            made = file.create_dataset(name, shape=data.shape, dtype=data.dtype, chunks=(1, 16), **{"shuffle": True, **options})
            made.id.write_direct_chunk((0, 0), data[0].tobytes(), filter_mask=0b11)
            made.id.write_direct_chunk((1, 0), numcodecs.Shuffle(4).encode(data[1].tobytes()), filter_mask=0b10)
            made[2:] = data[2:]
    taken = {name for name, _, _ in readers(tmp_path / "in.h5")}
    assert {name for name in PIPELINES if "fletcher32" not in name and name != "shuffle" and "snappy" not in name} < {
        name[1:] for name in taken
    }
    assert differing(tmp_path / "in.h5")[0] == []
    with h5py.File(tmp_path / "in.h5") as file:
        assert (file["deflate"][...] == data).all()


def assert_same_chunk(did: Any) -> None:
    """The first chunk as it is decoded here, and as libhdf5 reads it."""
    plist = did.get_create_plist()
    pipeline = [(number, "", 0, options) for number, _, options, _ in (plist.get_filter(i) for i in range(plist.get_nfilters()))]
    assert filters.decodable(pipeline)
    mask, stored = did.read_direct_chunk((0,))
    expected = through_libhdf5(did)
    assert bytes(filters.decode(stored, pipeline, mask, len(expected))) == expected


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_scaled_integers_are_read_alike(data: st.DataObject) -> None:
    """Every size, sign and order; few and many bits, chosen or found; with a fill value, without, and of nothing else."""
    dtype = np.dtype(
        data.draw(st.sampled_from(["<", ">"])) + data.draw(st.sampled_from("iu")) + data.draw(st.sampled_from("1248"))
    )
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    few = data.draw(st.integers(low, high))
    span = data.draw(st.sampled_from([0, 1, 2, 5, 100, 30_000, high - low]))
    elements = st.integers(few, min(high, few + span))
    fill = data.draw(st.none() | st.just(0) | elements)
    if fill is not None:
        elements |= st.just(fill)
    found = np.array(data.draw(st.lists(elements, min_size=1, max_size=70)), dtype)
    bits = data.draw(st.integers(0, 8 * dtype.itemsize))
    assert_same_chunk(scaled(found, h5py.h5z.SO_INT, bits, fill))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_scaled_floats_are_read_alike(data: st.DataObject) -> None:
    """Of few places and many; with a fill value, without, and of nothing else; too far apart to be scaled at all."""
    dtype = np.dtype(data.draw(st.sampled_from(["<f4", ">f4", "<f8", ">f8"])))
    places = data.draw(st.integers(-3, 9))
    width = data.draw(st.sampled_from([0.0, 2.0**-10, 1.0, 2.0**15, 2.0**40]))
    elements = st.floats(-width, width, width=32)
    fill = data.draw(st.none() | st.just(0.0) | st.just(-9999.0) | elements)
    if fill is not None:
        elements |= st.just(fill)
    found = np.array(data.draw(st.lists(elements, min_size=1, max_size=70)), dtype)
    assert_same_chunk(scaled(found, h5py.h5z.SO_FLOAT_DSCALE, places, fill))


@cache
def libhdf5() -> ctypes.CDLL:
    """The library that h5py has loaded: h5py itself cannot say that there is no fill value."""
    loaded = Path("/proc/self/maps")
    if not loaded.exists():
        pytest.skip("Linux alone tells which libhdf5 is loaded")
    return ctypes.CDLL(
        next(line.split()[-1] for line in loaded.read_text().splitlines() if "libhdf5-" in line or "libhdf5.so" in line)
    )


def scaled(data: np.ndarray, kind: int, factor: int, fill: Any) -> Any:
    """A dataset of one chunk, scaled; without a fill value where that is None."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(data.shape)
    plist.set_filter(filters.SCALEOFFSET, 0, (kind, factor % (1 << 32)))
    if fill is None:
        libhdf5().H5Pset_fill_value(ctypes.c_int64(plist.id), ctypes.c_int64(h5t.py_create(data.dtype).id), None)
    else:
        plist.set_fill_value(np.array(fill, data.dtype))
    did = h5d.create(in_memory().id, None, h5t.py_create(data.dtype), h5s.create_simple(data.shape), plist)
    did.write(h5s.ALL, h5s.ALL, data)
    return did


@cache
def in_memory() -> h5py.File:
    """A file for datasets without a name."""
    return h5py.File("in memory", "w", driver="core", backing_store=False)


FUZZ = """
import faulthandler, json, random, sys
import h5py
from h5z.hdf5.filters import decode
from h5z.hdf5.blosc2frames import UnusualError

faulthandler.enable()
chance = random.Random(11)

def spoil(stored):
    out = bytearray(stored)
    kind = chance.randrange(5)
    if kind == 0:  # cut off
        del out[chance.randrange(len(out)) :]
    elif kind == 1:  # bits flipped anywhere
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    elif kind == 2:  # bytes changed in the headers
        for _ in range(chance.choice([1, 2, 4])):
            out[chance.randrange(min(len(out), 64))] = chance.choice([0, 255, 127, 128, chance.randrange(256)])
    elif kind == 3:  # bytes lost or added
        at = chance.randrange(len(out))
        out[at : at + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(9))
    else:  # something else, or its end
        end = out[chance.randrange(len(out)) :] if chance.random() < 0.5 else b""
        out = chance.randbytes(chance.randrange(64)) + end
    return bytes(out)

with h5py.File(sys.argv[1]) as file:
    for name, dataset in file.items():
        plist = dataset.id.get_create_plist()
        found = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        pipeline = [(number, "", 0, options) for number, _, options, _ in found]
        mask, stored = dataset.id.read_direct_chunk((0,) * dataset.ndim)
        ends = {"read": 0, "refused": 0}
        for _ in range(int(sys.argv[2])):
            print(name, file=sys.stderr)
            try:
                plain = decode(spoil(stored), pipeline, mask, dataset.nbytes)
                assert memoryview(plain).nbytes == dataset.nbytes
                ends["read"] += 1
            except ValueError as error:
                assert "\\n" not in str(error)
                ends["refused"] += 1
        print(json.dumps([name, ends]))
"""


def test_no_decoder_crashes_on_what_is_spoilt(tmp_path: Path) -> None:
    """Cut off, bits flipped, headers changed: an error of one line, or as many bytes as there should be."""
    smooth = np.cumsum(np.random.default_rng(0).integers(-3, 4, (40, 33)), axis=1, dtype="<i4")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name, options in {**PIPELINES, "scaled": {"scaleoffset": 0}}.items():
            if "snappy" not in name:
                file.create_dataset(name, data=smooth, chunks=smooth.shape, **options)
        for name in ("blosc2 zstd 1", "blosc2 lz4 1"):
            file.create_dataset(f"zeros {name}", data=0 * smooth, chunks=smooth.shape, **PIPELINES[name])
            file.create_dataset(f"flat {name}", data=smooth.ravel(), chunks=(smooth.size,), **PIPELINES[name])
        file.create_dataset("scaled floats", data=smooth / 7.0, chunks=smooth.shape, scaleoffset=3)
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "in.h5"), "1500"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ends = dict(map(json.loads, done.stdout.splitlines()))
    assert len(ends) > len(PIPELINES) - 3
    assert all(found["refused"] > 100 for found in ends.values()), ends


WITHOUT = """
import sys
sys.modules["imagecodecs"] = None
import numpy as np
import h5z
from h5z.hdf5 import filters
from h5z.source import Dataset

tree = h5z.scan(sys.argv[1])
for node in tree.arrays:
    values = Dataset(sys.argv[1], node.path, node.dtype).read(tuple(slice(0, n) for n in node.shape))
    print(filters.decodable(node.filters), int(values.sum()))
print({array.route for array in h5z.plan(sys.argv[1], "out.zarr", chunks="source").arrays})
"""


def test_filters_whose_library_is_not_installed_are_left_to_libhdf5(tmp_path: Path) -> None:
    data = np.arange(640, dtype="<i4").reshape(20, 32)
    names = ("lzf", "szip entropy", "bitshuffle zstd", "blosc2 lz4 1")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in names:
            file.create_dataset(name, data=data, chunks=(4, 32), **PIPELINES[name])
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "in.h5")]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"False {data.sum()}"] * len(names) + ["{'library'}"], done.stderr
    assert {array.route for array in h5z.plan(tmp_path / "in.h5", "out.zarr", chunks="source").arrays} == {"recode"}


def test_a_frame_that_only_libhdf5_reads(tmp_path: Path) -> None:
    """A chunk of nothing but NaN, of which Blosc2 may keep no more than a mark; cut at the array's end."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("x", shape=(50, 30), dtype="<f8", chunks=(32, 30), **PIPELINES["blosc2 zstd 1"])
        made[:] = 0
        for start in (0, 32):
            mask, stored = made.id.read_direct_chunk((start, 0))
            assert stored.count(b"\x81") == 1, "what zeros are marked with"
            made.id.write_direct_chunk((start, 0), stored.replace(b"\x81", b"\x82"), filter_mask=mask)
        assert np.isnan(made[:]).all()
    for _, _, reader in readers(tmp_path / "in.h5"):
        with pytest.raises(UnusualError):
            filters.decode(reader.stored(1), reader.filters, 0, reader.nbytes)
    assert differing(tmp_path / "in.h5") == ([], 1)
    assert np.isnan(Dataset(str(tmp_path / "in.h5"), "/x", "<f8").read((slice(0, 32), slice(0, 30)))).all()


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


def test_contiguous_data_are_read_where_the_scan_found_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libhdf5, behind a user block too; what was never written, and runs of bytes without number, it reads."""
    source, kind = (
        tmp_path / "in.h5",
        np.dtype({"names": ["a", "b"], "formats": ["<i2", ">f8"], "offsets": [0, 8], "itemsize": 24}),
    )
    with h5py.File(source, "w", userblock_size=512) as file:
        file["plain"] = np.arange(24, dtype=">i4").reshape(2, 3, 4)
        file["scalar"] = 7
        file["pairs"] = np.array([(1, 2.5), (3, 4.5)], kind)
    opened = h5z.plan(source, tmp_path / "out.zarr", chunks={"/plain": (1, 2, 3)}, codec="none")
    work = h5z.graph(opened)

    def refuse(name: str, *_: Any) -> None:
        raise AssertionError(f"{name} was opened")

    with monkeypatch.context() as patch:
        patch.setattr(files, "open_file", refuse)
        work.compute(scheduler="sync")
    h5z.finalize(tmp_path / "out.zarr")
    assert h5z.verify(source, tmp_path / "out.zarr", level="full").ok
    with h5py.File(source, "a") as file:
        file.create_dataset("never", (6,), "<i4", fillvalue=-3)
        file["narrow"] = np.arange(20_000, dtype="<i2").reshape(10_000, 2)
    again = h5z.convert(source, tmp_path / "again.zarr", chunks={"/narrow": (10_000, 1)}, codec="none", verify="full")
    assert again.ok


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_an_index_of_a_hundred_thousand_chunks_takes_linear_time(tmp_path: Path, libver: str) -> None:
    """Of CPU, which others' work does not change much: four times as many chunks take about four times as long, not sixteen."""
    taken = []
    for count in (25_000, 100_000):
        with h5py.File(tmp_path / f"{count}.h5", "w", libver=libver) as file:
            file.create_dataset("x", data=np.arange(count, dtype="<i4").reshape(-1, 100), chunks=(1, 1), maxshape=(None, 100))
        with h5py.File(tmp_path / f"{count}.h5") as file:
            start = time.process_time()
            reader = direct_reader(file["x"].id, "<i4", local_fetch(file.filename))
            taken.append(time.process_time() - start)
            assert reader is not None
            assert (reader.offsets >= 0).sum() == count
            assert reader.read((slice(100, 200), slice(10, 40))).tolist() == file["x"][100:200, 10:40].tolist()
    assert taken[1] < 10 * taken[0]


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
    assert "chunk [5:6,0:512]" in text
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
