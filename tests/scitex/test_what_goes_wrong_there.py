"""What SciTeX's own versions do wrong (see the names of the tests) is done right here."""

from __future__ import annotations

import os
import pickle
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from h5z.compat import scitex
from h5z.errors import H5zError, PlanError, SourceError, UnsupportedError

from .files import check, write


class TestWhatGoesWrongThere:
    """Defects of SciTeX's own functions, each the other way round."""

    def test_a_chunk_that_cannot_be_read_does_not_become_zeros(self) -> None:
        with h5py.File("data.h5", "w") as file:
            dataset = file.create_dataset("x", data=np.arange(1000.0), chunks=(100,), fletcher32=True)
            offset = dataset.id.get_chunk_info(3).byte_offset
        with open("data.h5", "r+b") as raw:
            raw.seek(offset + 8)
            raw.write(b"\x12\x34")
        for validate in (True, False):
            with pytest.raises(SourceError, match="/x"):
                scitex.migrate_h5_to_zarr("data.h5", show_progress=False, validate=validate)
            assert os.listdir() == ["data.h5"]

    def test_a_filter_that_is_not_there_does_not_become_zeros(self, oddity: Callable[[str], Path]) -> None:
        with pytest.raises(UnsupportedError, match="is not available here"):
            scitex.migrate_h5_to_zarr(oddity("filter_that_is_not_installed"), "x.zarr")
        assert os.listdir() == []

    def test_circles_and_depth_end(self) -> None:
        with h5py.File("data.h5", "w") as file:
            group: Any = file
            for i in range(400):
                group = group.create_group(f"g{i}")
            group["x"] = np.arange(3)
            group["back"] = file["/"]
            file["loop"] = h5py.SoftLink("/loop")
        path = scitex.migrate_h5_to_zarr("data.h5", show_progress=False)
        assert scitex.has_zarr_key(path, "/".join(f"g{i}" for i in range(400)) + "/x")
        assert scitex.has_h5_key("data.h5", "loop") is False

    def test_null_long_double_and_time_do_not_kill_the_file(self) -> None:
        with h5py.File("data.h5", "w") as file:
            file["null"] = h5py.Empty("f8")
            file["long"] = np.arange(3, dtype="g")
            file["array"] = np.zeros(2, np.dtype(("f4", (3,))))
            file.create_dataset("time", (2,), h5py.opaque_dtype("M8[s]"))
        path = scitex.migrate_h5_to_zarr("data.h5", show_progress=False)
        assert set(zarr.open_group(path)) == {"null", "long", "array", "time"}

    def test_a_failing_input_leaves_the_good_store(self) -> None:
        data = write("data.h5")
        scitex.migrate_h5_to_zarr("data.h5", show_progress=False)
        Path("data.h5").write_bytes(Path("data.h5").read_bytes()[:5000])
        with pytest.raises(H5zError):
            scitex.migrate_h5_to_zarr("data.h5", overwrite=True, show_progress=False)
        check("data.zarr", data)

    def test_two_sources_that_would_share_a_store_are_refused_before_anything_is_written(self) -> None:
        write("a/x.h5")
        write("b/x.h5")
        for parallel in (False, True):
            with pytest.raises(PlanError, match=r"a/x.h5 and b/x.h5 would share it"):
                scitex.migrate_h5_to_zarr_batch(["a/x.h5", "b/x.h5"], "out", parallel=parallel)
            with pytest.raises(PlanError, match="would share it"):
                scitex.migrate_h5_to_zarr_batch(["a/x.h5", "./a/../a/x.h5"])
            with pytest.raises(PlanError, match="would share it"):
                scitex.migrate_h5_to_zarr_batch(["a/x.h5", "a/x.h5"])
        assert sorted(os.listdir()) == ["a", "b"]

    @pytest.mark.parametrize("parallel", [False, True])
    def test_a_batch_names_its_failures(self, parallel: bool, capsys: pytest.CaptureFixture[str]) -> None:
        data = {f"{i}.h5": write(f"{i}.h5") for i in range(2)}
        Path("bad.h5").write_text("not HDF5")
        found = scitex.migrate_h5_to_zarr_batch(["0.h5", "bad.h5", "none.h5", "1.h5"], parallel=parallel, n_workers=2)
        assert list(found) == ["0.zarr", "1.zarr"]
        assert set(found.failures) == {"bad.h5", "none.h5"}
        assert "no such file" in found.failures["none.h5"]
        shown = capsys.readouterr().out
        assert "failed: bad.h5: bad.h5: expected an HDF5 file" in shown
        assert "migrated 2 of 4 files" in shown
        check("1.zarr", data["1.h5"])

    def test_a_process_that_dies_costs_one_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = {f"{i}.h5": write(f"{i}.h5") for i in range(3)}
        Path("sitecustomize.py").write_text(
            textwrap.dedent(
                f"""
                import sys, os, signal
                if sys.argv[:1] == ["-m"] or "h5z.compat" in " ".join(sys.orig_argv):
                    import h5z.convert
                    before = h5z.convert
                    import h5z
                    def dying(source, *args, **kwargs):
                        if source == "1.h5":
                            os.kill(os.getpid(), {int(signal.SIGKILL)})
                        return convert(source, *args, **kwargs)
                    convert, h5z.convert = h5z.convert, dying
                """
            )
        )
        monkeypatch.setenv("PYTHONPATH", f"{os.getcwd()}:{os.environ.get('PYTHONPATH', '')}:{Path(scitex.__file__).parents[3]}")
        found = scitex.migrate_h5_to_zarr_batch(sorted(data), parallel=True, n_workers=2)
        assert list(found) == ["0.zarr", "2.zarr"]
        assert found.failures == {"1.h5": "1.h5: the process that migrated it ended with signal 9"}

    def test_loading_unpickles_nothing_unasked(self) -> None:
        root = zarr.open_group("x.zarr", mode="w")
        raw = np.frombuffer(pickle.dumps({"a": 1}), np.uint8)
        array: Any = root.create_array("blob", data=raw)
        array.attrs["_type"] = "pickled"
        assert np.array_equal(scitex.load("x.zarr")["blob"], raw)
        scitex.save({"s": {1, 2}}, "y.zarr", allow_pickle=True)
        with pytest.raises(PlanError, match="allow_pickle"):
            scitex.load("y.zarr")
        assert scitex.load("y.zarr", allow_pickle=True) == {"s": {1, 2}}
        with pytest.raises(PlanError, match=r"\['s'\]"):
            scitex.save({"s": {1, 2}}, "z.zarr")

    def test_one_long_string_does_not_widen_all(self) -> None:
        with h5py.File("data.h5", "w") as file:
            file["text"] = ["a"] * 1000 + ["long" * 50_000]
        path = scitex.migrate_h5_to_zarr("data.h5", compressor=None, show_progress=False)
        assert sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()) < 300_000

    def test_hdf5_files_are_replaced_whole(self) -> None:
        scitex.save({"a": np.arange(3)}, "x.h5")
        with pytest.raises(PlanError, match=r"b/c: expected arrays, numbers or text"):
            scitex.save({"a": 1, "b": {"c": {1}}}, "x.h5")
        assert scitex.load("x.h5")["a"].tolist() == [0, 1, 2]
        scitex.save(5, "x.h5", key="deep/er")
        assert (scitex.load("x.h5", "deep/er"), scitex.load("x.h5")["a"].tolist()) == (5, [0, 1, 2])
        assert os.listdir() == ["x.h5"]
