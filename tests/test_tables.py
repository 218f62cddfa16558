"""Tables of which no struct can be made: their columns are arrays, whose rows are read once and in slabs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.columns import SLAB_NBYTES
from h5z.grid import region_shape
from h5z.plan import Plan
from h5z.source import Dataset

ROWS = 2000


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A table with numbers, an array, text and sequences, of some 150 bytes a row; the file, and its rows."""
    numbers = [(f"c{i}", "<f8") for i in range(16)]
    rows = np.zeros(ROWS, np.dtype([*numbers, ("xyz", "<f4", (3,)), ("name", h5py.string_dtype()), ("on", "?")]))
    for i, (name, _) in enumerate(numbers):
        rows[name] = np.arange(ROWS) * (i + 1) / 8
    rows["xyz"], rows["on"] = np.arange(3 * ROWS).reshape(-1, 3), np.arange(ROWS) % 3 == 0
    rows["name"] = [f"row {i}" for i in range(ROWS)]
    path = tmp_path_factory.mktemp("table") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("rows", data=rows, chunks=(100,), compression="gzip")
        file.create_dataset("grid", data=rows.reshape(20, 100), chunks=(7, 30), compression="gzip")
    return path, rows


def same(target: Path, rows: np.ndarray) -> bool:
    """Whether a store has the columns of both tables."""
    root = zarr.open_group(target, mode="r")
    found = {(path, name): np.asarray(root[f"{path}/{name}"][...]) for path in ("rows", "grid") for name in rows.dtype.names}
    return all(
        (values == (rows[name] if path == "rows" else rows[name].reshape(20, 100, *rows[name].shape[1:]))).all()
        for (path, name), values in found.items()
    )


@pytest.mark.parametrize(
    "policy", [{}, {"chunks": {"/rows": (700,)}}, {"chunks": "source", "codec": "keep"}], ids=["automatic", "cut", "kept"]
)
def test_rows_are_read_once(
    table: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: dict[str, object]
) -> None:
    """To convert them and to verify them, however many columns there are; but for the few that two tasks share."""
    path, rows = table
    read: list[int] = []
    at_once = Dataset.read

    def counted(self: Dataset, region: tuple[slice, ...]) -> object:
        read.append(int(np.prod(region_shape(region))))
        return at_once(self, region)

    monkeypatch.setattr(Dataset, "read", counted)
    report = h5z.convert(path, tmp_path / "out.zarr", verify="full", **policy)  # type: ignore[arg-type]
    assert report.ok
    assert 2 * 2 * ROWS <= sum(read) < 1.25 * 2 * 2 * ROWS
    assert same(tmp_path / "out.zarr", rows)
    read.clear()
    assert h5z.verify(path, tmp_path / "out.zarr", level="sample").ok
    assert sum(read) < 1.25 * 2 * ROWS


def test_a_task_holds_no_more_columns_than_memory_allows(table: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, rows = table
    wide = h5z.plan(path, tmp_path / "out.zarr", workers=1)
    least = wide.peak_nbytes - wide.together_nbytes
    narrow = h5z.plan(path, tmp_path / "out.zarr", workers=1, memory=least + (64 << 10))
    assert narrow.peak_nbytes <= least + (64 << 10)
    assert narrow.read_nbytes > wide.read_nbytes
    assert len(list(narrow.tasks())) > len(list(wide.tasks()))
    assert h5z.convert(path, tmp_path / "out.zarr", memory=least + (64 << 10), verify="full").ok
    assert same(tmp_path / "out.zarr", rows)


def test_rows_are_read_in_slabs(table: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a column, too, that is asked for alone."""
    path, rows = table
    longest: list[int] = []
    at_once = Dataset.read

    def counted(self: Dataset, region: tuple[slice, ...]) -> object:
        longest.append(region_shape(region)[0])
        return at_once(self, region)

    monkeypatch.setattr(Dataset, "read", counted)
    monkeypatch.setattr("h5z.columns.SLAB_NBYTES", SLAB_NBYTES // 32)
    column = h5z.lazy(path)["/rows/c7"]
    assert (column.compute(scheduler="synchronous") == rows["c7"]).all()
    assert max(longest) == 800


def test_a_plan_says_a_tables_datatype_once(table: tuple[Path, np.ndarray]) -> None:
    made = h5z.plan(table[0], "out.zarr")
    told = made.to_dict()
    assert sum("whole" in array for array in told["arrays"]) == 2
    assert Plan.from_dict(told) == made
