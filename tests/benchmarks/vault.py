"""``python -m tests.benchmarks.vault``: microscope images into a vault; beside HDF5Vault 0.3.3, tar with zstd, and the floor.

The floor is what cannot be saved: the folder walked, each file read, compressed with the same codec, written behind the others,
all of it on the disk; on one thread, or one for each core. It takes no checksums and keeps no names. Each contender is a
process of its own, from start to exit, in turns; the page cache is warm for all. What starting alone takes, measured on an empty
folder, is named below. What each has written is read back, and compared with the folder, once. tar and HDF5Vault do not
wait for the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .measure import RunError, measure
from .report import machine

ROOT = Path(__file__).parents[2]
CASES = {"images": (400, 1024), "small": (20_000, 100)}  # files, and pixels of an edge, of 16 bits
FLOORS = ("floor", "floor threads")
STARTS = ("h5z", "floor threads")
PEERS = ("h5z", "h5z hdf5vault", "HDF5Vault", "tar zstd", *FLOORS)
MIB = 2**20


def make_images(folder: Path, count: int, edge: int) -> None:
    """TIFFs as a camera's of cells: an uneven background, bright spots, and noise that goes with the light."""
    import tifffile

    chance = np.random.default_rng(7)
    y, x = np.mgrid[:edge, :edge] / edge
    base = 300 + 900 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) * 3)
    for spot in chance.random((40, 3)):
        base += 3000 * spot[2] * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) * 900)
    noise = chance.standard_normal(4 * edge * edge, dtype="f4")
    for i in range(count):
        start = int(chance.integers(3 * edge * edge))
        values = base + np.sqrt(base) * noise[start : start + edge * edge].reshape(edge, edge)
        place = folder / f"plate{i % 2 + 1}" / f"{'BCDEFG'[i // 2 % 6]}{i // 12 % 10 + 2:02d}"
        place.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(place / f"T0001F{i // 120 + 1:03d}Z01C01.tif", values.clip(0, 65_535).astype("u2"))


def floor(source: Path, target: Path, threads: int) -> None:
    """Walk, read, compress, write, wait for the disk, and nothing else; at most two tasks a thread in memory."""
    import blosc2

    blosc2.set_releasegil(True)
    options: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "typesize": 8, "nthreads": 1}

    def packed(paths: Sequence[str]) -> list[bytes]:
        found = []
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
            found.append(min(blosc2.compress2(data, **options), data, key=len))
        return found

    tasks = list(_tasks(source))
    with open(target, "wb", buffering=0) as file, ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[bytes]]] = deque()
        while tasks or waiting:
            while tasks and len(waiting) < 2 * threads:
                waiting.append(pool.submit(packed, tasks.pop()))
            file.write(b"".join(waiting.popleft().result()))
        os.fsync(file.fileno())


def _tasks(source: Path) -> Iterator[list[str]]:
    """Files, of about 4 MiB together."""
    paths, nbytes = [], 0
    for folder, _, names in os.walk(source):
        for path in (os.path.join(folder, name) for name in sorted(names)):
            paths.append(path)
            nbytes += os.stat(path).st_size
            if nbytes >= 4 * MIB:
                yield paths
                paths, nbytes = [], 0
    if paths:
        yield paths


def _command(name: str, source: Path, folder: Path, mpi: Sequence[str]) -> list[str]:
    cores = str(os.cpu_count() or 1)
    if name in FLOORS:
        threads = "1" if name == "floor" else cores
        module = "tests.benchmarks.vault"
        return [sys.executable, "-m", module, "--floor", str(source), str(folder / "floor.bin"), threads]
    if name == "tar zstd":
        return ["tar", "-C", str(source), "-I", f"zstd -5 -T{cores}", "-cf", str(folder / "a.tar.zst"), "."]
    if name == "HDF5Vault":
        return [*mpi, "-m", "hdf5vault.create", str(source), str(folder / "a"), "-w", "1", "-c", "5", "-t", "1"]
    layout = ["--format", "hdf5vault"] if name != "h5z" else []
    return [sys.executable, "-m", "h5z.cli", "vault", "create", str(source), str(folder / "a"), "--workers", cores, *layout]


def check(name: str, source: Path, folder: Path) -> None:
    """Compare what was written with the folder.

    Raises
    ------
    RunError
        If it differs.
    """
    if name in FLOORS:
        return
    if name == "tar zstd":
        command = ["tar", "-C", str(source), "-I", "zstd", "-df", str(folder / "a.tar.zst")]
    else:
        command = [sys.executable, "-m", "h5z.cli", "vault", "verify", str(folder / "a"), "--source", str(source)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{name} does not hold what was archived: {(done.stdout + done.stderr).strip()[:200]}")


def run_case(names: Sequence[str], source: Path, work: Path, rounds: int, mpi: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each contender's samples, and the bytes that it wrote."""
    found: dict[str, dict[str, Any]] = {name: {"samples": [], "starts": [], "nbytes": 0} for name in names}
    nothing, folder = work / "nothing", work / "out"
    nothing.mkdir(exist_ok=True)
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            folder.mkdir()
            found[name]["samples"].append(measure(_command(name, source, folder, mpi), folder=ROOT, timeout=3600))
            found[name]["nbytes"] = sum(path.stat().st_size for path in folder.iterdir())
            if number == 0:
                check(name, source, folder)
            shutil.rmtree(folder)
            if name in STARTS:
                folder.mkdir()
                found[name]["starts"].append(measure(_command(name, nothing, folder, mpi), folder=ROOT))
                shutil.rmtree(folder)
    return found


def _median(found: dict[str, Any], what: str, of: str = "samples") -> float:
    return statistics.median(getattr(sample, what) for sample in found[of])


def starting(found: dict[str, dict[str, Any]]) -> str:
    """What processes take to start and to end, of which the rest is work."""
    one = {name: [_median(found[name], what, "starts") for what in ("wall", "cpu")] for name in STARTS if name in found}
    return "; ".join(f"{name} on an empty folder: {wall:.2f} s, CPU {cpu:.2f} s" for name, (wall, cpu) in one.items())


def table(case: str, nbytes: int, found: dict[str, dict[str, Any]]) -> Table:
    """Medians, and what they are of the floors'."""
    count, edge = CASES[case]
    title = (
        f"{case}: {nbytes / 1e6:.0f} MB in TIFFs of {edge}×{edge} of 16 bits ({count:,} at full size); medians (of the floor's)"
    )
    out = Table("", "wall s", "CPU s", "peak MiB", "MB", title=title, title_justify="left")
    base = {what: _median(found["floor"], what) for what in ("wall", "cpu", "peak_nbytes")}
    best = _median(found["floor threads"], "wall")
    for name, one in found.items():
        wall, cpu = _median(one, "wall"), _median(one, "cpu")
        size = f"{one['nbytes'] / 1e6:.2f} ({one['nbytes'] / found['floor']['nbytes']:.4f})"
        walls = f"{wall:.2f} ({wall / base['wall']:.2f}; of threads' {wall / best:.2f})"
        out.add_row(name, walls, f"{cpu:.2f} ({cpu / base['cpu']:.2f})", f"{_median(one, 'peak_nbytes') / MIB:.0f}", size)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; print medians and ratios, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.vault", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS, help="besides the floors")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the files (1.0: all)")
    parser.add_argument("--out", type=Path, help="where to write JSON")
    parser.add_argument("--floor", nargs=3, metavar=("SOURCE", "TARGET", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.floor:
        floor(Path(options.floor[0]), Path(options.floor[1]), int(options.floor[2]))
        return 0
    console = Console(width=140)
    results: dict[str, Any] = {"machine": machine()}
    with TemporaryDirectory(prefix="h5z-vault-") as work:
        names, mpi = _contenders(options.only, Path(work) / "peer", console.print)
        for case in options.cases:
            count, edge = CASES[case]
            source = Path(work) / case
            make_images(source, max(1, round(count * options.scale)), edge)
            found = run_case(names, source, Path(work), options.rounds, mpi)
            nbytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
            console.print(table(case, nbytes, found), starting(found), "", sep="\n")
            results[case] = {
                name: {**one, **{what: list(map(asdict, one[what])) for what in ("samples", "starts")}}
                for name, one in found.items()
            }
            shutil.rmtree(source)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))
    return 0


def _contenders(only: Sequence[str], place: Path, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Who takes part, and the start of HDF5Vault's command; who cannot is named."""
    names, mpi = [name for name in PEERS if name in only or name in FLOORS], []
    if "HDF5Vault" in names:
        from ..vault.peer import AbsentError, install

        try:
            mpi = install(place, ranks=4)
        except AbsentError as error:
            say(f"HDF5Vault: {error}")
            names.remove("HDF5Vault")
    if "tar zstd" in names and not (shutil.which("tar") and shutil.which("zstd")):
        say("tar zstd: not installed")
        names.remove("tar zstd")
    return names, mpi


if __name__ == "__main__":
    raise SystemExit(main())
