"""How planning grows with the number of write units: simulated inventories, no data.

``python -m tests.benchmarks.scale`` prints, for 10³ to 10⁶ units in one array and in a thousand arrays, the time and memory of
the plan, of its tasks, and the number of tasks.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from h5z.nodes import ArrayNode, GroupNode, Tree
from h5z.planner import make_plan
from h5z.policy import Policy

UNIT = 1 << 18  # elements of a chunk: 1 MiB of float32
DEFLATE = ((2, "shuffle", 1, (4,)), (1, "deflate", 1, (4,)))
UNITS = (10**3, 10**4, 10**5, 10**6)


def inventory(units: int, arrays: int) -> Tree:
    """Headers of a file that nobody wrote: that many chunks of 1 MiB, spread over some arrays."""
    shape = (units // arrays * UNIT,)
    nodes: dict[str, GroupNode | ArrayNode] = {"/": GroupNode("/")}
    for i in range(arrays):
        size = shape[0] * 4
        nodes[f"/a{i}"] = ArrayNode(f"/a{i}", "<f4", shape, None, "chunked", (UNIT,), DEFLATE, storage_nbytes=size // 2)
    return Tree("simulated.h5", units * UNIT * 2, 0, dict(nodes))


def measure(units: int, arrays: int) -> tuple[float, float, int, float]:
    """Seconds to plan and to list the tasks, the number of tasks, and the peak of Python's memory in MiB."""
    tree = inventory(units, arrays)
    tracemalloc.start()
    start = time.perf_counter()
    plan = make_plan(tree, "simulated.zarr", Policy(chunks="source"), workers=2)
    planned = time.perf_counter()
    tasks = sum(1 for _ in plan.tasks())
    listed = time.perf_counter()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return planned - start, listed - planned, tasks, peak


def rows() -> Iterator[tuple[str, ...]]:
    """A row of the table for each inventory."""
    for arrays in (1, 1000):
        for units in UNITS:
            planning, listing, tasks, peak = measure(units, arrays)
            each = (planning + listing) / units * 1e6
            yield f"{units:,}", f"{arrays:,}", f"{planning:.3f}", f"{listing:.3f}", f"{tasks:,}", f"{each:.2f}", f"{peak:.1f}"


def table() -> Table:
    """The rows, with their heads."""
    out = Table("units", "arrays", "plan s", "tasks s", "tasks", "µs a unit", "peak MiB", title="planning, no data")
    for row in rows():
        out.add_row(*row)
    return out


if __name__ == "__main__":
    Console().print(table())
