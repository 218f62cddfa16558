"""SciTeX's migration over h5z: its users' calls as they write them, judged by the values that come out."""

from __future__ import annotations

import glob
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from h5z.compat import scitex
from h5z.errors import MissingKeyError, PlanError, SourceError, TargetError, TargetExistsError

from .files import RANDOM, check, places, write


def test_names_parameters_and_defaults() -> None:
    expected = {
        "migrate_h5_to_zarr": "h5_path, zarr_path=None, compressor='zstd', chunks=True, overwrite=False, show_progress=True, "
        "validate=True",
        "migrate_h5_to_zarr_batch": "h5_paths, output_dir=None, compressor='zstd', chunks=True, overwrite=False, parallel=False, "
        "n_workers=None",
        "explore_h5": "filepath",
        "explore_zarr": "storepath",
        "has_zarr_key": "zarr_path, key",
        "H5Explorer": "filepath, mode='r'",
        "ZarrExplorer": "storepath, mode='r'",
    }
    for name, wanted in expected.items():
        parameters = inspect.signature(getattr(scitex, name)).parameters.values()
        shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        assert ", ".join(shown) == wanted, name
    assert list(inspect.signature(scitex.has_h5_key).parameters)[:2] == ["h5_path", "key"]
    defaults = {p.name: p.default for p in inspect.signature(scitex.save).parameters.values()}
    wanted_defaults = {"key": None, "compressor": "zstd", "chunks": True, "consolidate_metadata": False}
    assert {name: defaults[name] for name in wanted_defaults} == wanted_defaults


class TestMigrationGuide:
    """Each call of SciTeX's guide to migration."""

    @pytest.mark.parametrize("number", range(3))
    def test_basic(self, number: int) -> None:
        data = write("data.h5")
        path = places("data.h5")[number]
        assert scitex.migrate_h5_to_zarr(path) == str(Path(path).with_suffix(".zarr"))
        check("data.zarr", data)
        target = places("output.zarr")[number]
        assert scitex.migrate_h5_to_zarr(path, target) == target
        check("output.zarr", data)

    @pytest.mark.parametrize(
        "compressor", ["zstd", "lz4", "gzip", "blosc", None, "ZSTD", numcodecs.Zstd(level=9), numcodecs.Blosc()]
    )
    def test_compressors(self, compressor: Any) -> None:
        data = write("data.h5")
        path = scitex.migrate_h5_to_zarr("data.h5", compressor=compressor, chunks=True, show_progress=False)
        check(path, data)
        found: Any = zarr.open_group(path)["dataset"]
        shown = str(found.compressors).lower()
        names = {"zstd": "zstd", "ZSTD": "zstd", "gzip": "gzip", "lz4": "lz4", "blosc": "blosc"}
        if isinstance(compressor, str):
            assert names[compressor] in shown
        elif compressor is None:
            assert found.compressors == ()
        else:
            assert type(compressor).__name__.lower() in shown
            assert "level=9" in shown or "lz4" in shown

    @pytest.mark.parametrize("compressor", ["zst", "lzo", 5, object()])
    def test_a_compressor_that_is_not_known_is_an_error_that_lists_those_that_are(self, compressor: Any) -> None:
        write("data.h5")
        with pytest.raises(PlanError) as error:
            scitex.migrate_h5_to_zarr("data.h5", compressor=compressor)
        assert all(name in str(error.value) for name in ("zstd", "lz4", "gzip", "blosc"))
        assert "\n" not in str(error.value)
        assert os.listdir() == ["data.h5"]

    def test_chunks(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = write("video.h5")
        path = scitex.migrate_h5_to_zarr("video.h5", chunks=(1, 12, 16))
        check(path, data)
        root: Any = zarr.open_group(path)
        assert root["video"].chunks == (1, 12, 16)
        assert root["dataset"].chunks == (50, 40)
        assert "apply to arrays of rank 3; automatic ones for 6 others" in capsys.readouterr().out
        with pytest.warns(UserWarning, match="apply to arrays of rank 2"):
            path = scitex.migrate_h5_to_zarr("video.h5", "b.zarr", chunks=(10, 10), show_progress=False)
        root = zarr.open_group(path)
        assert (root["dataset"].chunks, root["group_a/sub/deep"].chunks) == ((10, 10), (2, 2))
        path = scitex.migrate_h5_to_zarr("video.h5", "c.zarr", chunks=False, show_progress=False)
        root = zarr.open_group(path)
        assert all(array.chunks == tuple(max(1, n) for n in array.shape) for _, array in root.arrays())
        check(path, data)
        path = scitex.migrate_h5_to_zarr(
            "video.h5", "d.zarr", chunks={"dataset": (7, 40), "group_a/nested": (5,)} | {"group_a/sub": (2, 1)}
        )
        root = zarr.open_group(path)
        assert root["dataset"].chunks == (7, 40)
        check(path, data)

    def test_no_chunks_whatever_the_names(self) -> None:
        with h5py.File("data.h5", "w") as file:
            for name in ("a*", "ab", "[x]", "x", "q?"):
                file.create_dataset(f"g/{name}", data=np.zeros((len(name), 3)), chunks=(1, 1))
        root: Any = zarr.open_group(scitex.migrate_h5_to_zarr("data.h5", chunks=False, show_progress=False))
        assert {name: array.chunks for name, array in root["g"].arrays()} == {
            name: (len(name), 3) for name in ("a*", "ab", "[x]", "x", "q?")
        }

    def test_progress_validation_overwriting(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = write("data.h5")
        scitex.migrate_h5_to_zarr("data.h5", show_progress=True, validate=True)
        assert "verified (full)" in capsys.readouterr().out
        with pytest.raises(TargetExistsError, match=r"data.zarr: expected nothing, found a Zarr hierarchy"):
            scitex.migrate_h5_to_zarr("data.h5")
        data = write("data.h5", added=np.arange(5))
        scitex.migrate_h5_to_zarr("data.h5", "data.zarr", overwrite=True, show_progress=False)
        check("data.zarr", data)
        assert capsys.readouterr().out == ""

    def test_variable_length_strings(self) -> None:
        with h5py.File("strings.h5", "w") as file:
            file.create_dataset("text", data=["short", "longer string"], dtype=h5py.special_dtype(vlen=str))
        root: Any = zarr.open_group(scitex.migrate_h5_to_zarr("strings.h5"))
        assert root["text"][:].tolist() == ["short", "longer string"]

    def test_batches(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = {f"data/{i}.h5": write(f"data/{i}.h5", own=np.arange(i + 2)) for i in range(3)}
        files = sorted(glob.glob("data/*.h5"))
        assert scitex.migrate_h5_to_zarr_batch(files) == [f"data/{i}.zarr" for i in range(3)]
        found = scitex.migrate_h5_to_zarr_batch(files, overwrite=True, parallel=True, n_workers=2)
        assert found == [f"data/{i}.zarr" for i in range(3)]
        assert found.failures == {}
        assert "migrated 3 of 3 files" in capsys.readouterr().out
        assert scitex.migrate_h5_to_zarr_batch(files, output_dir="zarr_data/") == [f"zarr_data/{i}.zarr" for i in range(3)]
        assert scitex.migrate_h5_to_zarr_batch("data/", "zarr_dir/", compressor="gzip") == [
            f"zarr_dir/{i}.zarr" for i in range(3)
        ]
        for folder in ("data", "zarr_data", "zarr_dir"):
            for i in range(3):
                check(f"{folder}/{i}.zarr", data[f"data/{i}.h5"])

    def test_in_parallel_from_a_script_without_main_guard(self) -> None:
        data = {f"data/{i}.h5": write(f"data/{i}.h5") for i in range(3)}
        Path("script.py").write_text(
            textwrap.dedent(
                """
                import os
                from h5z.compat.scitex import migrate_h5_to_zarr_batch
                import glob
                print(migrate_h5_to_zarr_batch(sorted(glob.glob("data/*.h5")), parallel=True, n_workers=os.cpu_count()))
                """
            )
        )
        done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.count("migrated 3 of 3") == 1
        check("data/1.zarr", data["data/1.h5"])

    def test_the_complete_example(self, capsys: pytest.CaptureFixture[str]) -> None:
        measurements = RANDOM.normal(size=(1000, 10))
        value = {
            "raw_data": {"measurements": measurements, "timestamps": np.arange(1000)},
            "metadata": {"experiment": "Test", "date": "2025-07-12"},
        }
        scitex.save(value, "experiment.h5")
        path = scitex.migrate_h5_to_zarr(
            "experiment.h5", "experiment.zarr", compressor="zstd", chunks=True, show_progress=True, validate=True
        )
        with scitex.ZarrExplorer(path) as explorer:
            explorer.show()
            assert np.array_equal(explorer.load("raw_data/measurements"), measurements)
        assert "measurements float64 1000×10" in capsys.readouterr().out
        found = scitex.load(path)
        assert list(found) == ["metadata", "raw_data"]
        assert found["metadata"]["experiment"] == "Test"
        original = scitex.load("experiment.h5")
        assert original["metadata"] == value["metadata"]
        assert np.array_equal(original["raw_data"]["timestamps"], np.arange(1000))


def test_calls_that_are_wrong_in_one_line() -> None:
    write("data.h5")
    Path("file.zarr").write_text("x")
    calls: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
        "no file": (lambda: scitex.migrate_h5_to_zarr("none.h5"), SourceError, "none.h5: no such file"),
        "chunks": (lambda: scitex.migrate_h5_to_zarr("data.h5", chunks="huge"), PlanError, "chunks"),
        "target": (lambda: scitex.migrate_h5_to_zarr("data.h5", "file.zarr"), TargetExistsError, "found a file"),
        "workers": (lambda: scitex.migrate_h5_to_zarr_batch(["data.h5"], n_workers=0), PlanError, "positive number"),
        "paths": (lambda: scitex.migrate_h5_to_zarr_batch(5), PlanError, "expected paths"),
        "name": (lambda: scitex.save(1, "x.npy"), PlanError, "expected a name that ends in .zarr"),
        "no name": (lambda: scitex.save(1), PlanError, "expected where to save"),
        "no store": (lambda: scitex.load("none.zarr"), SourceError, "no such file"),
        "no zip": (lambda: scitex.load("file.zarr.zip"), TargetError, "expected a zipped Zarr store"),
        "explorer": (lambda: scitex.ZarrExplorer("data.h5"), TargetError, "expected a Zarr hierarchy"),
        "other explorer": (lambda: scitex.H5Explorer("."), SourceError, "found a directory"),
        "key": (lambda: scitex.load("data.h5", "none"), MissingKeyError, "found none"),
    }
    for name, (call, kind, message) in calls.items():
        with pytest.raises(kind, match=message) as error:
            call()
        assert "\n" not in str(error.value), name
    assert sorted(os.listdir()) == ["data.h5", "file.zarr"]
    with pytest.warns(UserWarning, match="none.h5: no such file"):
        scitex.explore_h5("none.h5")
