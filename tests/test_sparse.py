"""Arrays of which little is stored: work grows with the chunks that are allocated, and the result is what it would be else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5z
from h5z.digest import constant_digest, digest
from h5z.grid import region_shape
from h5z.hdf5.direct import DirectReader
from h5z.hdf5.files import forget
from h5z.source import Dataset, SourceArray

STARTS = st.integers(0, 9) | st.integers((1 << 16) - 9, (1 << 16) + 9) | st.integers(1 << 33, (1 << 33) + 9)
DTYPES = ("u1", "<i2", ">f4", "<f8", "<c16", "S3", "S5", "V2", "V7", [("a", "u1"), ("b", "<f8")])


@given(st.data(), st.sampled_from(DTYPES), st.lists(st.tuples(STARTS, st.integers(1, 9)), max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_constant_region_has_the_digest_of_its_values(data: st.DataObject, dtype: Any, spans: list[tuple[int, int]]) -> None:
    itemsize = np.dtype(dtype).itemsize
    value = np.frombuffer(data.draw(st.binary(min_size=itemsize, max_size=itemsize)), dtype).reshape(())
    region = tuple(slice(start, start + length) for start, length in spans)
    values = np.empty(region_shape(region), dtype)
    values[...] = value
    assert constant_digest(value, region) == digest(values, region)


@pytest.mark.parametrize("span", [(0, 200_000), (65_535, 131_073), (70_000, 70_001), (65_536, 131_072), (3, 65_537)])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4"])
def test_a_long_constant_region_has_the_digest_of_its_values(span: tuple[int, int], dtype: str) -> None:
    value, region = np.array(-7).astype(dtype), (slice(*span), slice(1, 3))
    assert constant_digest(value, region) == digest(np.full(region_shape(region), value), region)


def test_a_constant_region_of_text() -> None:
    value = np.empty((), object)
    value[()] = "é"
    assert constant_digest(value, (slice(2, 5),)) == digest(np.full(3, "é", object), (slice(2, 5),))


def test_no_elements_have_no_digest() -> None:
    assert constant_digest(np.array(3), (slice(2, 2), slice(0, 4))) == digest(np.zeros((0, 4)), (slice(2, 2), slice(0, 4)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets with few of their chunks, or none."""
    path = tmp_path_factory.mktemp("sparse") / "sparse.h5"
    with h5py.File(path, "w", libver="latest") as file:
        gzip: dict[str, Any] = {"chunks": (50, 40), "compression": "gzip", "shuffle": True}
        for name, dtype, fill in (("f4", "<f4", 2.5), ("nan", "<f8", np.nan), ("i2", "<i2", -1), ("u1", "u1", 0)):
            made = file.create_dataset(name, (1000, 205), dtype, fillvalue=fill, **gzip)
            made[120:160, 45:60] = 7
            made[990:, 200:] = 9
        plain = file.create_dataset("plain", (3000, 205), "<i4", chunks=(50, 40), maxshape=(None, 205))
        plain[1234, 7] = 1
        file.create_dataset("whole", (4000, 300), "<f4", fillvalue=1.0)
        file.create_dataset("none", (4000, 300), ">i2", chunks=(100, 100), fillvalue=3)
        pair = np.dtype([("a", "u1"), ("b", "<f8")])
        file.create_dataset("pair", (300, 300), pair, chunks=(30, 30), fillvalue=np.array((1, 2.0), pair))[5, 5] = (3, 4.0)
        file.create_dataset("vector", (300, 30), np.dtype(("<i4", (3,))), chunks=(30, 30))[5, 5] = (3, 4, 5)
        file.create_dataset("bool", (300, 300), bool, chunks=(30, 30))[100, 100] = True
        file.create_dataset("text", (300, 30), h5py.string_dtype(), chunks=(30, 30))[5, 5] = "x"
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"chunks": "source"},
        {"chunks": "source", "codec": "keep"},
        {"shards": "auto", "chunks": "source", "exclude": ["/pair"]},  # zarr reads no missing chunk of a struct's shard
        {"zarr_format": 2},
    ],
    ids=str,
)
def test_what_is_written_does_not_depend_on_what_is_skipped(
    policy: dict[str, Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"verify": "full", "scheduler": "sync", **policy}
    report = h5z.convert(source, tmp_path / "a", **given)
    assert report.ok
    assert h5z.verify(tmp_path / "a").ok
    with monkeypatch.context() as patch:
        patch.setattr(SourceArray, "constant", lambda *_: None)
        assert h5z.convert(source, tmp_path / "b", **given).ok
        assert h5z.verify(source, tmp_path / "a", scheduler="sync").ok
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    with h5py.File(source) as file:
        found: Any = zarr.open_group(str(tmp_path / "a"), mode="r")["i2"]
        assert np.array_equal(found[...], file["i2"][...])


class Counter:
    """Counts elements that are read of sources, and chunks that are decoded."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.elements = self.reads = self.chunks = 0
        read, decoded = Dataset.read, DirectReader.decoded

        def counting(dataset: Dataset, region: Any) -> Any:
            self.reads += 1
            self.elements += math.prod(region_shape(region))
            return read(dataset, region)

        def decoding(reader: DirectReader, number: int) -> Any:
            self.chunks += 1
            return decoded(reader, number)

        patch.setattr(Dataset, "read", counting)
        patch.setattr(DirectReader, "decoded", decoding)


@pytest.mark.parametrize("chunks", ["source", "auto", (1500, 1000)])
def test_work_grows_with_what_is_allocated(chunks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, chunk, rows = tmp_path / "large.h5", 1_000_000, 2_500_000
    with h5py.File(path, "w", libver="latest") as file:
        made = file.create_dataset("x", (rows, 1000), "<f4", chunks=(1000, 1000), fillvalue=5)
        made[3000:4000, 0] = np.arange(1000)
    counter = Counter(monkeypatch)
    made_plan = h5z.plan(path, chunks=chunks)
    tasks = sum(1 for _ in made_plan.tasks())
    report = h5z.convert(path, tmp_path / "a", chunks=chunks, verify="full", scheduler="sync")
    assert report.ok
    assert report.nbytes == rows * 4000
    assert counter.chunks <= 2
    written, witnessed = (math.prod(shape) for shape in (made_plan.arrays[0].block, made_plan.arrays[0].witness))
    assert counter.elements <= 2 * chunk + written + witnessed + 2 * counter.reads
    assert counter.reads <= 2 * tasks + 4096
    found: Any = zarr.open_group(str(tmp_path / "a"), mode="r")["x"]
    assert found[3998, 0] == 998
    assert found[2999, 0] == 5
    keys = [key for key in tree(tmp_path / "a") if "/c/" in key]
    assert len(keys) == 1


def test_a_unit_too_few_or_too_many_is_found(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    assert h5z.convert(source, place, chunks="source", include=["/i2"], verify="full").ok
    folder = place / "i2" / "c"
    unit = folder / "2" / "1"
    other = folder / "9" / "3"
    assert unit.exists()
    assert not other.exists()
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(unit.read_bytes())
    report = h5z.verify(source, place)
    assert [d.path for d in report.differences] == ["/i2"]
    other.unlink()
    assert h5z.verify(source, place).ok
    unit.unlink()
    report = h5z.verify(source, place)
    assert [d.path for d in report.differences] == ["/i2"]
    assert h5z.verify(source, place, repair=True).ok
    assert unit.exists()


def test_libhdf5_is_asked_for_chunks_that_the_index_does_not_tell_of(source: Path) -> None:
    handle = Dataset(str(source), "/plain", "<i4")
    region = (slice(1200, 1250), slice(0, 40))
    try:
        reader = handle.reader()
        assert reader is not None
        assert not handle.untouched(region)
        assert handle.untouched((slice(0, 1200), slice(0, 205)))
        reader.offsets[:] = -1  # as an index that has lost its chunks would tell
        assert not handle.untouched(region)
        assert handle.untouched((slice(0, 1200), slice(0, 205)))
    finally:
        forget(str(source))
