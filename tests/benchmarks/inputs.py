"""The inputs: realistic HDF5 files, made once in a process of their own (so that the harness stays small)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from . import events
from .cases import BLOCK, DATASET, DATASETS_IN_A_FILE, Case

ATTRIBUTES: dict[str, Any] = {"units": "K", "long_name": "air temperature", "valid_range": np.array([180.0, 340.0])}


def slabs(side: int, thickness: int = 16) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """A smooth field with noise, two decimals, as instruments and models store them: first row and values.

    Yields
    ------
    start : int
        The slab's first index along axis 0.
    values : ndarray of float32, shape (≤ thickness, side, side)
    """
    noise = np.random.default_rng(20261101)
    x = np.linspace(0, 4 * np.pi, side, dtype="f4")
    plane = 12 * np.sin(x)[:, None] * np.cos(x / 2)[None, :]
    for start in range(0, side, thickness):
        level = x[start : start + thickness]
        field = 280 + plane[None] + 8 * np.cos(level)[:, None, None]
        field += 0.3 * noise.standard_normal(field.shape, dtype="f4")
        yield start, np.round(field, 2).astype("f4")


def _cube(path: Path, side: int, **layout: Any) -> None:
    """Write the field as dataset ``data`` of the given layout."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(DATASET, (side,) * 3, "f4", **layout)
        dataset.attrs.update(ATTRIBUTES)
        for start, values in slabs(side):
            dataset[start : start + len(values)] = values


def make_gzip(case: Case, path: Path) -> None:
    """Chunks of 16×128×128, shuffled, gzip-4."""
    chunks = tuple(min(edge, case.side) for edge in BLOCK)
    _cube(path, case.side, chunks=chunks, shuffle=True, compression="gzip", compression_opts=4)


def make_contiguous(case: Case, path: Path) -> None:
    """One run of bytes, no filter."""
    _cube(path, case.side)


def make_slices(case: Case, path: Path) -> None:
    """A chunk a slice of axis 0, shuffled, gzip-4."""
    chunks = (1, case.side, case.side)
    _cube(path, case.side, chunks=chunks, shuffle=True, compression="gzip", compression_opts=4)


def _small(group: h5py.Group, count: int, seed: int) -> None:
    """`count` datasets of 16×16 float32, a hundred a group, three attributes each."""
    values = np.round(280 + np.random.default_rng(seed).standard_normal((count, 16, 16)), 2).astype("f4")
    for number in range(count):
        parent = group.require_group(f"run{number // 100:03d}")
        dataset = parent.create_dataset(f"segment{number:05d}", data=values[number])
        dataset.attrs.update(ATTRIBUTES)


def make_small(case: Case, path: Path) -> None:
    """One file of many small datasets."""
    with h5py.File(path, "w") as file:
        _small(file, case.datasets, seed=1)


def make_files(case: Case, path: Path) -> None:
    """A folder of many small files."""
    path.mkdir()
    for number in range(case.files):
        with h5py.File(path / f"session{number:04d}.h5", "w") as file:
            _small(file, DATASETS_IN_A_FILE, seed=number)


def make_events(case: Case, path: Path) -> None:
    """A session's tables."""
    events.make_session(case.segments, path)


MAKERS: dict[str, Callable[[Case, Path], None]] = {
    "gzip": make_gzip,
    "contiguous": make_contiguous,
    "slices": make_slices,
    "small": make_small,
    "files": make_files,
    "events": make_events,
}


def main() -> None:
    """Make the input of the case given as JSON in the folder given."""
    case, folder = Case.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2])
    source = case.source(folder)
    if not source.exists():
        MAKERS[case.kind](case, source)


if __name__ == "__main__":
    main()
