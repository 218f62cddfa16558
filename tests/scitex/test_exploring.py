"""SciTeX's explorers over h5z: its users' calls as they write them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from h5z.compat import scitex
from h5z.errors import SourceError

from .files import write


def test_h5_explorer() -> None:
    data = write("data.h5")
    with scitex.H5Explorer("./data.h5") as explorer:
        assert set(explorer.keys()) == {name.split("/")[0] for name in data}
        assert np.array_equal(explorer.load("dataset"), data["dataset"])
        assert np.array_equal(explorer.get("group_a/nested"), data["group_a/nested"])
        assert explorer.load("group_a")["_attr_k"] == 1
        assert explorer.load("text").tolist() == ["short", "longer string"]
        assert explorer["dataset"][:2, 3].tolist() == data["dataset"][:2, 3].tolist()
        info = explorer.get_info("dataset")
        assert {k: info[k] for k in ("path", "type", "shape", "dtype", "size", "compression", "chunks")} == {
            "path": "dataset",
            "type": "Dataset",
            "shape": (50, 40),
            "dtype": "float64",
            "size": 2000,
            "compression": None,
            "chunks": None,
        }
        assert info["attributes"]["complex"] == 1j
        info = explorer.get_info("group_a")
        assert (info["type"], info["n_items"], info["keys"]) == ("Group", 2, ["nested", "sub"])
        assert explorer.find("DEE") == ["/group_a/sub/deep"]
        assert (explorer.get_shape("video"), explorer.get_dtype("video")) == ((6, 12, 16), np.dtype("u1"))
        assert explorer.get_shape("group_a") is None
        with pytest.raises(KeyError):
            explorer.load("none")
    with scitex.H5Explorer("data.h5", mode="r+") as explorer:
        explorer.file["new"] = 1
    assert scitex.has_h5_key("data.h5", "new")


def test_has_key() -> None:
    write("data.h5")
    store = scitex.migrate_h5_to_zarr("data.h5", show_progress=False)
    for has, path in ((scitex.has_h5_key, "data.h5"), (scitex.has_zarr_key, store)):
        assert has(path, "group_a/sub/deep") is True
        assert has(path, "/group_a") is True
        assert has(path, "group_a/none") is False
        assert has("none", "x") is False
    Path("damaged.h5").write_bytes(Path("data.h5").read_bytes()[:700])
    before = Path("damaged.h5").read_bytes()
    with pytest.raises(SourceError):
        scitex.has_h5_key("damaged.h5", "dataset")
    assert Path("damaged.h5").read_bytes() == before  # SciTeX's deletes what it cannot read


def test_a_key_of_a_locked_file_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    write("data.h5")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    code = "import h5py, sys; f = h5py.File('data.h5', 'r+'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(SourceError, match="lock"):
            scitex.has_h5_key("data.h5", "dataset", max_retries=3)
        holder.communicate("")
    assert len(waits) == 2
