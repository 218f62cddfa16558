"""``python -m tests.benchmarks.orchestration``: what Prefect and the flow add to the conversion of many small files.

The same files, workers and policy: as bare dask tasks, and as the flow; in turn, several times. What a run costs beside its
conversions is a constant and a share for each file; the second run, which finds nothing to do, tells the share of looking.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import psutil

import flows
from flows.batches import Job
from flows.cluster import connect
from flows.conversion import Options, convert_file


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
    """Seconds of processors that this process, Prefect's server and the workers have used so far."""
    mine = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (mine, *mine.children(recursive=True)))


def bare(client: object, paths: Sequence[Path], out: Path) -> float:
    """Seconds of the conversions as dask tasks, nothing else."""
    jobs = [Job(str(path), str(out / f"{path.stem}.zarr"), path.stat().st_size) for path in paths]
    start = time.perf_counter()
    futures = client.map(convert_file, jobs, options=Options(verify="none"), pure=False)  # type: ignore[attr-defined]
    assert {record.status for record in client.gather(futures)} == {"converted"}  # type: ignore[attr-defined]
    return time.perf_counter() - start


def flow(address: str, folder: Path, out: Path, expected: str) -> float:
    """Seconds of the flow."""
    start = time.perf_counter()
    report = flows.migrate(folder, out, scheduler=address, verify="none")
    assert report.count(expected) == len(report.files), str(report)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.orchestration", description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    with TemporaryDirectory(prefix="h5z-orchestration-") as name, connect(workers=2) as client:
        folder, address = Path(name), client.scheduler.address
        paths = make(folder / "in", options.files)
        bare(client, paths[:20], folder / "warm")
        flow(address, paths[0], folder / "warm-flow", "converted")
        walls, cpus, looked = [], [], []
        for i in range(options.rounds):
            used = [cpu()]
            converted = bare(client, paths, folder / f"bare{i}")
            used.append(cpu())
            orchestrated = flow(address, folder / "in", folder / f"flow{i}", "converted")
            used.append(cpu())
            looked.append(flow(address, folder / "in", folder / f"flow{i}", "unchanged"))
            walls.append(orchestrated / converted)
            cpus.append((used[2] - used[1]) / (used[1] - used[0]))
            print(f"conversions {converted:.2f} s, {used[1] - used[0]:.2f} s of CPU;", end=" ")
            print(f"the flow {orchestrated:.2f} s, {used[2] - used[1]:.2f} s of CPU; again {looked[-1]:.2f} s", flush=True)
        print(f"{options.files} files, medians of {options.rounds}: the flow takes {median(walls):.3f} of the bare", end=" ")
        print(f"conversions' time, {median(cpus):.3f} of their CPU")
        each = median(looked) / options.files
        print(f"a run with nothing to do: {median(looked):.2f} s; 10⁶ files at most {each * 1e6 / 60:.0f} min")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
