"""Whether a target still holds what was written, told without its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import TargetError

POLICIES: dict[str, dict[str, Any]] = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "shards": {"shards": {"/g/x": (20, 20)}, "chunks": {"/g/x": (10, 10)}},
    "copied": {"codec": "keep"},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/x", data=np.random.default_rng(0).random((50, 60)), chunks=(10, 10), compression="gzip")
        file.create_dataset("g/c/1/y", data=np.arange(5))  # names that look like keys of chunks
        file.create_dataset("unallocated", (10,), "f4", chunks=(2,))
        file["scalar"] = 3
        file["words"] = ["a", "ß"]
    return tmp_path / "a.h5"


@pytest.mark.parametrize("kind", POLICIES)
def test_what_changes_after_the_commit_is_found(source: Path, tmp_path: Path, kind: str) -> None:
    """A flipped bit, a missing unit, a unit too many; each in the array where it is."""
    target = tmp_path / "a.zarr"
    h5z.convert(source, target, **POLICIES[kind])
    source.unlink()
    whole = h5z.audit(target)
    assert (whole.ok, whole.level) == (True, "digest")
    chunks = sorted(path for path in (target / "g" / "x").rglob("*") if path.is_file() and path.suffix != ".json")
    chunk = next(path for path in chunks if not path.name.startswith(".z"))
    data = chunk.read_bytes()
    for damage in (data[:-1] + bytes([data[-1] ^ 1]), None):
        chunk.unlink()
        if damage:
            chunk.write_bytes(damage)
        assert [difference.path for difference in h5z.audit(target).differences] == ["/g/x"]
    chunk.write_bytes(data)
    assert h5z.audit(target).ok
    extra = target / "unallocated" / ("0" if kind == "v2" else "c/0")
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(data)
    assert [difference.path for difference in h5z.audit(target).differences] == ["/unallocated"]


def test_what_is_no_finished_target_is_refused(source: Path, tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "theirs.zarr")
    h5z.graph(h5z.plan(source, tmp_path / "begun.zarr"))
    for name in ("theirs", "begun", "gone"):
        with pytest.raises(TargetError, match="expected a finished target of h5z"):
            h5z.audit(tmp_path / f"{name}.zarr")
