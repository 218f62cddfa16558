"""`h5z migrate` as its user has it: the wheel's files, another folder, nothing set up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from .conftest import leave_empty_database

pytestmark = [pytest.mark.flow, pytest.mark.cluster]
PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from h5z.cli import main; sys.exit(main())", "migrate"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the built wheel."""
    if not (PROJECT / "pyproject.toml").exists():
        pytest.skip("no project beside the tests to build a wheel of")
    folder = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", str(PROJECT), "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=120)
    (built,) = folder.glob("h5z-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "files")
    return folder / "files"


def environment(wheel: Path, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(wheel), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


def test_the_wheel_holds_the_library_the_flows_and_nothing_else(wheel: Path) -> None:
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"h5z", "flows"}
    assert (wheel / "h5z" / "cli" / "__init__.py").exists()
    assert (wheel / "flows" / "archive.py").exists()


def test_migrate_works_from_any_folder_and_leaves_no_trace(archive: Path, wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "scratch").mkdir(parents=True)
    env = {**environment(wheel, home), "TMPDIR": str(home / "scratch")}
    command = [*COMMAND, str(archive), "--to", "out", "--workers", "1", "--json"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (5, "")
    counts = json.loads(done.stdout)["counts"]
    assert {status: count for status, count in counts.items() if count} == {"converted": 5, "quarantined": 2}
    assert {path.name for path in home.iterdir()} == {"cache", "out", "scratch"}
    assert list((home / "scratch").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_migration_is_finished_by_the_next(
    write: Callable[..., Path], wheel: Path, tmp_path: Path, how: signal.Signals
) -> None:
    for i in range(100):
        write(tmp_path / "in" / f"{i:03d}.h5", i)
    (tmp_path / "scratch").mkdir()
    leave_empty_database(tmp_path / "cache" / "h5z" / f"prefect-{version('prefect')}.db")
    command = [*COMMAND, str(tmp_path / "in"), "--to", str(tmp_path / "out"), "--workers", "2", "--json"]
    env = {**environment(wheel, tmp_path), "TMPDIR": str(tmp_path / "scratch")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "005.zarr").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(how)
        first.communicate(timeout=60)
    assert first.returncode != 0
    assert not (tmp_path / "out" / "h5z-report.json").exists()

    second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    counts = json.loads(second.stdout)["counts"]
    assert counts["quarantined"] == 0
    assert counts["unchanged"] > 0
    assert counts["converted"] > 0
    assert list((tmp_path / "scratch").iterdir()) == [], "a server, or a folder, outlived its migration"
