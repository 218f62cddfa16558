"""A source of many tasks, and what becomes of it where nothing fails."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5z
from h5z.stores import retries

from ..forks import PIECES
from ..stored import stored
from .runs import POLICY


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as in the processes that are forked; and short pauses."""
    monkeypatch.setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)
    monkeypatch.setattr(retries, "_FIRST", 0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, some of them staged; text; chunks that are not there."""
    path = tmp_path_factory.mktemp("faults") / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(3_000, dtype="<f8"), chunks=(100,), compression="gzip")
        file.create_dataset("slices", data=np.arange(2048, dtype="<u2").reshape(8, 16, 16), chunks=(1, 16, 16), shuffle=True)
        file["words"] = ["a", "ß"]
        file.create_dataset("sparse", (40, 40), "<i2", chunks=(10, 10))[25, 25] = 1
    return path


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copy2(made, tmp_path))


@pytest.fixture(scope="module")
def expected(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The target's objects, of a run that nothing disturbs; verified, which the root says."""
    target = tmp_path_factory.mktemp("expected") / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)
        h5z.convert(made, target, verify="full", **POLICY)
    return stored(target)
