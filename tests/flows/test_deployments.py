"""The deployments as an operations team has them: a server, pools, a worker, schedules; on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
import yaml

from flows.parameters import ArchiveParameters, read
from flows.report import read_report
from h5z.errors import PlanError

from .conftest import leave_empty_database

Write: TypeAlias = Callable[..., Path]
PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deployments"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no deployments beside the tests")


def declared() -> dict[str, Any]:
    """`prefect.yaml` with the environment's names filled in."""
    values = {"H5Z_SOURCES": "/data/archive", "H5Z_TARGET_ROOT": "/data/zarr", "H5Z_HOME": str(PROJECT), "H5Z_DATA": "/data"}
    text = re.sub(r"{{ \$(\w+) }}", lambda found: values.get(found[1], found[1].lower()), (FOLDER / "prefect.yaml").read_text())
    return dict(yaml.safe_load(text))


def test_declared_parameters_are_the_flows_own() -> None:
    for deployment in declared()["deployments"]:
        file, _, name = deployment["entrypoint"].partition(":")
        assert f"def {name}(" in (PROJECT / file).read_text()
        if name == "migrate_archive":
            ArchiveParameters.check(deployment["parameters"])


def test_the_example_of_parameters_is_valid_and_complete() -> None:
    made = read(str(FOLDER / "archives" / "example.yaml"))
    given = yaml.safe_load((FOLDER / "archives" / "example.yaml").read_text())
    assert set(ArchiveParameters.model_fields) - set(given) == {"overwrite", "isolate", "workers", "scheduler"}
    assert ArchiveParameters.check(json.loads(made.model_dump_json(exclude_defaults=True))) == made


def test_wrong_files_of_parameters_are_refused_on_one_line(tmp_path: Path) -> None:
    for text, message in (("a: [", "expected a YAML file"), ("- a", "found list"), ("sources: a", "target_root: expected it")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(PlanError, match=message) as caught:
            read(str(tmp_path / "a.yaml"))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_the_job_template_declares_what_it_uses() -> None:
    template = json.loads((FOLDER / "kubernetes.json").read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    (deployment,) = (item for item in declared()["deployments"] if item["name"] == "kubernetes")
    assert set(deployment["work_pool"]["job_variables"]) <= used


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the context lasts; it ends by itself when it is asked to."""
    with log.open("wb") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=PROJECT) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own, and the address of an empty database."""
    programs = [shutil.which("pg_ctl"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
    found = [Path(program).resolve().parent for program in programs if program]
    bindir = next((path for path in found if (path / "initdb").exists()), None)
    if bindir is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None  # it does not run as root
    home = Path(tempfile.mkdtemp(prefix="h5z-pg-", dir="/tmp"))
    if user:
        shutil.chown(home, user)
    port = free_port()
    common: dict[str, Any] = {"user": user, "cwd": home, "check": True, "stdout": subprocess.DEVNULL, "timeout": 120}
    try:
        subprocess.run([bindir / "initdb", "-D", home / "db", "-U", "h5z", "--auth=trust", "--no-sync"], **common)
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
        command = [bindir / "pg_ctl", "-D", home / "db", "-w", "-l", home / "log", "-o", options]
        subprocess.run([*command, "start"], **common)
        try:
            yield f"postgresql+asyncpg://h5z@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([bindir / "pg_ctl", "-D", home / "db", "-m", "immediate", "stop"], **common)
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Operations:
    """The commands of the deployments' README, run as they stand, with an environment of their own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env
        text = (FOLDER / "README.md").read_text()
        blocks = re.findall(r"```bash\n# ([^\n]*)\n(.*?)```", text, re.DOTALL)
        self.blocks = {about.partition(";")[0].partition(",")[0]: commands for about, commands in blocks}

    def command(self, about: str, *more: str) -> list[str]:
        return ["bash", "-ec", " ".join(["exec", self.blocks[about].strip(), *more])]

    def run(self, *words: str) -> str:
        done = subprocess.run(list(words), env=self.env, capture_output=True, text=True, timeout=180, check=False, cwd=PROJECT)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def post(self, path: str, json: Any = None, **body: Any) -> Any:
        for _ in range(30):  # a server that is too busy for its database says so, and Prefect's clients ask again
            answer = httpx.post(f"{self.env['PREFECT_API_URL']}/{path}", json=json or body, timeout=30, trust_env=False)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def runs(self, *states: str) -> list[dict[str, Any]]:
        found = self.post("flow_runs/filter", sort="EXPECTED_START_TIME_ASC")
        return [run for run in found if not states or run["state_type"] in states]

    def log(self, run: str) -> list[str]:
        return [line["message"] for line in self.post("logs/filter", logs={"flow_run_id": {"any_": [run]}})]

    def wait(self, ready: Callable[[], Any], what: str, seconds: float = 240) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := ready():
                    return found
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        logs = {log.name: log.read_text(errors="replace")[-3000:] for log in self.folder.glob("*.log")}
        raise AssertionError(f"waited {seconds} s for {what}: {logs}")


@pytest.mark.flow
@pytest.mark.cluster
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_short_schedule_fires_twice(database: str, tmp_path: Path, write: Write) -> None:
    """Server, pools, worker, deployments, by the README's commands: the first run migrates, the second finds nothing to do.

    Runs that fall due while another goes on are cancelled, and in the end all is stopped.
    """
    for i in range(3):
        write(tmp_path / "data" / "in" / f"{i}.h5", i)
    port = free_port()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "prefect").write_text(f'#!/bin/sh\nexec {sys.executable} -m prefect "$@"\n')
    (tmp_path / "bin" / "prefect").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PATH": f"{tmp_path / 'bin'}:{env['PATH']}",
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(PROJECT),
        "H5Z_HOME": str(PROJECT),
        "H5Z_DATA": str(tmp_path / "data"),
        "H5Z_SOURCES": str(tmp_path / "data" / "in"),
        "H5Z_TARGET_ROOT": str(tmp_path / "data" / "out"),
        "H5Z_IMAGE": "h5z",
    }
    with ExitStack() as stack:
        if database == "postgresql":
            env["PREFECT_API_DATABASE_CONNECTION_URL"] = stack.enter_context(postgresql(tmp_path))
        else:
            leave_empty_database(tmp_path / "home" / "prefect.db")
        team = Operations(tmp_path, env)
        server = stack.enter_context(running(team.command("the server"), env, tmp_path / "server.log"))
        team.wait(lambda: httpx.get(f"{env['PREFECT_API_URL']}/ready", trust_env=False).is_success, "the server")
        commands = team.blocks["the pools"]
        if database == "postgresql":  # the rest is the same, and takes its time
            commands = "\n".join(line for line in commands.splitlines() if "docker" not in line and "kubernetes" not in line)
            commands = commands.replace("--all", "-n recurring")
        team.run("bash", "-ec", commands)
        names = {item["name"] for item in team.post("deployments/filter")}
        assert names == ({"recurring"} if database == "postgresql" else {"recurring", "once", "weekly", "docker", "kubernetes"})
        worker = stack.enter_context(running(team.command("a worker"), env, tmp_path / "worker.log"))
        (recurring,) = team.post("deployments/filter", deployments={"name": {"any_": ["recurring"]}})
        team.post(f"deployments/{recurring['id']}/schedules", json=[{"schedule": {"interval": 10}, "active": True}])

        team.wait(lambda: len(team.runs("COMPLETED", "FAILED", "CRASHED")) > 1, "two runs to end", 480)
        first, second = team.runs("COMPLETED")[:2]
        assert first["end_time"] <= second["start_time"], "two runs of a deployment went on at once"
        assert team.runs("FAILED", "CRASHED") == []
        report = read_report(tmp_path / "data" / "out")
        assert report.count("unchanged") == 3
        for run, words in ((first["id"], "3 converted of 3"), (second["id"], "nothing to do")):
            team.wait(lambda run=run, words=words: any(words in line for line in team.log(run)), words)
        keys = {artifact["key"] for artifact in team.post("artifacts/filter")}
        assert keys >= {"h5z-progress", "h5z-files", "h5z-report"}
        team.post(f"deployments/{recurring['id']}/pause_deployment")
        if database == "sqlite":
            a_cancelled_run_is_gone_on_with(team, tmp_path / "data", write)
        assert worker.poll() is None
        assert server.poll() is None
    # Each ended by itself when it was interrupted.
    assert worker.returncode != -signal.SIGKILL
    assert server.returncode != -signal.SIGKILL


def a_cancelled_run_is_gone_on_with(team: Operations, data: Path, write: Write) -> None:
    """Cancel a run half-way: nothing that it began opens as complete, and the next run ends it."""
    for i in range(300):
        write(data / "more" / f"{i}.h5", i)
    (once,) = team.post("deployments/filter", deployments={"name": {"any_": ["once"]}})
    given = {"sources": [str(data / "more")], "target_root": str(data / "more-out"), "workers": 1}
    run = team.post(f"deployments/{once['id']}/create_flow_run", parameters=given)
    team.wait(lambda: len(list((data / "more-out").glob("*/zarr.json"))) > 10, "the run's first targets")
    team.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"}, force=True)
    team.wait(lambda: run["id"] in {item["id"] for item in team.runs("CANCELLED")}, "the run to be cancelled")
    done = len(list((data / "more-out").glob("*/zarr.json")))
    assert 10 < done < 300
    assert not (data / "more-out" / "h5z-report.json").exists()
    run = team.post(f"deployments/{once['id']}/create_flow_run", parameters=given)
    team.wait(lambda: run["id"] in {item["id"] for item in team.runs("COMPLETED")}, "the next run to end")
    report = read_report(data / "more-out")
    assert (report.count("unchanged"), report.count("converted")) == (done, 300 - done)
