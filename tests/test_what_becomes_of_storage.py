"""The rows of the table on dataspaces, fill values, chunks, filters and layouts."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import h5z

from .oddities.layouts import sample
from .oddities.stored import expected_units, stored_units
from .running import Convert

FORMATS = (3, 2)


def root(target: Path) -> zarr.Group:
    """Open a target."""
    return zarr.open_group(target, mode="r")


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_null_dataspaces_are_empty_and_marked(converted: Convert, zarr_format: int) -> None:
    target = root(converted("null_dataspaces", zarr_format).target)
    for name in ("float", "text", "fixed"):
        assert target[name].shape == (0,)
        assert target[name].attrs["h5z"]["null"] is True
    marks = target["rows"].attrs["h5z"]
    assert marks.get("null") or marks["dataset"]["null"]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_scalars_have_no_dimensions(converted: Convert, zarr_format: int) -> None:
    target = root(converted("scalars", zarr_format).target)
    for name, value in (("number", np.pi), ("text", "one"), ("bytes", b"abc")):
        assert target[name].shape == ()
        assert np.asarray(target[name][()]).tolist() == value
    assert target["one"].shape == (1,)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_zero_sized_arrays_keep_their_shape(converted: Convert, zarr_format: int) -> None:
    done = converted("zero_sized", zarr_format)
    target = root(done.target)
    shapes = {"none": (0,), "rows": (0, 3), "columns": (3, 0), "words": (0,), "fixed": (0, 2)}
    assert {name: array.shape for name, array in target.arrays()} == shapes
    assert not any("h5z" in array.attrs and "null" in array.attrs["h5z"] for _, array in target.arrays())
    assert target["rows"].attrs["h5z"]["maxshape"] == [None, 3]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_maximum_shapes_are_recorded(converted: Convert, zarr_format: int) -> None:
    target = root(converted("unlimited", zarr_format).target)
    limits = {name: array.attrs["h5z"]["maxshape"] for name, array in target.arrays()}
    assert limits == {"rows": [None, 5], "both": [None, None], "limited": [30, 5]}


def test_fill_values_are_fill_values(converted: Convert) -> None:
    """Bit for bit, as zarr-python decodes them."""
    done = converted("fill_values")
    target = root(done.target)
    with h5py.File(done.source) as file:
        for name, dataset in file.items():
            found = target[name].metadata.fill_value
            if name == "text":
                assert found == "missing ☃"
            elif name == "compound":
                assert found["a"] == -1
                assert np.isnan(found["b"])
                assert found["c"] == b"xy"
            else:
                expected = np.asarray(dataset.fillvalue)
                native = expected.dtype.newbyteorder("=")
                assert np.asarray(found).astype(native).tobytes() == expected.astype(native).tobytes(), name


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_what_was_never_written_reads_as_the_fill_value(converted: Convert, zarr_format: int) -> None:
    target = root(converted("fill_values", zarr_format).target)
    assert np.asarray(target["int"][...]).tolist() == [0, 0, -7, -7, -7, -7]
    assert np.asarray(target["unsigned"][2:]).tolist() == [2**64 - 1] * 4
    assert np.asarray(target["fixed"][...]).tolist() == [b"", b"", *[b"n/a"] * 4]
    assert np.asarray(target["stored_big_endian"][...]).tolist() == [258, 258, 1, -1]
    assert np.asarray(target["nan_payload"][2:]).astype("<f4").view("<u4").tolist() == [0x7FC00001] * 4
    assert np.asarray(target["boolean"][...]).tolist() == [False, False, True, True, True, True]
    other = root(converted("fill_of_an_array_datatype_and_enumeration", zarr_format).target)
    assert np.asarray(other["triples"][...]).tolist() == [[1, 2, 3]] * 4
    assert np.asarray(other["colours"][...]).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_an_undefined_fill_value_is_recorded(converted: Convert, zarr_format: int) -> None:
    target = root(converted("undefined_fill_value", zarr_format).target)
    assert target["written"].attrs["h5z"]["fill"] == {"undefined": True}
    assert np.asarray(target["written"][...]).tolist() == [1, -2, 3, 0]


def test_unallocated_chunks_stay_missing(converted: Convert) -> None:
    """Chunk for chunk where the target keeps the source's grid."""
    done = converted("unallocated_chunks", chunks="source")
    target = root(done.target)
    with h5py.File(done.source) as file:
        for name in ("sparse", "zeros_missing", "contiguous_never_written"):
            allocated = expected_units(file[name], target[name])
            assert allocated is not None
            assert stored_units(done.target, target[name]) <= allocated, name
    assert (0, 0) in stored_units(done.target, target["sparse"])
    assert stored_units(done.target, target["zeros_missing"]) == set()
    assert np.asarray(target["contiguous_never_written"][...]).tolist() == [[3] * 4] * 4


def test_regridding_reads_each_chunk_where_it_belongs(converted: Convert) -> None:
    """Another grid than the source's, which divides neither it nor the array."""
    for chunks in ((3, 5), (7, 2), (10, 13), (1, 1)):
        target = root(converted("builtin_filters", chunks=chunks).target)
        assert target["gzip_i4"].chunks == chunks
        for name in ("none_i4", "gzip_i4", "shuffle_gzip_fletcher32_i4"):
            assert (np.asarray(target[name][...]) == sample()).all()


def test_shards_hold_the_chunks(converted: Convert) -> None:
    """A shard a stored object, inside it the chunks."""
    done = converted("builtin_filters", chunks=(2, 3), shards=(6, 9))
    array = root(done.target)["gzip_i4"]
    assert (array.chunks, array.shards) == ((2, 3), (6, 9))
    assert stored_units(done.target, array) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert (np.asarray(array[...]) == sample()).all()


@pytest.mark.parametrize("codec", ["auto", "keep", None, "zstd:3", "gzip:6", "blosc-lz4:5", {"/*": "zstd:1"}])
def test_codecs_change_no_value(converted: Convert, codec: Any) -> None:
    for name in ("builtin_filters", "filter_masks", "booleans", "variable_strings"):
        done = converted(name, codec=codec)
        assert done.report.ok
    target = root(converted("builtin_filters", codec=codec).target)
    assert (np.asarray(target["shuffle_lzf_i4"][...]) == sample()).all()


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_filters_are_recorded(converted: Convert, zarr_format: int) -> None:
    """Number, name, flags and options, in the order in which HDF5 applies them."""
    done = converted("builtin_filters", zarr_format)
    target = root(done.target)
    filters = target["shuffle_gzip_fletcher32_i4"].attrs["h5z"]["filters"]
    assert [(number, options) for number, _, _, options in filters] == [(2, [4]), (1, [4]), (3, [])]
    assert target["none_i4"].attrs["h5z"]["chunks"] == [4, 6]


def test_a_missing_filter_costs_only_what_needs_it(converted: Convert) -> None:
    """A dataset whose stored chunks skipped the filter, or that has none, is carried over."""
    done = converted("filter_that_is_not_installed")
    assert [problem.path for problem in done.report.not_carried] == ["/stored"]
    assert "31999" in done.report.not_carried[0].reason
    target = root(done.target)
    assert np.asarray(target["skipped"][...]).tolist() == [0, 1, 2, 3]
    assert np.asarray(target["nothing_stored"][...]).tolist() == [0, 0, 0, 0]
    assert "stored" not in target


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_filters_that_libhdf5_lacks_are_decoded_all_the_same(converted: Convert, zarr_format: int) -> None:
    """Terminated strings end where libhdf5 would end them; chunks that are not there stay away."""
    pytest.importorskip("imagecodecs")
    done = converted("lzo", zarr_format)
    assert done.report.exit_code == 0
    target = root(done.target)
    assert np.asarray(target["numbers"][...]).tolist() == [[0, 1], [2, 3], [0, 0], [0, 0], [8, 9], [10, 11]]
    words = [b"a", b"full", b"", b"bc"]
    assert np.asarray(target["words"][...]).tolist() == words
    assert np.asarray(target["words"][...]).tobytes() == b"".join(word.ljust(4, b"\0") for word in words)
    assert np.asarray(target["rows"][...]).tolist() == list(zip([1, 2, 3, 4], words, strict=True))
    assert np.asarray(root(converted("bitgroom", zarr_format).target)["rounded"][...]).tolist() == [0.5, 1.25, 2.0, 4.0]


@pytest.mark.parametrize("name", ["virtual_dataset_of_the_same_file", "virtual_dataset_of_other_files"])
def test_virtual_datasets_are_materialised(converted: Convert, name: str) -> None:
    view = root(converted(name).target)["view"]
    assert view.attrs["h5z"]["layout"] == "virtual"
    assert len(view.attrs["h5z"]["sources"]) == 2
    if name.endswith("same_file"):
        assert np.asarray(view[...]).tolist() == [[0, 1, 2, 3], [-1] * 4, [10, 11, 12, 13]]
    else:
        assert np.asarray(view[:2]).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert np.isnan(np.asarray(view[2:])).all()


def test_external_storage_is_materialised(converted: Convert, tmp_path: Path) -> None:
    """Read from beside the file, whatever the working folder; elsewhere only by policy."""
    data = root(converted("external_storage").target)["data"]
    assert np.asarray(data[...]).tolist() == np.arange(24).reshape(6, 4).tolist()
    assert data.attrs["h5z"]["layout"] == "external"
    source = converted("external_storage_outside_the_folder").source
    allowed = h5z.convert(source, tmp_path / "out.zarr", verify="full", external_roots=[source.parent.parent])
    assert allowed.ok
    assert np.asarray(root(tmp_path / "out.zarr")["data"][...]).tolist() == [0, 1, 2, 3]


def test_external_storage_is_read_by_many_tasks_at_once(tmp_path: Path) -> None:
    """While others follow references to it: HDF5 lets a dataset be open with one folder for its raw files only."""
    count = 100_000
    for name in ("a", "b"):
        np.arange(count, dtype="<i4").tofile(tmp_path / f"{name}.raw")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in ("a", "b"):
            file.create_dataset(name, shape=(count,), dtype="<i4", external=[(f"{name}.raw", 0, 4 * count)])
        file.create_dataset("refs", data=[file["a"].ref, file["b"].ref] * 200, dtype=h5py.ref_dtype)
    chunks = {"/a": (1000,), "/b": (1000,), "/refs": (5,)}
    policy = {"chunks": chunks, "memory": "8MiB", "workers": 8, "verify": "full"}
    for i in range(3):
        assert h5z.convert(tmp_path / "in.h5", tmp_path / f"out{i}.zarr", **policy).ok
    assert np.asarray(root(tmp_path / "out0.zarr")["b"][...]).tolist() == list(range(count))


CORRUPTED: list[tuple[str, dict[str, Any]]] = [
    ("unlimited", {"chunks": "source", "codec": None}),
    ("unlimited", {"chunks": "source"}),
    ("unlimited", {"chunks": "source", "zarr_format": 2}),
    ("unlimited", {"chunks": "source", "codec": "zstd:3"}),
    ("unlimited", {"chunks": "source", "codec": "gzip:6"}),
    ("filter_masks", {"codec": "keep"}),
    ("unlimited", {"chunks": (1, 5), "shards": (2, 5)}),
    ("variable_strings", {}),
    ("compounds_with_strings_arrays_and_references", {}),
    ("fixed_strings", {}),
    ("nan_payloads", {"codec": None}),
]


@pytest.mark.parametrize(("name", "policy"), CORRUPTED, ids=lambda value: value if isinstance(value, str) else str(value))
def test_one_changed_byte_is_found(converted: Convert, tmp_path: Path, name: str, policy: dict[str, Any]) -> None:
    """In any chunk, at its beginning, its end and in between; one at a time, and each put back."""
    done = converted(name, **policy)
    target = tmp_path / "copy.zarr"
    shutil.copytree(done.target, target)
    assert h5z.verify(done.source, target, level="full").ok
    documents = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
    chunks = sorted(path for path in target.rglob("*") if path.is_file() and path.name not in documents)
    chance = random.Random(5)
    for chunk in chance.sample(chunks, min(6, len(chunks))):
        whole = chunk.read_bytes()
        for place in {0, len(whole) - 1, chance.randrange(len(whole)), chance.randrange(len(whole))}:
            raw = bytearray(whole)
            raw[place] ^= 1 << chance.randrange(8)
            chunk.write_bytes(raw)
            found = h5z.verify(done.source, target, level="full")
            where = next(f"/{parent}" for parent in chunk.relative_to(target).parents if named(target / parent))
            assert not found.ok, f"byte {place} of {len(whole)} in {chunk.relative_to(target)}"
            assert found.exit_code == 1
            assert where in {difference.path for difference in found.differences}
        chunk.write_bytes(whole)


def named(folder: Path) -> bool:
    """Whether a folder is an array's."""
    return (folder / "zarr.json").exists() or (folder / ".zarray").exists()


def test_a_missing_chunk_is_found(converted: Convert, tmp_path: Path) -> None:
    """A chunk that is gone reads as fill values."""
    done = converted("integers_of_every_size_and_order")
    target = tmp_path / "copy.zarr"
    shutil.copytree(done.target, target)
    next((target / "i8_big").rglob("c*0")).unlink()
    found = h5z.verify(done.source, target, level="full")
    assert [difference.path for difference in found.differences] == ["/i8_big"]


@pytest.mark.parametrize("level", ["structure", "sample", "full"])
def test_changed_metadata_are_found(converted: Convert, tmp_path: Path, level: str) -> None:
    """A fill value, an attribute, a dimension name, a document that is gone."""
    done = converted("netcdf_with_coordinates")
    changes: list[tuple[str, Any]] = [
        ("fill_value", 0),
        ("attributes", {"units": "K"}),
        ("dimension_names", ["a", "b"]),
    ]
    for key, value in changes:
        target = tmp_path / f"{key}.zarr"
        shutil.copytree(done.target, target)
        path = target / "packed" / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        found = h5z.verify(done.source, target, level=level)
        assert {difference.path for difference in found.differences} == {"/packed"}, key
    (target / "packed" / "zarr.json").unlink()
    assert not h5z.verify(done.source, target, level=level).ok


def test_a_kept_shuffle_counts_the_bytes_that_are_stored(tmp_path: Path) -> None:
    """Not those of the file, where an element has padding, or members of its own arrays."""
    padded = np.dtype({"names": ["a", "b"], "formats": ["<i4", "u1"], "offsets": [0, 6], "itemsize": 11})
    several = np.dtype([("a", "<i4", (3,)), ("b", "u1")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, dtype in (("padded", padded), ("several", several)):
            data = np.frombuffer(bytes(range(5 * dtype.itemsize)), dtype)
            file.create_dataset(name, data=data, chunks=(3,), shuffle=True, compression="gzip")
    report = h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", codec="keep", verify="full")
    assert report.ok, report
