"""A small generated archive, and one dask cluster of spawned workers for the tests that need no other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest

from flows.cluster import connect


def write_file(path: Path, start: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("values", data=np.arange(start, start + 600.0).reshape(20, 30), chunks=(10, 30))
        file["values"].attrs["units"] = "K"
    return path


def leave_empty_database(where: Path) -> None:
    """Copy the empty database that an embedded server has left in the user's cache, if one has: making it takes seconds."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    database = cache / "h5z" / f"prefect-{version('prefect')}.db"
    if database.exists():
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(database, where)


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a small good file."""
    return write_file


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five good files in two folders, a truncated one, a text file by an HDF5 name, and a text file."""
    folder = tmp_path / "archive"
    for i in range(3):
        write_file(folder / "a" / f"good{i}.h5", i)
    for i in range(2):
        write_file(folder / "b" / "deeper" / f"good{i}.nc", 10 + i)
    whole = write_file(folder / "b" / "cut.h5").read_bytes()
    (folder / "b" / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.h5").write_text("Dear reader,\n")
    (folder / "notes.txt").write_text("nothing to see\n")
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a cluster of two spawned workers."""
    with connect(workers=2) as client:
        yield client.scheduler.address
