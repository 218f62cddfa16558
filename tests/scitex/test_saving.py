"""SciTeX's save and load over h5z: its users' calls as they write them, judged by the values that come out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from h5z.compat import scitex
from h5z.errors import PlanError

from .files import RANDOM, places


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
