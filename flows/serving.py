"""The process of the embedded Prefect server: ``python serving.py HOME EMPTY``, started by `flows.server`.

It serves on a port of its own on the loopback interface, prints that port when it is ready, and ends, taking its folder
with it, when its standard input does: with the process that started it, however that ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path


def main(home: Path, empty: Path) -> None:
    """Serve until standard input ends.

    Parameters
    ----------
    home : Path
        A folder for this server alone.
    empty : Path
        An empty database that an earlier server has left, or where to leave one: making it takes seconds.
    """
    database = home / "prefect.db"
    with suppress(OSError):
        shutil.copyfile(empty, database)
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(ephemeral=True), log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))

    async def announce() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        if not empty.exists():
            _leave(database, empty)
        print(listener.getsockname()[1], flush=True)

    def end_with_input() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True
        threading.Timer(5, _end, (home, 0)).start()

    async def serve() -> None:
        ready = asyncio.create_task(announce())
        await server.serve(sockets=[listener])
        ready.cancel()

    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        asyncio.run(serve())
    finally:
        _end(home, 0 if server.started else 1)


def _leave(database: Path, empty: Path) -> None:
    """Leave a copy of a database that holds nothing yet."""
    with suppress(OSError, sqlite3.Error):
        empty.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=empty.parent)) / "draft.db"
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(draft),))
        draft.replace(empty)
        draft.parent.rmdir()


def _end(home: Path, status: int) -> None:
    """End at once: nothing of this server is worth waiting for."""
    sys.stderr.flush()
    if not status:  # else its log is yet to be read
        shutil.rmtree(home, ignore_errors=True)
    os._exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
