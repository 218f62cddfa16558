"""Kill anything, rerun: what is not complete does not open, and the rerun ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

import h5z
from h5z.errors import TargetError, TargetExistsError, UnfinishedTargetError
from h5z.stores import lease
from h5z.stores.holder import Holder

from .stored import listing, stored_in

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
HOME = Path(h5z.__file__).parents[1]
RUN = """
import json, os, pathlib, signal, sys, h5z

source, target, policy, marks, enough = sys.argv[1:]

def look(done, total):
    if len(list(pathlib.Path(marks).glob("*"))) >= int(enough):
        os.kill(os.getpid(), signal.SIGKILL)

h5z.convert(source, target, progress=look, **json.loads(policy))
"""
MANY: dict[str, Any] = {"chunks": {"/cells": [32], "/slices": [16, 2, 2]}, "memory": 3200, "workers": 2, "codec": "bz2:9"}
MANY["route"] = {"/slices": "staged"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small, and of many tasks where memory is short."""
    path = tmp_path_factory.mktemp("resume") / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("cells", data=np.arange(96_000, dtype="<f8"), chunks=(64,), compression="gzip")
        file.create_dataset("slices", data=np.arange(4096, dtype="<u2").reshape(16, 16, 16), chunks=(1, 16, 16), shuffle=True)
    return path


def opens(target: Any) -> bool:
    """Whether a reader takes a target for a Zarr hierarchy."""
    with suppress(FileNotFoundError):
        return zarr.open_group(target, mode="r") is not None
    return False


def marks(target: Path) -> int:
    """Tasks that have ended."""
    return len(list((target / ".h5z" / "done").glob("*")))


def killed(source: Path, target: Path, policy: dict[str, Any], enough: int, place: str = ".h5z") -> None:
    """Convert in a process of its own that kills itself once so many tasks have ended, wherever its threads are by then."""
    given = [source, target, json.dumps(policy), target / place / "done", enough]
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, given)], cwd=HOME, stderr=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_is_completed_by_its_rerun(source: Path, tmp_path: Path, seed: int) -> None:
    """At a random moment; the rerun runs the tasks that were left, no others."""
    target = tmp_path / "out.zarr"
    plan = h5z.plan(source, target, **MANY)
    tasks = len(list(plan.tasks()))
    assert tasks >= 10
    killed(source, target, MANY, random.Random(seed).randrange(tasks - 6))
    assert not opens(target)
    with pytest.raises(TargetError, match="expected a finished"):
        h5z.verify(source, target)
    done = marks(target)
    with pytest.raises(UnfinishedTargetError, match=rf"\b{tasks - done} of {tasks} tasks"):
        h5z.finalize(target)
    assert h5z.graph(plan).compute(scheduler="sync") == tasks - done
    h5z.finalize(target)
    h5z.convert(source, tmp_path / "whole.zarr", **MANY)
    assert listing(target) == listing(tmp_path / "whole.zarr")


def test_an_overwriting_run_that_is_killed_leaves_the_old_target(source: Path, tmp_path: Path) -> None:
    """Which reads as before, until a rerun puts the new one in its place."""
    target, whole = tmp_path / "out" / "out.zarr", tmp_path / "whole.zarr"
    h5z.convert(source, target, chunks={"/cells": (4000,)})
    old = listing(target)
    killed(source, target, {**MANY, "overwrite": True}, 5, ".h5z/new/.h5z")
    assert {key: value for key, value in listing(target).items() if not key.startswith(".h5z")} == old
    assert h5z.verify(source, target).ok
    with pytest.raises(TargetExistsError):
        h5z.convert(source, target, **MANY)
    done = marks(target / ".h5z" / "new")
    plan = h5z.plan(source, target, **MANY)
    assert h5z.graph(plan, overwrite=True).compute(scheduler="sync") == len(list(plan.tasks())) - done
    h5z.finalize(target)
    h5z.convert(source, whole, **MANY)
    assert listing(target) == listing(whole)
    assert os.listdir(target.parent) == ["out.zarr"]


class DeadError(BaseException):
    """What ends a run at once: nothing in h5z may catch it."""


class Life:
    """Changes to what is stored that a run may still make before it is dead."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> None:
        if self.left <= 0:
            raise DeadError
        self.left -= 1

    def spent_by(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def mortal_change(*arguments: Any, **options: Any) -> Any:
            self.spend()
            return change(*arguments, **options)

        return mortal_change


@contextmanager
def mortal(changes: int) -> Iterator[None]:
    """Let this process make so many changes to the file system, then none."""
    life = Life(changes)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "mkdir", "rmdir", "unlink", "remove", "link", "utime"):
            patch.setattr(os, name, life.spent_by(getattr(os, name)))
        yield
    for watch in lease._watches.values():  # a dead process renews no lease
        watch.ended.set()
    lease._watches.clear()


@pytest.fixture
def buried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of this process that met a `DeadError` is dead to the next one, as if it had been a process of its own."""
    monkeypatch.setattr(Holder, "dead", lambda *_: True)


class MortalStore(MemoryStore):
    """A store whose owner may make so many changes, then none."""

    life = Life(sys.maxsize)

    async def set(self, key: str, value: Buffer, byte_range: Any = None) -> None:
        self.life.spend()
        await super().set(key, value, byte_range)

    async def delete(self, key: str) -> None:
        self.life.spend()
        await super().delete(key)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        self.life.spend()
        await super().set_if_not_exists(key, value)


SMALL: list[dict[str, Any]] = [
    {"chunks": (16, 4), "route": "staged", "memory": "4KiB"},
    {"chunks": (8, 8), "zarr_format": 2},
]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """One dataset in a group."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("group/x", data=np.arange(256, dtype="<i4").reshape(16, 16), chunks=(4, 16), compression="gzip")
    return tmp_path / "in.h5"


@pytest.mark.usefixtures("buried")
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("policy", SMALL, ids=str)
def test_death_at_any_change_of_a_folder(small: Path, tmp_path: Path, policy: dict[str, Any], overwrite: bool) -> None:
    """Before each file or folder that is made, renamed or deleted: the rerun ends as it should, and nothing is left over."""
    options = {**policy, "scheduler": "sync", "overwrite": overwrite}
    h5z.convert(small, tmp_path / "new.zarr", **policy)
    h5z.convert(small, tmp_path / "old.zarr", codec="zstd:5")
    new, old = listing(tmp_path / "new.zarr"), listing(tmp_path / "old.zarr")
    wrong: dict[int, str] = {}
    for changes in range(1000):
        folder = tmp_path / f"run{changes}"
        folder.mkdir()
        target = folder / "out.zarr"
        if overwrite:
            h5z.convert(small, target, codec="zstd:5")
        with suppress(DeadError), mortal(changes):
            h5z.convert(small, target, **options)
            break
        if opens(target) and not any(tree.items() <= listing(target).items() for tree in (old, new)):
            wrong[changes] = "opens, and is neither the old target nor the new"
        try:
            h5z.convert(small, target, **options)
        except TargetError as error:
            wrong[changes] = str(error)
            continue
        if listing(target) != new:
            wrong[changes] = f"differs in {sorted({key for key, _ in listing(target).items() ^ new.items()})}"
        elif os.listdir(folder) != ["out.zarr"]:
            wrong[changes] = f"leaves {sorted(os.listdir(folder))}"
    assert changes > 10
    assert wrong == {}


@pytest.mark.usefixtures("buried")
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("policy", SMALL, ids=str)
def test_death_at_any_change_of_a_store(small: Path, policy: dict[str, Any], overwrite: bool) -> None:
    """Object by object; here a target that is replaced may stop to open, but never opens as something else."""
    options = {**policy, "scheduler": "sync", "overwrite": overwrite}
    stores = MemoryStore(), MemoryStore()
    h5z.convert(small, stores[0], **policy)
    h5z.convert(small, stores[1], codec="zstd:5")
    new, old = map(stored_in, stores)
    wrong: dict[int, str] = {}
    for changes in range(1000):
        store = MortalStore()
        if overwrite:
            h5z.convert(small, store, codec="zstd:5")
        store.life = Life(changes)
        with suppress(DeadError):
            h5z.convert(small, store, **options)
            break
        store = MortalStore(store._store_dict)  # what the dead run may still have in hand does not reach this one
        if opens(store) and not any(tree.items() <= stored_in(store).items() for tree in (old, new)):
            wrong[changes] = "opens, and is neither the old target nor the new"
        try:
            h5z.convert(small, store, **options)
        except TargetError as error:
            wrong[changes] = str(error)
            continue
        if stored_in(store) != new:
            wrong[changes] = f"differs in {sorted({key for key, _ in stored_in(store).items() ^ new.items()})}"
    assert changes > 10
    assert wrong == {}


@pytest.mark.usefixtures("buried")
@pytest.mark.parametrize("changed", ["source", "policy"])
def test_what_has_changed_in_between_is_refused(small: Path, tmp_path: Path, changed: str) -> None:
    """Unless it may overwrite: then all begins anew."""
    target = tmp_path / "out" / "out.zarr"
    with pytest.raises(DeadError), mortal(16):
        h5z.convert(small, target, chunks=(4, 4), scheduler="sync")
    policy: dict[str, Any] = {"chunks": (4, 4) if changed == "source" else (8, 8)}
    if changed == "source":
        with h5py.File(small, "r+") as file:
            file["group/x"][3, 3] = -1
    before = listing(target)
    with pytest.raises(TargetExistsError, match="unfinished migration"):
        h5z.convert(small, target, **policy)
    assert listing(target) == before
    for place, overwrite in ((target, True), (tmp_path / "whole.zarr", False)):
        assert h5z.convert(small, place, overwrite=overwrite, verify="full", **policy).ok
    assert listing(target) == listing(tmp_path / "whole.zarr")


def test_the_old_target_is_read_until_the_new_one_is_complete(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zarr"
    h5z.convert(source, target, chunks={"/cells": (5000,)})
    seen: list[tuple[int, ...]] = []

    def look(done: int, total: int) -> None:
        array = zarr.open_group(target, mode="r")["cells"]
        seen.append(array.chunks)
        assert array[::5000].tolist() == list(range(0, 96_000, 5000))

    h5z.convert(source, target, overwrite=True, progress=look, **MANY)
    assert len(seen) > 5
    assert set(seen) == {(5000,)}
    assert zarr.open_group(target, mode="r")["cells"].chunks == (32,)


def test_twice_is_once(small: Path, tmp_path: Path) -> None:
    """The second run writes nothing; verifying, it compares all the same, down to bytes that no reader sees."""
    target, policy = tmp_path / "out.zarr", {"chunks": (10, 10), "codec": None}
    assert h5z.convert(small, target, **policy).status == "converted"
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    for verify in (None, "structure", "sample", "full"):
        report = h5z.convert(small, target, verify=verify, **policy)
        assert (report.status, report.ok) == ("unchanged", True)
    h5z.finalize(target)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times
    chunk = target / "group" / "x" / "c" / "1" / "1"
    raw = bytearray(chunk.read_bytes())
    raw[-1] ^= 1  # beyond the array's end
    chunk.write_bytes(raw)
    assert not h5z.verify(small, target).ok
    assert not h5z.convert(small, target, verify="full", **policy).ok


def test_nothing_is_no_migration_to_finalize(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="none"):
        h5z.finalize(tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
