"""Migrations of generated archives on Prefect's embedded server and real clusters of spawned workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import dask
import numpy as np
import pytest
import zarr

import flows
from flows.batches import Job
from flows.conversion import Options, convert_file
from flows.progress import Progress
from flows.report import FileRecord, read_report
from h5z.errors import PlanError, SourceError, TransientError

Write: TypeAlias = Callable[..., Path]
Converter: TypeAlias = Callable[..., FileRecord]
pytestmark = [pytest.mark.flow, pytest.mark.cluster]


def statuses(report: flows.ArchiveReport) -> dict[str, str]:
    return {os.path.basename(record.source): record.status for record in report.files}


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if ".zarr/" in str(path)}


def test_the_good_are_migrated_and_the_bad_named(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    seen: list[Progress] = []
    report = flows.migrate(archive, root, verify="full", workers=2, on_progress=seen.append)

    assert report.exit_code == 5
    good = {f"good{i}.h5" for i in range(3)} | {f"good{i}.nc" for i in range(2)}
    assert {name for name, status in statuses(report).items() if status == "converted"} == good
    assert {os.path.basename(record.source) for record in report.quarantined} == {"cut.h5", "letter.h5"}
    assert all(record.reason and "\n" not in record.reason for record in report.quarantined)
    assert [os.path.basename(path) for path in report.passed_over] == ["notes.txt"]
    assert np.array_equal(zarr.open(root / "a" / "good1.zarr")["values"][:], np.arange(1, 601.0).reshape(20, 30))
    assert zarr.open(root / "b/deeper/good0.zarr")["values"].attrs["units"] == "K"
    assert not (root / "letter.zarr").exists()
    assert not (root / "b" / "cut.zarr").exists()
    assert read_report(root) == report
    assert json.loads((root / "h5z-report.json").read_text())["counts"]["quarantined"] == 2
    assert (seen[-1].files_done, seen[-1].nbytes_done) == (seen[-1].files_total, seen[-1].nbytes_total)
    assert str(report).splitlines()[0].startswith("5 converted, 2 quarantined of 7")


def test_a_second_run_does_nothing_but_say_so(archive: Path, tmp_path: Path, cluster: str, write: Write) -> None:
    for bad in ("letter.h5", "b/cut.h5"):
        (archive / bad).unlink()
    root = tmp_path / "out"
    first = flows.migrate(archive, root, scheduler=cluster)
    before = snapshot(root)
    second = flows.migrate(archive, root, scheduler=cluster)
    assert (first.exit_code, first.count("converted")) == (0, 5)
    assert (second.exit_code, second.count("unchanged")) == (0, 5)
    assert snapshot(root) == before
    assert "nothing to do: all 5 files are already migrated" in str(second)


def test_sources_of_one_target_are_refused_before_anything_is_written(archive: Path, tmp_path: Path, write: Write) -> None:
    write(archive / "a" / "good0.nc")
    with pytest.raises(PlanError, match="would both become") as caught:
        flows.migrate(archive, tmp_path / "out", workers=1)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_wrong_call_is_refused_at_once(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="policy: codec"):
        flows.migrate(archive, tmp_path / "out", policy={"codec": "nonsense"})
    with pytest.raises(SourceError, match="found nothing there"):
        flows.migrate(archive / "gone.h5", tmp_path / "out")
    timeout = dask.config.set({"distributed.comm.timeouts.connect": "500ms"})
    with timeout, pytest.raises(PlanError, match=r"expected a dask scheduler at tcp://127\.0\.0\.1:1"):
        flows.migrate(archive, tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "out").exists()


def test_many_small_files_are_few_prefect_tasks(tmp_path: Path, cluster: str, write: Write) -> None:
    for i in range(200):
        write(tmp_path / "in" / f"{i:03d}.h5", i)
    report = flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster, verify="none", batch_files=100)
    assert (report.exit_code, report.count("converted"), report.batches) == (0, 200, 2)
    expected = ["batch 0: 100 files", "batch 1: 100 files", "discover", "report", "sort"]
    assert _task_names(report.flow_run, len(expected)) == expected


def _task_names(flow_run: str, expected: int) -> list[str]:
    """Names of a flow run's task runs as the server has them; it records them a little later."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from flows.server import start, use

    with use(start()), get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while True:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
            if len(runs) >= expected or time.monotonic() > deadline:
                return sorted(run.name if run.name.startswith("batch") else run.name.partition("-")[0] for run in runs)
            time.sleep(0.2)


def test_large_files_have_a_batch_and_the_cluster_to_themselves(tmp_path: Path, cluster: str, write: Write) -> None:
    for i in range(2):
        write(tmp_path / "in" / f"{i}.h5", i)
    (tmp_path / "in" / "bad.h5").write_text("not HDF5, and large enough to be taken for a large file" * 100)
    seen: list[Progress] = []
    report = flows.migrate(
        tmp_path / "in", tmp_path / "out", scheduler=cluster, verify="full", big_file_nbytes="1kB", on_progress=seen.append
    )
    assert (report.batches, report.count("converted"), report.count("quarantined")) == (3, 2, 1)
    assert zarr.open(tmp_path / "out" / "1.zarr")["values"][0, 0] == 1
    assert any(step.record is None for step in seen)
    assert all(step.nbytes_done <= step.nbytes_total for step in seen)


def unreliable(marks: Path, fail: Callable[[], Any], *, always: bool = False, isolated_works: bool = False) -> Converter:
    """A converter that fails on files named ``weak*``: the first time, always, or until it is isolated."""

    def convert(job: Job, options: Options, *, isolated: bool = False, **rest: Any) -> FileRecord:
        mark = marks / os.path.basename(job.source)
        if mark.name.startswith("weak") and (always or not mark.exists()) and not (isolated and isolated_works):
            mark.touch()
            fail()
        return convert_file(job, options, isolated=isolated, **rest)

    return convert


@pytest.fixture
def weak(tmp_path: Path, write: Write) -> Path:
    """A folder of files that convert, two of them on which `unreliable` fails."""
    for i in range(4):
        write(tmp_path / "in" / f"strong{i}.h5", i)
    for i in range(2):
        write(tmp_path / "in" / f"weak{i}.h5", i)
    (tmp_path / "marks").mkdir()
    return tmp_path / "in"


def attempts(report: flows.ArchiveReport) -> dict[str, int]:
    return {os.path.basename(record.source)[:4]: record.attempts for record in report.files}


def test_what_may_pass_is_tried_again_and_only_that(
    weak: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop() -> None:
        raise TransientError("the store did not answer")

    monkeypatch.setattr("flows.execution.convert_file", unreliable(tmp_path / "marks", drop))
    report = flows.migrate(weak, tmp_path / "out", scheduler=cluster, retry_delay_seconds=0.01)
    assert (report.exit_code, report.count("converted")) == (0, 6)
    assert attempts(report) == {"stro": 1, "weak": 2}


def test_what_does_not_pass_is_quarantined(weak: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop() -> None:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr("flows.execution.convert_file", unreliable(tmp_path / "marks", drop, always=True))
    report = flows.migrate(weak, tmp_path / "out", scheduler=cluster, retries=1, retry_delay_seconds=0.01)
    assert (report.exit_code, report.count("converted"), report.count("quarantined")) == (5, 4, 2)
    assert attempts(report) == {"stro": 1, "weak": 2}
    assert report.quarantined[0].reason == "ConnectionResetError: reset by peer (given up after 2 attempts)"


def test_a_file_that_kills_its_worker_costs_no_other(weak: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        os._exit(1)

    monkeypatch.setattr("flows.execution.convert_file", unreliable(tmp_path / "marks", die, always=True, isolated_works=True))
    report = flows.migrate(weak, tmp_path / "out", workers=2, isolate="auto")
    assert (report.exit_code, report.count("quarantined")) == (0, 0), str(report)
    assert zarr.open(tmp_path / "out" / "weak1.zarr")["values"][0, 0] == 1


def test_an_error_of_our_own_is_named_for_its_file(
    weak: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("flows.execution.convert_file", unreliable(tmp_path / "marks", stumble, always=True))
    report = flows.migrate(weak, tmp_path / "out", scheduler=cluster)
    assert (report.exit_code, report.count("converted")) == (5, 4)
    assert {record.reason for record in report.quarantined} == {"ZeroDivisionError: a bug"}


CALL = """
import sys, flows
if __name__ == "__main__":
    report = flows.migrate(sys.argv[1], sys.argv[2], workers=1)
    print(report.flow_run)
    sys.exit(report.exit_code)
"""


def test_a_server_that_the_user_runs_is_used(archive: Path, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    from flows.server import start, use

    (tmp_path / "call.py").write_text(CALL)
    with use(start()), get_client(sync_client=True) as client:
        url = str(client.api_url)
        known = {str(run.id) for run in client.read_flow_runs()}
        command = [sys.executable, str(tmp_path / "call.py"), str(archive / "a"), str(tmp_path / "out")]
        env = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert {str(run.id) for run in client.read_flow_runs()} - known == {done.stdout.split()[-1]}
