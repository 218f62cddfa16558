"""Saving to an object store."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import s3fs
import xarray as xr
import zarr

import h5z
from h5z.errors import MissingKeyError, PlanError, TargetError, TargetExistsError

from .same import assert_same

VALUE = {"a": {"x": np.arange(600.0).reshape(20, 30), "y": ["t", None]}, 5: "ß", "big": np.arange(100_000) % 7}


def test_save_replace_and_load(s3: dict[str, Any]) -> None:
    url = "s3://objects/one.zarr"
    files = s3fs.S3FileSystem(**s3, use_listings_cache=False)
    with pytest.raises(TargetError, match="expected a Zarr hierarchy, found none"):
        h5z.load(url, storage_options=s3)
    h5z.save(VALUE, url, storage_options=s3)
    assert_same(h5z.load(url, storage_options=s3), VALUE)
    h5z.save({"new": (1, 2.5)}, url, key="a", storage_options=s3)
    h5z.save(da.arange(10, chunks=5), url, key="deep/er", storage_options=s3)
    found = h5z.load(url, storage_options=s3)
    assert_same(found["a"], {"new": (1, 2.5)})
    assert found["deep"]["er"].compute().tolist() == list(range(10))
    assert_same(h5z.load(url, (5,), storage_options=s3), "ß")
    assert not [key for key in files.find("objects/one.zarr") if "/.h5z/" in key or "/a/x" in key]
    root = zarr.open_group(url, storage_options=s3, mode="r")
    assert np.array_equal(root["big"][:], VALUE["big"])  # type: ignore[index]
    with pytest.raises(MissingKeyError, match="expected the key nothing"):
        h5z.load(url, "nothing", storage_options=s3)
    with pytest.raises(PlanError, match="expected a dict to save into"):
        h5z.save(1, url, key="big/x", storage_options=s3)
    files.pipe_file("objects/other/readme.txt", b"x")
    with pytest.raises(TargetExistsError, match="other data"):
        h5z.save(1, "s3://objects/other", storage_options=s3)


def test_tables_and_consolidated_metadata(s3: dict[str, Any]) -> None:
    url = "s3://objects/two.zarr"
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    h5z.save(table, url, storage_options=s3)
    assert xr.open_zarr(url, storage_options=s3)["a"].values.tolist() == [1, 2]
    h5z.save({"t": table}, url, consolidate=True, storage_options=s3)
    h5z.save(1, url, key="n/m", storage_options=s3)
    assert {"t/a", "n/m"} <= set(dict(zarr.open_consolidated(url, storage_options=s3).members(max_depth=None)))
    pd.testing.assert_frame_equal(h5z.load(url, "t", storage_options=s3), table)
