"""Migrations on clusters of others' making: a scheduler and workers as processes of their own, and classes by name."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import pytest
import zarr

import flows
from flows.cluster import cluster_class, connect, result_of, results_of
from flows.conversion import is_transient
from flows.report import FileRecord
from flows.server import start
from h5z.errors import PlanError

Write: TypeAlias = Callable[..., Path]
PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.flow, pytest.mark.cluster]


class Outside:
    """A dask scheduler and two workers without nannies, started as an operator starts them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.env = {**os.environ, "PYTHONPATH": str(PROJECT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
        self.processes = [self.start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")]
        self.workers = [self.start("worker", "--no-nanny", "--no-dashboard", "--nthreads", "1") for _ in range(2)]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "dask", *command, "--scheduler-file", str(self.file)]
        return subprocess.Popen(words, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def address(self) -> str:
        from distributed import Client

        with Client(scheduler_file=str(self.file), set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            return str(client.scheduler.address)

    def close(self) -> None:
        for process in (*self.workers, *self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    cluster = Outside(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What flow runs log, warnings and worse."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    start()
    import_module("flows.archive")  # when Prefect is imported, it sets all of its loggers' levels and handlers
    logger, handler = logging.getLogger("prefect.flow_runs"), Keep(logging.WARNING)
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_worker_killed_half_way_costs_nothing_but_time(outside: Outside, tmp_path: Path, write: Write, log: list[str]) -> None:
    """Small files and a large one whose blocks are spread over both workers; the flow's log names the worker lost."""
    for i in range(200):
        write(tmp_path / "in" / f"{i:03d}.h5", i)
    with h5py.File(tmp_path / "in" / "big.h5", "w") as file:
        file.create_dataset("cube", data=np.random.default_rng(0).random((64, 128, 128)), chunks=(4, 128, 128), compression=4)
    address = outside.address
    root = tmp_path / "out"

    def kill() -> None:
        deadline = time.monotonic() + 60
        while sum(1 for _ in root.glob("[0-9]*.zarr/zarr.json")) < 8 and time.monotonic() < deadline:
            time.sleep(0.005)
        outside.workers[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = flows.migrate(
        tmp_path / "in", root, scheduler=address, verify="full", big_file_nbytes="1MB", policy={"memory": "32MiB"}
    )
    killer.join()
    # What a worker had done, but not yet told when it was killed, is found unchanged by the next.
    assert (report.exit_code, report.count("converted") + report.count("unchanged")) == (0, 201), str(report)
    assert np.array_equal(zarr.open(root / "big.zarr")["cube"][:], h5py.File(tmp_path / "in" / "big.h5")["cube"][:])
    assert zarr.open(root / "199.zarr")["values"][0, 0] == 199
    assert any("was lost" in line for line in log), log


def test_what_a_worker_warns_of_reaches_the_flow(outside: Outside) -> None:
    said: list[str] = []

    def warn() -> None:
        logging.getLogger("h5z.anything").warning("the disk\nis nearly full")
        logging.getLogger("flows").info("not worth telling")

    with connect(scheduler=outside.address, say=said.append) as client:
        client.submit(warn).result()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(said) == 1
    assert said[0].endswith("h5z.anything: the disk is nearly full")
    assert said[0].startswith("tcp://")


def test_a_batch_out_of_time_is_ended_and_named(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    """A file on which a worker hangs costs its batch's time, and neither the run nor the other files."""
    for i in range(3):
        write(tmp_path / "in" / f"{i}.h5", i)
    write(tmp_path / "in" / "stuck.h5")

    def convert(job: Any, options: Any, **rest: Any) -> Any:
        """At once, so that it is done in time on a busy machine too."""
        if job.source.endswith("stuck.h5"):
            time.sleep(600)
        return FileRecord(job.source, job.target, "converted", nbytes=job.nbytes)

    def warm() -> None:
        import_module("flows.conversion")

    monkeypatch.setattr("flows.execution.convert_file", convert)
    with connect(workers=2) as client:
        client.run(warm)
        report = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=client.scheduler.address, batch_timeout=8)
    assert (report.exit_code, report.count("converted")) == (5, 3), str(report)
    assert report.quarantined[0].reason == "it was not done when its batch's 8 s were over"


def test_a_result_that_never_comes_is_not_waited_for(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may pass: the task is tried again."""
    monkeypatch.setattr("flows.cluster._AGAIN_SECONDS", 0.1)
    with connect(scheduler=cluster) as client:
        future = client.submit(time.sleep, 3, pure=False)
        with pytest.raises(TimeoutError) as raised:
            result_of(future)
        assert is_transient(raised.value)
        assert results_of(client, [future]) == []
        assert client.submit(int, "7", pure=False).result() == 7


SBATCH = """#!/bin/sh
# Stands in for SLURM: keeps the job script, as SLURM does, and runs it at once. dask-jobqueue and the worker are the real ones.
cp "$1" "{folder}/job.sh"
sh "{folder}/job.sh" > "{folder}/job.log" 2>&1 &
echo $! >> "{folder}/jobs"
echo "Submitted batch job $!"
"""


def test_a_slurm_cluster_is_made_by_name(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill "$@"\n')):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(folder=tmp_path))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    for i in range(3):
        write(tmp_path / "in" / f"{i}.h5", i)
    keywords = {"cores": 1, "processes": 1, "memory": "1GiB", "queue": "short", "walltime": "00:10:00"}
    keywords |= {"interface": "lo", "local_directory": str(tmp_path), "log_directory": str(tmp_path), "python": sys.executable}
    spec = {"class": "dask_jobqueue.SLURMCluster", "keywords": keywords, "scale": 1}
    report = flows.migrate(tmp_path / "in", tmp_path / "out", cluster=spec)
    assert (report.exit_code, report.count("converted")) == (0, 3), str(report)
    assert (tmp_path / "jobs").read_text().split()


def test_a_local_cluster_is_made_by_name_from_the_environment(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.h5")
    monkeypatch.setenv(
        "H5Z_CLUSTER", '{"class": "LocalCluster", "keywords": {"processes": false, "dashboard_address": null}, "scale": 1}'
    )
    assert flows.migrate(tmp_path / "in", tmp_path / "out").count("converted") == 1


@pytest.mark.parametrize("name", ["dask_nowhere.Cluster", "os.system", "distributed.Client", "distributed.Nothing", ".."])
def test_what_is_no_cluster_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match="cluster: expected a class"):
        cluster_class(name)


def test_keywords_that_do_not_fit_are_refused_on_one_line(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "in" / "a.h5")
    spec = {"class": "dask_jobqueue.SLURMCluster", "keywords": {"memory": "1GiB"}}
    with pytest.raises(PlanError, match=r"cluster: dask_jobqueue.SLURMCluster could not be made \(ValueError") as caught:
        flows.migrate(tmp_path / "in", tmp_path / "out", cluster=spec)
    assert "\n" not in str(caught.value)
