"""A vault whose making is killed, or begun twice: the same call ends it, and readers see none of it before."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from h5z import vault
from h5z.container.openfiles import forget_all
from h5z.errors import SourceError, TargetError
from h5z.vault import Vault

HOME = Path(__file__).parents[2]


CREATE = "import sys; from h5z import vault; vault.create(sys.argv[1], sys.argv[2], writers=2, codec='blosc2-zstd:1')"


def nbytes_of(path: Path) -> int:
    """Bytes of a file, or of none: a call that is at work takes its lock away, and renames what is whole."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_killed_at_any_moment_the_same_call_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    chance = np.random.default_rng(0)
    for i in range(40):
        (root / f"{i:03d}").write_bytes(chance.integers(0, 9, 500_000, dtype="u1").tobytes())
    stamps: dict[str, int] = {}
    kills = 0
    for attempt in range(60):
        process = subprocess.Popen([sys.executable, "-c", CREATE, str(root), str(tmp_path / "v")])
        size = sum(map(nbytes_of, tmp_path.glob("v_*")))
        while process.poll() is None and sum(map(nbytes_of, tmp_path.glob("v_*"))) < size + 1_600_000:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        assert not (tmp_path / "v_0.h5").exists() or attempt > 1
        with pytest.raises(SourceError, match="unfinished"):
            Vault(tmp_path / "v")
        forget_all("")
        partial = Vault(tmp_path / "v_0.h5.unfinished")
        assert "made up from its packs" in partial.notes[0]
        now = {name: partial.parts(name)[0].stamp for name in partial}
        assert stamps.items() <= now.items()  # what was in is not stored again
        stamps = now
        for name in random.sample(sorted(now), min(3, len(now))):
            assert partial[name] == (root / name).read_bytes()
    assert kills >= 3
    found = Vault(tmp_path / "v")
    assert {name: found.parts(name)[0].stamp for name in stamps} == stamps
    assert vault.verify(found, root).ok
    assert len(found) == 40
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.parametrize(("case", "least"), [("create", 30), ("add", 20), ("repair", 20)])
def test_killed_at_each_of_its_writes_the_same_call_ends_it(case: str, least: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.killed_writes", case, tmp_path], capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= least


def test_two_at_once_are_refused(messy: Path, tmp_path: Path) -> None:
    code = f"""
import sys, time
from h5z.vault.writing import alone
with alone({str(tmp_path / "v.h5")!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TargetError, match="locked by another"):
        vault.create(messy, tmp_path / "v")
    holder.kill()
    holder.wait()
    assert vault.create(messy, tmp_path / "v").ok
