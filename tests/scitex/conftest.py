"""A working directory of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own: paths are given as users give them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
