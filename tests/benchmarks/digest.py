"""What the digest of values costs: its share of a conversion's CPU time, in one thread of one process.

``python -m tests.benchmarks.digest [--size 256MiB] [--rounds 5]`` converts rows of each kind of number (shuffle and gzip to
Blosc-zstd), and prints the CPU seconds of each conversion and of the digest in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

import h5z
from h5z import units

from .__main__ import parse_nbytes

KINDS = {"float32": "<f4", "float64": "<f8", "uint16": "<u2", "uint8": "u1"}


def write(path: Path, dtype: str, nbytes: int) -> None:
    """A cube that compresses to about a half, in chunks of 1 MiB."""
    dt = np.dtype(dtype)
    rows = max(1, nbytes // (1 << 20))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        options = {"chunks": (1, (1 << 20) // dt.itemsize), "compression": 4, "shuffle": True}
        data = file.create_dataset("x", (rows, (1 << 20) // dt.itemsize), dt, **options)
        for row in range(rows):
            walk = np.cumsum(rng.integers(-3, 4, data.shape[1]))
            data[row] = walk.astype(dt) if dt.kind == "u" else (walk / 7).astype(dt)


class Stopwatch:
    """Calls a function, and adds up the CPU seconds that it takes."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = time.process_time()
        found = self.function(*arguments)
        self.seconds += time.process_time() - start
        return found


def measure(path: Path, folder: Path, rounds: int) -> tuple[float, float]:
    """Medians of the conversion's CPU seconds and of the digest's."""
    whole, part = [], []
    for number in range(rounds):
        watch = Stopwatch(units.digest)
        with patch.object(units, "digest", watch):
            start = time.process_time()
            h5z.convert(path, folder / f"{path.stem}-{number}.zarr", codec="blosc-zstd:1", chunks="source", scheduler="sync")
            whole.append(time.process_time() - start)
        part.append(watch.seconds)
    return statistics.median(whole), statistics.median(part)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.digest", description=__doc__)
    parser.add_argument("--size", type=parse_nbytes, default="256MiB")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = Table("values", "conversion, CPU s", "digest, CPU s", "share of the rest", "digest, GB/s")
    for name, dtype in KINDS.items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.h5"
            write(path, dtype, options.size)
            whole, part = measure(path, Path(folder), options.rounds)
        table.add_row(name, f"{whole:.2f}", f"{part:.3f}", f"{part / (whole - part):.1%}", f"{options.size / part / 1e9:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
