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
DATA = Path(os.environ.get("H5Z_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@dataclass(frozen=True)
class Converted:
    """A source, its target, and what the conversion reported."""

    source: Path
    target: Path
    report: Report


Convert: TypeAlias = Callable[..., Converted]
