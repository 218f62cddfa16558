"""Prefect's API for a run: the server that the user has configured, or an embedded one that needs no setup."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.scratch import Scratch
from h5z.errors import H5zError

_HOME = "PREFECT_HOME"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",  # SQLite has one writer, which others may wait a minute for
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}


class EmbeddedServer:
    """A Prefect server for this process alone, on the loopback interface, with a database of its own.

    Migrations side by side do not contend for one database. What a rerun may skip is decided from the targets, so that no
    history is missed. The server ends with this process, however it ends, and leaves nothing behind but an empty
    database in the user's cache, with which the next one is up sooner.
    """

    def __init__(self) -> None:
        self._scratch = Scratch("h5z-prefect-")
        self.home = self._scratch.path
        self.log = self.home / "server.log"
        cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        empty = cache_home / "h5z" / f"prefect-{version('prefect')}.db"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        program = Path(__file__).with_name("serving.py")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(program), str(self.home), str(empty)],
                env={**kept, **_QUIET, _HOME: str(self.home)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # an interrupt from the terminal is for us; we may still have something to tell it
            )
        atexit.register(self.close)

    @cached_property
    def url(self) -> str:
        """The address of the API; the first time, when the server is ready.

        Raises
        ------
        H5zError
            If it ended instead.
        """
        assert self._process.stdout is not None
        with self._process.stdout as said:
            port = said.readline().decode().strip()
        if not port:
            lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
            last = next((line for line in reversed(lines) if line.strip()), "it ended at once")
            raise H5zError(f"Prefect's embedded server could not be started: {last}")
        return f"http://127.0.0.1:{port}/api"

    def close(self) -> None:
        """End the server."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._scratch.close()


@cache
def _embedded() -> EmbeddedServer:
    return EmbeddedServer()


def start() -> EmbeddedServer | None:
    """Start the embedded server, once in a process, unless the user's environment or profile names another."""
    if "prefect" not in sys.modules and not _is_configured():
        server = _embedded()
        os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
        logging.getLogger("prefect.EventsWorker").setLevel(logging.ERROR)  # what it has not sent ends with the server
        os.environ[_HOME] = str(server.home)  # Prefect would make ~/.prefect when it is imported
        return server
    from prefect.settings import get_current_settings

    return _embedded() if get_current_settings().api.url is None else None


def _is_configured() -> bool:
    given = any(name in os.environ for name in (_HOME, "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_API_URL"))
    return given or (Path.home() / ".prefect" / "profiles.toml").exists()


@contextmanager
def use(server: EmbeddedServer | None) -> Iterator[None]:
    """Have flows in this context use the embedded server, or the user's where there is none."""
    if server is None:
        yield
        return
    from prefect.settings import temporary_settings

    # Heartbeats tell a server that a run has died; this one dies with it, and each run's end waits for its heart.
    updates: dict[str, Any] = {"api.url": server.url, "flows.heartbeat_frequency": None}
    with temporary_settings(updates=updates), _direct_loopback():
        yield


@contextmanager
def _direct_loopback() -> Iterator[None]:
    """Reach the embedded server directly where the environment names a proxy."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, (value, "127.0.0.1", "localhost")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
