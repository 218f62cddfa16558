"""Zarr stores that h5z did not make become HDF5 files: by plain rules, and netCDF-4 where dimensions have names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
import zarr

import h5z
from h5z.errors import PlanError, SourceError

from .restored import TOOLS, run_tool

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::FutureWarning")
ENGINES = ("netcdf4", "h5netcdf")
ARRAYS: dict[str, Any] = {
    "i1": np.arange(-3, 3, dtype="i1"),
    "big": np.arange(6, dtype=">i4").reshape(2, 3),
    "f2": np.linspace(0, 1, 6, dtype="f2"),
    "truth": np.array([True, False, True]),
    "c16": np.arange(3) * (1 + 2j),
    "text": np.array(["a", "ü", ""], dtype=object),
    "bytes": np.array([b"ab", b"c"], "S3"),
    "raw": np.frombuffer(b"abcdef", "V3"),
    "rows": np.array([(1, 2.5), (3, np.inf)], [("n", "<i2"), ("x", "<f8")]),
    "when": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "scalar": np.float32(4.5),
    "none": np.zeros((0, 3), "u2"),
}


def _write(group: zarr.Group, name: str, values: Any, **options: Any) -> zarr.Array[Any]:
    text = isinstance(values, np.ndarray) and values.dtype.hasobject
    made = group.create_array(name, shape=np.shape(values), dtype=str if text else np.asarray(values).dtype, **options)
    made[...] = values
    return made


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_arrays_of_every_datatype(tmp_path: Path, zarr_format: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on data types that Zarr v3 does not specify
        root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
        for name, values in ARRAYS.items():
            _write(root, f"in/{name}", values)
    report = h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", verify="full")
    assert report.ok, report
    with h5py.File(tmp_path / "a.h5") as file:
        for name, values in ARRAYS.items():
            found = file[f"in/{name}"]
            if name == "text":
                assert found.asstr()[...].tolist() == values.tolist()
            else:
                assert found.dtype.newbyteorder("=") == np.asarray(values).dtype.newbyteorder("=")
                assert found[...].tolist() == np.asarray(values).tolist()


def test_shards_and_what_is_not_stored(tmp_path: Path) -> None:
    """A chunk of HDF5 is a chunk of Zarr, not a shard; what is not stored stays unallocated."""
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    made = root.create_array("x", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="i4", fill_value=7)
    made[:4, :4] = 1
    root.create_array("y", shape=(4, 6), chunks=(2, 3), dtype="i2", compressors=None)[:2] = 2
    report = h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", verify="full")
    assert report.ok, report
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["x"].chunks, file["x"].fillvalue, file["x"].id.get_num_chunks()) == ((2, 2), 7, 4)
        assert (file["x"].compression, file["x"].shuffle, file["y"].compression) == ("gzip", True, None)
        assert file["y"].id.get_num_chunks() == 2
        np.testing.assert_array_equal(file["x"][...], made[...])


def test_attributes_of_plain_json(tmp_path: Path) -> None:
    plain = {"unit": "m", "n": 3, "x": 0.5, "yes": True, "list": [1, 2], "table": [[1, 2.5], [3, 4]], "words": ["a", "ü"]}
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.attrs.update({**plain, "none": None, "deep": {"a": [1, None]}, "large": 1 << 70})
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", verify="full").ok
    with h5py.File(tmp_path / "a.h5") as file:
        for name, value in plain.items():
            found = file.attrs[name]
            assert (found.tolist() if isinstance(found, np.ndarray | np.generic) else found) == value, name
        assert isinstance(file.attrs["none"], h5py.Empty)
        assert (file.attrs["deep"], file.attrs["large"]) == ('{"a": [1, null]}', str(1 << 70))


def test_a_root_that_is_an_array(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(3,), dtype="i4")[:] = 2
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", verify="full").ok
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"][...].tolist() == [2, 2, 2]


def _dataset() -> xarray.Dataset:
    time = np.array(["2020-01-01", "2020-01-02", "2020-01-04"], "M8[ns]")
    values = np.arange(12.0).reshape(3, 4)
    values[1, 2] = np.nan
    return xarray.Dataset(
        {
            "v": (("time", "x"), values, {"units": "K"}),
            "words": (("x",), np.array(["a", "b", "ü", ""], dtype=object)),
            "count": (("time",), np.array([1, 2, 3], "i2")),
            "yes": (("x",), np.array([True, False, True, True])),
            "one": ((), 5),
        },
        coords={"time": time, "lat": (("time", "x"), values * 2)},
        attrs={"title": "xarray's", "n": 3},
    )


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_what_xarray_wrote_opens_as_netcdf(tmp_path: Path, zarr_format: Any, engine: str) -> None:
    """Dimensions with a variable of their name (time) and without one (x)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _dataset().to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "a.nc", verify="full").ok
    with xarray.open_zarr(tmp_path / "a.zarr") as wanted, xarray.open_dataset(tmp_path / "a.nc", engine=engine) as found:
        xarray.testing.assert_equal(wanted.load(), found.load())
        assert found.attrs == {"title": "xarray's", "n": 3}
        assert found["v"].attrs == {"units": "K"}


def test_some_arrays_have_names_of_dimensions_and_some_have_none(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    _write(root, "named", np.arange(6).reshape(2, 3), dimension_names=("y", "x"))
    _write(root, "bare", np.arange(4))
    _write(root, "deep/half", np.arange(4).reshape(2, 2), dimension_names=("y", None))
    report = h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", verify="full")
    assert report.ok, report
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["bare"][...].tolist() == [0, 1, 2, 3]
        assert [len(axis) for axis in file["named"].dims] == [1, 1]
        assert not any(len(axis) for axis in file["deep/half"].dims)


@pytest.mark.skipif(not TOOLS, reason="needs h5dump (Debian: hdf5-tools)")
def test_dimensions_without_variables_are_as_netcdf_c_writes_them(tmp_path: Path) -> None:
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "wanted.nc", "w") as file:
        file.createDimension("x", 4)
        file.createVariable("v", "f8", ("x",))[:] = 1.0
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("v", shape=(4,), dtype="f8", dimension_names=("x",))[:] = 1.0
    h5z.restore(tmp_path / "a.zarr", tmp_path / "found.nc", verify="full")
    dumps = [run_tool("h5dump", "-d", "/x", "-A", name, cwd=tmp_path)[1] for name in ("wanted.nc", "found.nc")]
    wanted, found = (next(line for line in text.splitlines() if "not a netCDF variable" in line) for text in dumps)
    assert wanted == found


def test_a_damaged_object_is_the_stores_fault(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("x", shape=(4,), dtype="f8")[:] = 1.0
    (tmp_path / "a.zarr/x/c/0").write_bytes(b"torn")
    with pytest.raises(SourceError, match=r"a\.zarr/x/c/0: cannot be decoded"):
        h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("workers", [0, -1])
def test_some_worker_is_needed(tmp_path: Path, workers: int) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(PlanError, match="workers: expected a positive number"):
        h5z.restore(tmp_path / "a.zarr", tmp_path / "a.h5", workers=workers)
