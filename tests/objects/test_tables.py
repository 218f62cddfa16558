"""Tables, datasets and dask arrays: equal with their types, and judged by xarray, which opens what was saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

import h5z
from h5z.errors import PlanError, TargetError

from .same import assert_same


def frame() -> pd.DataFrame:
    """A column of every type."""
    made = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [1.5, np.nan, -0.0],
            "bool": [True, False, True],
            "text": ["a", "ß", ""],
            "text with gaps": ["a", None, np.nan],
            "mixed": [1, "x", [1, {"a": 2}]],
            "bytes": [b"a", b"bc", b""],
            "category": pd.Categorical(["x", None, "x"], categories=["y", "x"], ordered=True),
            "numbers as categories": pd.Categorical([3, 1, 3]),
            "Int8": pd.array([1, None, -128], dtype="Int8"),
            "UInt64": pd.array([2**64 - 1, None, 0], dtype="UInt64"),
            "Float32": pd.array([1.5, None, 2], dtype="Float32"),
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "string": pd.array(["a", None, "ß"], dtype="string"),
            "time": pd.to_datetime(["2020-01-01", None, "2021-01-01T00:00:00.000000001"], format="ISO8601"),
            "seconds": pd.DatetimeIndex(["2020-01-01", None, "1066-10-14"], dtype="M8[s]"),
            "zoned": pd.DatetimeIndex(["2020-10-25 00:30", "2020-10-25 01:30", None])
            .tz_localize("UTC")
            .tz_convert("Europe/Paris"),
            "offset": pd.DatetimeIndex(["2020-10-25 00:30"] * 3).tz_localize("+03:30"),
            "delta": pd.to_timedelta(["1s", None, "3d"]),
            "period": pd.PeriodIndex(["2020-01", "2020-02", None], freq="M"),
            "interval": pd.IntervalIndex.from_breaks([0.0, 1.0, 2.0, 3.0], closed="both"),
        },
        index=pd.Index([10, 20, 30], name="row"),
    )
    made.attrs = {"units": "m", "range": (0, np.float32(1))}
    return made


FRAMES = {
    "every type": frame(),
    "plain": pd.DataFrame(np.arange(6.0).reshape(3, 2)),
    "labels twice": pd.DataFrame([[1, "a"]], columns=["a", "a"]),
    "labels of many kinds": pd.DataFrame([[1, 2, 3, 4]], columns=[1, "1", None, ("a", 2)]),
    "levels of labels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", None])),
    "levels of rows": pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1.5), ("b", None)], names=[None, "y"])),
    "categories as rows": pd.DataFrame({"x": [1, 2]}, index=pd.CategoricalIndex(["b", "a"], name="c")),
    "regular times": pd.DataFrame({"x": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D", tz="UTC", name="t")),
    "named columns": pd.DataFrame({"x": [1]}).rename_axis(columns="what"),
    "range": pd.DataFrame({"x": [1, 2]}, index=pd.RangeIndex(5, 1, -2, name="r")),
    "nothing": pd.DataFrame(),
    "no columns": pd.DataFrame(index=["a", "b"]),
    "no rows": pd.DataFrame({"a": np.array([], float), "b": np.array([], object), "c": pd.array([], dtype="Int8")}),
    "hard names": pd.DataFrame({"a/b": [1], "zarr.json": [2], "": [3], "%parts": [4], "index": [5], "c": [6], "\udc80": [7]}),
    "unique": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
}


def same_frame(a: Any, b: Any) -> None:
    """Compare two tables."""
    pd.testing.assert_frame_equal(a, b, check_freq=True, check_flags=True, check_column_type=True, check_exact=True)
    assert_same(a.attrs, b.attrs)
    for i in range(a.shape[1]):
        if a.iloc[:, i].dtype == object:
            assert_same(a.iloc[:, i].to_numpy(), b.iloc[:, i].to_numpy())


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str, tmp_path: Path) -> None:
    h5z.save({"below": [FRAMES[name]]}, tmp_path / "x.zarr")
    same_frame(FRAMES[name], h5z.load(tmp_path / "x.zarr")["below"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(tmp_path / "x.zarr" / "below" / "0")
    assert (
        opened.sizes == {opened.h5z["object"].get("index", {}).get("values", next(iter(opened.sizes), "")): len(FRAMES[name])}
        or not opened.sizes
    )


def test_what_xarray_sees_of_a_table(tmp_path: Path) -> None:
    h5z.save(frame(), tmp_path / "x.zarr")
    opened = xr.open_zarr(tmp_path / "x.zarr").load()
    assert opened["row"].values.tolist() == [10, 20, 30]
    assert opened["text"].values.tolist() == ["a", "ß", ""]
    assert opened["category"].values.tolist() == [1, -1, 1]
    assert opened["category"].attrs["flag_meanings"] == "y x"
    assert opened["boolean"].values.tolist()[::2] == [1, 0]
    assert np.isnan(opened["boolean"].values[1])
    assert np.isnan(opened["Float32"].values[1])
    assert np.isnat(opened["time"].values[1])
    assert opened["zoned"].values[0] == np.datetime64("2020-10-25T00:30")
    assert opened.attrs["units"] == "m"
    assert opened.attrs["range"] == [0, 1]


SERIES = {
    "named": pd.Series([1, 2], name="q"),
    "text": pd.Series(["a", None], index=["x", "y"]),
    "tuple": pd.Series([1.5], name=("a", 1)),
    "levels": pd.Series([1, 2], index=pd.MultiIndex.from_product([["a"], [1, 2]])),
    "empty": pd.Series([], dtype="boolean"),
}
INDEXES = {
    "text": pd.Index(["a", "b"], name="i"),
    "range": pd.RangeIndex(3),
    "times": pd.date_range("2020", periods=3, freq="h"),
    "levels": pd.MultiIndex.from_product([["a"], [1, 2]], names=["x", 2]),
    "intervals": pd.interval_range(0, 3),
    "floats": pd.Index([1.5, np.nan]),
}


@pytest.mark.parametrize("name", SERIES)
def test_series(name: str, tmp_path: Path) -> None:
    h5z.save(SERIES[name], tmp_path / "x.zarr")
    pd.testing.assert_series_equal(SERIES[name], h5z.load(tmp_path / "x.zarr"))


@pytest.mark.parametrize("name", INDEXES)
def test_indexes(name: str, tmp_path: Path) -> None:
    h5z.save(INDEXES[name], tmp_path / "x.zarr")
    found = h5z.load(tmp_path / "x.zarr")
    pd.testing.assert_index_equal(INDEXES[name], found, exact=True)
    assert getattr(INDEXES[name], "freq", None) == getattr(found, "freq", None)


def test_single_values_of_pandas(tmp_path: Path) -> None:
    value = [
        pd.Timestamp("2020-01-01T00:00:00.000000001"),
        pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Paris"),
        pd.Timestamp("1066-10-14").as_unit("s"),
        pd.Timedelta(1, "ns"),
        pd.NaT,
        pd.NA,
    ]
    h5z.save(value, tmp_path / "x.zarr")
    found = h5z.load(tmp_path / "x.zarr")
    assert list(map(type, found)) == list(map(type, value))
    assert found[:4] == value[:4]
    assert [item.unit for item in found[:4]] == [item.unit for item in value[:4]]
    assert (str(found[1].tz), found[4] is pd.NaT, found[5] is pd.NA) == ("Europe/Paris", True, True)


_COLUMNS = st.lists(st.sampled_from(["i4", "f8", "bool", "M8[ns]", "m8[ns]", "u1", "c16"]), min_size=0, max_size=4).flatmap(
    lambda kinds: hpd.data_frames([hpd.column(f"c{i}", dtype=kind) for i, kind in enumerate(kinds)])
)


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(_COLUMNS)
def test_drawn_frames(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    h5z.save(value, folder / "x.zarr")
    same_frame(value, h5z.load(folder / "x.zarr"))


@pytest.mark.parametrize(
    "value", [pd.arrays.SparseArray([0, 1]), pd.DataFrame({"s": pd.arrays.SparseArray([0, 1])}), pd.Interval(0, 1)]
)
def test_other_types_of_pandas_are_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"the object\['a'\]: .*found") as error:
        h5z.save({"a": value}, tmp_path / "x.zarr")
    assert "\n" not in str(error.value)
    h5z.save({"a": value}, tmp_path / "x.zarr", allow_pickle=True)
    assert type(h5z.load(tmp_path / "x.zarr", "a", allow_pickle=True)) is type(value)


def test_a_column_alone(tmp_path: Path) -> None:
    h5z.save({"t": frame()}, tmp_path / "x.zarr")
    assert h5z.load(tmp_path / "x.zarr", "t/int").tolist() == [1, 2, 3]
    with pytest.raises(PlanError, match="expected the key of a table"):
        h5z.load(tmp_path / "x.zarr", "t/category")
    with pytest.raises(PlanError, match="expected a dict to save into, found what holds one DataFrame"):
        h5z.save([1], tmp_path / "x.zarr", key="t/int")


def dataset() -> xr.Dataset:
    """Variables and coordinates of many kinds."""
    return xr.Dataset(
        {
            "temp": (("t", "y", "x"), np.arange(24.0).reshape(4, 3, 2), {"units": "K", "r": (1, 2), "f": np.float32(1)}),
            "name": ("x", np.array(["a", "bc"])),
            "lazy": (("y", "x"), da.ones((3, 2), chunks=(2, 2)), {"units": "m"}),
            "structure": ("x", np.zeros(2, [("a", "f4", (2,))]), {"k": (1,)}),
            "category": ("x", pd.Categorical(["u", "v"])),
            "missing": ("x", pd.array([1, None], dtype="Int16")),
            "objects": ("x", np.array([1, None], object)),
            "scalar": 5,
        },
        coords={
            "t": pd.date_range("2020", periods=4),
            "y": [1.0, 2, 3],
            "lat": (("y", "x"), np.zeros((3, 2)), {"units": "deg"}),
            "day": ("t", np.arange(4)),
            "where": "here",
        },
        attrs={"title": "x", "n": np.int16(3), "_FillValue": 1.5},
    )


DATASETS: dict[str, Any] = {
    "many kinds": dataset(),
    "stacked": xr.Dataset({"x": (("t", "s"), np.ones((4, 2)))}, coords={"t": range(4)}).stack(z=("t", "s")),
    "no index": dataset().drop_indexes("y"),
    "nothing": xr.Dataset(),
    "names that are no text": xr.Dataset({1: (("a",), [1, 2])}),
    "hard names": xr.Dataset({"q/r": (("a b", "c/d"), np.zeros((2, 0)))}),
    "array": dataset().temp,
    "array without name": xr.DataArray(np.arange(3)),
    "array named as its coordinate": dataset().lat,
    "zoned": xr.Dataset(coords={"t": pd.date_range("2020", periods=3, tz="UTC")}),
    "periods": xr.Dataset(coords={"t": pd.period_range("2020", periods=3, freq="M")}),
    "seconds": xr.Dataset({"o": ("x", np.array(["2020"], "M8[s]"))}),
}


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name: str, tmp_path: Path) -> None:
    value = DATASETS[name]
    h5z.save(value, tmp_path / "x.zarr")
    found = h5z.load(tmp_path / "x.zarr")
    assert type(found) is type(value)
    xr.testing.assert_identical(value, found)
    for label, variable in (value if isinstance(value, xr.Dataset) else value.coords.to_dataset()).variables.items():
        other = found.variables[label] if isinstance(found, xr.Dataset) else found.coords[label].variable
        assert variable.dtype == other.dtype, label
        assert type(variable.data) is type(other.data), label
        assert_same(dict(variable.attrs), dict(other.attrs), str(label))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(tmp_path / "x.zarr")
    assert set(opened.sizes.values()) <= {*value.sizes.values(), 2} | {0}


def test_xarray_opens_an_ordinary_dataset_as_it_was(tmp_path: Path) -> None:
    value = dataset()[["temp", "name", "lazy", "scalar"]]
    value.attrs = {"title": "x"}
    value.temp.attrs = {"units": "K"}
    h5z.save(value, tmp_path / "x.zarr")
    opened = xr.open_zarr(tmp_path / "x.zarr").load()
    for variable in opened.variables.values():
        variable.attrs.pop("h5z", None)
    opened.attrs.pop("h5z")
    xr.testing.assert_identical(opened.assign(name=opened.name.astype("U2")), value.compute())


def test_dask_arrays_are_streamed_and_come_back_lazy(tmp_path: Path) -> None:
    alive, most = 0, 0

    def block(shape: tuple[int, ...]) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)

        class Counted(np.ndarray):
            def __del__(self) -> None:
                nonlocal alive
                alive -= 1

        return np.ones(shape, "f4").view(Counted)

    source = da.map_blocks(lambda block_info: block(block_info[None]["chunk-shape"]), chunks=((1000,) * 40, (500,)), dtype="f4")
    h5z.save({"lazy": source, "of it": source.sum(axis=1)}, tmp_path / "x.zarr", workers=2, scheduler="sync")
    assert most <= 4  # of 40 blocks
    found = h5z.load(tmp_path / "x.zarr")["lazy"]
    assert isinstance(found, da.Array)
    assert (found.chunks, found.dtype) == (source.chunks, source.dtype)
    assert bool((found == 1).all().compute())
    assert zarr.open_array(tmp_path / "x.zarr" / "lazy").chunks == (1000, 500)


@pytest.mark.parametrize(
    ("made", "chunks"),
    [
        (lambda: da.arange(10, chunks=((3, 4, 3),)), "auto"),
        (lambda: da.arange(10, chunks=4), (3,)),
        (lambda: da.zeros((0, 3), chunks=2), "auto"),
        (lambda: da.from_array(np.array(5)), "auto"),
        (lambda: da.from_array(np.array(["a", "bc"]), chunks=1), "auto"),
        (lambda: da.from_array(np.array([b"a", b"bc"]), chunks=1), "auto"),
        (lambda: da.from_array(np.array(["x", "y"], object), chunks=1), "auto"),
        (lambda: da.from_array(np.arange(4, dtype="g"), chunks=2), "auto"),
        (lambda: da.from_array(np.zeros(4, [("a", ">i4"), ("b", "f8")]), chunks=2), "auto"),
        (lambda: da.from_array(np.array(["2020"] * 5, "M8[D]"), chunks=2), "auto"),
    ],
)
def test_dask_arrays_of_many_kinds(made: Any, chunks: Any, tmp_path: Path) -> None:
    value = made()
    h5z.save([value], tmp_path / "x.zarr", chunks=chunks)
    found = h5z.load(tmp_path / "x.zarr")[0]
    assert isinstance(found, da.Array)
    assert_same(np.asarray(value.compute()), np.asarray(found.compute()))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: da.from_array(np.arange(4), chunks=2)[da.from_array(np.array([True] * 4), chunks=2)], "unknown"),
        (lambda: da.ma.masked_array(da.arange(4, chunks=2), [0, 1, 0, 0]), "masked"),
        (lambda: da.from_array(np.array([1, "a"], object), chunks=2), "found other objects"),
        (lambda: da.from_array(np.zeros(2, [("a", "f4", (2,))]), chunks=2), "one Zarr array holds"),
    ],
)
def test_dask_arrays_that_cannot_be_streamed_are_refused(made: Any, message: str, tmp_path: Path) -> None:
    h5z.save("before", tmp_path / "x.zarr")
    with pytest.raises(PlanError, match=message):
        h5z.save({"a": made()}, tmp_path / "x.zarr")
    assert h5z.load(tmp_path / "x.zarr") == "before"


def test_a_dask_array_can_replace_what_it_is_made_of(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    h5z.save({"a": da.arange(10, chunks=5), "b": 1}, store)
    lazy = h5z.load(store)["a"]
    h5z.save(lazy + 1, store, key="a")
    assert h5z.load(store, "a").compute().tolist() == list(range(1, 11))
    with pytest.raises(TargetError, match="has been replaced since it was loaded"):
        lazy.compute()
