"""What a second run finds: changed, vanished, half-written and locked sources; ten thousand that are as they were."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
import pytest
import zarr

import flows
from flows.batches import Job, pair
from flows.conversion import Options, being_written, convert_file
from flows.discovery import discover
from flows.report import ArchiveReport, FileRecord, read_report
from flows.sorting import sort_out, vanished
from h5z.errors import TargetHeldError

Write: TypeAlias = Callable[..., Path]
pytestmark = [pytest.mark.flow, pytest.mark.cluster]


def statuses(report: flows.ArchiveReport) -> dict[str, str]:
    return {os.path.basename(record.source): record.status for record in report.files}


def test_a_target_that_differs_is_in_quarantine(tmp_path: Path, write: Write) -> None:
    """Whoever counts what was converted counts what opens and is true."""
    path = write(tmp_path / "a.h5")
    job = Job(str(path), str(tmp_path / "a.zarr"), path.stat().st_size, "a.h5", path.stat().st_mtime_ns)
    assert convert_file(job, Options()).ok
    chunk = next(path for path in Path(job.target, "values").rglob("c*") if path.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[-1] ^= 1
    chunk.write_bytes(raw)
    record = convert_file(job, Options(verify="full"))
    assert (record.status, record.ok) == ("quarantined", False)
    assert record.reason.startswith("its target differs: /values: ")


def test_changed_sources_are_redone_and_vanished_ones_named(tmp_path: Path, cluster: str, write: Write) -> None:
    for i in range(4):
        write(tmp_path / "in" / f"{i}.h5", i)
    root = tmp_path / "out"
    assert flows.migrate(tmp_path / "in", root, scheduler=cluster).count("converted") == 4
    untouched = (root / "3.zarr" / "zarr.json").stat().st_mtime_ns
    write(tmp_path / "in" / "0.h5", 99)
    os.utime(tmp_path / "in" / "1.h5")  # the same bytes, but who knows
    (tmp_path / "in" / "2.h5").unlink()
    write(tmp_path / "in" / "4.h5", 4)

    second = flows.migrate(tmp_path / "in", root, scheduler=cluster)
    assert second.exit_code == 0
    assert statuses(second) == {"0.h5": "converted", "1.h5": "converted", "3.h5": "unchanged", "4.h5": "converted"}
    assert {os.path.basename(record.source) for record in second.files if record.replaced} == {"0.h5", "1.h5"}
    assert zarr.open(root / "0.zarr")["values"][0, 0] == 99
    assert (root / "3.zarr" / "zarr.json").stat().st_mtime_ns == untouched
    gone = ((str(tmp_path / "in" / "2.h5"), str(root / "2.zarr")),)
    assert second.vanished == gone
    assert f"vanished: {gone[0][0]}" in str(second)
    assert (root / "2.zarr").exists()

    third = flows.migrate(tmp_path / "in", root, scheduler=cluster)
    assert third.vanished == gone  # for as long as its target is there
    assert third.count("unchanged") == 4
    write(tmp_path / "in" / "2.h5", 2)
    assert flows.migrate(tmp_path / "in", root, scheduler=cluster).vanished == ()


def test_a_changed_source_is_quarantined_where_that_is_asked_for(tmp_path: Path, cluster: str, write: Write) -> None:
    write(tmp_path / "in" / "a.h5")
    flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster)
    write(tmp_path / "in" / "a.h5", 99)
    report = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster, on_change="quarantine")
    assert report.exit_code == 5
    assert "has changed since its target was made" in report.quarantined[0].reason
    assert zarr.open(tmp_path / "out" / "a.zarr")["values"][0, 0] == 0


def _write_until(path: Path, began: Event, ended: Event) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = np.arange(10)
        file.flush()
        began.set()
        ended.wait(60)


def test_half_written_sources_are_left_for_the_next_run(tmp_path: Path, cluster: str, write: Write) -> None:
    """One that a writer has locked, one whose writer died, one that is recent; then all are done."""
    folder = tmp_path / "in"
    write(folder / "good.h5")
    os.utime(folder / "good.h5", (0, 0))
    recent = write(folder / "recent.h5")
    locked, dead = folder / "locked.h5", folder / "dead.h5"
    spawn = multiprocessing.get_context("spawn")
    began, ended = spawn.Event(), spawn.Event()
    writer = spawn.Process(target=_write_until, args=(locked, began, ended))
    writer.start()
    try:
        assert began.wait(60)
        os.utime(locked, (0, 0))
        dead.write_bytes(locked.read_bytes())
        os.utime(dead, (0, 0))
        report = flows.migrate(folder, tmp_path / "out", scheduler=cluster, settle_seconds=600)
        assert report.exit_code == 0, str(report)
        assert statuses(report) == {"good.h5": "converted", "recent.h5": "waiting", "locked.h5": "waiting", "dead.h5": "waiting"}
        reasons = {os.path.basename(record.source): record.reason for record in report.left}
        assert "lock" in reasons["locked.h5"] or "open for writing" in reasons["locked.h5"]
        assert "h5clear" in reasons["dead.h5"]
        assert reasons["recent.h5"] == "it was modified moments ago"
        assert not (tmp_path / "out" / "recent.zarr").exists()
    finally:
        ended.set()
        writer.join(60)
    dead.unlink()
    os.utime(recent, (0, 0))
    os.utime(locked, (0, 0))
    report = flows.migrate(folder, tmp_path / "out", scheduler=cluster, settle_seconds=600)
    assert statuses(report) == {"good.h5": "unchanged", "recent.h5": "converted", "locked.h5": "converted"}


def test_a_lock_alone_shows_a_writer(tmp_path: Path, write: Write) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = write(tmp_path / "a.h5")
    assert being_written(str(path)) == ""
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert being_written(str(path)) == "a writer holds a lock on it"
    assert being_written(str(path)) == ""
    assert being_written(str(tmp_path / "gone.h5")) == ""
    os.mkfifo(tmp_path / "pipe.h5")
    assert being_written(str(tmp_path / "pipe.h5")) == ""


def test_a_file_that_grows_while_it_is_migrated_is_left(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "a.h5")
    stat = path.stat()
    grown = Job(str(path), str(tmp_path / "a.zarr"), stat.st_size - 1, "a.h5", stat.st_mtime_ns)
    record = convert_file(grown, Options())
    assert (record.status, record.reason) == ("waiting", "it changed while it was migrated; the next run migrates it anew")
    path.write_bytes(path.read_bytes()[: stat.st_size // 2])
    assert convert_file(Job(str(path), str(tmp_path / "b.zarr"), 1, "a.h5", 1), Options()).status == "waiting"


def test_older_files_are_skipped_without_a_look(tmp_path: Path, cluster: str, write: Write) -> None:
    for name, age in (("old.h5", 10), ("new.h5", 1)):
        path = write(tmp_path / "in" / name)
        os.utime(path, (time.time() - age * 86400,) * 2)
    for since in (timedelta(days=5), datetime.now(UTC) - timedelta(days=5), "P5D"):
        report = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster, since=since)
        assert statuses(report)["old.h5"] == "skipped"
        assert report.exit_code == 0
    assert statuses(report)["new.h5"] == "unchanged"
    assert not (tmp_path / "out" / "old.zarr").exists()


def test_ten_thousand_unchanged_files_are_told_from_their_targets(tmp_path: Path, write: Write) -> None:
    """By one look at each: no file is opened as HDF5 and no cluster is started."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    model = write(tmp_path / "model" / "0.h5")
    for i in range(10_000):
        os.link(model, tmp_path / "in" / f"{i}.h5")
    files = discover([str(tmp_path / "in")]).files
    jobs = pair(files, str(tmp_path / "out"))
    options = Options(verify="sample")
    assert len(sort_out(jobs[:100], files, options).jobs) == 100
    assert convert_file(jobs[0], options).status == "converted"
    document = Path(jobs[0].target, "zarr.json").read_text()
    name = os.path.basename(jobs[0].source)
    for job in jobs[1:]:
        os.mkdir(job.target)
        Path(job.target, "zarr.json").write_text(document.replace(f'"{name}"', f'"{os.path.basename(job.source)}"'))
    model.chmod(0o000)  # where not root: opening one fails
    done = sort_out(jobs, files, options)
    assert (len(done.records), done.jobs) == (10_000, ())
    stricter = sort_out(jobs[:10], files, Options(verify="full"))
    assert len(stricter.jobs) == 10


def test_only_what_was_listed_can_be_said_to_be_gone() -> None:
    files = (FileRecord("s3://b/x/a.h5", "s3://t/a.zarr", "converted"), FileRecord("s3://b/y/b.h5", "s3://t/b.zarr", "unchanged"))
    last = ArchiveReport("s3://t", (*files, FileRecord("s3://b/x/c.h5", "s3://t/c.zarr", "quarantined")))
    assert vanished(last, (), ["s3://b/x/*.h5"]) == (("s3://b/x/a.h5", "s3://t/a.zarr"),)
    assert vanished(last, (), ["/local"]) == ()
    assert vanished(None, (), ["s3://b"]) == ()


def test_a_stopped_run_leaves_the_rest_for_the_next(tmp_path: Path, cluster: str, write: Write) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.h5").write_text("no HDF5")
    for i in range(1, 40):
        write(tmp_path / "in" / f"{i}.h5", i)
    given = {"scheduler": cluster, "batch_files": 1}
    with pytest.raises(flows.ArchiveError, match="1 files are in quarantine") as caught:
        flows.migrate(tmp_path / "in", tmp_path / "out", on_error="stop", **given)
    assert caught.value.exit_code == 5
    stopped = read_report(tmp_path / "out")
    assert stopped.count("quarantined") == 1
    assert stopped.count("waiting") > 20
    with pytest.raises(flows.ArchiveError):
        flows.migrate(tmp_path / "in", tmp_path / "out", on_error="fail", scheduler=cluster)
    assert read_report(tmp_path / "out").count("waiting") == 0


def test_policies_by_file_and_patterns_that_fit_only_some(tmp_path: Path, cluster: str, write: Write) -> None:
    write(tmp_path / "in" / "raw" / "a.h5")
    write(tmp_path / "in" / "b.nc")
    with h5py.File(tmp_path / "in" / "other.h5", "w") as file:
        file["else"] = np.zeros(5)
    policy = {"chunks": {"/values": [5, 5]}, "codec": {"/nowhere": "gzip:6"}}
    policies = {"raw/*": {"chunks": {"/values": [20, 30]}}, "*.nc": {"zarr_format": 2}}
    report = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster, policy=policy, policies=policies)
    assert report.exit_code == 0, str(report)
    assert zarr.open(tmp_path / "out" / "raw" / "a.zarr")["values"].chunks == (20, 30)
    assert zarr.open(tmp_path / "out" / "b.zarr")["values"].chunks == (5, 5)
    assert (tmp_path / "out" / "b.zarr" / ".zgroup").exists()
    assert report.notes_of_all == ("codec: the path pattern '/nowhere' matches no dataset",)
    again = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster, policy=policy, policies=policies)
    assert again.count("unchanged") == 3


def test_a_target_that_another_run_holds_is_left_to_it(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*_: object, **__: object) -> None:
        raise TargetHeldError("a.zarr: held by another run")

    monkeypatch.setattr("h5z.convert", held)
    record = convert_file(Job(str(write(tmp_path / "a.h5")), str(tmp_path / "a.zarr"), 1), Options())
    assert (record.status, record.reason) == ("held", "a.zarr: held by another run")
    assert ArchiveReport("out", (record,)).exit_code == 0
