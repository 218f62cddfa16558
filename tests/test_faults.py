"""What fails: stores that fail now and then, or for good; disks, sources, workers. One clear line, and the rerun goes on."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, WrapperStore

import h5z
from h5z.errors import SourceChangedError, TargetError, TargetExistsError, TransientError
from h5z.stores import retries

from .forks import HOME, PIECES, ForkServer
from .running import Run
from .s3server import SECRET, Server
from .test_bad_input import listing

POLICY: dict[str, Any] = {"chunks": {"/x": [50], "/slices": [8, 4, 4]}, "memory": "16KiB", "workers": 2}
POLICY["route"] = {"/slices": "staged"}
SLOW: dict[str, Any] = {**POLICY, "scheduler": "sync", "pause": 0.05}


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as in the processes that are forked; and short pauses."""
    monkeypatch.setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)
    monkeypatch.setattr(retries, "_FIRST", 0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, some of them staged; text; chunks that are not there."""
    path = tmp_path_factory.mktemp("faults") / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(3_000, dtype="<f8"), chunks=(100,), compression="gzip")
        file.create_dataset("slices", data=np.arange(2048, dtype="<u2").reshape(8, 16, 16), chunks=(1, 16, 16), shuffle=True)
        file["words"] = ["a", "ß"]
        file.create_dataset("sparse", (40, 40), "<i2", chunks=(10, 10))[25, 25] = 1
    return path


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copy2(made, tmp_path))


@pytest.fixture(scope="module")
def expected(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The target's objects, of a run that nothing disturbs; verified, which the root says."""
    target = tmp_path_factory.mktemp("expected") / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)
        h5z.convert(made, target, verify="full", **POLICY)
    return {key: value for key, value in listing(target).items() if value is not None}


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    for _ in range(int(seconds * 200)):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("never")


class FaultyStore(WrapperStore[MemoryStore]):
    """A store that fails a share of its requests, before or after it did what was asked; or all of them."""

    kinds = (ConnectionResetError("reset"), TimeoutError("too long"), OSError("Internal Error"), OSError(errno.EBUSY, "SlowDown"))

    def __init__(self, store: MemoryStore, rate: float = 0.0) -> None:
        super().__init__(store)
        self.rate, self.chance, self.failed, self.calls = rate, random.Random(1), 0, 0

    def fails(self) -> bool:
        self.calls += 1
        fails = self.chance.random() < self.rate
        self.failed += fails
        return fails

    async def asked(self, request: Any, *arguments: Any) -> Any:
        fails = self.fails()
        answer = await request(*arguments) if not fails or self.chance.random() < 0.5 else None
        if fails:
            raise self.chance.choice(self.kinds)
        return answer

    async def get(self, *arguments: Any) -> Any:  # type: ignore[override]
        return await self.asked(super().get, *arguments)

    async def set(self, key: str, value: Buffer) -> None:
        await self.asked(super().set, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        await self.asked(super().set_if_not_exists, key, value)

    async def delete(self, key: str) -> None:
        await self.asked(super().delete, key)

    async def exists(self, key: str) -> bool:
        found: bool = await self.asked(super().exists, key)
        return found

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        cut = self.chance.randrange(3) if self.fails() else None
        count = 0
        async for key in super().list_prefix(prefix):
            if count == cut:
                break
            yield key
            count += 1
        if cut is not None:
            raise self.chance.choice(self.kinds)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        if self.fails():
            raise self.chance.choice(self.kinds)
        async for key in super().list_dir(prefix):
            yield key


def contents(store: MemoryStore) -> dict[str, bytes]:
    """All objects of a store."""
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
def test_a_store_that_fails_a_tenth_of_its_requests(made: Path, expected: dict[str, bytes], overwrite: bool) -> None:
    """Ends complete, verified, and the same to the byte."""
    inner = MemoryStore()
    if overwrite:
        h5z.convert(made, inner)
    store = FaultyStore(inner, 0.1)
    report = h5z.convert(made, store, verify="full", overwrite=overwrite, attempts=12, **POLICY)
    assert report.ok
    assert store.failed > 20
    assert contents(inner) == expected


def test_s3_that_fails_a_tenth_of_its_requests(made: Path, expected: dict[str, bytes], s3: Server) -> None:
    """By answering 500 or 503, or by ending the connection; where the source lies, and the target."""
    s3.filesystem().put_file(str(made), "bucket/in.h5")
    once: dict[str, Any] = {"config_kwargs": {"retries": {"max_attempts": 1}}, **s3.options}  # botocore's own retries aside
    before = s3.fail(0.1)
    try:
        kept = {"storage_options": once, "source_options": once, "attempts": 12}
        report = h5z.convert("s3://bucket/in.h5", "s3://bucket/out.zarr", verify="full", **kept, **POLICY)
    finally:
        after = s3.fail(0)
    assert report.ok
    assert after[1] - before[1] > 10
    found = s3.objects("bucket/out.zarr")
    assert {key for key, _ in found.items() ^ expected.items()} == {"zarr.json"}  # its source's time is not a file's
    assert not any(".h5z" in key for key in found)
    h5z.convert("s3://bucket/in.h5", "s3://bucket/quiet.zarr", verify="full", **{**kept, **POLICY})
    assert s3.objects("bucket/quiet.zarr") == found


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_store_that_fails_for_good(made: Path, expected: dict[str, bytes], attempts: int) -> None:
    """So many attempts, then one line; when the store is back, the rerun goes on."""
    store = FaultyStore(MemoryStore())
    done: list[int] = []

    def breaks(now: int, total: int) -> None:
        done.append(now)
        if now > total / 2:
            store.rate = 1.0

    with pytest.raises(TransientError, match="did not answer") as caught:
        h5z.convert(made, store, progress=breaks, scheduler="sync", attempts=attempts, **POLICY)
    assert "\n" not in str(caught.value)
    store.rate = 0.0
    marks = sum("/done/" in key for key in contents(store._store))
    assert marks >= 2
    again: list[int] = []
    assert h5z.convert(made, store, progress=lambda now, _: again.append(now), verify="full", **POLICY).ok
    assert again[0] >= max(done[:-1])
    assert contents(store._store) == expected


def test_attempts_are_counted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request that fails is made as often as was asked, and no more."""
    for attempts in (1, 3):
        store = FaultyStore(MemoryStore(), 1.0)
        with pytest.raises(TransientError):
            h5z.convert(made, store, attempts=attempts)
        assert store.calls == attempts


def test_what_will_not_pass_is_not_tried_again(made: Path) -> None:
    store = FaultyStore(MemoryStore(), 1.0)
    store.kinds = (PermissionError("denied"),)  # type: ignore[assignment]
    with pytest.raises(TargetError, match="denied"):
        h5z.convert(made, store)
    assert store.calls == 1


def test_a_reader_of_a_store_that_fails(made: Path) -> None:
    """Verification tries again too."""
    store = FaultyStore(MemoryStore())
    h5z.convert(made, store, **POLICY)
    store.rate = 0.1
    assert h5z.verify(made, store).ok
    assert store.failed


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_that_is_gone(made: Path, s3: Server, tmp_path: Path, cli: Run, which: str) -> None:
    """Status 4 and one line without secrets, from the command as from the library."""
    gone = {**s3.options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    gone["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    source, target = ("s3://bucket/in.h5", tmp_path / "out.zarr") if which == "source" else (made, "s3://bucket/gone.zarr")
    options = {"source_options" if which == "source" else "storage_options": gone}
    with pytest.raises(TransientError, match="did not answer") as caught:
        h5z.convert(source, target, **options)
    assert SECRET not in str(caught.value)
    code = "import json, sys, h5z.cli, h5z; s, t, o = sys.argv[1:4]; convert = h5z.convert\n"
    code += (
        "h5z.convert = lambda *a, **k: convert(*a, **{**k, **json.loads(o)})\nsys.argv[1:] = ['convert', s, t]\nh5z.cli.main()"
    )
    command = [sys.executable, "-c", code, str(source), str(target), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert SECRET not in done.stderr


# Disks.


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


# Sources.


def change(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def swap(path: Path) -> None:
    """Another file of the same size and time at its place."""
    stat = path.stat()
    other = path.with_name("other.h5")
    shutil.copy2(path, other)
    with h5py.File(other, "r+") as file:
        file.attrs["title"] = "another"
    raw = other.read_bytes()
    path.write_bytes(raw[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


SPOILED: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_suffix(".away")),
    "changed": change,
    "touched": lambda path: os.utime(path, (1, 1)),
    "truncated": lambda path: os.truncate(path, 3000),
    "replaced": swap,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_source_that_is_spoiled_while_it_is_read(
    made: Path, source: Path, tmp_path: Path, forks: ForkServer, expected: dict[str, bytes], how: str
) -> None:
    """Status 3 and one line; the target stays, is not mixed with anything else, and is completed when the source is back."""
    target, kept = tmp_path / "out.zarr", tmp_path / "kept"
    kept.mkdir()
    shutil.copy2(source, kept)
    arguments: dict[str, Any] = {"source": str(source), "target": str(target), "verify": "full"}
    pid = forks.start("convert", tmp_path / "out.txt", **arguments, **SLOW)
    until(lambda: len(list((target / ".h5z" / "done").glob("*"))) > 2)
    SPOILED[how](source)
    assert forks.wait(pid) == 3, (tmp_path / "out.txt").read_text()
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith(("SourceChangedError: ", "SourceError: "))
    assert text.count("\n") == 0
    assert "in.h5" in text
    marks = len(list((target / ".h5z" / "done").glob("*")))
    assert marks
    with pytest.raises(FileNotFoundError):
        zarr.open_group(target, mode="r")
    if how in ("changed", "touched"):
        with pytest.raises(TargetExistsError, match="has changed since"):
            h5z.convert(source, target, **POLICY)
    assert len(list((target / ".h5z" / "done").glob("*"))) == marks
    shutil.copy2(kept / "in.h5", source)
    assert forks.run("convert", tmp_path / "out.txt", **arguments, **POLICY) == (0, "converted")
    assert {key: value for key, value in listing(target).items() if value is not None} == expected


def test_the_identity_of_a_source(source: Path, tmp_path: Path) -> None:
    """A digest of the header and one of where the data lie, in the record: each finds what size and time do not."""
    plan = h5z.plan(source, tmp_path / "out.zarr")
    assert len(plan.digest) == 64
    h5z.convert(source, tmp_path / "out.zarr")
    record = zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["h5z"]["source"]
    assert record == {"name": "in.h5", "size": plan.size, "mtime_ns": plan.mtime_ns, "digest": plan.digest}
    times = source.stat()
    with h5py.File(tmp_path / "spacious.h5", "w") as file:
        file["filler"] = np.zeros(20_000)
        file.create_dataset("x", data=np.arange(100), chunks=(10,), compression="gzip")
    first = h5z.plan(tmp_path / "spacious.h5")
    with h5py.File(tmp_path / "spacious.h5", "r+") as file:
        file["x"][3] = 12345
    os.utime(tmp_path / "spacious.h5", ns=(times.st_atime_ns, first.mtime_ns))
    second = h5z.plan(tmp_path / "spacious.h5")
    assert first.mtime_ns == second.mtime_ns
    assert first.digest[32:] != second.digest[32:]
    assert first.fingerprint != second.fingerprint
    header = h5z.plan(source).digest[:32]
    with open(source, "r+b") as raw:
        raw.seek(100)
        raw.write(b"?")
    with suppress(Exception):
        assert h5z.plan(source).digest[:32] != header


def test_a_view_of_a_file_s_own_datasets(tmp_path: Path) -> None:
    """HDF5 calls that file by a period: the source is the same, whatever is put beside it."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        layout = h5py.VirtualLayout((10,), "i4")
        layout[:] = h5py.VirtualSource(".", "x", (10,))
        file["x"] = np.arange(10, dtype="i4")
        file.create_virtual_dataset("view", layout)
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr").status == "converted"
    (tmp_path / "beside").touch()
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full").status == "unchanged"


def test_a_source_that_changed_before_its_target_is_committed(source: Path, tmp_path: Path) -> None:
    """After the last of its bytes was read: nothing is committed."""
    target = tmp_path / "out.zarr"

    def touch(now: int, total: int) -> None:
        if now == total:
            os.utime(source, (1, 1))

    with pytest.raises(SourceChangedError, match="has changed since"):
        h5z.convert(source, target, progress=touch, scheduler="sync")
    with pytest.raises(FileNotFoundError):
        zarr.open_group(target, mode="r")


# Machines.


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
        assert {key: value for key, value in listing(target).items() if value is not None} == expected


def test_a_plan_that_the_disk_has_lost(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Nothing but what lies under the mark: begun anew."""
    target = tmp_path / "out.zarr"
    (target / ".h5z" / "done").mkdir(parents=True)
    (target / ".h5z" / "plan.json").touch()
    (target / ".h5z" / "created").touch()
    (target / ".h5z" / "done" / "0").write_text('{"nbytes": 1, "checksums": {}}')
    h5z.convert(source, target, verify="full", **POLICY)
    assert {key: value for key, value in listing(target).items() if value is not None} == expected


# Workers.


LOG = """
import importlib, multiprocessing, os, sys, time
import h5z.tasks

tasks = sys.modules["h5z.tasks"]
if multiprocessing.parent_process() is not None and not hasattr(tasks, "unlogged"):  # a worker, for the first time
    tasks.unlogged = tasks.run_task

    def run_task(target, number, work):
        with open({log!r}, "a") as file:
            file.write(f"began {{number}}\\n")
        with open({log!r}) as file:
            wait = file.read().count("ended") >= {free}
        while wait and os.path.exists({held!r}):
            time.sleep(0.01)
        record = tasks.unlogged(target, number, work)
        with open({log!r}, "a") as file:
            file.write(f"ended {{number}}\\n")
        return record

    tasks.run_task = run_task
"""


FREE = 2  # tasks that end before others wait in their workers' hands, while a file says so


def logged(log: Path) -> tuple[list[int], list[int]]:
    """Numbers of the tasks that began and that ended, in order."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [int(n) for what, n in lines if what == "began"], [int(n) for what, n in lines if what == "ended"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """Two workers, which log the tasks that they run, and stop in the midst of one while there is a file "held"."""
    from distributed import Client, LocalCluster

    preload, held = tmp_path / "preload.py", tmp_path / "held"
    preload.write_text(LOG.format(log=str(tmp_path / "log"), held=str(held), free=FREE))
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        LocalCluster(silence_logs=logging.CRITICAL, preload=str(preload), **options) as made,
        Client(made, set_as_default=False) as client,
    ):
        held.touch()
        yield client
        held.unlink(missing_ok=True)


def kill_workers(pids: list[int], folder: Path) -> set[int]:
    """Kill processes once both workers have a task in hand and others have ended; which tasks were in hand."""

    def in_hand() -> set[int]:
        began, ended = logged(folder / "log")
        return set(began) - set(ended)

    until(lambda: len(in_hand()) == 2 and len(logged(folder / "log")[1]) >= FREE, 300)
    found = in_hand()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    (folder / "held").unlink()
    return found


@pytest.mark.cluster
def test_a_killed_worker_reruns_only_what_it_had_in_hand(
    source: Path, tmp_path: Path, cluster: Any, expected: dict[str, bytes]
) -> None:
    """What it had ended, and had not told yet, is found in the target."""
    target, pids = tmp_path / "out.zarr", list(cluster.run(os.getpid).values())
    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill_workers, pids[:1], tmp_path)
        assert h5z.convert(source, target, scheduler=cluster, verify="full", **POLICY).ok
    in_hand = killing.result()
    began, ended = logged(tmp_path / "log")
    again = {number for number in began if began.count(number) > 1}
    assert len(again & in_hand) == 1
    assert again - in_hand <= set(ended[:FREE])  # whose results died with it: looked up, not done again
    assert {key: value for key, value in listing(target).items() if value is not None} == expected


@pytest.mark.cluster
def test_all_workers_killed(
    source: Path, tmp_path: Path, cluster: Any, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; the rerun, here, does only what they had not done."""
    target = tmp_path / "out.zarr"
    arguments: dict[str, Any] = {"verify": "full", **POLICY}
    pids = list(cluster.run(os.getpid).values())
    cluster.cluster.scheduler.allowed_failures = 0
    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill_workers, pids, tmp_path)
        with pytest.raises(TransientError, match="workers died"):
            h5z.convert(source, target, scheduler=cluster, **arguments)
    assert len(killing.result()) == 2
    marks = {int(path.name) for path in (target / ".h5z" / "done").iterdir()}
    assert len(marks) >= FREE
    module = importlib.import_module("h5z.execution")
    begin, begun = module.run_task, set()

    def run_task(target: Any, number: int, work: Any) -> Any:
        begun.add(number)
        return begin(target, number, work)

    monkeypatch.setattr(module, "run_task", run_task)
    tasks = {task.number for task in h5z.plan(source, target, **POLICY).tasks()}
    assert h5z.convert(source, target, **arguments).ok
    assert begun == tasks - marks
    assert {key: value for key, value in listing(target).items() if value is not None} == expected
