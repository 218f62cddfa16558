"""Sessions published by the flow, on Prefect's embedded server and real clusters of spawned workers; from and to S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import pytest
import s3fs
import yaml

import flows
from flows.events_parameters import EventsParameters
from flows.events_report import EVENTS_REPORT, read_events_report
from flows.sessions import SessionJob, SessionRecord, publish_session
from h5z.errors import PlanError, SourceError, TransientError
from h5z.events import Attribute, Entity, Layout, Schema, SessionLayout, children, open_session, open_sessions

from ..events.generated import session, write_columns, write_tables
from ..s3server import plain
from .conftest import leave_empty_database

pytestmark = [pytest.mark.flow, pytest.mark.cluster]
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Three good sessions, one with a broken relation, one that is truncated, a letter, and notes."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    for i in range(2):
        write_tables(folder / f"good{i}.h5", session(60, elements=10, tasks=2, seed=i))
    write_tables(folder / "deeper" / "good2.h5", session(60, elements=10, tasks=2, seed=2), session_id="named-2")
    broken = session(60, elements=10, tasks=2)
    broken["element"]["task_id"][3] = "task-none"
    whole = write_tables(folder / "broken.h5", broken).read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.h5").write_text("Dear reader,\n")
    (folder / "notes.txt").write_text("nothing to see\n")
    return folder


def statuses(report: flows.EventsReport) -> dict[str, str]:
    return {os.path.basename(record.source): record.status for record in report.sessions}


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if ".zarr/" in str(path)}


def test_the_good_are_published_and_the_bad_named(sessions: Path, tmp_path: Path, cluster: str) -> None:
    target = tmp_path / "out" / "{session_id}_events.zarr"
    report = flows.publish(sessions, target, scheduler=cluster)
    assert report.exit_code == 5
    bad = {"broken.h5": "quarantined", "cut.h5": "quarantined", "letter.h5": "quarantined"}
    assert statuses(report) == {"good0.h5": "published", "good1.h5": "published", "good2.h5": "published", **bad}
    reasons = {os.path.basename(record.source): record.reason for record in report.quarantined}
    assert "element 'element-0000003': task_id: expected the id of a row of task, found 'task-none'" in reasons["broken.h5"]
    assert all(reason.startswith(str(sessions)) and "\n" not in reason for reason in reasons.values())
    assert [os.path.basename(path) for path in report.passed_over] == ["notes.txt"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "good0_events.zarr",
        "good1_events.zarr",
        "named-2_events.zarr",
        EVENTS_REPORT,
    }
    done = next(record for record in report.sessions if record.session_id == "named-2")
    assert done.counts == {"task": 2, "element": 10, "segment": 60}
    assert read_events_report(tmp_path / "out" / EVENTS_REPORT) == report
    assert json.loads((tmp_path / "out" / EVENTS_REPORT).read_text())["counts"] == {
        "published": 3,
        "unchanged": 0,
        "quarantined": 3,
    }
    opened = open_sessions(sorted((tmp_path / "out").glob("*.zarr")))
    assert children(opened, "task", "task-0000001", "element", session="good1").sizes == {"element_id": 5}
    assert str(report).splitlines()[0].startswith("3 published, 3 quarantined of 6")


def test_a_second_run_does_only_what_has_changed(sessions: Path, tmp_path: Path, cluster: str) -> None:
    for name in ("broken.h5", "cut.h5", "letter.h5"):
        (sessions / name).unlink()
    target = str(tmp_path / "out" / "{session_id}_events.zarr")
    first = flows.publish(sessions, target, scheduler=cluster)
    before = snapshot(tmp_path / "out")
    second = flows.publish(sessions, target, scheduler=cluster)
    assert (first.count("published"), second.count("unchanged"), second.exit_code) == (3, 3, 0)
    assert snapshot(tmp_path / "out") == before
    counts = {record.source: record.counts for record in first.sessions}
    assert {record.source: record.counts for record in second.sessions} == counts

    os.utime(sessions / "good0.h5")  # touched, not changed: read again, and found to be the same
    assert flows.publish(sessions, target, scheduler=cluster).count("unchanged") == 3
    assert snapshot(tmp_path / "out") == before

    write_tables(sessions / "good0.h5", session(61, elements=10, tasks=2))
    refused = flows.publish(sessions, target, scheduler=cluster)
    assert statuses(refused)["good0.h5"] == "quarantined"
    assert "overwrite replaces it" in refused.quarantined[0].reason
    assert snapshot(tmp_path / "out") == before
    redone = flows.publish(sessions, target, scheduler=cluster, overwrite=True)
    assert (redone.exit_code, redone.count("published"), redone.count("unchanged")) == (0, 1, 2)
    assert open_session(target.replace("{session_id}", "good0")).sizes["segment_id"] == 61

    otherwise = flows.publish(sessions, target, scheduler=cluster, chunks={"segment": 20}, overwrite=True)
    assert otherwise.count("published") == 3


def test_two_sources_of_one_session_are_both_named(sessions: Path, tmp_path: Path, cluster: str) -> None:
    write_tables(sessions / "again.h5", session(60, elements=10, tasks=2, seed=7), session_id="named-2")
    report = flows.publish(sessions, tmp_path / "out" / "{session_id}.zarr", scheduler=cluster)
    found = {os.path.basename(record.source): record for record in report.sessions}
    for name, other in (("again.h5", "good2.h5"), ("good2.h5", "again.h5")):
        assert found[name].status == "quarantined"
        assert "expected one source of session 'named-2'" in found[name].reason
        assert other in found[name].reason
    assert found["good0.h5"].status == "published"
    assert not (tmp_path / "out" / "named-2.zarr").exists()


def test_problems_kept_and_reported(sessions: Path, tmp_path: Path, cluster: str) -> None:
    report = flows.publish(sessions / "broken.h5", tmp_path / "out" / "{session_id}.zarr", scheduler=cluster, problems="report")
    assert (report.exit_code, report.sessions[0].status, report.sessions[0].problems) == (1, "published", 1)
    assert "problems: " in str(report)
    (line,) = open_session(tmp_path / "out" / "broken.zarr").attrs["problems"]
    assert "task-none" in line


def test_any_schema_and_layout_as_json(tmp_path: Path, cluster: str) -> None:
    write_columns(tmp_path / "in.h5", {"machine": {"id": session(0)["task"]["id"], "kind": session(0)["task"]["task_type"]}})
    schema = Schema("plant", (Entity("machine", (Attribute("kind", "string"),)),))
    layout = SessionLayout({"machine": (Layout("columns", "/machines"),)}, session="name")
    given: tuple[Any, Any] = (layout.to_dict(), schema.to_dict())
    for made in (given, (layout, schema)):
        report = flows.publish(
            tmp_path / "in.h5", tmp_path / "out" / "one.zarr", scheduler=cluster, layout=made[0], schema=made[1]
        )
        assert report.sessions[0].counts == {"machine": 1}
    assert report.sessions[0].status == "unchanged"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"problems": "ignore"}, "problems: "),
        ({"layout": {"entities": {"tusk": []}}}, "expected an entity (task, element, segment), found 'tusk'"),
        ({"layout": {"entities": {"task": [{"kind": "table"}]}}}, "layout: layout: expected 'kind', 'path'"),
        ({"layout": {"entities": {"task": [{"kind": "table", "path": "/{kind}"}]}}}, "layout of task: path"),
        ({"schema": {"name": "x"}}, "events_schema: schema: expected a list of entities"),
        ({"chunks": 0}, "chunks"),
        ({"workers": 1, "scheduler": "tcp://x"}, "workers and scheduler"),
        ({"retries": -1}, "retries"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_call_that_is_wrong(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    (tmp_path / "in.h5").touch()
    with pytest.raises(PlanError) as caught:
        flows.publish(tmp_path / "in.h5", tmp_path / "{session_id}.zarr", **options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_targets_and_sources(sessions: Path, tmp_path: Path, cluster: str) -> None:
    with pytest.raises(PlanError, match="no other field"):
        flows.publish(sessions, tmp_path / "{name}.zarr")
    with pytest.raises(SourceError, match="found nothing there"):
        flows.publish(tmp_path / "none", tmp_path / "{session_id}.zarr")
    with pytest.raises(PlanError, match=r"expected \{session_id\} in it, as there are 6 sources"):
        flows.publish(sessions, tmp_path / "one.zarr", scheduler=cluster)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlanError, match="expected HDF5 files, found none"):
        flows.publish(tmp_path / "empty", tmp_path / "{session_id}.zarr", scheduler=cluster)


def unreliable(marks: Path, fail: Callable[[], Any], *, always: bool = False) -> Callable[..., SessionRecord]:
    """What publishes a session, but fails on files named ``good1``: the first time, or always."""

    def publish(job: SessionJob, settings: Any) -> SessionRecord:
        mark = marks / os.path.basename(job.source)
        if mark.name.startswith("good1") and (always or not mark.exists()):
            mark.touch()
            fail()
        return publish_session(job, settings)

    return publish


@pytest.mark.parametrize(("always", "expected"), [(False, ("published", 2)), (True, ("quarantined", 2))])
def test_what_may_pass_is_tried_again_and_only_that(
    sessions: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch, always: bool, expected: tuple[str, int]
) -> None:
    def drop() -> None:
        raise TransientError("the store did not answer")

    monkeypatch.setattr("flows.events.publish_session", unreliable(tmp_path, drop, always=always))
    target = tmp_path / "out" / "{session_id}.zarr"
    report = flows.publish(sessions, target, scheduler=cluster, retries=1, retry_delay_seconds=0.01)
    found = {os.path.basename(record.source): (record.status, record.attempts) for record in report.sessions}
    assert found["good1.h5"] == expected
    assert found["good0.h5"] == ("published", 1)
    if always:
        reason = next(record.reason for record in report.quarantined if "good1" in record.source)
        assert reason == "the store did not answer (given up after 2 attempts)"


def test_a_file_that_kills_its_worker_costs_no_other(sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        os._exit(1)

    monkeypatch.setattr("flows.events.publish_session", unreliable(tmp_path, die, always=True))
    report = flows.publish(sessions, tmp_path / "out" / "{session_id}.zarr", workers=2)
    found = statuses(report)
    assert [found[f"good{i}.h5"] for i in range(3)] == ["published", "quarantined", "published"]
    assert "the worker that read it died twice" in next(r.reason for r in report.quarantined if "good1" in r.source)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    """A server that the environment names, as a deployment's does, with a bucket."""
    with plain() as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "s3cr3tvalue",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        filesystem = s3fs.S3FileSystem(use_listings_cache=False)
        filesystem.mkdir("bucket")
        yield filesystem
        s3fs.S3FileSystem.clear_instance_cache()


def test_from_s3_to_s3(sessions: Path, s3: s3fs.S3FileSystem) -> None:
    for name in ("deeper/good2.h5", "broken.h5", "letter.h5"):
        s3.put_file(str(sessions / name), f"bucket/in/{name}")
    for expected in ("published", "unchanged"):
        report = flows.publish("s3://bucket/in", "s3://bucket/out/{session_id}_events.zarr", workers=1)
        assert statuses(report) == {"good2.h5": expected, "broken.h5": "quarantined", "letter.h5": "quarantined"}
        assert all("s3://bucket/in/" in record.reason for record in report.quarantined)
    assert report.path == f"s3://bucket/out/{EVENTS_REPORT}"
    assert read_events_report(report.path) == report
    assert open_session("s3://bucket/out/named-2_events.zarr").sizes["segment_id"] == 60
    assert not [key for key in s3.find("bucket/out") if b"s3cr3tvalue" in s3.cat_file(key)]


DEPLOY = """
import asyncio, json, os, subprocess, sys
from flows import server

async def make_pool():
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="h5z", type="process"))

async def deployed():
    from prefect.client.orchestration import get_client
    async with get_client() as client:
        found = await client.read_deployment_by_name("publish-events/events")
        return {"entrypoint": found.entrypoint, "parameters": found.parameters, "schedules": [s.slug for s in found.schedules],
                "limit": found.global_concurrency_limit.limit, "path": found.path}

with server.use(server.start()):
    from prefect.settings import get_current_settings
    asyncio.run(make_pool())
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/events.yaml"]
    env = {**os.environ, "PREFECT_API_URL": get_current_settings().api.url}
    subprocess.run(deploy, check=True, env=env, stdout=subprocess.DEVNULL)
    print(json.dumps(asyncio.run(deployed())))
"""


def test_the_deployment_deploys(tmp_path: Path) -> None:
    """With Prefect's own command, on a server of its own; its parameters are ones that the flow takes."""
    given = {"H5Z_HOME": str(PROJECT), "H5Z_SESSIONS": str(tmp_path), "H5Z_EVENTS": "s3://bucket/{session_id}_events.zarr"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, **given, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    leave_empty_database(tmp_path / ".cache" / "h5z" / f"prefect-{version('prefect')}.db")
    command = [sys.executable, "-c", DEPLOY]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["entrypoint"], found["schedules"], found["limit"]) == ("flows/events.py:publish_events", ["hourly"], 1)
    wanted = EventsParameters.check(found["parameters"])
    assert wanted.target == "s3://bucket/{session_id}_events.zarr"
    assert wanted.parsed_layout.entities["task"] == (Layout("table", "/tasks"),)


def test_the_deployment_names_no_machine() -> None:
    (deployment,) = yaml.safe_load((PROJECT / "deployments" / "events.yaml").read_text())["deployments"]
    assert (PROJECT / deployment["entrypoint"].partition(":")[0]).exists()
    assert all("{{" in value for value in (deployment["parameters"]["target"], *deployment["parameters"]["sources"]))


def test_the_command(sessions: Path, tmp_path: Path, cli: Any) -> None:
    """`h5z events`: exit status, JSON, one line for what is wrong."""
    (tmp_path / "layout.json").write_text(json.dumps({"entities": {"task": {"kind": "table", "path": "/tasks"}}}))
    target = str(tmp_path / "out" / "{session_id}.zarr")
    command = ["events", sessions / "good0.h5", sessions / "letter.h5", "--to", target, "--layout", tmp_path / "layout.json"]
    done = cli(*command, "--workers", "1", "--json", timeout=300)
    assert (done.returncode, json.loads(done.stdout)["counts"]) == (5, {"published": 1, "unchanged": 0, "quarantined": 1}), (
        done.stderr
    )
    assert open_session(tmp_path / "out" / "good0.zarr").sizes["segment_id"] == 0
    for words, status in ((["--layout", tmp_path / "none.json"], 2), (["--problems", "ignore"], 2)):
        wrong = cli("events", sessions, "--to", target, *words)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (status, 1)


def test_a_file_that_changes_is_not_half_one_and_half_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, as what may pass."""
    from h5z.events import files

    path = write_tables(tmp_path / "in.h5", session(60, elements=10, tasks=2))
    original = files.to_dataset

    def slow(*arguments: Any, **keywords: Any) -> Any:
        made = original(*arguments, **keywords)
        with h5py.File(path, "a") as file:
            file.attrs["late"] = 1
        return made

    monkeypatch.setattr(files, "to_dataset", slow)
    with pytest.raises(TransientError, match="changed while it was read"):
        files.publish_file(path, tmp_path / "out.zarr", SessionLayout({"task": (Layout("table", "/tasks"),)}))
    assert not (tmp_path / "out.zarr").exists()
