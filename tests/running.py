"""What the tests' fixtures hand out, and where the real files are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from h5z import Report

Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
DONE, FALLS_SHORT, WRONG_CALL, BAD_SOURCE, BAD_TARGET = 0, 1, 2, 3, 4  # the command's exit status
DATA = Path(os.environ.get("H5Z_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@dataclass(frozen=True)
class Converted:
    """A source, its target, and what the conversion reported."""

    source: Path
    target: Path
    report: Report


Convert: TypeAlias = Callable[..., Converted]


def expect_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """The right status, and one line on standard error that says why."""
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
