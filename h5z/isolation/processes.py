"""Child processes that work for this one, one request at a time; those that have nothing to do wait for more."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, cast

from h5z.credentials import redact

Progress = Callable[[int, int], None]
_UNWIND_SECONDS = 3.0  # for a child to leave things in order when it is interrupted
_START = "import sys; sys.path[:] = sys.argv[2:]; from h5z.isolation.child import serve; serve(int(sys.argv[1]))"


class EndedError(Exception):
    """A child ended without an answer."""


class SilentError(Exception):
    """A child gave no sign of life for too long."""


class Child:
    """A process that works for this one."""

    def __init__(self) -> None:
        self.surroundings = _surroundings()
        self.served = 0
        self.silent = False
        self.stage = ""
        alive, self._life = os.pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(alive), *map(os.path.abspath, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                pass_fds=(alive,),
                start_new_session=True,  # an interrupt from the terminal is for us, who pass it on
            )
        finally:
            os.close(alive)

    def ask(self, request: bytes, timeout: float | None, progress: Progress | None) -> dict[str, Any]:
        """Send a request and wait for its answer; whatever goes wrong is the end of the child."""
        requests, answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(answers, selectors.EVENT_READ)
                self.stage = ""
                requests.write(request)
                requests.flush()
                pending: list[bytes] = []
                while True:
                    if not selector.select(timeout):
                        raise SilentError
                    data = os.read(answers.fileno(), 1 << 20)
                    if not data:
                        raise EndedError
                    *lines, rest = data.split(b"\n")
                    for line in lines:
                        told = json.loads(b"".join([*pending, line]))
                        pending = []
                        if "error" in told or "result" in told:
                            if "error" in told:
                                self.close()
                            return cast(dict[str, Any], told)
                        self.stage = told["stage"] or self.stage
                        if progress is not None and told["done"] is not None:
                            progress(*told["done"])
                    pending.append(rest)
        except (BrokenPipeError, ConnectionError):
            self.close()
            raise EndedError from None
        except KeyboardInterrupt:
            self.interrupt()
            raise
        except BaseException:
            self.close(kill=not isinstance(sys.exception(), EndedError))
            raise

    @property
    def status(self) -> int:
        """How it ended."""
        return self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that it, or the C library, wrote on standard error."""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 4096))
        lines = self._said.read().decode(errors="replace").split("\n")
        return redact(next((f"({line.strip()})" for line in reversed(lines) if line.strip()), ""))

    def interrupt(self) -> None:
        """Have it leave things in order, and end."""
        with suppress(OSError):
            self._process.send_signal(signal.SIGINT)
            cast(BinaryIO, self._process.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_UNWIND_SECONDS)
        self.close(kill=True)

    def close(self, *, kill: bool = False) -> None:
        """End it."""
        if kill:
            self._kill()
        with suppress(OSError):
            cast(BinaryIO, self._process.stdin).close()
        try:
            self._process.wait(_UNWIND_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        cast(BinaryIO, self._process.stdout).close()
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def _kill(self) -> None:
        """Kill it, and what it has started: its session is its own."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _surroundings() -> tuple[str, dict[str, str]]:
    """What a child has from this process for good: one that was started in others is of no use."""
    return os.getcwd(), dict(os.environ)


class Children:
    """Children that wait for work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._owner = os.getpid()

    def take(self) -> Child:
        """One that waits, or a new one."""
        with self._lock:
            if self._owner != os.getpid():  # a forked process has none of its own
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                child = self._idle.pop()
                if child.alive and child.surroundings == _surroundings():
                    return child
                child.close()
        return Child()

    def give(self, child: Child) -> None:
        """Let one wait for more work."""
        child.served += 1
        with self._lock:
            if len(self._idle) < (os.cpu_count() or 1):
                self._idle.append(child)
                return
        child.close()

    def close(self) -> None:
        """End those that wait."""
        with self._lock:
            while self._idle and self._owner == os.getpid():
                self._idle.pop().close(kill=True)


children = Children()
atexit.register(children.close)
