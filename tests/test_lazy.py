"""Lazy arrays are sliced as numpy's are, whatever dask makes of a slice of a slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest

import h5z

CHOICES: list[Callable[[Any], Any]] = [
    lambda a: a[:, 3, 0],
    lambda a: a[-1],
    lambda a: a[2, -1, 4],
    lambda a: a[::2, 1:9:3],
    lambda a: a[::-1, :, ::-2],
    lambda a: a[1:5][::2][1],
    lambda a: a[[4, 0, 4]][:, 1],
    lambda a: a[:, 2:2],
    lambda a: a[..., None][3:6, ::4, 2],
    lambda a: a[5:][:, ::-1].max(axis=1),
]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, da.Array], dict[str, Any]]:
    """Lazy arrays of a chunked, a contiguous, a text and a converted dataset, and their values."""
    path: Path = tmp_path_factory.mktemp("lazy") / "a.h5"
    cube = np.arange(7 * 10 * 6, dtype="f4").reshape(7, 10, 6)
    text = np.array([f"{i:02d}" * (i % 3) for i in range(cube.size)], dtype=object).reshape(cube.shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("chunked", data=cube, chunks=(2, 4, 6), compression="gzip")
        file["contiguous"] = cube
        file.create_dataset("text", data=text, dtype=h5py.string_dtype(), chunks=(3, 5, 2))
    values = {"/chunked": cube, "/contiguous": cube, "/text": text}
    return h5z.lazy(path, chunks={"/*": (3, 4, 5)}), values


@pytest.mark.parametrize(
    ("name", "choose"),
    [(name, choose) for name in ("/chunked", "/contiguous", "/text") for choose in CHOICES[: -1 if name == "/text" else None]],
)
def test_a_selection(arrays: Any, name: str, choose: Callable[[Any], Any]) -> None:
    lazy, values = arrays
    np.testing.assert_array_equal(choose(lazy[name]).compute(scheduler="sync"), choose(values[name]))
