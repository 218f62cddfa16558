"""SciTeX's functions over h5z: its users' calls as they write them, judged by the values that come out.

What its own versions do wrong (see the names of the tests) is done right here.
"""

from __future__ import annotations

import glob
import inspect
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from h5z.compat import scitex
from h5z.errors import H5zError, MissingKeyError, PlanError, SourceError, TargetError, TargetExistsError, UnsupportedError

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own: paths are given as users give them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str | Path, **more: Any) -> dict[str, Any]:
    """A file with groups, attributes, text, numbers; what it holds by path."""
    data: dict[str, Any] = {
        "dataset": RANDOM.normal(size=(50, 40)),
        "group_a/nested": np.arange(20, dtype="<i2"),
        "group_a/sub/deep": np.array([[1, 2], [3, 4]]),
        "video": RANDOM.integers(0, 255, (6, 12, 16), dtype=np.uint8),
        "text": np.array(["short", "longer string"], object),
        "complex": np.array([1 + 2j, 3]),
        "scalar": np.float32(0.5),
        **more,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values
        file.attrs["title"] = "x"
        file["group_a"].attrs["k"] = 1
        file["group_a"].attrs["flags"] = np.array([True, False])
        file["dataset"].attrs.update({"complex": 1j, "units": "K", "last": np.nan})
    return data


def check(store: str, data: dict[str, Any]) -> None:
    """Compare a store's values with a file's."""
    root = zarr.open_group(store, mode="r")
    for name, values in data.items():
        found: Any = root[name]
        assert found.shape == np.shape(values)
        assert np.array_equal(np.asarray(found[...]).astype(np.asarray(values).dtype), values), name
    assert root.attrs["title"] == "x"
    assert root["dataset"].attrs["units"] == "K"  # after one that JSON cannot hold


def places(name: str) -> list[str]:
    """The same path relative, with a dot, and absolute."""
    return [name, f"./{name}", os.path.abspath(name)]


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


class TestZarrGuide:
    """Each call of SciTeX's guide to Zarr."""

    @pytest.mark.parametrize("number", range(3))
    def test_save_and_load(self, number: int) -> None:
        data = {"array": RANDOM.normal(size=(100, 100)), "metadata": {"experiment": "test", "version": 1.0}}
        path = places("output.zarr")[number]
        assert scitex.save(data, path) == Path(path)
        loaded = scitex.load(path)
        assert np.array_equal(loaded["array"], data["array"])
        assert scitex.load(path, key="metadata") == data["metadata"]
        assert np.array_equal(scitex.load(path, key="array"), data["array"])
        scitex.save(data, "./compressed.zarr", compressor="zstd", chunks=(50, 100))
        found: Any = zarr.open_group("compressed.zarr")["array"]
        assert found.chunks == (50, 100)
        assert np.array_equal(found[:], data["array"])

    def test_mixed_types(self) -> None:
        data = {
            "count": 42,
            "ratio": 3.14159,
            "active": True,
            "name": "Experiment A",
            "nothing": None,
            "image": RANDOM.integers(0, 255, (16, 16, 3), dtype=np.uint8),
            "complex_data": np.array([1 + 2j, 3 + 4j]),
            "results": {"accuracy": 0.95, "labels": ["cat", "dog", "bird"]},
        }
        scitex.save(data, "./mixed_types.zarr")
        loaded = scitex.load("./mixed_types.zarr")
        assert {k: v for k, v in loaded.items() if not isinstance(v, np.ndarray)} == {
            k: v for k, v in data.items() if not isinstance(v, np.ndarray)
        }
        assert [type(loaded[k]) for k in data] == [type(v) for v in data.values()]
        assert np.array_equal(loaded["image"], data["image"])
        assert isinstance(zarr.open_group("mixed_types.zarr")["results"], zarr.Group)  # no blob

    def test_keys(self) -> None:
        scitex.save({"temperature": np.arange(5.0)}, "./data.zarr", key="sensors/environmental")
        scitex.save({"pressure": np.arange(3.0)}, "./data.zarr", key="sensors/environmental")
        scitex.save({"video": np.zeros((2, 2))}, "./data.zarr", key="sensors/camera")
        found = scitex.load("./data.zarr", key="sensors/environmental")
        assert {name: values.tolist() for name, values in found.items()} == {
            "temperature": [0, 1, 2, 3, 4],
            "pressure": [0, 1, 2],
        }
        with pytest.raises(KeyError):
            scitex.load("./data.zarr", key="sensors/none")

    def test_compressors(self) -> None:
        large = RANDOM.normal(size=(100, 100))
        compressors: list[Any] = ["zstd", "lz4", "gzip", None, numcodecs.Zstd(level=9), numcodecs.LZ4(acceleration=10)]
        for i, compressor in enumerate(compressors):
            scitex.save(large, f"./test_{i}.zarr", compressor=compressor)
            assert np.array_equal(scitex.load(f"./test_{i}.zarr"), large)
            assert np.array_equal(scitex.load(f"./test_{i}.zarr", key="data"), large)
        with pytest.raises(PlanError, match="expected one of 'zstd', 'lz4', 'gzip', 'blosc'"):
            scitex.save(large, "./x.zarr", compressor="zst")

    def test_chunks(self) -> None:
        data = RANDOM.normal(size=(10, 20, 30))
        scitex.save({"data": data, "n": 1}, "./chunked.zarr", chunks=(5, 10, 15))
        store: Any = zarr.open("./chunked.zarr", mode="r")
        assert store["data"].chunks == (5, 10, 15)
        assert np.array_equal(store["data"][0:3, 5:7, 1:9], data[0:3, 5:7, 1:9])
        scitex.save({"data": data}, "./whole.zarr", chunks=False)
        assert zarr.open("./whole.zarr", mode="r")["data"].chunks == data.shape  # type: ignore[index, union-attr]
        with pytest.raises(PlanError, match="matches no dataset"):
            scitex.save({"data": data}, "./none.zarr", chunks={"dat": (1, 1, 1)})
        scitex.save({"data": data, "other": data}, "./keyed.zarr", key="k", chunks={"data": (1, 20, 30)})
        assert zarr.open("./keyed.zarr", mode="r")["k/data"].chunks == (1, 20, 30)  # type: ignore[index, union-attr]

    def test_attributes(self) -> None:
        scitex.save({"array": np.arange(3)}, "./data.zarr")
        store: Any = zarr.open("./data.zarr", mode="a")
        store.attrs["created_date"] = "2025-07-12"
        store["array"].attrs["units"] = "meters"
        found = scitex.load("./data.zarr")
        assert found["_attr_created_date"] == "2025-07-12"
        assert found["array"].tolist() == [0, 1, 2]

    def test_from_other_formats(self) -> None:
        with h5py.File("data.h5", "w") as file:
            file["g/x"] = np.arange(4)
            file["g"].attrs["k"] = 1
        found = scitex.load("./data.h5")
        assert found["g"]["_attr_k"] == 1
        scitex.save(found, "./data.zarr")
        assert scitex.load("./data.zarr", key="g/x").tolist() == [0, 1, 2, 3]

    def test_the_complete_workflow(self, capsys: pytest.CaptureFixture[str]) -> None:
        experiment = {
            "config": {"name": "Neural Recording Analysis", "sampling_rate": 300, "channels": 4},
            "raw_signals": RANDOM.normal(size=(4, 3000)),
            "events": {"timestamps": np.sort(RANDOM.uniform(0, 10, 100)), "labels": RANDOM.choice(["spike", "burst"], 100)},
        }
        path = "./neural_experiment.zarr"
        scitex.save(experiment, path, chunks={"raw_signals": (4, 300)}, compressor="zstd")
        store: Any = zarr.open(path, mode="r+")
        assert store["raw_signals"].chunks == (4, 300)
        for i in range(10):
            store[f"processed/filtered_sec_{i}"] = np.abs(store["raw_signals"][:, i * 300 : (i + 1) * 300])
        rate = store["events/timestamps"].shape[0] / 10
        scitex.save(rate, path, key="analysis/spike_rate")  # zarr 3 assigns no single numbers to groups
        store.attrs["processed"] = True
        scitex.explore_zarr(path)
        assert "filtered_sec_9 float64 4×300" in capsys.readouterr().out
        with scitex.ZarrExplorer(path) as explorer:
            assert explorer.has_key("analysis/spike_rate")
            assert explorer.load("analysis/spike_rate") == 10
            assert explorer.load("config/name") == "Neural Recording Analysis"
            assert np.array_equal(explorer.load("events/labels"), experiment["events"]["labels"])  # type: ignore[index]
            assert set(explorer.keys("/")) == {"config", "raw_signals", "events", "processed", "analysis"}
            assert explorer["raw_signals"][0, :5].tolist() == experiment["raw_signals"][0, :5].tolist()  # type: ignore[index]

    def test_one_file(self) -> None:
        scitex.save({"a": np.arange(5)}, "x.zarr.zip")
        scitex.save({"b": "t"}, "x.zarr.zip", key="more")
        found = scitex.load("x.zarr.zip")
        assert (found["a"].tolist(), found["more"]) == ([0, 1, 2, 3, 4], {"b": "t"})
        assert scitex.load("x.zarr.zip", key="more/b") == "t"
        assert os.listdir() == ["x.zarr.zip"]


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
