"""Options of filters come back to the letter; where an open dataset uses the filter, it is said that they may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5z

hdf5plugin = pytest.importorskip("hdf5plugin")
OLD = (1, 0, 4, 64, 1, 1, 5)  # fewer than this version of the filter computes


def _write(path: Path) -> h5py.File:
    file = h5py.File(path, "w")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 4))
    plist.set_filter(32026, h5py.h5z.FLAG_OPTIONAL, OLD)
    space = h5py.h5s.create_simple((6, 6))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.arange(36, dtype="i4").reshape(6, 6)
    )
    return file


def _options(path: Path) -> object:
    with h5py.File(path) as file:
        return file["x"].id.get_create_plist().get_filter(0)[2]


ALONE = """
import sys
import h5py, h5z

source, target, back = sys.argv[1:]
h5z.convert(source, target, codec="keep")
circle = [h5py.File(source)["x"]]
circle.append(circle)
del circle
report = h5z.restore(target, back, verify="full")
assert (report.differences, report.notes) == ((), ()), report
"""


def test_a_dataset_that_nobody_has_any_more_does_not_matter(tmp_path: Path) -> None:
    """In a process of its own: what other tests have left open would matter."""
    _write(tmp_path / "a.h5").close()
    places = (tmp_path / name for name in ("a.h5", "a.zarr", "back.h5"))
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, places)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _options(tmp_path / "back.h5") == _options(tmp_path / "a.h5")


def test_a_filter_in_use_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a.h5").close()
    h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", codec="keep")
    with h5py.File(tmp_path / "a.h5") as file:
        held = file["x"]
        report = h5z.restore(tmp_path / "a.zarr", tmp_path / "back.h5")
        assert held.shape == (6, 6)
        del held
    assert "/x: its filter 32026 (" in report.notes[0]
    assert "another open dataset of this process uses it" in report.notes[0]
