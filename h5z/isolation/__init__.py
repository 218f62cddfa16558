"""Work in a process of its own: on a corrupt file libhdf5 can crash, never end, or take all memory.

`run_isolated` hands a call to a child process and waits for its answer. The request travels as a pickle, from here; the answer
comes back as JSON: a child that a file has led astray has no way to make this process do anything. Children serve one call
after the other; one that met an error is not used again, since the next file might pay for it. They end when this process
does, however it ends.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import h5z.errors
from h5z.credentials import redact
from h5z.errors import H5zError, IsolationError, SourceError, TransientError
from h5z.isolation.machine import memory_nbytes
from h5z.scheduling import Job, default_client

Progress = Callable[[int, int], None]
_UNWIND_SECONDS = 3.0  # for a child to leave things in order when it is interrupted
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
_START = "import sys; sys.path[:] = sys.argv[2:]; from h5z.isolation.child import serve; serve(int(sys.argv[1]))"


class _EndedError(Exception):
    """A child ended without an answer."""


class _SilentError(Exception):
    """A child gave no sign of life for too long."""


class _ElsewhereError(Exception):
    """What a child's traceback said, for ``--debug``."""


def can_isolate(target: Any, scheduler: Any) -> bool:
    """Whether work on a target can be done elsewhere: it is a path or URL, and no cluster of this process does the work."""
    if isinstance(target, str | os.PathLike):
        return isinstance(scheduler, str) or (scheduler is None and default_client() is None)
    return False


def run_isolated(
    function: Callable[..., Any],
    *arguments: Any,
    subject: str,
    timeout: float | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    clear_up: Callable[[str], None] | None = None,
    **keywords: Any,
) -> Any:
    """Call a function in a child process.

    Parameters
    ----------
    function : callable
        Of a module's own; what it returns is JSON, or has a ``to_dict``, or is a tuple of such.
    subject : str
        What the work is about, for messages: the source's name.
    timeout : float, optional
        Seconds that it may take without a sign of life: an object read, a task ended.
    memory_limit : int, optional
        Bytes that it may take beyond what a child has at its start; by default what the machine has. Held on Linux.
    progress : callable, optional
        Is told what the function tells the callable that it then gets under this name.
    clear_up : callable, optional
        Is told the stage that the function had said it was at (`h5z.isolation.heartbeat.beat`), where the process ended
        before it.

    Returns
    -------
    JSON
        The result, or what its ``to_dict`` gave; tuples as lists.

    Raises
    ------
    IsolationError
        If the process crashes, gives no sign of life, or wants more memory.
    TransientError
        If it is killed from outside.
    H5zError
        What the function raised.
    """
    limit = memory_limit or memory_nbytes()
    request = pickle.dumps((function, arguments, keywords, progress is not None, limit))
    child = _children.take()
    try:
        answer = _ask(child, request, subject, timeout, progress, clear_up)
    except (IsolationError, TransientError):
        if not child.served or child.silent:
            raise
        child = _Child()  # an earlier file may have damaged the other, or it had just ended: only a new one tells
        answer = _ask(child, request, subject, timeout, progress, clear_up)
    if "error" in answer:
        raise _error(subject, answer, limit)
    _children.give(child)
    return answer["result"]


@dataclass(frozen=True)
class Guard:
    """Within what a task is done in a child of its worker; as the keywords of `run_isolated`."""

    subject: str
    timeout: float | None = None
    memory_limit: int | None = None


def guarding(jobs: Iterable[Job], guard: Guard | None) -> Iterable[Job]:
    """Jobs for workers that must survive them: each done in a child of its worker; or as they are, without a guard."""
    return jobs if guard is None else ((_guarded, (function, guard, *given), nbytes) for function, given, nbytes in jobs)


def _guarded(function: Callable[..., Any], guard: Guard, *arguments: Any) -> Any:
    return run_isolated(function, *arguments, subject=guard.subject, timeout=guard.timeout, memory_limit=guard.memory_limit)


def _ask(
    child: _Child,
    request: bytes,
    subject: str,
    timeout: float | None,
    progress: Progress | None,
    clear_up: Callable[[str], None] | None,
) -> dict[str, Any]:
    try:
        return child.ask(request, timeout, progress)
    except _EndedError:
        error = _died(subject, child)
    except _SilentError:
        child.silent = True
        error = IsolationError(f"{subject}: no progress for {timeout:g} s; libhdf5 hangs on it, or its storage does")
    if clear_up is not None and isinstance(error, IsolationError):
        clear_up(child.stage)
    raise error


def _died(subject: str, child: _Child) -> H5zError:
    status = child.status
    if status >= 0:
        return IsolationError(f"{subject}: the process that read it ended with status {status} {child.last_words()}".rstrip())
    name = signal.Signals(-status).name
    if -status in _FROM_OUTSIDE:
        return TransientError(f"{subject}: the process that read it was killed from outside ({name})")
    return IsolationError(f"{subject}: libhdf5 crashed while reading it ({name}); the file is damaged")


def _error(subject: str, answer: dict[str, Any], limit: int) -> BaseException:
    kind, text = answer["kind"], answer["error"]
    if kind == "KeyboardInterrupt":
        return KeyboardInterrupt()
    if kind == "MemoryError":
        kind, text = "IsolationError", f"{subject}: expected to need no more than {limit} bytes of memory ({text})"
    elif kind == "":
        text = f"{subject}: cannot be read ({text})"
    found = getattr(h5z.errors, kind, SourceError)
    error: BaseException = found(text) if isinstance(found, type) and issubclass(found, H5zError) else SourceError(text)
    error.__cause__ = _ElsewhereError(answer["trace"])
    return error


class _Child:
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
                        raise _SilentError
                    data = os.read(answers.fileno(), 1 << 20)
                    if not data:
                        raise _EndedError
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
            raise _EndedError from None
        except KeyboardInterrupt:
            self.interrupt()
            raise
        except BaseException:
            self.close(kill=not isinstance(sys.exception(), _EndedError))
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


class _Children:
    """Children that wait for work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._owner = os.getpid()

    def take(self) -> _Child:
        """One that waits, or a new one."""
        with self._lock:
            if self._owner != os.getpid():  # a forked process has none of its own
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                child = self._idle.pop()
                if child.alive and child.surroundings == _surroundings():
                    return child
                child.close()
        return _Child()

    def give(self, child: _Child) -> None:
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


_children = _Children()
atexit.register(_children.close)
