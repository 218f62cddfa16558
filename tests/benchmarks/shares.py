"""Where a conversion's CPU time goes: the shares of its steps, in one thread of one process.

``python -m tests.benchmarks.shares [--size 512MiB]`` runs h5z under Python's profiler, which counts CPU seconds, and adds up each
step with all that it calls; what no step accounts for is Python between them. The start is of a process that only imports.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

import h5z

from .__main__ import parse_nbytes
from .cases import CASES, Case
from .contenders import ROOT
from .inputs import MAKERS
from .measure import measure

SHOWN = ("recode_same_grid", "recode_contiguous", "copy", "many_small")
# Of each step, functions that do not call each other, by file and name.
STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "scan and plan": (("planning.py", "plan"),),
    "read": (("direct.py", "fetch"),),
    "inflate": (("bounded.py", "inflate"),),
    "unshuffle": (("shuffle.py", "unshuffle"),),
    "digest": (("digest.py", "digest"),),
    "encode": (("units.py", "_chunk"),),
    "checksum": (("units.py", "checksum"),),
    "write": (("target.py", "put"),),
    "commit": (("disk.py", "flush_tree"), ("commit.py", "describe")),
}


def shares(case: Case, folder: Path) -> dict[str, float]:
    """CPU seconds of each step of a case; ``all`` of them, and ``start``."""
    source = case.source(folder)
    if not source.exists():
        MAKERS[case.kind](case, source)
    start = measure([sys.executable, "-c", "import h5z; h5z.convert"], folder=ROOT).cpu
    options: dict[str, Any] = {"codec": case.codec, "memory": case.memory, "chunks": case.grid or "auto"}
    profile = cProfile.Profile(time.process_time)
    for target in (f"{case.name}.zarr", f"{case.name} again.zarr"):  # the first imports what is first needed
        profile.clear()
        profile.enable()
        h5z.convert(source, folder / target, scheduler="sync", **options)
        profile.disable()
    found: dict[str, float] = {}
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for step, functions in STEPS.items():
        spent = (value[3] for (file, _, name), value in stats.items() if (Path(file).name, name) in functions)
        found[step] = sum(spent)
    whole = sum(value[2] for value in stats.values())
    return {**found, "Python between": whole - sum(found.values()), "all": whole, "start": start}


def table(cases: Sequence[Case]) -> Table:
    """A column a case: CPU seconds, and their share of all but the start."""
    found = {}
    with TemporaryDirectory(prefix="h5z-shares-") as folder:
        for case in cases:
            found[case.name] = shares(case, Path(folder))
    out = Table("CPU seconds", *found, title="where the time goes, one thread")
    for step in (*STEPS, "Python between", "all", "start"):
        cells = (f"{s[step]:.2f}" + (f"  {s[step] / s['all']:4.0%}" if step != "start" else "") for s in found.values())
        out.add_row(step, *cells)
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shares", description=__doc__)
    parser.add_argument("--size", type=parse_nbytes, default="512MiB")
    parser.add_argument("--cases", default=",".join(SHOWN))
    options = parser.parse_args(argv)
    chosen = [replace(case, size_nbytes=options.size) for case in CASES if case.name in options.cases.split(",")]
    Console(width=120).print(table(chosen))


if __name__ == "__main__":
    main()
