"""Fixtures: generated oddities, their conversions (each made once a session), the command line, and a browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import h5z
from h5z.cli import main
from h5z.errors import H5zError

from .forks import ForkServer
from .oddities import ODDITIES
from .running import Convert, Converted, Run
from .s3server import Server, running

collect_ignore = ["hostile/fuzzing.py"]  # which is imported from beside it, not collected


@pytest.fixture(scope="session")
def oddity(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a generated file by its oddity's name; made once, each in a folder of its own."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("oddity") / "source"
            folder.mkdir()
            ODDITIES[name](folder / f"{name}.h5")
            made[name] = folder / f"{name}.h5"
        return made[name]

    return get


@pytest.fixture(scope="session")
def converted(oddity: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Convert an oddity, fully verified, what cannot be carried over reported; once a session for each policy."""
    made: dict[Any, Converted | Exception] = {}

    def get(name: str, zarr_format: int = 3, **policy: Any) -> Converted:
        key = (name, zarr_format, repr(sorted(policy.items())))
        if key not in made:
            target = tmp_path_factory.mktemp("target") / f"{name}.zarr"
            wanted = {"zarr_format": zarr_format, "unsupported": "report", **policy}
            try:
                report = h5z.convert(oddity(name), target, verify="full", **wanted)
                made[key] = Converted(oddity(name), target, report)
            except H5zError as error:
                made[key] = error
        found = made[key]
        if isinstance(found, Exception):
            raise found
        return found

    return get


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts processes that have everything imported already."""
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """A server that speaks S3, with a bucket; each test has its own names in it, and leaves it without faults."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def cli() -> Run:
    """Run the h5z command in a process of its own."""

    def run(*arguments: str | Path, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "h5z.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)

    return run


@pytest.fixture
def cli_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the h5z command in this process, which has imported everything; for tests of many calls."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["h5z", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        found = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(sys.argv, code, found.out, found.err)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with api.sync_playwright() as player:
        running = player.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()
