"""``python -m tests.benchmarks.shards``: the shard store beside LocalStore, ZipStore and zarr's sharding codec; and its lock.

Each contender writes an array in turns, in this process, then reads chunks by chance and all of it with another handle, the
page cache warm for all. The lock is measured by itself, and by writers of one shard beside writers of a shard each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore, ZipStore

from h5z import H5ShardStore
from h5z.container import Container
from h5z.container.locks import exclusive

CHUNK = (4, 64, 64)
SHAPE = (64, 512, 512)
PUTS = 2048


def _stores(folder: Path) -> dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[int, ...] | None]]:
    """Each contender's store to write, its store to read, and the array's shards."""
    return {
        "H5ShardStore": (lambda: H5ShardStore(folder / "h5"), lambda: H5ShardStore(folder / "h5", mode="r"), None),
        "LocalStore": (lambda: LocalStore(folder / "local"), lambda: LocalStore(folder / "local", read_only=True), None),
        "ZipStore": (lambda: ZipStore(folder / "a.zip", mode="w"), lambda: ZipStore(folder / "a.zip", mode="r"), None),
        "sharding codec": (
            lambda: LocalStore(folder / "codec"),
            lambda: LocalStore(folder / "codec", read_only=True),
            (CHUNK[0], *SHAPE[1:]),
        ),
    }


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _spent(name: str, act: Callable[[], object]) -> dict[str, float]:
    """Seconds of wall time of something under its name, and of CPU time under its name with ``CPU``."""
    start = time.process_time()
    wall = _seconds(act)
    return {name: wall, f"{name} CPU": time.process_time() - start}


def measure(name: str, folder: Path, values: Any, reads: int) -> dict[str, float]:
    """One contender's write, random reads and full read, in seconds; its objects and bytes."""
    make, open_again, shards = _stores(folder)[name]

    def write() -> None:
        store = make()
        codec = BloscCodec(cname="lz4", clevel=3)
        array = zarr.create_array(store, shape=SHAPE, chunks=CHUNK, shards=shards, dtype=values.dtype, compressors=codec)
        array[...] = values
        store.close()

    found = _spent("write", write)
    array = zarr.open_array(open_again(), mode="r")
    chance = np.random.default_rng(2)
    places = [tuple(int(chance.integers(n // c)) for n, c in zip(SHAPE, CHUNK, strict=True)) for _ in range(reads)]
    regions = [tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, CHUNK, strict=True)) for place in places]
    chunks = _spent("chunk", lambda: [array[region] for region in regions])
    found |= {what: seconds / reads for what, seconds in chunks.items()} | _spent("read", lambda: array[...])
    if not np.array_equal(array[...], values):
        raise SystemExit(f"{name} does not hold what was written")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {**found, "objects": len(paths), "nbytes": sum(path.stat().st_size for path in paths)}


def _write_shard(path: str, number: int) -> None:
    container = Container(path)
    data = os.urandom(4096)
    for i in range(PUTS):
        container.put(f"{number}.{i}", data)


def lock_cost(folder: Path) -> dict[str, float]:
    """Seconds of a put, of the lock in it, and of a put where eight processes share a shard or have one each."""
    container = Container(str(folder / "alone.h5"))
    data = os.urandom(4096)
    found = {"put": _seconds(lambda: [container.put(f"{i}", data) for i in range(PUTS)]) / PUTS}
    with open(container.path, "r+b") as file:

        def lock() -> None:
            for _ in range(PUTS):
                with exclusive(file.fileno(), container.path, 1):
                    pass

        found["lock"] = _seconds(lock) / PUTS
    context = multiprocessing.get_context("spawn")
    for name, paths in {"shared": ["one.h5"] * 8, "each": [f"{i}.h5" for i in range(8)]}.items():
        workers = [context.Process(target=_write_shard, args=(str(folder / path), i)) for i, path in enumerate(paths)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found[name] = time.perf_counter() - start
        stored = sum(len(Container(str(folder / path)).entries()) for path in set(paths))
        if stored != 8 * PUTS:
            raise SystemExit(f"{8 * PUTS - stored} members lost")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; print medians and their ratios to LocalStore's, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reads", type=int, default=300, help="chunks read by chance (300)")
    parser.add_argument("--out", type=Path, help="where to write JSON")
    options = parser.parse_args(argv)
    values = (np.random.default_rng(1).normal(size=SHAPE) * 100).astype("i2")
    names = list(_stores(Path()))
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    locks: list[dict[str, float]] = []
    with TemporaryDirectory(prefix="h5z-shards-") as root:
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                folder = Path(root) / "run"
                folder.mkdir()
                samples[name].append(measure(name, folder, values, options.reads))
                shutil.rmtree(folder)
            folder = Path(root) / "locks"
            folder.mkdir()
            locks.append(lock_cost(folder))
            shutil.rmtree(folder)
    medians = {name: {what: statistics.median(s[what] for s in found) for what in found[0]} for name, found in samples.items()}
    lock = {what: statistics.median(sample[what] for sample in locks) for what in locks[0]}
    _print(medians, lock)
    if options.out:
        options.out.write_text(json.dumps({"stores": medians, "lock": lock, "samples": samples}, indent=1))
    return 0


def _print(medians: dict[str, dict[str, float]], lock: dict[str, float]) -> None:
    base = medians["LocalStore"]
    table = Table(title=f"{np.prod(SHAPE) * 2 / 2**20:.0f} MiB of int16 in chunks of {CHUNK}; medians (of LocalStore's)")
    for column in ("store", "write", "CPU", "a chunk", "CPU", "all", "CPU", "objects", "bytes"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for name, found in medians.items():
        ratio = {what: f"({found[what] / base[what]:.2f})" for what in base}
        cells = {what: f"{found[what] * 1e3:.2f} ms {ratio[what]}" for what in ("chunk", "chunk CPU")}
        cells |= {what: f"{found[what]:.2f} s {ratio[what]}" for what in ("write", "write CPU", "read", "read CPU")}
        times = (cells[what + of] for what in ("write", "chunk", "read") for of in ("", " CPU"))
        table.add_row(name, *times, f"{found['objects']:.0f}", f"{found['nbytes'] / base['nbytes']:.3f}")
    console = Console()
    if not console.is_terminal:
        console.width = 150
    console.print(table)
    console.print(
        f"a put of 4 KiB: {lock['put'] * 1e6:.0f} µs, of which the lock {lock['lock'] * 1e6:.1f} µs; "
        f"8 processes of {PUTS} puts: {lock['shared']:.1f} s into one shard, {lock['each']:.1f} s into one each"
    )


if __name__ == "__main__":
    raise SystemExit(main())
