"""A server that speaks S3 (moto's), one request at a time so that conditional PUTs are atomic as S3's are; it fails on demand.

As a program: ``python -m tests.s3server PORT``. ``PUT /_faults/RATE`` makes it fail that share of requests from then on, drawn at
random: before or after it did what was asked, by answering 500 or 503, or by ending the connection.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

SECRET = "s3cr3tvalue"
HOME = Path(__file__).parents[1]


class Faulty:
    """A WSGI application that serves another, and fails some requests."""

    def __init__(self, application: Any) -> None:
        self.application, self.rate, self.chance = application, 0.0, random.Random(0)
        self.served = self.failed = 0
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        with self.lock:
            if path.startswith("/_faults/"):
                self.rate = float(path.rpartition("/")[2])
                start_response("200 OK", [])
                return [f"{self.served} {self.failed}".encode()]
            self.served += 1
            fails = self.chance.random() < self.rate
            how = self.chance.choice(("500 Internal Server Error", "503 Slow Down", "end")) if fails else ""
            self.failed += fails
            body: list[bytes] = []
            if not fails or self.chance.random() < 0.5:
                answer: list[Any] = []
                body = list(self.application(environ, lambda *given: answer.extend(given[:2])))
            if fails:
                return self.fail(how, environ, start_response)
            start_response(*answer)
            return body

    @staticmethod
    def fail(how: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if how == "end":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError("on demand")
        code = "InternalError" if how.startswith("500") else "SlowDown"
        start_response(how, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>on demand</Message></Error>".encode()]


class Server:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.options: dict[str, Any] = {"key": "somebody", "secret": SECRET, "client_kwargs": {"endpoint_url": self.url}}

    def fail(self, rate: float) -> tuple[int, int]:
        """Fail a share of requests; return how many were served and failed before."""
        request = urllib.request.Request(f"{self.url}/_faults/{rate}", method="PUT")
        with urllib.request.urlopen(request) as answer:
            served, failed = answer.read().split()
        return int(served), int(failed)

    def filesystem(self) -> Any:
        """A client, made once: that takes a second."""
        return self._client

    @cached_property
    def _client(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(**self.options, use_listings_cache=False, skip_instance_cache=True)

    def objects(self, below: str) -> dict[str, bytes]:
        """All objects below a prefix, by their place there."""
        keys = self.filesystem().find(below)
        found = self.filesystem().cat(keys) if keys else {}
        return {key.removeprefix(f"{below}/"): found[key] for key in keys}


@contextmanager
def serving(*program: str, cwd: Path | None = None) -> Iterator[str]:
    """Address of a server on the loopback interface: a Python module with its arguments, the last of which is a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *program, str(port)]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(1200):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise RuntimeError(f"{program[0]} did not start") from None
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def plain() -> Iterator[str]:
    """Address of moto's own server, which holds nothing."""
    with serving("moto.server", "-H", "127.0.0.1", "-p") as url:
        yield url


@contextmanager
def running(bucket: str = "bucket") -> Iterator[Server]:
    """A server that fails on demand, with a bucket."""
    with serving("tests.s3server", cwd=HOME) as url:
        server = Server(url)
        server.filesystem().mkdir(bucket)
        yield server


def main() -> None:
    """Serve until terminated."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", int(sys.argv[1]), Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True)


if __name__ == "__main__":
    main()
