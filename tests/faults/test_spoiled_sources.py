"""Sources that go away or change while they are read: one clear line, nothing committed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import SourceChangedError, TargetExistsError

from ..forks import ForkServer
from ..stored import stored
from .runs import POLICY, SLOW, until


def change(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def swap(path: Path) -> None:
    """Another file of the same size and time at its place."""
    stat = path.stat()
    other = path.with_name("other.h5")
    shutil.copy2(path, other)
    with h5py.File(other, "r+") as file:
        file.attrs["title"] = "another"
    raw = other.read_bytes()
    path.write_bytes(raw[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


SPOILED: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_suffix(".away")),
    "changed": change,
    "touched": lambda path: os.utime(path, (1, 1)),
    "truncated": lambda path: os.truncate(path, 3000),
    "replaced": swap,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_source_that_is_spoiled_while_it_is_read(
    made: Path, source: Path, tmp_path: Path, forks: ForkServer, expected: dict[str, bytes], how: str
) -> None:
    """Status 3 and one line; the target stays, is not mixed with anything else, and is completed when the source is back."""
    target, kept = tmp_path / "out.zarr", tmp_path / "kept"
    kept.mkdir()
    shutil.copy2(source, kept)
    arguments: dict[str, Any] = {"source": str(source), "target": str(target), "verify": "full"}
    pid = forks.start("convert", tmp_path / "out.txt", **arguments, **SLOW)
    until(lambda: len(list((target / ".h5z" / "done").glob("*"))) > 2)
    SPOILED[how](source)
    assert forks.wait(pid) == 3, (tmp_path / "out.txt").read_text()
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith(("SourceChangedError: ", "SourceError: "))
    assert text.count("\n") == 0
    assert "in.h5" in text
    marks = len(list((target / ".h5z" / "done").glob("*")))
    assert marks
    with pytest.raises(FileNotFoundError):
        zarr.open_group(target, mode="r")
    if how in ("changed", "touched"):
        with pytest.raises(TargetExistsError, match="has changed since"):
            h5z.convert(source, target, **POLICY)
    assert len(list((target / ".h5z" / "done").glob("*"))) == marks
    shutil.copy2(kept / "in.h5", source)
    assert forks.run("convert", tmp_path / "out.txt", **arguments, **POLICY) == (0, "converted")
    assert stored(target) == expected


def test_the_identity_of_a_source(source: Path, tmp_path: Path) -> None:
    """A digest of the header and one of where the data lie, in the record: each finds what size and time do not."""
    plan = h5z.plan(source, tmp_path / "out.zarr")
    assert len(plan.digest) == 64
    h5z.convert(source, tmp_path / "out.zarr")
    record = zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["h5z"]["source"]
    assert record == {"name": "in.h5", "size": plan.size, "mtime_ns": plan.mtime_ns, "digest": plan.digest}
    times = source.stat()
    with h5py.File(tmp_path / "spacious.h5", "w") as file:
        file["filler"] = np.zeros(20_000)
        file.create_dataset("x", data=np.arange(100), chunks=(10,), compression="gzip")
    first = h5z.plan(tmp_path / "spacious.h5")
    with h5py.File(tmp_path / "spacious.h5", "r+") as file:
        file["x"][3] = 12345
    os.utime(tmp_path / "spacious.h5", ns=(times.st_atime_ns, first.mtime_ns))
    second = h5z.plan(tmp_path / "spacious.h5")
    assert first.mtime_ns == second.mtime_ns
    assert first.digest[32:] != second.digest[32:]
    assert first.fingerprint != second.fingerprint
    header = h5z.plan(source).digest[:32]
    with open(source, "r+b") as raw:
        raw.seek(100)
        raw.write(b"?")
    with suppress(Exception):
        assert h5z.plan(source).digest[:32] != header


def test_a_view_of_a_file_s_own_datasets(tmp_path: Path) -> None:
    """HDF5 calls that file by a period: the source is the same, whatever is put beside it."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        layout = h5py.VirtualLayout((10,), "i4")
        layout[:] = h5py.VirtualSource(".", "x", (10,))
        file["x"] = np.arange(10, dtype="i4")
        file.create_virtual_dataset("view", layout)
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr").status == "converted"
    (tmp_path / "beside").touch()
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full").status == "unchanged"


def test_a_source_that_changed_before_its_target_is_committed(source: Path, tmp_path: Path) -> None:
    """After the last of its bytes was read: nothing is committed."""
    target = tmp_path / "out.zarr"

    def touch(now: int, total: int) -> None:
        if now == total:
            os.utime(source, (1, 1))

    with pytest.raises(SourceChangedError, match="has changed since"):
        h5z.convert(source, target, progress=touch, scheduler="sync")
    with pytest.raises(FileNotFoundError):
        zarr.open_group(target, mode="r")
