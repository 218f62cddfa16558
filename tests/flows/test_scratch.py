"""Folders among the system's temporary ones: none is left for good."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flows.scratch import Scratch

HOLD = "import sys; from flows.scratch import Scratch; s = Scratch('x-'); print(s.path, flush=True); sys.stdin.read()"
ROOT = Path(__file__).parents[2]


def test_what_a_killed_process_has_left_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next, and not before; what is no scratch of ours stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "x-other").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / "x-link").symlink_to(tmp_path / "y")
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        with Scratch("x-") as mine:
            assert {path.name for path in tmp_path.iterdir()} == {"x-other", "x-link", "y", left.name, mine.name}
        child.kill()
    assert left.exists()
    with Scratch("x-") as mine:
        (mine / "a" / "b").mkdir(parents=True)
        assert {path.name for path in tmp_path.iterdir()} == {"x-other", "x-link", "y", mine.name}
    assert {path.name for path in tmp_path.iterdir()} == {"x-other", "x-link", "y"}
