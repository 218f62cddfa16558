"""One run a target: who holds it, who is refused, who goes on when the holder has died or sleeps; on disk and on S3."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore

import h5z
from h5z.errors import LeaseLostError, TargetError, TargetHeldError
from h5z.stores import lease
from h5z.stores.claims import Claims, FolderClaims
from h5z.stores.holder import Holder
from h5z.stores.storeclaims import ObjectClaims, StoreClaims, UrlClaims
from h5z.target import Target

from .forks import PIECES, ForkServer
from .running import Run
from .s3server import Server
from .stored import listing, stored

POLICY: dict[str, Any] = {"chunks": [50], "memory": "8KiB", "workers": 2, "codec": "zstd:1"}
SLOW: dict[str, Any] = {**POLICY, "scheduler": "sync", "pause": 0.05}


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as in the processes that are forked."""
    monkeypatch.setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small, and of many tasks where memory is short."""
    path = tmp_path_factory.mktemp("lease") / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(3_000, dtype="<f8"), chunks=(100,), compression="gzip")
    return path


@dataclass
class Place:
    """A target, and what is in it."""

    where: str
    contents: Callable[[], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return Target.of(self.where, self.options.get("storage_options"))

    def claim(self) -> Holder:
        """What the highest claim says."""
        claims = self.target.claims
        return Holder.parse(claims.read(max(claims.names(), key=int)) or b"")

    def forge(self, **changes: Any) -> None:
        """Change what the highest claim says; its time becomes now."""
        name = max(self.target.claims.names(), key=int)
        text = replace(self.claim(), **changes).text()
        if self.options:
            if hasattr(self.target._opened, "fs"):
                self.target._opened.fs.invalidate_cache()
            self.target.claims.remove(name)
            self.target.claims.create(name, text)
        else:
            Path(self.where, ".h5z", "lease", name).write_bytes(text)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(str(tmp_path / "out.zarr"), lambda: listing(tmp_path / "out.zarr"))
    server: Server = request.getfixturevalue("s3")
    name = f"bucket/{tmp_path.name}/out.zarr"
    return Place(f"s3://{name}", lambda: server.objects(name), {"storage_options": server.options})


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> dict[str, Any]:
    """What a run that nothing disturbs writes, as objects."""
    h5z.convert(source, tmp_path / "whole.zarr", **POLICY)
    return stored(tmp_path / "whole.zarr")


def objects(place: Place) -> dict[str, Any]:
    return {key: value for key, value in place.contents().items() if value is not None}


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    for _ in range(int(seconds * 200)):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("never")


def begun(place: Place) -> bool:
    return sum("/done/" in key for key in place.target.listing()) >= 3


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_of_twenty_one_holds(place: Place, forks: ForkServer, tmp_path: Path, stale: bool) -> None:
    """Whether the target is free, or all would supersede the lease of a run that died elsewhere."""
    if stale:
        held = place.target.hold()
        place.forge(machine="elsewhere", span=0.1)
        lease._watches[held.lease.run].ended.set()
        time.sleep(0.3 if not place.options else 3)  # S3 tells times by the second
    start, stop = tmp_path / "start", tmp_path / "stop"
    arguments = {"target": place.where, "start": str(start), "stop": str(stop), **place.options}
    pids = [forks.start("race", tmp_path / f"{i}.txt", **arguments) for i in range(20)]
    time.sleep(1)
    start.touch()
    until(lambda: len(list(tmp_path.glob("*.txt"))) == 19)
    stop.touch()
    ended = [(forks.wait(pid), (tmp_path / f"{i}.txt").read_text()) for i, pid in enumerate(pids)]
    assert sorted(status for status, _ in ended) == [0] + [4] * 19, ended
    winner = pids[[status for status, _ in ended].index(0)]
    assert all(f"process {winner}," in text for status, text in ended if status)
    assert not any(".h5z" in key for key in place.contents())


def test_two_runs_at_once(source: Path, place: Place, forks: ForkServer, tmp_path: Path, whole: dict[str, Any]) -> None:
    """One converts; the other is refused in a line that names it; the target is as if there had been one."""
    arguments = {"source": str(source), "target": place.where, **place.options, **SLOW}
    pids = [forks.start("convert", tmp_path / f"{i}.txt", **arguments) for i in range(2)]
    ended = {forks.wait(pid): (pid, (tmp_path / f"{i}.txt").read_text()) for i, pid in enumerate(pids)}
    assert set(ended) == {0, 4}, ended
    text = ended[4][1]
    assert text.startswith("TargetHeldError: ")
    assert f"process {ended[0][0]}," in text
    assert "\n" not in text
    assert objects(place) == whole


def test_a_second_command_is_refused(source: Path, forks: ForkServer, tmp_path: Path, cli: Run) -> None:
    """With status 4 and the holder's name; whatever it was to do there."""
    place = Place(str(tmp_path / "out.zarr"), lambda: listing(tmp_path / "out.zarr"))
    pid = forks.start(
        "convert", tmp_path / "out.txt", source=str(source), target=place.where, **{**SLOW, "pause": 300, "free": 3}
    )
    until(lambda: begun(place))
    for options in ([], ["--overwrite"], ["--chunks", "70", "--overwrite"], ["--chunks", "70"]):
        done = cli("convert", source, place.where, *options)
        assert done.returncode == 4, done.stderr
        assert f"process {pid}," in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(TargetHeldError):
        h5z.graph(h5z.plan(source, place.where))
    os.kill(pid, signal.SIGKILL)
    assert forks.wait(pid) == -signal.SIGKILL


@pytest.mark.parametrize("overwrite", [False, True], ids=["same", "another"])
def test_who_wakes_up_too_late_writes_no_more(
    source: Path, place: Place, forks: ForkServer, tmp_path: Path, whole: dict[str, Any], overwrite: bool
) -> None:
    """A holder that is stopped past its lease's end; another goes on, or begins anew; woken up, the first stops with status 4."""
    theirs = {**SLOW, "chunks": [70]} if overwrite else SLOW
    arguments = {"source": str(source), "target": place.where, **place.options, **theirs, "pause": 0.1, "span": 1.0}
    pid = forks.start("convert", tmp_path / "first.txt", **arguments)
    until(lambda: begun(place))
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TargetHeldError, match=f"process {pid},"):
        h5z.convert(source, place.where, **place.options, **POLICY)
    time.sleep(1.3 if not place.options else 4)
    second: dict[str, Any] = {"source": str(source), "target": place.where, **place.options, **SLOW, "overwrite": overwrite}
    other = forks.start("convert", tmp_path / "second.txt", **second)
    until(lambda: place.claim().pid == other)
    os.kill(pid, signal.SIGCONT)
    assert forks.wait(pid) == 4, (tmp_path / "first.txt").read_text()
    text = (tmp_path / "first.txt").read_text()
    assert text.startswith("LeaseLostError: ")
    assert f"process {other}," in text
    assert forks.wait(other) == 0, (tmp_path / "second.txt").read_text()
    assert objects(place) == whole


def test_who_wakes_up_and_finds_all_as_it_was_goes_on(
    source: Path, place: Place, forks: ForkServer, tmp_path: Path, whole: dict[str, Any]
) -> None:
    """A lease that ran out, which nobody took over, is renewed."""
    arguments = {"source": str(source), "target": place.where, **place.options, **SLOW, "span": 0.4}
    pid = forks.start("convert", tmp_path / "out.txt", **arguments)
    until(lambda: begun(place))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.8)
    os.kill(pid, signal.SIGCONT)
    assert forks.wait(pid) == 0, (tmp_path / "out.txt").read_text()
    assert objects(place) == whole


@pytest.mark.parametrize("where", ["here", "elsewhere", "another process of its number"])
def test_a_dead_holder(source: Path, place: Place, forks: ForkServer, tmp_path: Path, whole: dict[str, Any], where: str) -> None:
    """Whose death is known is followed at once; one on another machine when its lease has run out."""
    pid = forks.start("convert", tmp_path / "out.txt", source=str(source), target=place.where, **place.options, **SLOW)
    until(lambda: begun(place))
    os.kill(pid, signal.SIGKILL)
    forks.wait(pid)
    if where == "elsewhere":
        place.forge(machine="another boot", span=3.0)
        with pytest.raises(TargetHeldError, match=f"process {pid},"):
            h5z.convert(source, place.where, **place.options, **POLICY)
        assert h5z.convert(source, place.where, patient=True, **place.options, **POLICY).status == "converted"
    else:
        if where != "here":
            place.forge(pid=os.getppid())
        assert h5z.convert(source, place.where, **place.options, **POLICY).status == "converted"
    assert objects(place) == whole


def test_no_clock_is_trusted(source: Path, place: Place, forks: ForkServer, tmp_path: Path) -> None:
    """What a holder says of the time decides nothing."""
    pid = forks.start("convert", tmp_path / "out.txt", source=str(source), target=place.where, **place.options, **SLOW)
    until(lambda: begun(place))
    os.kill(pid, signal.SIGKILL)
    forks.wait(pid)
    for since, clock in (("1970-01-01T00:00:00+00:00", -1e9), ("2999-01-01T00:00:00+00:00", 1e12)):
        place.forge(machine="another boot", since=since, clock=clock)
        with pytest.raises(TargetHeldError):
            h5z.convert(source, place.where, **place.options, **POLICY)
    place.forge(machine="another boot", since=since, clock=1e12, span=0.1)
    time.sleep(0.2 if not place.options else 3)
    assert h5z.convert(source, place.where, **place.options, **POLICY).status == "converted"


def test_a_failure_lets_go(source: Path, place: Place) -> None:
    """The next run goes on at once, though the process lives."""

    def fail(done: int, total: int) -> None:
        if done > total / 2:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        h5z.convert(source, place.where, progress=fail, scheduler="sync", **place.options, **POLICY)
    assert any(key.startswith(".h5z/done/") for key in place.contents())
    assert h5z.convert(source, place.where, **place.options, **POLICY).status == "converted"


def test_a_removed_target_is_not_written_to(source: Path, place: Place, forks: ForkServer, tmp_path: Path) -> None:
    """Its run stops, in one line, and nothing comes back."""
    arguments = {"source": str(source), "target": place.where, **place.options, **SLOW, "span": 1.0}
    pid = forks.start("convert", tmp_path / "out.txt", **arguments)
    until(lambda: begun(place))
    os.kill(pid, signal.SIGSTOP)  # so that nothing is added while it is removed
    Target.of(place.where, place.options.get("storage_options")).clear()
    claims = place.target.claims
    for name in claims.names():
        claims.remove(name)
    if not place.options:
        subprocess.run(["rm", "-rf", place.where], check=True)
    time.sleep(1)
    os.kill(pid, signal.SIGCONT)
    assert forks.wait(pid) == 4, (tmp_path / "out.txt").read_text()
    assert "removed" in (tmp_path / "out.txt").read_text()
    assert place.contents() == {}
    assert h5z.convert(source, place.where, **place.options, **POLICY).status == "converted"


def test_a_target_that_is_removed_while_it_is_verified(source: Path, tmp_path: Path) -> None:
    """Does not differ from its source: it is gone."""
    target = tmp_path / "out.zarr"

    def remove(done: int, total: int) -> None:
        if done * 3 == total and target.exists():  # all is written, nothing is compared
            shutil.rmtree(target)

    with pytest.raises(LeaseLostError, match="its lease was removed, or the target was"):
        h5z.convert(source, target, verify="full", scheduler="sync", progress=remove, **POLICY)
    assert list(target.rglob("*")) == []


def test_a_repair_that_has_nothing_to_do_leaves_no_lease(source: Path, place: Place) -> None:
    """One that was killed after its last write may have left one; another run's stays."""
    h5z.convert(source, place.where, **place.options, **POLICY)
    held = Target.of(place.where, place.options.get("storage_options")).hold()
    assert h5z.verify(source, place.where, repair=True, **place.options).status == "verified"
    assert any(".h5z" in key for key in place.contents())
    lease._watches.pop(held.lease.run).ended.set()
    assert h5z.verify(source, place.where, repair=True, **place.options).status == "verified"
    assert not any(".h5z" in key for key in place.contents())


def test_a_graph_holds_its_target_while_it_is_computed(
    source: Path, place: Place, forks: ForkServer, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are refused; its own process may think again; whoever finds its tasks done may finalize."""
    h5z.graph(h5z.plan(source, place.where, chunks=(70,)), **place.options)
    again = h5z.graph(h5z.plan(source, place.where, **POLICY), overwrite=True, **place.options)
    arguments = {"source": str(source), "target": place.where, **place.options, **POLICY}
    assert forks.run("convert", tmp_path / "out.txt", **arguments)[0] == 4
    with pytest.raises(TargetError, match="tasks are still to do"):
        h5z.finalize(place.where, **place.options)
    again.compute(scheduler="threads", num_workers=2)
    assert forks.run("finalize", tmp_path / "out.txt", target=place.where, **place.options) == (0, "finalized")
    assert objects(place) == whole
    late = h5z.graph(h5z.plan(source, place.where, chunks=(70,), memory="8KiB"), overwrite=True, **place.options)
    h5z.convert(source, place.where, chunks=(80,), overwrite=True, **place.options)
    if place.options:  # where nothing but asking the store tells
        lease._watches.clear()
    with pytest.raises((LeaseLostError, TargetError)):
        late.compute(scheduler="sync")
    assert zarr.open_group(place.where, mode="r", **place.options)["x"].chunks == (80,)


def test_a_finished_target_is_left_without_a_lease(source: Path, tmp_path: Path) -> None:
    """Nothing is written when nothing is to do, so that it can be on a medium that only reads."""
    h5z.convert(source, tmp_path / "out.zarr", **POLICY)
    before = os.stat(tmp_path / "out.zarr").st_mtime_ns
    assert h5z.convert(source, tmp_path / "out.zarr", **POLICY).status == "unchanged"
    h5z.finalize(tmp_path / "out.zarr")
    assert os.stat(tmp_path / "out.zarr").st_mtime_ns == before


def test_what_is_not_ours_is_left_without_a_lease(source: Path, tmp_path: Path) -> None:
    """Not even for a moment."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    before = os.stat(tmp_path / "photos").st_mtime_ns
    with pytest.raises(TargetError, match="never overwritten"):
        h5z.convert(source, tmp_path / "photos", overwrite=True)
    assert os.stat(tmp_path / "photos").st_mtime_ns == before


class Plain(WrapperStore[MemoryStore]):
    """A store without times: only watching tells whether a lease is renewed."""


@pytest.mark.parametrize("kind", ["memory", "wrapper", "folder", "obstore", "fsspec memory"])
def test_a_lease_on_any_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Held by one; superseded when its holder died elsewhere and nobody renews it."""
    store: Any = MemoryStore()
    if kind == "wrapper":
        store = Plain(store)
    elif kind == "folder":
        store = LocalStore(tmp_path)
    elif kind == "obstore":
        store = s3_through_obstore(request.getfixturevalue("s3"), tmp_path.name)
    elif kind == "fsspec memory":
        store = zarr.storage.FsspecStore.from_url(f"memory://{tmp_path.name}")
    kinds = {"folder": FolderClaims, "obstore": ObjectClaims, "fsspec memory": UrlClaims}
    held = Target.of(store).hold()
    other = Target.of(store)
    assert type(other.claims) is kinds.get(kind, StoreClaims)
    with pytest.raises(TargetHeldError, match=f"process {os.getpid()},"):
        other.hold()
    lease.check(held.claims, held.lease, "x", now=True)
    watch = lease._watches[held.lease.run]
    watch.ended.set()
    watch.holder = replace(watch.holder, machine="elsewhere", span=0.5)
    held.claims.renew(held.lease.name, watch.holder.text())
    if kind == "folder":
        (tmp_path / ".h5z" / "lease" / "1").write_bytes(watch.holder.text())
    time.sleep(3 if kind in ("obstore", "fsspec memory") else 0.6)  # they tell times by the second
    taken = other.hold()
    assert taken.lease.number == 2
    with pytest.raises(LeaseLostError, match=f"process {os.getpid()},"):
        held.check(now=True)
    held.release()
    taken.check(now=True)
    taken.release()
    assert other.listing() == []


def test_twenty_threads(tmp_path: Path) -> None:
    """Of one process, on a store in memory: it is no matter of processes."""
    store, got, gate = MemoryStore(), [], threading.Barrier(20)

    def take() -> None:
        gate.wait()
        try:
            got.append(Target.of(store).hold())
        except TargetHeldError:
            got.append(None)

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holders = [held for held in got if held is not None]
    assert len(holders) == 1
    holders[0].release()


def s3_through_obstore(server: Server, prefix: str) -> Any:
    from obstore.store import S3Store

    keys = {"access_key_id": "somebody", "secret_access_key": server.options["secret"], "region": "us-east-1"}
    plain: Any = {"endpoint": server.url, "client_options": {"allow_http": True}, "virtual_hosted_style_request": False}
    return ObjectStore(S3Store("bucket", prefix=prefix, **keys, **plain))


@pytest.mark.parametrize("through", ["s3fs", "obstore"])
def test_a_claim_is_renewed_only_over_its_own_text(s3: Server, tmp_path: Path, through: str) -> None:
    """By If-Match: one that was taken away does not come back, one that another wrote stays."""

    def claims() -> Claims:
        url = f"s3://bucket/{tmp_path.name}"
        by_url = FsspecStore.from_url(url, storage_options=s3.options)
        return Target.of(by_url if through == "s3fs" else s3_through_obstore(s3, tmp_path.name)).claims

    mine, other = claims(), claims()
    assert mine.create("1", b"mine")
    assert not other.create("1", b"other")
    mine.renew("1", b"mine again")
    assert mine.read("1") == b"mine again"
    age = mine.age("1")
    assert age is not None
    assert -2 <= age < 10
    other.remove("1")
    mine.renew("1", b"mine still")
    assert mine.read("1") is None
    if through == "s3fs":
        assert other.create("1", b"other")
        mine.renew("1", b"mine still")
        assert mine.read("1") == b"other"


def test_a_lease_that_cannot_be_renewed_stops_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not answer: past three quarters of the span nothing more is written."""

    class Broken(WrapperStore[MemoryStore]):
        broken = False

        async def get(self, *arguments: Any, **options: Any) -> Any:
            if self.broken:
                raise PermissionError("no longer")
            return await super().get(*arguments, **options)

    monkeypatch.setattr(lease, "SPAN", 0.4)
    store = Broken(MemoryStore())
    held = Target.of(store).hold()
    store.broken = True
    held.put({"a": b"1"})
    time.sleep(0.5)
    with pytest.raises(LeaseLostError, match="could not be renewed"):
        held.put({"b": b"2"})
    store.broken = False
    assert set(held.listing()) == {"a", ".h5z/lease/1"}
    held.put({"b": b"2"})
    held.release()


def test_a_lease_says_who_holds_it(tmp_path: Path) -> None:
    held = Target.of(tmp_path / "out.zarr").hold()
    said = json.loads((tmp_path / "out.zarr" / ".h5z" / "lease" / "1").read_text())
    assert (said["pid"], said["run"], said["span"]) == (os.getpid(), held.lease.run, 60.0)
    assert said["host"]
    assert said["user"]
    held.release()
    assert not (tmp_path / "out.zarr").exists()


def test_who_is_interrupted_lets_go(source: Path, tmp_path: Path, forks: ForkServer) -> None:
    """Ctrl-C: the next run need not wait, though the process were to linger."""
    target = tmp_path / "out.zarr"
    pid = forks.start("convert", tmp_path / "out.txt", source=str(source), target=str(target), **SLOW)
    until(lambda: len(list((target / ".h5z" / "done").glob("*"))) > 2)
    os.kill(pid, signal.SIGINT)
    assert forks.wait(pid) == 99
    assert "KeyboardInterrupt" in (tmp_path / "out.txt").read_text()
    assert [claim.stat().st_mtime for claim in (target / ".h5z" / "lease").iterdir()] == [0]
