"""Files of many small datasets: what each costs does not grow with their number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z import headers
from h5z.hdf5 import files, references
from h5z.target import Target

CELLS = 120


def test_cells_that_references_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MATLAB 7.3 stores a cell array: a walk finds all paths; cells are read where they lie, each is written once."""
    path = tmp_path / "cells.mat"
    with h5py.File(path, "w") as file:
        held, cells = file.create_group("#refs#"), file.create_dataset("c", (CELLS,), h5py.ref_dtype)
        cells[...] = np.array(
            [held.create_dataset(f"a{i}", data=np.full((1, 3), float(i))).ref for i in range(CELLS)], h5py.ref_dtype
        )
    count = dict.fromkeys(("name", "walk", "open", "put"), 0)

    def counted(what: str, function: Any) -> Any:
        def call(*arguments: Any, **how: Any) -> Any:
            count[what] += 1
            return function(*arguments, **how)

        return call

    real = references.h5r
    proxy = {name: getattr(real, name) for name in dir(real)} | {"get_name": counted("name", real.get_name)}
    monkeypatch.setattr(references, "h5r", SimpleNamespace(**proxy))
    walk = counted("walk", references.lone_paths)
    for module in (files, headers):
        monkeypatch.setattr(module, "lone_paths", walk)
    monkeypatch.setattr(files, "direct_reader", counted("open", files.direct_reader))
    monkeypatch.setattr(Target, "put", counted("put", Target.put))
    assert h5z.convert(path, tmp_path / "a", scheduler="sync").ok
    found: Any = zarr.open_group(str(tmp_path / "a"), mode="r")["c"]
    assert list(found[:2]) == ["/#refs#/a0", "/#refs#/a1"]
    assert count["name"] == 0
    assert 1 <= count["walk"] <= 2
    assert count["open"] == 1  # the references
    assert CELLS < count["put"] <= CELLS + 20  # units; all documents go at once
