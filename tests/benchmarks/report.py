"""The outcome as a table on the terminal and as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from .run import Outcome, Result

MIB = 2**20
PACKAGES = ("h5z", "zarr", "h5py", "numcodecs", "dask", "xarray", "h5netcdf", "isal", "zarrs", "numpy")
COLUMNS = ("wall s", "min–max", "CPU s", "peak MiB", "wall ÷ base", "wall ÷ h5z", "CPU ÷ h5z", "peak ÷ base", "out MB", "objects")


def table(outcome: Outcome) -> Table:
    """Medians and ratios of one case; a wall ratio above 1 is slower than who it is taken against."""
    case = outcome.case
    out = Table(title=f"{case.name}: {case.about}", title_justify="left", caption_justify="left")
    out.caption = _caption(outcome)
    out.add_column(f"base: {outcome.baseline}", no_wrap=True)
    for column in COLUMNS:
        out.add_column(column, justify="right")
    for result in outcome.results:
        if result.error:
            out.add_row(result.label, *[""] * len(COLUMNS), style="dim" if result.skipped else "red")
        else:
            out.add_row(result.label, *_cells(outcome, result), style="bold" if result.name == "h5z" else "")
    return out


def _cells(outcome: Outcome, result: Result) -> list[str]:
    walls = [sample.wall for sample in result.samples]
    base = outcome.baseline
    return [
        _number(result.median("wall")),
        f"{min(walls):.2f}–{max(walls):.2f}",
        _number(result.median("cpu")),
        _number((result.median("peak_nbytes") or 0) / MIB or None, digits=0),
        _number(outcome.ratio(result, "wall", base)),
        _number(outcome.ratio(result, "wall", "h5z")),
        _number(outcome.ratio(result, "cpu", "h5z")),
        _number(outcome.ratio(result, "peak_nbytes", base)),
        _number(result.nbytes / 1e6, digits=1) if result.objects else "",
        f"{result.objects:,}" if result.objects else "",
    ]


def _number(value: float | None, *, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _caption(outcome: Outcome) -> str:
    """What the columns don't say: who sat out, and time without start-up."""
    lines = [f"{result.label}: {result.error}" for result in outcome.results if result.error]
    start = outcome.result("start")
    spent = {r.name: _net(r, start) for r in outcome.results if r.samples and r.name not in ("start", "floor", "cp")}
    if start and outcome.case.datasets > 1:
        each = (f"{name} {1000 * seconds / outcome.case.datasets:.2f} ms" for name, seconds in spent.items())
        lines.append(f"a dataset, net of start-up: {', '.join(each)}")
        cpu = {r.name: (r.median("cpu") or 0.0) - (start.median("cpu") or 0.0) for r in outcome.results if r.name in spent}
        each = (f"{name} {1000 * seconds / outcome.case.datasets:.2f} ms" for name, seconds in cpu.items())
        lines.append(f"CPU of a dataset, net of start-up: {', '.join(each)}")
    floor = outcome.result("floor")
    if start and floor and (least := floor.median("wall")):
        over = (f"{name} {seconds / least:.2f}" for name, seconds in spent.items())
        lines.append(f"net of start-up ÷ codec floor: {', '.join(over)}")
    return "\n".join(lines)


def _net(result: Result, start: Result | None) -> float:
    """Median seconds without those of start-up (a program that is not Python has its own, and it is left in)."""
    program = result.name == "gdal"
    return (result.median("wall") or 0.0) - (0.0 if program or start is None else start.median("wall") or 0.0)


def machine() -> dict[str, Any]:
    """What ran it: without it the seconds say nothing."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
    }


def write_json(path: Path, outcomes: Sequence[Outcome], *, ran_on: dict[str, Any], rounds: int) -> None:
    """Every sample, median and ratio."""
    cases = []
    for outcome in outcomes:
        record = outcome.to_dict()
        for result, entry in zip(outcome.results, record["results"], strict=True):
            entry["ratio"] = {
                f"{what}/{against}": outcome.ratio(result, what, against)
                for what in ("wall", "cpu", "peak_nbytes")
                for against in dict.fromkeys((outcome.baseline, "h5z"))
            }
        cases.append(record)
    path.write_text(json.dumps({"machine": ran_on, "rounds": rounds, "cases": cases}, indent=2, ensure_ascii=False))
