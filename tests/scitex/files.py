"""A file as SciTeX's users have them, and what a store of it must hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

RANDOM = np.random.default_rng(0)


def write(path: str | Path, **more: Any) -> dict[str, Any]:
    """A file with groups, attributes, text, numbers; what it holds by path."""
    data: dict[str, Any] = {
        "dataset": RANDOM.normal(size=(50, 40)),
        "group_a/nested": np.arange(20, dtype="<i2"),
        "group_a/sub/deep": np.array([[1, 2], [3, 4]]),
        "video": RANDOM.integers(0, 255, (6, 12, 16), dtype=np.uint8),
        "text": np.array(["short", "longer string"], object),
        "complex": np.array([1 + 2j, 3]),
        "scalar": np.float32(0.5),
        **more,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values
        file.attrs["title"] = "x"
        file["group_a"].attrs["k"] = 1
        file["group_a"].attrs["flags"] = np.array([True, False])
        file["dataset"].attrs.update({"complex": 1j, "units": "K", "last": np.nan})
    return data


def check(store: str, data: dict[str, Any]) -> None:
    """Compare a store's values with a file's."""
    root = zarr.open_group(store, mode="r")
    for name, values in data.items():
        found: Any = root[name]
        assert found.shape == np.shape(values)
        assert np.array_equal(np.asarray(found[...]).astype(np.asarray(values).dtype), values), name
    assert root.attrs["title"] == "x"
    assert root["dataset"].attrs["units"] == "K"  # after one that JSON cannot hold


def places(name: str) -> list[str]:
    """The same path relative, with a dot, and absolute."""
    return [name, f"./{name}", os.path.abspath(name)]
