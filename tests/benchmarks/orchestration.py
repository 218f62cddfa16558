"""``python -m tests.benchmarks.orchestration``: what Prefect and the flow add to the conversion of many small files.

Against a real Prefect server of its own (SQLite; the runs' logs go to it), on one dask cluster:

- The same files, workers and policy: as bare dask tasks, nothing else; as the flow; and the flow again, which finds nothing
  to do. In turn, several times. Finding the files, the report and its page count as the flow's.
- The flow alone, its conversions taken out (a task that tells that it has converted), over more and more files; and such tasks
  bare. A line is fitted through what they took, what Prefect was asked, and what its database grew by: its value at 10⁶.

CPU seconds are those of this process, the server, the workers and their children together.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from urllib.request import urlopen

import h5py
import numpy as np
import psutil

from flows.batches import Job
from flows.cluster import connect
from flows.conversion import Options, convert_file
from flows.report import FileRecord

SIZES = (1, 300, 1000, 3000, 10_000, 30_000, 100_000)
MILLION = 10**6


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds; of processors; what its tasks take of those bare; requests to Prefect; bytes of its database."""

    wall: float
    cpu: float
    tasks: float
    requests: float
    database: float
    batches: float


def make(folder: Path, files: int) -> list[Path]:
    """Files of ten small datasets with attributes."""
    folder.mkdir()
    paths = [folder / f"{i:06d}.h5" for i in range(files)]
    for i, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            for j in range(10):
                dataset = file.create_dataset(f"group/x{j}", data=np.arange(i, i + 1000.0), chunks=(500,))
                dataset.attrs["units"] = "K"
    return paths


def cpu() -> float:
    """Seconds of processors that this process, Prefect's server, the workers and their children have used so far."""
    mine = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (mine, *mine.children(recursive=True)))


@contextmanager
def server(home: Path) -> Iterator[Path]:
    """A Prefect server as the deployments' README starts it; its database. The environment names it from then on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    home.mkdir()
    url = f"http://127.0.0.1:{port}/api"
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "WARNING"}
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "NO_PROXY": "127.0.0.1,localhost", **quiet}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _answers(f"{url}/health"):
                if process.poll() is not None:
                    raise RuntimeError("Prefect's server did not start")
                time.sleep(0.2)
            yield home / "prefect.db"
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


class Requests:
    """Counts what this process asks Prefect's server."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count, as long as this lasts."""
        import httpx

        def wrapped(send: Any) -> Any:
            def counting(*given: Any, **more: Any) -> Any:
                self.count += 1
                return send(*given, **more)

            return counting

        with (
            patch.object(httpx.Client, "send", wrapped(httpx.Client.send)),
            patch.object(httpx.AsyncClient, "send", wrapped(httpx.AsyncClient.send)),
        ):
            yield


def database_nbytes(database: Path) -> int:
    """Bytes that a database holds, whether in its file or yet in its log."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


def bare(client: Any, paths: Sequence[Path], out: Path, work: Any = convert_file) -> tuple[float, float]:
    """Seconds, and of processors, of the conversions as dask tasks, nothing else; as the flow has them done."""
    jobs = [Job(str(path), str(out / f"{path.stem}.zarr"), path.stat().st_size) for path in paths]
    start, used = time.perf_counter(), cpu()
    futures = client.map(work, jobs, options=Options(verify="none"), isolated=True, pure=False)
    assert {record.status for record in client.gather(futures)} == {"converted"}
    return time.perf_counter() - start, cpu() - used


def flow(client: Any, folder: Path, out: Path, expected: str, database: Path) -> Cost:
    """What the flow takes."""
    import flows

    requests, size = Requests(), database_nbytes(database)
    start, used = time.perf_counter(), cpu()
    with requests.counted():
        report = flows.migrate(folder, out, scheduler=client.scheduler.address, verify="none")
    wall, used = time.perf_counter() - start, cpu() - used
    assert report.count(expected) == len(report.files), str(report)
    return Cost(wall, used, 0.0, requests.count, database_nbytes(database) - size, report.batches)


def told(job: Job, options: Options, **how: Any) -> FileRecord:
    """In a conversion's place: the record of one."""
    routes = {"copy": job.nbytes}
    return FileRecord(job.source, job.target, "converted", nbytes=job.nbytes, stored_nbytes=1, seconds=0.01, routes=routes)


def compare(client: Any, folder: Path, files: int, rounds: int, database: Path) -> None:
    """The flow beside its conversions, and with nothing to do."""
    paths = make(folder / "in", files)
    bare(client, paths[:20], folder / "warm")
    flow(client, paths[0], folder / "warm-flow", "converted", database)
    alone = [flow(client, paths[0], folder / f"alone{i}", "converted", database) for i in range(rounds)]
    walls, cpus, net = [], [], []
    for i in range(rounds):
        took, used = bare(client, paths, folder / f"bare{i}")
        found = flow(client, folder / "in", folder / f"flow{i}", "converted", database)
        again = flow(client, folder / "in", folder / f"flow{i}", "unchanged", database)
        walls.append(found.wall / took)
        cpus.append(found.cpu / used)
        net.append((found.cpu - alone[i].cpu) / used)
        print(f"conversions {took:.2f} s, {used:.2f} s of CPU; the flow {found.wall:.2f} s, {found.cpu:.2f} s of CPU,", end=" ")
        print(f"{found.requests:.0f} requests; again {again.wall:.2f} s, {again.cpu:.2f} s of CPU", flush=True)
        shutil.rmtree(folder / f"bare{i}")
        shutil.rmtree(folder / f"flow{i}")
    start = median(cost.wall for cost in alone), median(cost.cpu for cost in alone)
    print(f"the flow of one file: {start[0]:.2f} s, {start[1]:.2f} s of CPU: what it is to start")
    print(f"{files} files, medians of {rounds}: the flow takes {median(walls):.3f} of the bare conversions' time,", end=" ")
    print(f"{median(cpus):.3f} of their CPU; but for its start {median(net):.3f}", flush=True)


def project(client: Any, folder: Path, sizes: Sequence[int], database: Path) -> None:
    """The flow without its conversions over more and more files; and the line at a million."""
    importlib.import_module("flows.execution")
    folder.mkdir()
    counts, costs = [], []
    print(f"{'files':>9} {'seconds':>9} {'CPU':>9} {'tasks':>9} {'requests':>9} {'database':>12} {'batches':>8}")
    for size in sizes:
        for i in range(counts[-1] if counts else 0, size):
            (folder / f"{i:06d}.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000))
        with patch("flows.execution.convert_file", told):
            cost = flow(client, folder, folder.parent / f"told{size}", "converted", database)
        counts.append(size)
        costs.append(replace(cost, tasks=bare(client, sorted(folder.iterdir()), folder, told)[1]))
        show(size, costs[-1])
    lines = [np.polyfit(counts, column, 1) for column in zip(*map(astuple, costs), strict=True)]
    show(MILLION, Cost(*(slope * MILLION + start for slope, start in lines)))
    each = Cost(*(slope * 1000 for slope, _ in lines))
    print(f"each further thousand: {each.wall:.2f} s, {each.cpu:.2f} s of CPU (bare tasks: {each.tasks:.2f}),", end=" ")
    print(f"{each.requests:.1f} requests, {each.database / 1024:.0f} KiB of database, {each.batches:.1f} batches")


def show(files: int, cost: Cost) -> None:
    """A row of the table."""
    print(f"{files:>9,} {cost.wall:>9.2f} {cost.cpu:>9.2f} {cost.tasks:>9.2f} {cost.requests:>9.0f}", end=" ")
    print(f"{cost.database:>12,.0f} {cost.batches:>8.0f}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.orchestration", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, help="converted in earnest; 0 leaves that out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=10_000, help="files of the flow alone; 0 leaves that out")
    options = parser.parse_args(argv)
    with (
        TemporaryDirectory(prefix="h5z-orchestration-") as name,
        server(Path(name) / "prefect") as database,
        connect(workers=2) as client,
    ):
        if options.files:
            compare(client, Path(name), options.files, options.rounds, database)
        if options.most:
            project(client, Path(name) / "told", [size for size in SIZES if size <= options.most], database)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
