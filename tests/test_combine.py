"""Files that are slices along a dimension, joined into one store; xarray's open_mfdataset is the judge."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from zarr.storage import MemoryStore

import h5z
from h5z.errors import PlanError, SourceError, TargetExistsError
from h5z.target import Target

from .running import DATA, Run
from .s3server import Server

Write: TypeAlias = Callable[..., Path]
EPOCH = "days since 2000-01-01"


def dataset(start: int, length: int, units: str = EPOCH, origin: int = 0) -> xr.Dataset:
    """Some days of a field, with what lies along time and what does not."""
    days = np.arange(start, start + length)
    field = (days[:, None, None] * 100 + np.arange(12).reshape(3, 4)).astype("f4")
    field[0, 0, 0] = np.nan
    return xr.Dataset(
        {
            "temp": (("time", "y", "x"), field, {"units": "K"}),
            "turned": (("y", "time"), field[:, :, 1].T.astype("i2")),
            "station": (("time",), np.array([f"s{day}" for day in days], dtype=object)),
            "area": (("y", "x"), np.arange(12.0).reshape(3, 4)),
            "crs": ((), np.int32(4326)),
        },
        {"time": ("time", days - origin, {"units": units, "calendar": "standard"}), "y": np.arange(3.0), "x": np.arange(4.0)},
        {"history": f"from {start}"},
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of some days; with a change, where one is given."""

    def make(start: int, length: int = 5, change: Callable[[xr.Dataset], Any] | None = None, **how: Any) -> Path:
        path = tmp_path / f"{start:04d}.nc"
        made = dataset(start, length, **how)
        made = made if change is None else (change(made) or made)
        fits = "temp" in made and made["temp"].shape[1:] == (3, 4)
        chunks = {"temp": {"zlib": True, "chunksizes": (1, 3, 4)}} if fits else {}
        made.to_netcdf(path, engine="netcdf4", unlimited_dims=["time"] if "time" in made.dims else [], encoding=chunks)
        return path

    return make


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    """What xarray joins by default from its next version on: only what lies along the dimension."""
    with xr.set_options(use_new_combine_kwarg_defaults=True):
        yield


def judge(files: list[Path], target: Any) -> None:
    """Compare with what xarray makes of the files; and the store with its own digests."""
    with xr.open_mfdataset(files) as expected, xr.open_zarr(target) as found:
        xr.testing.assert_equal(expected, found)
        assert found.sizes["time"] == expected.sizes["time"]
    report = h5z.verify(target)
    assert report.ok, str(report)
    assert report.notes == ()


def units(target: Path) -> dict[Path, int]:
    """Every unit's file, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file() and "json" not in path.name}


@pytest.mark.parametrize("policy", [{}, {"codec": "keep", "chunks": "source"}, {"zarr_format": 2}])
def test_files_become_one_store_and_later_ones_are_added(write: Write, tmp_path: Path, policy: dict[str, Any]) -> None:
    files = [write(0), write(5), write(10, 4)]
    target = tmp_path / "t.zarr"
    report = h5z.combine([files[2], files[0], files[1]], target, dim="time", verify="full", **policy)
    assert (report.status, report.level) == ("converted", "full")
    assert "/: attribute history: the first file's is kept; 2 other files have another" in report.notes
    judge(files, target)
    assert h5z.combine(files, target, dim="time", **policy).status == "unchanged"
    files += [write(14), write(19, 3)]
    for name in files[:2]:
        name.rename(name.with_suffix(".gone"))
    assert h5z.combine(files[2:], target, dim="time", verify="full", **policy).status == "converted"
    for name in files[:2]:
        name.with_suffix(".gone").rename(name)
    judge(files, target)
    assert h5z.combine(files, target, dim="time", verify="full", **policy).status in ("unchanged", "verified")


def test_whole_units_are_not_written_again(write: Write, tmp_path: Path) -> None:
    files, target = [write(0), write(5)], tmp_path / "t.zarr"
    policy = {"chunks": {"/temp": [5, 3, 4], "/time": [4], "/station": [10], "/turned": [3, 5]}}
    h5z.combine(files, target, dim="time", **policy)
    before = units(target)
    files.append(write(10))
    h5z.combine(files, target, dim="time", verify="full", **policy)
    judge(files, target)
    after = units(target)
    assert {str(path.relative_to(target)) for path in before if after[path] != before[path]} == {"time/c/2"}
    assert {str(path.relative_to(target)) for path in after.keys() - before.keys()} == {
        "temp/c/2/0/0", "time/c/3", "station/c/1", "turned/c/0/2",
    }  # fmt: skip


def test_units_begin_where_files_do(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of arrays that are larger than a chunk, so that no unit of the next file is one of this one's."""
    monkeypatch.setattr(importlib.import_module("h5z.chunking"), "STORED_NBYTES", 500)
    files, target = [write(0, 60), write(60, 60)], tmp_path / "t.zarr"
    h5z.combine(files, target, dim="time")
    before = units(target)
    files.append(write(120, 60))
    h5z.combine(files, target, dim="time")
    assert {path: when for path, when in units(target).items() if path in before} == before
    judge(files, target)


def retype(data: xr.Dataset) -> xr.Dataset:
    return data.assign(temp=data["temp"].astype("f8"))


def recount(data: xr.Dataset) -> None:
    data["temp"].attrs["units"] = "degC"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (retype, r"0005\.nc: /temp: dtype: expected \"<f4\", as 3 of 4 files have, found \"<f8\""),
        (recount, r"0005\.nc: /temp: units: expected \"K\", as 3 of 4 files have, found \"degC\""),
        (lambda data: data.drop_vars("crs"), r"0005\.nc: expected array /crs, as 3 of 4 files have, found none"),
        (lambda data: data.assign(more=("time", np.arange(5))), r"0005\.nc: expected no array /more"),
        (lambda data: data.isel(x=slice(0, 2)), r"0005\.nc: /\w+: shape: expected"),
        (lambda data: data.assign(area=data["area"] + 1), r"0005\.nc: /area: expected the values that .*0000\.nc has"),
        (lambda data: data.isel(time=0, drop=True), r"0005\.nc: expected arrays along the dimension 'time', found"),
    ],
)
def test_the_odd_one_is_named_before_anything_is_written(write: Write, tmp_path: Path, change: Any, what: str) -> None:
    files = [write(0), write(5, change=change), write(10), write(15)]
    with pytest.raises(PlanError, match=what):
        h5z.combine(files, tmp_path / "t.zarr", dim="time")
    assert not (tmp_path / "t.zarr").exists()


def test_a_file_that_is_unlike_the_target_is_named(write: Write, tmp_path: Path) -> None:
    target = tmp_path / "t.zarr"
    h5z.combine([write(0)], target, dim="time")
    with pytest.raises(PlanError, match=r"0005\.nc: /temp: units: expected \"K\", as the target has, found \"degC\""):
        h5z.combine([write(5, change=recount)], target, dim="time")
    with pytest.raises(PlanError, match=r"0010\.nc: /area: expected the values that .*t\.zarr has"):
        h5z.combine([write(10, change=lambda data: data.assign(area=data["area"] + 1))], target, dim="time")
    judge([tmp_path / "0000.nc"], target)


def test_times_that_count_from_other_dates(write: Write, tmp_path: Path) -> None:
    """Refused, naming file and attribute; or counted as the first file's, as xarray decodes them."""
    files = [
        write(0),
        write(366, units="days since 2001-01-01", origin=366),
        write(400, units="days since 1999-12-31", origin=-1),
    ]
    target = tmp_path / "t.zarr"
    with pytest.raises(PlanError, match=r"/time: units: expected .*, found .*times='first'"):
        h5z.combine(files, target, dim="time")
    assert h5z.combine(files, target, dim="time", times="first", verify="full").ok
    judge(files, target)
    files.append(write(500, units="days since 2001-01-01", origin=366))
    h5z.combine(files, target, dim="time", times="first", verify="full")
    judge(files, target)
    odd = write(600, units="hours since 2001-01-01 12:00:00", origin=366)
    with pytest.raises(PlanError, match=r"0600\.nc: /time: expected times that 'days since 2000-01-01.*' has whole numbers for"):
        h5z.combine([odd], target, dim="time", times="first")


def test_what_cannot_be_added_is_refused_and_joined_anew_when_asked(write: Write, tmp_path: Path) -> None:
    files, target = [write(10), write(15)], tmp_path / "t.zarr"
    h5z.combine(files, target, dim="time")
    files.insert(0, write(0))
    with pytest.raises(TargetExistsError, match=r"0000\.nc: expected /time to go on behind 19, .*found 0 \(overwrite"):
        h5z.combine(files, target, dim="time")
    judge(files[1:], target)
    h5z.combine(files, target, dim="time", overwrite=True)
    judge(files, target)
    files[1] = write(10, change=recount_area)
    with pytest.raises(TargetExistsError, match=r"0010\.nc: expected the file that it was joined of, found that it has changed"):
        h5z.combine(files, target, dim="time")
    h5z.combine(files, target, dim="time", overwrite=True)
    judge(files, target)
    with pytest.raises(
        PlanError, match=r"0012\.nc: expected /time to begin behind that of .*0010\.nc, which ends at 14, found 12"
    ):
        h5z.combine([*files, write(12)], tmp_path / "other.zarr", dim="time")
    with pytest.raises(TargetExistsError, match="joined along 'y'"):
        h5z.combine(files, target, dim="y")
    with pytest.raises(TargetExistsError, match="found another"):
        h5z.combine(files, target, dim="time", codec="zstd:3")


def test_files_of_one_name_in_several_folders(write: Write, tmp_path: Path) -> None:
    """A folder a year, the same names in each; and an archive that has moved."""

    def moved(file: Path, folder: str) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        os.utime(file, ns=(10**18, 10**18))  # as an archive's extraction may leave them all
        return file.rename(tmp_path / folder / "data.nc")

    target = tmp_path / "t.zarr"
    first = moved(write(0), "2019")
    h5z.combine([first], target, dim="time")
    second = moved(write(5), "2020")
    assert h5z.combine([second], target, dim="time").status == "converted"
    judge([first, second], target)
    assert h5z.combine([first, second], target, dim="time").status == "unchanged"
    third = write(10)
    assert h5z.combine([third], target, dim="time").status == "converted"
    (tmp_path / "elsewhere").mkdir()
    third = third.rename(tmp_path / "elsewhere" / third.name)
    assert h5z.combine([first, second, third], target, dim="time").status == "unchanged"


def recount_area(data: xr.Dataset) -> xr.Dataset:
    return data.assign(temp=data["temp"] + 1)


def test_a_store_that_is_no_folder(write: Write) -> None:
    files, store = [write(0), write(5)], MemoryStore()
    h5z.combine(files, store, dim="time", verify="full")
    files.append(write(10, 2))
    h5z.combine(files, store, dim="time", verify="full", consolidate=True)
    judge(files, store)


class KilledError(Exception):
    """The run ends here."""


def bomb(patch: pytest.MonkeyPatch, left: int) -> list[int]:
    """Let a run write so many times, and nothing after; the list counts what it wrote."""
    count = [0]

    def after(function: Any) -> Any:
        def call(self: Target, *arguments: Any) -> Any:
            if count[0] >= left:
                raise KilledError
            count[0] += 1
            return function(self, *arguments)

        return call

    patch.setattr(Target, "put", after(Target.put))
    patch.setattr(Target, "delete", after(Target.delete))
    return count


def tree(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize("grows", [False, True])
def test_killed_at_any_write_it_is_ended_by_the_next_run(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grows: bool
) -> None:
    """Byte for byte as undisturbed; and whoever opens the store meanwhile sees it as it was, or as it shall be."""
    files = [write(start, 3, lambda data: data[["time", "turned"]]) for start in (0, 3, 6, 9)]
    policy: dict[str, Any] = {"dim": "time", "chunks": {"/turned": [2, 4], "/time": [4]}, "scheduler": "sync"}
    if grows:
        h5z.combine(files[:2], tmp_path / "begun", **policy)
        shutil.copytree(tmp_path / "begun", tmp_path / "whole")
    h5z.combine(files, tmp_path / "whole", **policy)
    expected, values = tree(tmp_path / "whole"), xr.open_zarr(tmp_path / "whole").load()
    left, ended = 0, False
    while not ended:
        target = tmp_path / f"{left}.zarr"
        if grows:
            shutil.copytree(tmp_path / "begun", target)
        with monkeypatch.context() as patch:
            bomb(patch, left)
            try:
                h5z.combine(files, target, **policy)
                ended = True
            except KilledError:
                pass
        if grows:
            seen = xr.open_zarr(target).load()
            assert seen.sizes["time"] in (6, 12)
            xr.testing.assert_equal(seen, values.isel(time=slice(0, seen.sizes["time"])))
        assert h5z.combine(files, target, **policy).ok
        assert tree(target) == expected, left
        left += 2
    assert left > 15


def test_files_that_came_after_a_kill_are_added(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, target = [write(0), write(5)], tmp_path / "t.zarr"
    for first in (True, False):
        with monkeypatch.context() as patch:
            bomb(patch, 8)
            with pytest.raises(KilledError):
                h5z.combine(files, target, dim="time")
        files.append(write(10 if first else 20))
        h5z.combine(files, target, dim="time")
        judge(files, target)
        files.append(write(15 if first else 25))
    with monkeypatch.context() as patch:  # and one that changes
        bomb(patch, 8)
        with pytest.raises(KilledError):
            h5z.combine(files, target, dim="time")
    files[-1] = write(25, 2)
    h5z.combine(files, target, dim="time")
    judge(files, target)


def test_a_damaged_file_leaves_the_store_as_it_was(write: Write, tmp_path: Path) -> None:
    files, target = [write(0), write(5)], tmp_path / "t.zarr"
    policy: dict[str, Any] = {"dim": "time", "chunks": {"/temp": [4, 3, 4]}}
    h5z.combine(files, target, **policy)
    good = write(10, 8)
    data = good.read_bytes()
    with h5py.File(good) as file:
        chunk = file["temp"].id.get_chunk_info(3)
    good.write_bytes(data[: chunk.byte_offset] + bytes(chunk.size) + data[chunk.byte_offset + chunk.size :])
    with pytest.raises(SourceError, match=r"0010\.nc"):
        h5z.combine([*files, good], target, **policy)
    judge(files, target)
    good.write_bytes(data)
    h5z.combine([*files, good], target, **policy)
    judge([*files, good], target)


def test_the_command(write: Write, tmp_path: Path, cli: Run) -> None:
    files, target = [write(0), write(5)], tmp_path / "t.zarr"
    done = cli("combine", *files, "--to", target, "--dim", "time", "--verify", "full")
    assert done.returncode == 0, done.stderr
    judge(files, target)


def test_what_was_joined_goes_back_into_one_file(write: Write, tmp_path: Path) -> None:
    files, target = [write(0), write(5)], tmp_path / "t.zarr"
    h5z.combine(files[:1], target, dim="time")
    h5z.combine(files, target, dim="time")
    assert h5z.restore(target, tmp_path / "back.nc", verify="full").ok
    with xr.open_mfdataset(files) as expected, xr.open_dataset(tmp_path / "back.nc") as found:
        xr.testing.assert_equal(expected, found)


NESTED: dict[str, Any] = {"combine": "nested", "coords": "different", "compat": "equals"}


def steps(folder: Path, numbers: range, *, clock: bool = True, height: Callable[[int], float] = lambda _: 2.0) -> list[Path]:
    """Files of one day each, which lack the dimension; the day is a scalar coordinate, or nowhere."""
    folder.mkdir(exist_ok=True)
    out = []
    for day in numbers:
        made = dataset(day, 1).isel(time=0, drop=not clock).assign_coords(height=height(day))
        made["temp"][1, 1] = day
        made.to_netcdf(folder / f"{day:03d}.nc", engine="netcdf4", encoding={"temp": {"zlib": True, "chunksizes": (3, 2)}})
        out.append(folder / f"{day:03d}.nc")
    return out


def judge_steps(files: list[Path], target: Any) -> None:
    with xr.open_mfdataset(files, concat_dim="time", **NESTED) as expected, xr.open_zarr(target) as found:
        xr.testing.assert_equal(expected, found)
        assert found["temp"].dims == ("time", "y", "x")
    report = h5z.verify(target)
    assert report.ok, str(report)


@pytest.mark.parametrize("policy", [{}, {"codec": "keep", "chunks": "source"}, {"zarr_format": 2}])
@pytest.mark.parametrize("clock", [True, False])
def test_files_that_lack_the_dimension_are_each_a_step_along_it(tmp_path: Path, policy: dict[str, Any], clock: bool) -> None:
    files, target = steps(tmp_path / "in", range(3), clock=clock), tmp_path / "t.zarr"
    given = files[::-1] if clock else files  # in the order of the coordinate where there is one
    report = h5z.combine(given, target, dim="time", new_dim=True, verify="full", **policy)
    assert report.ok
    assert ("copy" in report.routes) == ("codec" in policy)
    judge_steps(files, target)
    files += steps(tmp_path / "in", range(3, 5), clock=clock)
    h5z.combine(files, target, dim="time", new_dim=True, verify="full", **policy)
    judge_steps(files, target)
    assert h5z.combine(files, target, dim="time", new_dim=True, **policy).status == "unchanged"
    assert h5z.restore(target, tmp_path / "back.nc", verify="full").ok
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_zarr(target) as expected, xr.open_dataset(tmp_path / "back.nc", engine=engine) as found:
            xr.testing.assert_equal(expected, found)


def test_a_dimension_is_new_only_where_that_is_said(write: Write, tmp_path: Path) -> None:
    files = steps(tmp_path / "in", range(2))
    with pytest.raises(PlanError, match=r"000\.nc: expected arrays along the dimension 'time', found .*new_dim"):
        h5z.combine(files, tmp_path / "t.zarr", dim="time")
    with pytest.raises(PlanError, match=r"0000\.nc: expected files without the dimension 'time', .*found /time along it"):
        h5z.combine([write(0)], tmp_path / "t.zarr", dim="time", new_dim=True)
    assert not (tmp_path / "t.zarr").exists()


def test_coordinates_that_vary_get_the_new_dimension_too(tmp_path: Path) -> None:
    """From the first run on; a later file may not have another where all had the same."""
    files, target = steps(tmp_path / "in", range(3), height=lambda day: float(day > 1)), tmp_path / "t.zarr"
    h5z.combine(files[:2], tmp_path / "same.zarr", dim="time", new_dim=True)
    with pytest.raises(
        PlanError, match=r"002\.nc: /height: .*expected \[\], as the target has|002\.nc: /height: expected the values"
    ):
        h5z.combine(files, tmp_path / "same.zarr", dim="time", new_dim=True)
    judge_steps(files[:2], tmp_path / "same.zarr")
    h5z.combine(files, target, dim="time", new_dim=True, verify="full")
    files += steps(tmp_path / "in", range(3, 4), height=lambda day: float(day))
    h5z.combine(files, target, dim="time", new_dim=True, verify="full")
    judge_steps(files, target)
    assert xr.open_zarr(target)["height"].values.tolist() == [0.0, 0.0, 1.0, 3.0]


def test_a_dimension_without_a_variable_grows_too(tmp_path: Path) -> None:
    """As netCDF-4 has it: its length is told by a dimension that holds nothing."""

    def make(day: int) -> Path:
        path = tmp_path / f"{day}.nc"
        with netCDF4.Dataset(path, "w") as file:
            for group in (file, file.createGroup("below")):
                group.createDimension("time", None)
                group.createVariable("temp", "f8", ("time",))[:] = np.arange(day, day + 2.0)
        return path

    files, target = [make(0)], tmp_path / "t.zarr"
    h5z.combine(files, target, dim="time", order="given")
    files.append(make(2))
    h5z.combine(files, target, dim="time", order="given")
    h5z.restore(target, tmp_path / "back.nc", verify="full")
    with xr.open_zarr(target) as expected, xr.open_dataset(tmp_path / "back.nc") as found:
        xr.testing.assert_equal(expected, found)
        assert found.sizes["time"] == 4
    with h5py.File(tmp_path / "back.nc") as file:
        assert file["time"].shape == file["below/time"].shape == (4,)


def test_on_s3(write: Write, s3: Server) -> None:
    """Files and store there: joined, added to, as a folder's to the byte."""
    files, place = [write(0), write(5), write(10, 3)], "s3://bucket/combined"
    for file in files:
        s3.filesystem().put(str(file), f"{place}/in/{file.name}")
    urls = [f"{place}/in/{file.name}" for file in files]
    held: dict[str, Any] = {"storage_options": s3.options, "source_options": s3.options, "dim": "time"}
    assert h5z.combine(urls[:2], f"{place}/t.zarr", verify="full", **held).ok
    assert h5z.combine(urls, f"{place}/t.zarr", verify="full", **held).status == "converted"
    assert h5z.combine(urls, f"{place}/t.zarr", **held).status == "unchanged"
    with xr.open_mfdataset(files) as expected, xr.open_zarr(f"{place}/t.zarr", storage_options=s3.options) as found:
        xr.testing.assert_equal(expected, found)
    assert h5z.verify(f"{place}/t.zarr", storage_options=s3.options).ok


REAL = {  # and the dimension along which each is cut
    "NCAS-CMS+pyfive/tests/data/noy_AERmonZ_UKESM1-0-LL_piControl_r1i1p1f2_gnz_200001-200012.nc": "time",
    "wradlib+wradlib-data/data/netcdf/example_cfradial_ppi.nc": "time",
    "actris-cloudnet+cloudnetpy/tests/unit/data/mrr/20220124_180000.nc": "time",
    "roocs+mini-esgf-data/test_data/pool/data/CORDEX/data/cordex/output/ANT-44/KNMI/ECMWF-ERAINT/evaluation/r1i1p1/"
    "DMI-HIRHAM5/v1/day/tas/v20201001/tas_ANT-44_ECMWF-ERAINT_evaluation_r1i1p1_DMI-HIRHAM5_v1_day_20060101.nc": "rlat",
}


@pytest.mark.archive
@pytest.mark.skipif(not DATA.exists(), reason=f"no real files at {DATA} (H5Z_TEST_DATA names their folder)")
@pytest.mark.parametrize("name", REAL, ids=lambda name: str(name).rpartition("/")[2])
@pytest.mark.parametrize("new_dim", [False, True], ids=["slices", "steps"])
def test_slices_of_a_real_file(name: str, new_dim: bool, tmp_path: Path) -> None:
    """Cut by xarray into files of its own; joined, the last one in a later run, they are what xarray makes of them."""
    dim, files = REAL[name], []
    with xr.open_dataset(DATA / name, engine="h5netcdf", decode_cf=False) as whole:
        length = whole.sizes[dim]
        cuts = range(min(3, length)) if new_dim else np.linspace(0, length, min(4, length + 1)).astype(int)
        for i, (start, stop) in enumerate(zip(cuts, [*cuts[1:], 0], strict=True)):
            if new_dim or stop:
                own = whole.isel({dim: start} if new_dim else {dim: slice(start, stop)})
                own.to_netcdf(tmp_path / f"{i}.nc", engine="h5netcdf")
                files.append(tmp_path / f"{i}.nc")
    target, how = tmp_path / "t.zarr", {"dim": dim, "new_dim": new_dim}
    if len(files) > 1:
        assert h5z.combine(files[:-1], target, **how).ok  # type: ignore[arg-type]
    assert h5z.combine(files, target, verify="full", **how).ok  # type: ignore[arg-type]
    with (
        xr.open_mfdataset(files, concat_dim=dim, decode_timedelta=False, **NESTED) as expected,
        xr.open_zarr(target, decode_timedelta=False) as found,
    ):
        for made in (expected, *expected.variables.values()):
            made.attrs.pop("h5z", None)
        for made in (found, *found.variables.values()):
            made.attrs.pop("h5z", None)
        xr.testing.assert_identical(expected.load(), found.load())
    assert h5z.verify(target).ok
