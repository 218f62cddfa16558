"""Prefect's API for a run: the server that the user has configured, or an embedded one that needs no setup."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_HOME = "PREFECT_HOME"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}


@contextmanager
def prefect_api() -> Iterator[None]:
    """Have flows in this context use the user's Prefect server, or else an embedded one.

    The embedded server is a child process on the loopback interface with a database of its own, so that migrations
    side by side do not contend for one; it ends with this process and leaves nothing behind. What a rerun may skip
    is decided from the targets, so that no history is lost.
    """
    if _has_server():
        yield
        return
    from prefect.settings import temporary_settings

    home = _private_home()
    updates: dict[Any, Any] = {
        "server.ephemeral.enabled": True,
        "server.ephemeral.startup_timeout_seconds": 180,
        "server.analytics_enabled": False,
        "server.database.connection_url": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
    }
    with temporary_settings(updates=updates), _direct_loopback():
        _start(home / "prefect.db")
        yield


def _has_server() -> bool:
    """Whether the user's environment or profile names a server; imports Prefect, quietly where it names none."""
    if "prefect" not in sys.modules and not _is_configured():
        os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
        os.environ[_HOME] = str(_private_home())
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def _is_configured() -> bool:
    given = any(name in os.environ for name in (_HOME, "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_API_URL"))
    return given or (Path.home() / ".prefect" / "profiles.toml").exists()


_private: list[Path] = []


def _private_home() -> Path:
    """A folder that this process has to itself, removed after Prefect's own exit handlers have run."""
    if not _private:
        _private.append(Path(tempfile.mkdtemp(prefix="h5z-prefect-")))
        atexit.register(shutil.rmtree, _private[0], ignore_errors=True)
    return _private[0]


def _start(database: Path) -> None:
    """Start the embedded server, on a copy of an earlier run's empty database where there is one: it saves seconds."""
    import prefect
    from prefect.client.orchestration import get_client

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "h5z"
    empty = cache / f"prefect-{prefect.__version__}.db"
    is_new = not database.exists()
    if is_new:
        with suppress(OSError):
            shutil.copyfile(empty, database)
    with get_client(sync_client=True):
        pass
    if is_new and not empty.exists():
        with suppress(OSError, sqlite3.Error):
            cache.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=cache)) / "empty.db"
            with sqlite3.connect(database) as connection:
                connection.execute("VACUUM INTO ?", (str(draft),))
            os.replace(draft, empty)
            draft.parent.rmdir()


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
