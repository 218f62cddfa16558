"""Disks that are full, read-only, limited or forgetful: one clear line, and the rerun goes on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5z
from h5z.errors import TargetError

from ..forks import HOME, PIECES, ForkServer
from ..running import Run
from ..stored import listing, stored
from .runs import POLICY, until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A small file system of its own; mount it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a file system takes a superuser")

    def again(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
        return folder

    yield again
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """What takes more than a megabyte to store."""
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        for i in range(32):
            file.create_dataset(f"x{i}", data=np.random.default_rng(i).random((2, 4096)), chunks=(1, 4096))
    return path


LARGE: dict[str, Any] = {"codec": None, "chunks": [1, 4096], "scheduler": "sync"}


def test_a_full_disk(large: Path, disk: Callable[..., Path], forks: ForkServer, tmp_path: Path) -> None:
    """Status 4 and one line; with more room the rerun goes on from there."""
    target = disk("size=1m") / "out.zarr"
    arguments: dict[str, Any] = {"source": str(large), "target": str(target), **LARGE}
    status, text = forks.run("convert", tmp_path / "out.txt", **arguments)
    assert (status, text.count("\n")) == (4, 0), text
    assert "No space left on device" in text
    marks = len(list((target / ".h5z" / "done").glob("*")))
    assert marks
    assert not list((target / ".h5z" / "drafts").rglob("*.*"))
    disk("size=8m")
    status, text = forks.run("convert", tmp_path / "out.txt", told=str(tmp_path / "told"), **arguments)
    assert (status, text) == (0, "converted")
    assert int((tmp_path / "told").read_text().split()[0]) == marks * PIECES * 2 * 4096 * 8
    forks.run("convert", tmp_path / "out.txt", **{**arguments, "target": str(tmp_path / "whole.zarr")})
    assert listing(target) == listing(tmp_path / "whole.zarr")


def test_a_disk_that_became_read_only(large: Path, disk: Callable[..., Path], forks: ForkServer, tmp_path: Path) -> None:
    target = disk("size=8m") / "out.zarr"
    arguments: dict[str, Any] = {"source": str(large), "target": str(target), **LARGE}
    pid = forks.start("convert", tmp_path / "out.txt", pause=0.05, **arguments)
    until(lambda: len(list((target / ".h5z" / "done").glob("*"))) > 2)
    os.kill(pid, signal.SIGSTOP)  # nothing may be open for writing
    for _ in range(100):
        with suppress(subprocess.CalledProcessError):
            disk("ro")
            break
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
        os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)
    assert forks.wait(pid) == 4
    text = (tmp_path / "out.txt").read_text()
    assert "Read-only file system" in text
    assert "\n" not in text
    disk("rw")
    assert forks.run("convert", tmp_path / "out.txt", **arguments) == (0, "converted")
    forks.run("convert", tmp_path / "out.txt", **{**arguments, "target": str(tmp_path / "whole.zarr")})
    assert listing(target) == listing(tmp_path / "whole.zarr")


def test_files_that_may_not_grow(large: Path, tmp_path: Path, cli: Run) -> None:
    """A limit of the system, as a quota is: status 4, one line; without it the rerun goes on."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "h5z.cli", "convert", large, tmp_path / "out.zarr", "--chunks", "1,4096", "--codec", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME, preexec_fn=limit)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert "File too large" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME)
    assert done.returncode == 0, done.stderr
    assert h5z.verify(large, tmp_path / "out.zarr").ok


def test_permission_that_is_lost(source: Path, tmp_path: Path) -> None:
    """To write into the target: one line, and the run lets go; given back, the rerun goes on."""
    target, root = tmp_path / "out.zarr", os.geteuid() == 0

    def permit(yes: bool) -> bool:
        if not root:
            (target / "x" / "c").chmod(0o700 if yes else 0o500)
            return True
        command = ["chattr", "-i" if yes else "+i", str(target / "x" / "c")]
        return bool(shutil.which("chattr")) and subprocess.run(command, check=False, capture_output=True).returncode == 0

    def lose(now: int, total: int) -> None:
        if now > total / 8 and not permit(False):
            pytest.skip("a superuser may write anywhere on this file system")

    try:
        with pytest.raises(TargetError, match=r"Permission denied|not permitted") as caught:
            h5z.convert(source, target, progress=lose, scheduler="sync", **POLICY)
    finally:
        permit(True)
    assert "\n" not in str(caught.value)
    assert (target / ".h5z" / "plan.json").exists()
    assert h5z.convert(source, target, verify="full", **POLICY).ok


@pytest.mark.parametrize("durable", ["none", "commit", "always"])
def test_after_the_power_failed(source: Path, tmp_path: Path, expected: dict[str, bytes], durable: str) -> None:
    """What tasks have marked done but the disk has lost is done again, unless each file was made to reach it."""
    target = tmp_path / "out.zarr"

    def fail(now: int, total: int) -> None:
        if now > total * 0.8:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        h5z.convert(source, target, progress=fail, scheduler="sync", durable=durable, **POLICY)
    done = {path.name for path in (target / ".h5z" / "done").iterdir()}
    lost = target / "x" / "c" / "0"
    lost.write_bytes(b"")
    (target / "sparse" / "zarr.json").write_bytes(b"")
    (target / ".h5z" / "boot").write_text("another")
    h5z.graph(h5z.plan(source, target, durable=durable, **POLICY))
    left = {path.name for path in (target / ".h5z" / "done").iterdir()}
    assert left < done if durable != "always" else left == done
    if durable != "always":
        h5z.convert(source, target, verify="full", durable=durable, **POLICY)
        assert stored(target) == expected


def test_a_plan_that_the_disk_has_lost(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Nothing but what lies under the mark: begun anew."""
    target = tmp_path / "out.zarr"
    (target / ".h5z" / "done").mkdir(parents=True)
    (target / ".h5z" / "plan.json").touch()
    (target / ".h5z" / "created").touch()
    (target / ".h5z" / "done" / "0").write_text('{"nbytes": 1, "checksums": {}}')
    h5z.convert(source, target, verify="full", **POLICY)
    assert stored(target) == expected
