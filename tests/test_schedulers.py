"""One file, every scheduler, every day: target trees are the same to the byte."""

from __future__ import annotations

import importlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import h5py
import numpy as np
import obstore
import pytest
from distributed import Client, LocalCluster
from zarr.storage import FsspecStore, MemoryStore, ObjectStore

import h5z
from h5z.errors import PlanError, SourceError
from h5z.scheduling import run
from h5z.target import Target

from .stored import listing

POLICY: dict[str, Any] = {"chunks": {"/slices": (24, 64, 64)}, "memory": "5MiB", "workers": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that is staged, one that is copied, text, sequences, and small ones for more than one task."""
    path = tmp_path_factory.mktemp("schedulers") / "in.h5"
    chance = np.random.default_rng(4)
    with h5py.File(path, "w") as file:
        slices = chance.integers(0, 1000, (24, 256, 256)).astype("<f4")
        file.create_dataset("slices", data=slices, chunks=(1, 256, 256), shuffle=True, compression="gzip", compression_opts=1)
        file["words"] = ["naïve", "", "words"] * 100
        rows = file.create_dataset("rows", (20,), h5py.vlen_dtype("<i4"))
        for i in range(20):
            rows[i] = np.arange(i % 7)
        file.create_dataset("sparse", (100, 100), "<i2", chunks=(10, 10), fillvalue=3)[35, 45] = 1
        for i in range(300):
            file[f"small/{i}"] = np.arange(i + 1)
    return path


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dataset in a group."""
    path = tmp_path_factory.mktemp("numbers") / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("group/x", data=np.arange(256, dtype="<i4").reshape(16, 16), chunks=(4, 16), compression="gzip")
    return path


STORES: dict[str, Any] = {
    "MemoryStore": MemoryStore,
    "URL": lambda: f"memory://{uuid.uuid4()}/out.zarr",
    "fsspec": lambda: FsspecStore.from_url(f"memory://{uuid.uuid4()}/out.zarr"),
    "obstore": lambda: ObjectStore(obstore.store.MemoryStore()),
}


CLUSTERS = ("cluster", "address", "cluster in this process")


@pytest.mark.parametrize(("name", "scheduler"), [*((n, "processes") for n in STORES), *(("MemoryStore", s) for s in CLUSTERS)])
def test_a_target_in_memory_is_refused_to_other_processes(
    numbers: Path, cluster: LocalCluster, name: str, scheduler: str
) -> None:
    """Each would fill a copy of its own, also a cluster's workers here; in one line, before the source is even looked at."""
    target = STORES[name]()
    inside = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with Client(**inside, set_as_default=False) if "in" in scheduler else Client(cluster, set_as_default=False) as client:
        chosen = {"processes": "processes", "address": cluster.scheduler_address}.get(scheduler, client)
        with pytest.raises(PlanError, match="expected a target that worker processes reach") as caught:
            h5z.convert("missing.h5", target, scheduler=chosen)
    assert "\n" not in str(caught.value)
    assert not Target.of(target).exists()
    assert h5z.convert(numbers, target, scheduler="threads", overwrite=True, verify="full").ok


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    """Every file of the target as one thread writes it; verified."""
    target = tmp_path_factory.mktemp("expected") / "out.zarr"
    h5z.convert(source, target, scheduler="sync", **POLICY)
    assert h5z.verify(source, target).ok
    return listing(target)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(silence_logs=logging.ERROR, **options) as made:
        yield made


def test_the_file_takes_several_tasks_of_both_kinds(source: Path) -> None:
    plan = h5z.plan(source, "out.zarr", **POLICY)
    tasks = list(plan.tasks())
    assert {array.route for array in plan.arrays} >= {"staged", "regrid", "library"}
    assert sum(task.staging for task in tasks) > 2
    assert sum(not task.staging for task in tasks) > 1


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes", None])
def test_schedulers_of_this_machine(
    source: Path, expected: dict[str, bytes | None], tmp_path: Path, scheduler: str | None
) -> None:
    assert h5z.convert(source, tmp_path / "out.zarr", scheduler=scheduler, **POLICY).status == "converted"
    assert listing(tmp_path / "out.zarr") == expected


def test_threads_begin_nothing_after_an_error() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        time.sleep(0.005)

    jobs = ((work, (number,), 1) for number in range(5000))
    with pytest.raises(ValueError, match="the third"):
        run(jobs, "threads", 2, lambda nbytes: None)
    assert len(begun) < 5000
    assert [run([(abs, (-i,), 1) for i in range(9)], "threads", n, lambda nbytes: None) for n in (1, 2)] == [[*range(9)]] * 2


def test_processes_are_spawned() -> None:
    assert dask.config.get("multiprocessing.context", "spawn") == "spawn"


@pytest.mark.cluster
def test_a_cluster_by_address(source: Path, expected: dict[str, bytes | None], tmp_path: Path, cluster: LocalCluster) -> None:
    """Which is left as it was: no client stays connected."""
    before = set(cluster.scheduler.clients)
    report = h5z.convert(source, tmp_path / "out.zarr", scheduler=cluster.scheduler_address, **POLICY)
    assert report.status == "converted"
    assert listing(tmp_path / "out.zarr") == expected
    assert set(cluster.scheduler.clients) == before


@pytest.mark.cluster
@pytest.mark.parametrize("default", [True, False])
def test_a_cluster_by_client(
    source: Path, expected: dict[str, bytes | None], tmp_path: Path, cluster: LocalCluster, default: bool
) -> None:
    """Given, or active."""
    with Client(cluster, set_as_default=default) as client:
        progress: list[tuple[int, int]] = []
        chosen = None if default else client
        h5z.convert(source, tmp_path / "out.zarr", scheduler=chosen, progress=lambda *n: progress.append(n), **POLICY)
        assert h5z.verify(source, tmp_path / "out.zarr", scheduler=chosen).ok
    assert listing(tmp_path / "out.zarr") == expected
    assert progress[-1][0] == progress[-1][1]


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes", "cluster"])
def test_a_graph_on_any_scheduler(
    source: Path, expected: dict[str, bytes | None], tmp_path: Path, cluster: LocalCluster, scheduler: str
) -> None:
    plan = h5z.plan(source, tmp_path / "out.zarr", **POLICY)
    graph = h5z.graph(plan)
    if scheduler == "cluster":
        with Client(cluster, set_as_default=False) as client:
            ran = client.compute(graph).result()
    else:
        ran = graph.compute(scheduler=scheduler, **({} if scheduler == "sync" else {"num_workers": 2}))
    assert ran == len(list(plan.tasks()))
    h5z.finalize(tmp_path / "out.zarr")
    assert listing(tmp_path / "out.zarr") == expected


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_an_error_is_the_same_everywhere(tmp_path: Path, cluster: LocalCluster, scheduler: str) -> None:
    """A spoilt chunk: one line that names it, and no target, then or later."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("x", data=np.arange(2400.0).reshape(600, 4), chunks=(1, 4), compression="gzip")
        made.id.write_direct_chunk((420, 0), b"no deflate")
    where = cluster.scheduler_address if scheduler == "cluster" else scheduler
    with pytest.raises(SourceError, match=r"in\.h5: /x\[\d+:\d+,0:4\] cannot be read"):
        h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", scheduler=where, chunks=(1, 2), memory="1KiB", workers=2)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("codec", ["auto", "gzip:1", "zstd:3", "zlib:1", "bz2:1", "lzma:1", "blosc-zlib:5"])
def test_another_day_writes_the_same_bytes(numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    """No codec stores when it ran, so that what two runs wrote makes one target; on its own and within shards."""
    for name, days in (("today", 0), ("tomorrow", 1)):
        now = time.time() + days * 86_400
        monkeypatch.setattr(time, "time", lambda now=now: now)
        h5z.convert(numbers, tmp_path / f"{name}.zarr", codec=codec)
        h5z.convert(numbers, tmp_path / f"{name}-shards.zarr", codec=codec, chunks=(4, 4), shards=(8, 8))
        monkeypatch.undo()
    assert listing(tmp_path / "today.zarr") == listing(tmp_path / "tomorrow.zarr")
    assert listing(tmp_path / "today-shards.zarr") == listing(tmp_path / "tomorrow-shards.zarr")


def test_a_rerun_with_more_workers_keeps_to_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are those of the first run's plan, so that its number of workers is the most that fit."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["x"] = np.zeros((2000, 1000))
    memory, target = 4 << 20, tmp_path / "out.zarr"
    first = h5z.plan(tmp_path / "in.h5", target, chunks=(10, 500), memory=memory, workers=1)
    assert first.peak_nbytes <= memory
    h5z.graph(first)
    module, used = importlib.import_module("h5z.execution"), []
    true = module.run

    def run(jobs: Any, scheduler: Any, workers: int, *rest: Any, **named: Any) -> Any:
        used.append(workers)
        return true(jobs, scheduler, workers, *rest, **named)

    monkeypatch.setattr(module, "run", run)
    h5z.convert(tmp_path / "in.h5", target, chunks=(10, 500), memory=memory, workers=16)
    assert replace(first, workers=max(used)).peak_nbytes <= memory


def test_files_are_scanned_side_by_side(tmp_path: Path) -> None:
    """By threads, where each asks libhdf5 what a fill value of variable length is."""
    paths = [tmp_path / f"{i}.h5" for i in range(8)]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["words"] = ["a", "", "b"]
            file.create_dataset("more", (3,), h5py.string_dtype(), fillvalue="none")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: h5z.scan(path, measure=True), paths))
    assert [(tree.problems, list(tree.nodes)) for tree in found] == [((), ["/", "/more", "/words"])] * 8


@pytest.mark.parametrize("waits", [True, False])
def test_small_jobs_take_threads_where_they_wait(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    """The first shows it: by the processor's time that it takes of its own."""
    clock = SimpleNamespace(perf_counter=time.perf_counter, thread_time=(lambda: 0.0) if waits else time.perf_counter)
    monkeypatch.setattr("h5z.scheduling.time", clock)
    meeting = threading.Barrier(2 if waits else 1)

    def work(first: bool) -> int:
        if not first:
            meeting.wait(60)
        return threading.get_ident()

    found = run([(work, (i == 0,), 0) for i in range(3)], "threads", 2, lambda nbytes: None, small=True)
    here = threading.get_ident()
    assert found[0] == here
    assert set(found[1:]) == ({*found} - {here} if waits else {here})
    assert len(set(found)) == (3 if waits else 1)
