"""Nothing lost: each oddity migrated, restored, and compared with its source by the HDF Group's own tools."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from h5py import h5a, h5d, h5s, h5t

import h5z
from h5z.errors import PlanError

from .oddities import ODDITIES
from .restored import TOOLS, Restored, chunk_bytes, diff_difference, dump_difference
from .running import Convert

pytestmark = pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)")
FORMATS = (3, 2)
# What is not as it was, and why it cannot be.
GONE = "a reference to an object that was deleted is null"
OTHERWISE = {"scales_that_are_gone": GONE}
# Filters whose encoding differs from one version, or address of a string, to the next.
SIZES_VARY = {"filter_mask_of_strings", "lossy_plugin_filters", "plugin_filters"}


@pytest.fixture(scope="module")
def restored(converted: Convert, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Restored]:
    """Restore an oddity's target, fully verified, into a folder that has what lies beside the source."""
    made: dict[tuple[str, int], Restored] = {}

    def get(name: str, zarr_format: int = 3) -> Restored:
        key = (name, zarr_format)
        if key not in made:
            done = converted(name, zarr_format, codec="keep")
            folder = tmp_path_factory.mktemp("back") / "source"
            shutil.copytree(done.source.parent, folder)
            file = folder / done.source.name
            file.unlink()
            made[key] = Restored(done.source, file, done.report, h5z.restore(done.target, file, verify="full"))
        return made[key]

    return get


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", sorted(ODDITIES))
def test_an_oddity_comes_back(restored: Callable[..., Restored], tmp_path: Path, name: str, zarr_format: int) -> None:
    """What is not restored is what the conversion said; h5diff finds nothing, and the dumps are the same text."""
    done = restored(name, zarr_format)
    assert done.back.differences == ()
    assert done.back.not_carried == done.there.not_carried
    assert done.back.exit_code == (1 if done.back.not_carried else 0)
    lost = {problem.path for problem in done.back.not_carried}
    if name in OTHERWISE:
        assert any("null" in note for note in done.back.notes), OTHERWISE[name]
        return
    assert diff_difference(done.source, done.file, tmp_path / "copy.h5", without=lost) == ""
    if not lost and zarr_format == 3 and name != "object_references":  # h5dump does not survive its cycles
        assert dump_difference(done.source, done.file, sizes=name not in SIZES_VARY) == ""


@pytest.mark.parametrize("name", ["builtin_filters", "chunk_indexes", "filter_masks", "unallocated_chunks", "unlimited"])
def test_chunks_that_crossed_unchanged_go_back_unchanged(restored: Callable[..., Restored], name: str) -> None:
    done = restored(name)
    wanted, found = chunk_bytes(done.source), chunk_bytes(done.file)
    if name == "chunk_indexes":  # libhdf5 reads the skipped filters of such a chunk as applied
        wanted.pop("edges_unfiltered"), found.pop("edges_unfiltered")
    assert wanted == found


def test_the_user_block_comes_back(restored: Callable[..., Restored]) -> None:
    done = restored("user_block")
    assert done.file.read_bytes()[:1024] == done.source.read_bytes()[:1024]


def test_hard_links_and_committed_datatypes_are_shared_again(restored: Callable[..., Restored]) -> None:
    with h5py.File(restored("hard_links").file) as file:
        assert file["a/data"] == file["b/again"] == file["z"]
        assert file["a"] == file["b/a_again"]
    with h5py.File(restored("cyclic_hard_links").file) as file:
        assert file["a/b/root"] == file["/"]
        assert file["a/b/self/self"] == file["a/b"]
    with h5py.File(restored("committed_datatypes").file) as file:
        types = [file[name].id.get_type() for name in ("a", "b")]
        assert all(tid.committed() and tid == file["types/point"].id for tid in types)


def test_references_point_to_the_same_objects(restored: Callable[..., Restored]) -> None:
    with h5py.File(restored("object_references").file) as file:
        refs = file["refs"][...]
        assert [file[ref].name for ref in refs.ravel()[:4]] == ["/a/data", "/a", "/", "/refs"]
        assert not any(refs.ravel()[4:])
    with h5py.File(restored("region_references").file) as file:
        first, second, third, null = file["refs"][...]
        assert file[first][first].tolist() == file["data"][1:3, 0:4].ravel().tolist() or file[first][first].shape == (2, 4)
        assert sorted(np.ravel(file[second][second]).tolist()) == [3, 13]
        assert np.size(file[third][third]) == 20
        assert not null


def test_creation_order_comes_back(restored: Callable[..., Restored]) -> None:
    with h5py.File(restored("creation_order").file) as file:
        assert list(file) == ["z", "a", "m"] == list(file.attrs)
        assert list(file["z"]) == ["2", "1", "3"]
        assert list(file["z/2"].attrs) == ["second", "first"]


def test_null_strings_stay_null_and_empty_ones_empty(tmp_path: Path) -> None:
    source, back = tmp_path / "a.h5", tmp_path / "back.h5"
    dtype = np.dtype([("s", h5py.string_dtype()), ("t", h5py.string_dtype("ascii"), (2,)), ("n", "<i2")])
    with h5py.File(source, "w") as file:
        made = file.create_dataset("words", (6,), h5py.string_dtype())
        made[1], made[3] = "", "x"
        rows = file.create_dataset("rows", (3,), dtype)
        rows[1] = ("", (b"", b"y"), 5)
        file.create_dataset("cut", (6,), h5py.string_dtype(), chunks=(2,))[3] = ""
    h5z.convert(source, tmp_path / "a.zarr")
    assert h5z.restore(tmp_path / "a.zarr", back, verify="full").ok
    assert dump_difference(source, back) == ""


def test_strings_padded_with_zeros_in_the_place_of_spaces(tmp_path: Path) -> None:
    source, back = tmp_path / "a.h5", tmp_path / "back.h5"
    tid = h5py.h5t.FORTRAN_S1.copy()
    tid.set_size(4)
    with h5py.File(source, "w") as file:
        space = h5py.h5s.create_simple((3,))
        rows = np.array([b"ab  ", b"cd\0\0", b"\0\0\0\0"], "V4")
        h5py.h5d.create(file.id, b"data", tid, space).write(h5py.h5s.ALL, h5py.h5s.ALL, rows, tid)
        h5py.h5a.create(file.id, b"attribute", tid, space).write(rows, tid)
    h5z.convert(source, tmp_path / "a.zarr", verify="full")
    assert h5z.restore(tmp_path / "a.zarr", back, verify="full").ok
    assert dump_difference(source, back) == ""
    with h5py.File(back) as file:
        raw = np.empty(3, "V4")
        file["data"].id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, tid)
        assert raw.tolist() == rows.tolist()


@pytest.mark.parametrize("layouts", ["auto", "rebuild", "materialise"])
@pytest.mark.parametrize("name", ["virtual_dataset_of_other_files", "virtual_dataset_of_the_same_file", "external_storage"])
def test_layouts_are_rebuilt_or_materialised(converted: Convert, tmp_path: Path, name: str, layouts: str) -> None:
    done = converted(name)
    folder = tmp_path / "source"
    shutil.copytree(done.source.parent, folder)
    back = folder / "back.h5"
    report = h5z.restore(done.target, back, layouts=layouts, verify="full")
    path = "/data" if name == "external_storage" else "/view"
    assert report.ok
    assert bool(report.notes) == (layouts == "materialise")
    with h5py.File(done.source) as source, h5py.File(back) as file:
        assert file[path].is_virtual == (layouts != "materialise" and path == "/view")
        assert (file[path].external is not None) == (layouts != "materialise" and path == "/data")
        if path == "/view":
            np.testing.assert_array_equal(file[path][...], source[path][...])


@pytest.mark.parametrize("name", ["virtual_dataset_of_other_files", "external_storage"])
def test_a_layout_whose_files_are_not_there_is_materialised(converted: Convert, tmp_path: Path, name: str) -> None:
    done = converted(name)
    report = h5z.restore(done.target, tmp_path / "back.h5", verify="full")
    assert report.ok
    assert len(report.notes) == 1
    path = "/data" if name == "external_storage" else "/view"
    assert path in report.notes[0]
    with h5py.File(tmp_path / "back.h5") as file:
        assert not file[path].is_virtual
        assert file[path].external is None
        if path == "/data":
            assert file[path][...].tolist() == np.arange(24).reshape(6, 4).tolist()
    assert [item.name for item in tmp_path.iterdir()] == ["back.h5"]


def test_external_files_are_written_where_they_are_missing(converted: Convert, tmp_path: Path) -> None:
    done = converted("external_storage")
    assert h5z.restore(done.target, tmp_path / "back.h5", layouts="rebuild").ok
    for name in ("external_storage-1.raw", "external_storage-2.raw"):
        wanted, found = (done.source.parent / name).read_bytes(), (tmp_path / name).read_bytes()
        assert found[8:] == wanted[8:] if name.endswith("2.raw") else found == wanted


def test_external_files_that_hold_something_else_are_left_alone(converted: Convert, tmp_path: Path) -> None:
    for name in ("external_storage-1.raw", "external_storage-2.raw"):
        (tmp_path / name).write_bytes(b"somebody else's")
    report = h5z.restore(converted("external_storage").target, tmp_path / "back.h5", verify="full")
    assert "do not show its values" in report.notes[0]
    assert (tmp_path / "external_storage-1.raw").read_bytes() == b"somebody else's"
    again = h5z.restore(converted("external_storage").target, tmp_path / "again.h5", layouts="rebuild", verify="full")
    assert "hold other values" in again.notes[0]
    with h5py.File(tmp_path / "again.h5") as file:
        assert file["data"][...].tolist() == np.arange(24).reshape(6, 4).tolist()


@pytest.mark.parametrize(
    "policy",
    [
        {"chunks": (3, 5)},
        {"chunks": (4, 6), "shards": (8, 12)},
        {"codec": "gzip:3"},
        {"codec": None},
        {"zarr_format": 2, "codec": "zstd:2"},
    ],
    ids=repr,
)
def test_other_chunks_and_codecs_in_the_store_change_nothing(converted: Convert, tmp_path: Path, policy: dict[str, Any]) -> None:
    done = converted("builtin_filters", **policy)
    back = tmp_path / done.source.name
    assert h5z.restore(done.target, back, verify="full").ok
    assert diff_difference(done.source, back, tmp_path / "copy.h5") == ""
    assert dump_difference(done.source, back, sizes=False) == ""


def test_restoring_twice_gives_the_same_bytes(converted: Convert, tmp_path: Path) -> None:
    for name in ("attributes_of_odd_types", "sequences", "builtin_filters"):
        for copy in ("1", "2"):
            h5z.restore(converted(name).target, tmp_path / f"{name}{copy}.h5", workers=int(copy))
        assert (tmp_path / f"{name}1.h5").read_bytes() == (tmp_path / f"{name}2.h5").read_bytes(), name


def test_a_restored_file_converts_to_the_same_store(restored: Callable[..., Restored], tmp_path: Path) -> None:
    """There and back and there again: the same groups, arrays and records."""
    for name in ("netcdf_with_coordinates", "compounds_with_strings_arrays_and_references", "fill_values"):
        done = restored(name)
        first = h5z.plan(done.source, "x.zarr", codec="keep").to_dict()
        again = h5z.plan(done.file, "x.zarr", codec="keep").to_dict()
        for key in ("groups", "arrays"):
            assert _without_places(first[key]) == _without_places(again[key]), name


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("source_nbytes", "storage_nbytes", "offset")
        return {key: _without_places(item) for key, item in value.items() if key not in left_out}
    return [_without_places(item) for item in value] if isinstance(value, list) else value


def test_part_of_a_file_comes_back_as_part(tmp_path: Path) -> None:
    """Links and references to what was left out are named."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["keep/data"], file["away/data"] = np.arange(3), np.arange(4)
        file["keep/deep/link"] = file["away/data"]
        file["keep/data"].attrs["ref"] = file["away/data"].ref
    h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", exclude=["/away*"])
    report = h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full")
    assert report.differences == ()
    with h5py.File(tmp_path / "back.h5") as file:
        assert file["keep/data"][...].tolist() == [0, 1, 2]
        assert "link" not in file["keep/deep"]
    assert {problem.path for problem in report.not_carried} == {"/keep/deep/link", "/keep/data@ref"}
    assert report.exit_code == 1


def test_followed_links_come_back_as_links(oddity: Callable[[str], Path], tmp_path: Path) -> None:
    source = oddity("soft_links")
    h5z.convert(source, tmp_path / "a.zarr", links="follow", unsupported="report")
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full").differences == ()
    with h5py.File(tmp_path / "back.h5") as file:
        assert isinstance(file.get("group", getlink=True), h5py.SoftLink)
        assert file["through"][...].tolist() == [0, 1, 2, 3]


def test_names_that_are_not_utf8_keep_their_bytes(restored: Callable[..., Restored]) -> None:
    with h5py.File(restored("names_that_are_not_utf8").file) as file:
        names: list[bytes] = []
        file.id.links.iterate(names.append)
        assert {b"gr\xfcn", b"\xff"} < set(names)


def test_a_literal_escape_is_no_escape(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["\\xff"], file.attrs["\\xfe"] = np.arange(2), 1
    h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full").ok
    with h5py.File(tmp_path / "back.h5") as file:
        assert list(file) == ["\\xff"]
        assert list(file.attrs) == ["\\xfe"]


def test_literal_escapes_beside_what_they_look_like(tmp_path: Path) -> None:
    """Of objects, attributes, links, members, references; values that look so are left as they are."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, name in enumerate((b"d\xf7", b"d\\xf7", b"d\\x5cxf7")):
            file.create_dataset(name, data=i)
            file.id.links.create_soft(b"to_" + name, b"/" + name)
            h5a.create(file.id, name, h5t.NATIVE_INT32, h5s.create(h5s.SCALAR)).write(np.array(i, "i4"))
        pairs = h5t.create(h5t.COMPOUND, 8)
        pairs.insert(b"m\xf7", 0, h5t.NATIVE_INT32)
        pairs.insert(b"m\\xf7", 4, h5t.NATIVE_INT32)
        h5d.create(file.id, b"pairs", pairs, h5s.create_simple((2,))).write(
            h5s.ALL, h5s.ALL, np.arange(4, dtype="i4").view([("f0", "i4"), ("f1", "i4")]), pairs
        )
        file["to"] = np.array([file[b"d\xf7"].ref, file["d\\xf7"].ref], h5py.ref_dtype)
        file.attrs["to"], file.attrs["history"] = file["d\\xf7"].ref, "read b'\\xff'"
    report = h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify="full")
    assert report.ok
    assert zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["history"] == "read b'\\xff'"
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full").ok
    before, after = (h5z.scan(tmp_path / name) for name in ("a.h5", "back.h5"))
    assert [node.to_dict()["attributes"] for node in after.groups] == [node.to_dict()["attributes"] for node in before.groups]
    assert [node.links for node in after.groups] == [node.links for node in before.groups]
    with h5py.File(tmp_path / "back.h5") as file:
        assert [int(file[name][()]) for name in (b"d\xf7", b"d\\xf7", b"d\\x5cxf7")] == [0, 1, 2]
        assert [int(file[item][()]) for item in file["to"][...]] == [0, 1]
        assert int(file[file.attrs["to"]][()]) == 1
        assert file["pairs"].id.get_type().get_member_name(0) == b"m\xf7"


def test_base64_is_only_a_form(tmp_path: Path) -> None:
    """A text attribute that looks like h5z's own forms is text."""
    texts = ["NaN", '{"base64": "AA=="}', base64.b64encode(b"x").decode(), "null", "0x7fc00001"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, text in enumerate(texts):
            file.attrs[f"a{i}"] = text
        file.attrs["all"] = texts
    h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full")
    with h5py.File(tmp_path / "back.h5") as file:
        assert [file.attrs[f"a{i}"] for i in range(len(texts))] == texts == file.attrs["all"].tolist()


def test_what_is_decoded_for_a_part_of_it_counts_as_memory(tmp_path: Path) -> None:
    """A stored object larger than the file's chunks is decoded whole: a budget without room for it is refused."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(1 << 16, dtype="<i4"), chunks=(64,), compression="gzip")
    h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(1 << 16,), codec="zstd:1")
    with pytest.raises(PlanError, match=r"memory: /x needs at least 5\d{5} bytes"):
        h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", memory="128KiB")
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", memory="640KiB", workers=1, verify="full").ok


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_dimensions_whose_names_are_not_utf8(tmp_path: Path, zarr_format: int) -> None:
    """Beside one that is literally written so; and one that is no variable."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=np.ones((3, 4, 5)))
        for axis, name in enumerate((b"d\xf7", b"d\\xf7", b"bare\xf7")):
            scale = file.create_dataset(name, shape=(3 + axis,), dtype=">f4")
            scale.make_scale("This is a netCDF dimension but not a netCDF variable         5" if axis == 2 else "")
            data.dims[axis].attach_scale(scale)
    assert h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=zarr_format, verify="full").ok
    assert xr.open_zarr(tmp_path / "a.zarr")["data"].dims == ("d\\xf7", "d\\x5cxf7", "bare\\xf7")
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5", verify="full").ok
    with h5py.File(tmp_path / "back.h5") as file:
        assert file["data"].dims[2][0].name == b"/bare\xf7"
