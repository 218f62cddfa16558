"""The flow that restores an archive's HDF5 files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
import pytest

import flows
from flows.server import start, use

Write: TypeAlias = Callable[..., Path]
pytestmark = [
    pytest.mark.flow,
    pytest.mark.cluster,
]


def test_files_come_back_in_their_places(tmp_path: Path, cluster: str, write: Write) -> None:
    for name in ("a/0.h5", "b/c/1.nc"):
        write(tmp_path / "in" / name, len(name))
    flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster)
    with use(start()):
        from flows.restoration import restore_archive

        found = restore_archive(str(tmp_path / "out"), str(tmp_path / "back"), scheduler=cluster)
        assert [item.skipped for item in found] == [False, False]
        for name in ("a/0.h5", "b/c/1.nc"):
            with h5py.File(tmp_path / "back" / name) as back, h5py.File(tmp_path / "in" / name) as source:
                assert np.array_equal(back["values"][:], source["values"][:])
        again = restore_archive(str(tmp_path / "out"), str(tmp_path / "back"), scheduler=cluster)
        assert [item.skipped for item in again] == [True, True]
        chunk = next(
            path for path in (tmp_path / "out/a/0.zarr/values").rglob("*") if path.is_file() and path.name != "zarr.json"
        )
        chunk.write_bytes(b"torn")
        (tmp_path / "back" / "a" / "0.h5").unlink()
        with pytest.raises(flows.ArchiveError, match="1 of 2 stores could not be restored"):
            restore_archive(str(tmp_path / "out"), str(tmp_path / "back"), scheduler=cluster)
        assert not (tmp_path / "back" / "a" / "0.h5").exists()
