"""``python -m tests.benchmarks``: run the cases, print tables, write JSON and a plot; then the scale of plans, and budgets."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from rich.console import Console

from . import budgets, scale
from .cases import CASES, Case
from .contenders import CONTENDERS
from .plot import write_svg
from .report import machine, table, write_json
from .run import run_case

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_nbytes(words: str) -> int:
    """Bytes of a size as people write it.

    >>> parse_nbytes("512MiB") == 512 * 2**20
    True
    """
    match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB)", words)
    if match is None:
        raise argparse.ArgumentTypeError(f"{words!r} is not a size such as 512MiB")
    return int(match[1]) * UNITS[match[2]]


def _names(known: Sequence[str], words: str) -> list[str]:
    """Names out of a comma-separated list, each of them known."""
    names = words.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--cases", type=lambda words: _names(names, words), help="NAME,... (all, scale and budgets too)")
    parser.add_argument("--only", type=lambda words: _names([*CONTENDERS], words), default=(), help="contenders (all)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender (5)")
    parser.add_argument("--size", type=parse_nbytes, default="64MiB", help="of the input (64MiB)")
    parser.add_argument("--out", type=Path, default=Path(gettempdir()) / "h5z-benchmarks", help="folder of the results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 where every contender that could run did, and wrote what was asked; 1 otherwise."""
    options, console = _arguments(argv), Console()
    if not console.is_terminal:
        console.width = 140
    ran_on, outcomes = machine(), []
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="h5z-benchmarks-") as folder:
        for case in _chosen(options.cases or [case.name for case in CASES], options.size):
            with console.status(case.name) as status:
                outcome = run_case(case, Path(folder), rounds=options.rounds, only=options.only, say=status.update)
            outcomes.append(outcome)
            console.print(table(outcome), "")
            write_json(options.out / "benchmarks.json", outcomes, ran_on=ran_on, rounds=options.rounds)
            write_svg(options.out / "benchmarks.svg", outcomes)
    if not options.cases:
        planning = scale.points()
        write_svg(options.out / "benchmarks.svg", outcomes, planning)
        console.print(scale.table(planning), "", budgets.table(), "")
    console.print(f"{ran_on['cores']} cores, load {ran_on['load'][0]:.1f} at the start")
    console.print(f"{options.out / 'benchmarks.json'}, {options.out / 'benchmarks.svg'}", soft_wrap=True)
    return int(any(result.error and not result.skipped for outcome in outcomes for result in outcome.results))


def _chosen(names: Sequence[str], size_nbytes: int) -> list[Case]:
    return [replace(case, size_nbytes=size_nbytes) for case in CASES if case.name in names]


if __name__ == "__main__":
    raise SystemExit(main())
