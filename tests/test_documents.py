"""Metadata documents are what zarr itself would write."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from zarr.dtype import parse_dtype

from h5z.documents import data_type

NUMBERS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_described_as_by_zarr(kind: str, order: str, zarr_format: Any) -> None:
    dtype = np.dtype(kind).newbyteorder(order)
    theirs = parse_dtype(dtype, zarr_format=zarr_format)
    described: Any = theirs.to_json(zarr_format=zarr_format)
    ours, to_json = data_type(dtype, zarr_format)
    assert ours == (described if zarr_format == 3 else described["name"])
    ends = [np.iinfo(dtype).min, np.iinfo(dtype).max] if dtype.kind in "iu" else [0, 1] if dtype.kind == "b" else [-1.5, np.inf]
    for value in np.array([0, *ends], dtype):
        assert json.dumps(to_json(value)) == json.dumps(theirs.to_json_scalar(value, zarr_format=zarr_format))
