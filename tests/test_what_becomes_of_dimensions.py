"""The row of the table on dimension scales: names that xarray opens, as netCDF-4 would give them."""

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

from .oddities import ODDITIES
from .oddities.dimensions import NETCDF
from .running import Convert

FORMATS = (3, 2)
HIDDEN = {"DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "_NCProperties"}


def names(target: Path, path: str) -> tuple[str, ...]:
    """An array's dimension names, as its format says them."""
    array = zarr.open_group(target, mode="r")[path]
    assert isinstance(array, zarr.Array)
    found: Any = getattr(array.metadata, "dimension_names", None) or array.attrs["_ARRAY_DIMENSIONS"]
    return tuple(found)


def without_record(dataset: xarray.Dataset) -> xarray.Dataset:
    """A dataset without h5z's own attribute."""
    dataset = dataset.copy()
    for holder in (dataset, *dataset.variables.values()):
        holder.attrs.pop("h5z", None)
    return dataset


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_scales_name_dimensions(converted: Convert, zarr_format: int) -> None:
    target = converted("bare_dimension_scales", zarr_format).target
    assert names(target, "data")[1] == "x"
    assert names(target, "data")[0] in ("y", "y2")
    assert names(target, "x") == ("x",)
    assert names(target, "half")[0] == "y"
    scales = zarr.open_group(target, mode="r")["data"].attrs["h5z"]["scales"]
    assert scales == [["/y", "/y2"], ["/x"]]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_labels_of_dimensions_are_kept(converted: Convert, zarr_format: int) -> None:
    """HDF5's DIMENSION_LABELS, which is no dimension's name."""
    attrs = dict(zarr.open_group(converted("bare_dimension_scales", zarr_format).target, mode="r")["data"].attrs)
    exact = attrs["h5z"].get("attributes", {}).get("DIMENSION_LABELS", {})
    assert exact.get("value", attrs.get("DIMENSION_LABELS"))[0] == "first axis"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_arrays_without_scales_get_names(converted: Convert, zarr_format: int) -> None:
    """Equal lengths share a name in a group, never two axes of one array."""
    target = converted("arrays_without_scales", zarr_format).target
    a, b = names(target, "a"), names(target, "b")
    assert all(name.startswith("phony_dim_") for name in (*a, *b))
    assert len({*a, *b}) == 3
    assert a[1] in b
    assert b[0] != b[1]
    assert names(target, "group/c")[0] == names(target, "group/d")[1]
    assert not {*a, *b} & {*names(target, "group/c"), *names(target, "group/d")}


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", NETCDF)
def test_what_netcdf_hides_is_hidden(converted: Convert, name: str, zarr_format: int) -> None:
    root = zarr.open_group(converted(name, zarr_format).target, mode="r")
    for node in (root, *(node for _, node in root.members(max_depth=None))):
        assert not HIDDEN & set(node.attrs)
        assert "DIMENSION_SCALE" not in node.attrs.values()


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_dimensions_without_variables_are_no_arrays(converted: Convert, zarr_format: int) -> None:
    target = converted("netcdf_with_dimensions_only", zarr_format).target
    root = zarr.open_group(target, mode="r")
    assert set(root.array_keys()) == {"data", "square"}
    assert names(target, "data") == ("record", "x")
    assert set(root.attrs["h5z"]["dimensions"]) == {"x", "unused", "record"}
    assert root.attrs["h5z"]["dimensions"]["unused"]["shape"] == [7]


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("decode_cf", [True, False])
@pytest.mark.parametrize("name", NETCDF)
def test_xarray_opens_source_and_target_alike(converted: Convert, name: str, decode_cf: bool, zarr_format: int) -> None:
    """Group by group, decoded and as stored."""
    done = converted(name, zarr_format)
    groups = ["", *(path for path, _ in zarr.open_group(done.target, mode="r").groups())]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicate dimension names")
        for group in groups:
            with (
                xarray.open_dataset(done.source, engine="h5netcdf", group=group or None, decode_cf=decode_cf) as source,
                xarray.open_zarr(done.target, group=group or None, decode_cf=decode_cf) as target,
            ):
                if decode_cf or zarr_format == 3:
                    xarray.testing.assert_identical(source.load(), without_record(target.load()))
                else:
                    assert set(source.variables) == set(target.variables)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_words_are_masked_as_at_source(converted: Convert, zarr_format: int) -> None:
    """By `missing_value` in format 3: xarray decodes no array of text that has a `_FillValue`."""
    done = converted("words_with_a_fill_value", zarr_format)
    with (
        xarray.open_dataset(done.source, engine="h5netcdf") as source,
        xarray.open_zarr(done.target) as target,
    ):
        assert source["words"].isnull().values.tolist() == [False, True, True]
        xarray.testing.assert_identical(source.load(), without_record(target.load()))


def test_every_netcdf_oddity_is_among_those_compared() -> None:
    assert {name for name in ODDITIES if name.startswith("netcdf")} == set(NETCDF)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_scales_that_are_gone_cost_no_data(converted: Convert, zarr_format: int) -> None:
    """The array is carried over; the axis gets a name of its own."""
    done = converted("scales_that_are_gone", zarr_format)
    root = zarr.open_group(done.target, mode="r")
    assert root["data"].shape == (3, 4)
    assert root["data"][...].tolist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]]
    assert len(set(names(done.target, "data"))) == 2


def test_scales_told_of_fewer_axes_than_there_are(tmp_path: Path) -> None:
    """libhdf5 reads past the end of such a list, and may crash; what it names is kept."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["y"], file["data"] = np.arange(2.0), np.arange(24.0).reshape(2, 3, 4)
        file["y"].make_scale("y")
        kind = h5py.vlen_dtype(h5py.ref_dtype)
        listed = np.empty(1, object)
        listed[0] = np.array([file["y"].ref], h5py.ref_dtype)
        file["data"].attrs.create("DIMENSION_LIST", listed, (1,), kind)
    assert h5z.convert(path, tmp_path / "a.zarr", verify="full").ok
    assert h5z.scan(path).nodes["/data"].scales == (("/y",),)  # type: ignore[union-attr]


def test_rows_that_were_never_written_are_missing_in_format_2_too(tmp_path: Path) -> None:
    """Of a variable behind its unlimited dimension, whose fill value is a NaN that format 2 has no word for."""
    odd = np.array([0x7FFFFFFFFFFFFFFF], "<u8").view("<f8")
    with h5py.File(tmp_path / "a.nc", "w") as file:
        time = file.create_dataset("time", data=np.arange(3.0), maxshape=(None,))
        time.make_scale()
        rows = file.create_dataset("rows", shape=(0,), maxshape=(None,), dtype="<f8", chunks=(2,), fillvalue=odd[0])
        rows.dims[0].attach_scale(time)
        rows.attrs["_FillValue"] = odd
    assert h5z.convert(tmp_path / "a.nc", tmp_path / "a.zarr", zarr_format=2, verify="full").ok
    shown = xarray.open_zarr(tmp_path / "a.zarr", decode_cf=False)["rows"]
    assert (shown.shape, bool(np.isnan(shown).all())) == ((3,), True)
    assert h5z.restore(tmp_path / "a.zarr", tmp_path / "back.nc", verify="full").ok
