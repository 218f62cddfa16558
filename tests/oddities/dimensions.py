"""Dimension scales, bare and as netCDF-4 uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np

from .registry import oddity

NETCDF = (
    "netcdf_with_coordinates",
    "netcdf_with_dimensions_only",
    "netcdf_with_character_arrays",
    "netcdf_with_groups",
    "netcdf_of_every_type",
    "netcdf_by_h5netcdf",
)


def netcdf(path: Path) -> Any:
    """Create a netCDF-4 file; the library is imported late, since with it come HDF5 plugins that hide hdf5plugin's."""
    import netCDF4

    return netCDF4.Dataset(path, "w")


@oddity
def bare_dimension_scales(path: Path) -> None:
    """h5py's scales with names and labels; one axis with two of them, one with none."""
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(12.0).reshape(3, 4)
        file["plain"] = np.arange(12.0).reshape(3, 4)
        file["x"], file["y"], file["y2"] = np.arange(4), np.arange(3) * 2.5, np.arange(3)
        file["x"].make_scale("longitude")
        file["y"].make_scale("latitude")
        file["y2"].make_scale("")
        file["data"].dims[1].attach_scale(file["x"])
        file["data"].dims[0].attach_scale(file["y"])
        file["data"].dims[0].attach_scale(file["y2"])
        file["data"].dims[0].label = "first axis"
        half = file.create_dataset("half", data=np.zeros((3, 5)))
        half.dims[0].attach_scale(file["y"])


@oddity
def arrays_without_scales(path: Path) -> None:
    """Of equal and different lengths: netCDF-4 shares a phony dimension between equal ones."""
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((3, 4))
        file["b"] = np.zeros((4, 4))
        file["group/c"] = np.zeros((3,))
        file["group/d"] = np.zeros((5, 3))


@oddity
def netcdf_with_coordinates(path: Path) -> None:
    """Coordinates, an unlimited dimension, packed data with a fill value, CF attributes."""
    with netcdf(path) as file:
        file.createDimension("time", None)
        file.createDimension("y", 3)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2000-01-01", "standard"
        time[:] = [0, 1]
        file.createVariable("y", "f4", ("y",))[:] = [10, 20, 30]
        packed = file.createVariable("packed", "i2", ("time", "y"), fill_value=-999, zlib=True, chunksizes=(1, 3))
        packed.scale_factor, packed.add_offset = np.float32(0.1), np.float64(5.0)
        packed.valid_range = np.array([-100, 100], "i2")
        packed[:] = [[5.1, 5.2, 5.3], [5.4, 5.5, 6.0]]
        gaps = file.createVariable("gaps", "f4", ("time", "y"), fill_value=np.nan)
        gaps.coordinates = "height"
        gaps[:] = [[1, np.nan, 3], [4, 5, np.nan]]
        file.createVariable("height", "f8", ("y",), fill_value=1e20)[:] = [1, 2, 3]
        file.createVariable("crs", "i4", ()).grid_mapping_name = "latitude_longitude"
        file.Conventions, file.history, file.version = "CF-1.8", "", np.int32(3)


@oddity
def netcdf_with_dimensions_only(path: Path) -> None:
    """Dimensions without a variable, whose scale holds no data."""
    with netcdf(path) as file:
        file.createDimension("x", 4)
        file.createDimension("unused", 7)
        file.createDimension("record", None)
        file.createVariable("data", "i4", ("record", "x"))[:] = np.arange(8).reshape(2, 4)
        file.createVariable("square", "f4", ("x", "x"))[:] = np.arange(16).reshape(4, 4)


@oddity
def netcdf_with_character_arrays(path: Path) -> None:
    """Characters, with and without xarray's _Encoding, and strings."""
    with netcdf(path) as file:
        file.createDimension("station", 2)
        file.createDimension("strlen", 5)
        names = file.createVariable("names", "S1", ("station", "strlen"))
        names[:] = np.array([b"abc", b"defgh"], "S5").view("S1").reshape(2, 5)
        coded = file.createVariable("coded", "S1", ("station", "strlen"), zlib=True)
        coded._Encoding = "utf-8"
        coded[:] = np.array(["abc", "defgh"], "U5")
        file.createVariable("letter", "S1", ("station",))[:] = np.array([b"x", b""], "S1")
        words = file.createVariable("words", str, ("station",))
        words[0], words[1] = "ünï", ""


@oddity
def words_with_a_fill_value(path: Path) -> None:
    """netCDF-4's strings and characters, some never written."""
    with netcdf(path) as file:
        file.createDimension("station", 3)
        file.createDimension("strlen", 2)
        file.createVariable("words", str, ("station",), fill_value="NA")[0] = "ünï"
        file.createVariable("empty", str, ("station",), fill_value="")[0] = "ünï"
        file.createVariable("plain", str, ("station",))[0] = "ünï"
        file.createVariable("letters", "S1", ("station", "strlen"), fill_value=b"-")[0] = [b"x", b"-"]


@oddity
def netcdf_with_groups(path: Path) -> None:
    """Dimensions inherited from a parent and shadowed in a child."""
    with netcdf(path) as file:
        file.createDimension("x", 2)
        file.createVariable("x", "i4", ("x",))[:] = [1, 2]
        group = file.createGroup("first")
        group.createVariable("inherited", "f4", ("x",))[:] = [0.5, 1.5]
        shadow = file.createGroup("second")
        shadow.createDimension("x", 3)
        shadow.createVariable("x", "f8", ("x",))[:] = [1, 2, 3]
        shadow.createVariable("own", "i1", ("x",))[:] = [1, 2, 3]
        shadow.createGroup("third").title = "empty"


@oddity
def netcdf_of_every_type(path: Path) -> None:
    """netCDF-4's integer, float, string, enumerated and compound types."""
    with netcdf(path) as file:
        file.createDimension("n", 3)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
            made = file.createVariable(kind, kind, ("n",))
            made[:] = np.array([0, 1, 2], kind)
            made.valid_min = np.array(0, kind)[()]
        cloud = file.createEnumType("u1", "cloud_t", {"clear": 0, "cumulus": 1, "missing": 255})
        file.createVariable("cloud", cloud, ("n",), fill_value=255)[:] = [0, 1, 255]


@oddity
def netcdf_by_h5netcdf(path: Path) -> None:
    """The same conventions from another writer."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"x": 3, "t": None}
        file.resize_dimension("t", 2)
        file.create_variable("x", ("x",), data=np.array([1.0, 2.0, 3.0]))
        made = file.create_variable("data", ("t", "x"), "<f4", chunks=(1, 3), compression="gzip", fillvalue=np.float32(-1))
        made[...] = np.arange(6).reshape(2, 3)
        made.attrs["units"], made.attrs["flag"] = "K", np.int8(1)
        file.attrs["title"] = "by h5netcdf"


@oddity
def scales_that_are_gone(path: Path) -> None:
    """A dimension list that refers to a dataset that was deleted since."""
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(12.0).reshape(3, 4)
        file["x"] = np.arange(4)
        file["x"].make_scale("x")
        file["data"].dims[1].attach_scale(file["x"])
        del file["x"]
