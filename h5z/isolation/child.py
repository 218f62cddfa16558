"""The other side of `h5z.isolation`: what runs in a child process."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import resource
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import Any, BinaryIO, cast

from h5z.credentials import redact
from h5z.errors import H5zError, one_line
from h5z.isolation.heartbeat import listen

_IDLE_SECONDS = 60.0  # after which a child that has nothing to do ends
_BEAT_SECONDS = 0.2


def serve(life: int) -> None:
    """Answer requests on standard input until it ends, or nothing comes for a while.

    Parameters
    ----------
    life : int
        File descriptor of a pipe that ends when the process that asks does.
    """
    _end_with(life)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    requests = cast(BufferedReader, sys.stdin.buffer)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while selector.select(_IDLE_SECONDS):
            if not requests.peek(1):
                return
            answer = _answer(requests, answers)
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


def _answer(requests: BinaryIO, answers: BinaryIO) -> dict[str, Any]:
    try:
        function, arguments, keywords, tells, limit = pickle.load(requests)
        teller = _Teller(answers)
        listen(teller.beat)
        with _limited(limit):
            result = function(*arguments, **keywords, **({"progress": teller.tell} if tells else {}))
            return {"result": _as_json(result)}
    except BaseException as error:
        kind = type(error).__name__ if isinstance(error, H5zError | MemoryError | KeyboardInterrupt) else ""
        if isinstance(error, RuntimeError) and "start new thread" in str(error):  # for want of memory
            kind = "MemoryError"
        if isinstance(error, ConnectionError | TimeoutError) and not isinstance(error, H5zError):
            kind = "TransientError"
        return {"error": one_line(error), "kind": kind, "trace": redact(traceback.format_exc())}
    finally:
        listen(None)


def _as_json(result: Any) -> Any:
    if isinstance(result, tuple):
        return list(map(_as_json, result))
    return result.to_dict() if hasattr(result, "to_dict") else result


class _Teller:
    """Writes signs of life, not more of them than serve."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._last = 0.0
        self._done: tuple[int, int] | None = None

    def beat(self, stage: str) -> None:
        """A step has ended."""
        self._write(stage)

    def tell(self, done: int, total: int) -> None:
        """So much is done, of so much."""
        self._done = (done, total)
        self._write(at_once=done >= total)

    def _write(self, stage: str = "", *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._last < _BEAT_SECONDS and not at_once and not stage:
            return
        with self._lock:
            self._last = now
            self._answers.write(json.dumps({"done": self._done, "stage": stage}).encode() + b"\n")
            self._answers.flush()


@contextmanager
def _limited(nbytes: int) -> Iterator[None]:
    """Hold this process to so many bytes of memory beyond what it has, where the system can do that (Linux)."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError):
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[5]) * resource.getpagesize()
        wanted = [now + nbytes, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_DATA, (min(wanted), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _end_with(life: int) -> None:
    """End this process when the other end of a pipe closes, even while libhdf5 holds Python's lock."""
    if hasattr(os, "O_ASYNC") and hasattr(fcntl, "F_SETOWN"):
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO, which nobody handles, ends it

    def watch() -> None:
        os.read(life, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
