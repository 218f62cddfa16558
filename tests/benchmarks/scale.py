"""How planning grows with the number of write units: simulated inventories, no data.

``python -m tests.benchmarks.scale`` prints, for 10³ to 10⁶ units in one array and in a thousand arrays, the time and memory of
the plan, of its tasks, and the number of tasks.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from h5z.nodes import ArrayNode, GroupNode, Tree
from h5z.planner import make_plan
from h5z.policy import Policy

UNIT = 1 << 18  # elements of a chunk: 1 MiB of float32
DEFLATE = ((2, "shuffle", 1, (4,)), (1, "deflate", 1, (4,)))
UNITS = (10**3, 10**4, 10**5, 10**6)
ARRAYS = (1, 1000)


def inventory(units: int, arrays: int) -> Tree:
    """Headers of a file that nobody wrote: that many chunks of 1 MiB, spread over some arrays."""
    shape = (units // arrays * UNIT,)
    nodes: dict[str, GroupNode | ArrayNode] = {"/": GroupNode("/")}
    for i in range(arrays):
        size = shape[0] * 4
        nodes[f"/a{i}"] = ArrayNode(f"/a{i}", "<f4", shape, None, "chunked", (UNIT,), DEFLATE, storage_nbytes=size // 2)
    return Tree("simulated.h5", units * UNIT * 2, 0, dict(nodes))


@dataclass(frozen=True)
class Point:
    """An inventory measured: seconds to plan it and to list its tasks, and the peak of Python's memory."""

    units: int
    arrays: int
    planning: float
    listing: float
    tasks: int
    peak_nbytes: int

    @property
    def microseconds(self) -> float:
        """Of planning and listing, a unit."""
        return (self.planning + self.listing) / self.units * 1e6


def measure(units: int, arrays: int) -> Point:
    """Plan one inventory, and list its tasks."""
    tree = inventory(units, arrays)
    tracemalloc.start()
    start = time.perf_counter()
    plan = make_plan(tree, "simulated.zarr", Policy(chunks="source"), workers=2)
    planned = time.perf_counter()
    tasks = sum(1 for _ in plan.tasks())
    listed = time.perf_counter()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Point(units, arrays, planned - start, listed - planned, tasks, peak)


def points() -> list[Point]:
    """All inventories, measured."""
    return [measure(units, arrays) for arrays in ARRAYS for units in UNITS]


def table(measured: Sequence[Point]) -> Table:
    """A row for each inventory."""
    out = Table("units", "arrays", "plan s", "tasks s", "tasks", "µs a unit", "peak MiB", title="planning, no data")
    for p in measured:
        counts = f"{p.units:,}", f"{p.arrays:,}", f"{p.planning:.3f}", f"{p.listing:.3f}", f"{p.tasks:,}"
        out.add_row(*counts, f"{p.microseconds:.2f}", f"{p.peak_nbytes / 2**20:.1f}")
    return out


if __name__ == "__main__":
    Console().print(table(points()))
