"""Work in a process of its own: on a corrupt file libhdf5 can crash, never end, or take all memory.

`run_isolated` hands a call to a child process and waits for its answer. The request travels as a pickle, from here; the answer
comes back as JSON: a child that a file has led astray has no way to make this process do anything. Children serve one call
after the other; one that met an error is not used again, since the next file might pay for it. They end when this process
does, however it ends.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import h5z.errors
from h5z.errors import H5zError, IsolationError, PlanError, SourceError, TransientError
from h5z.isolation.machine import memory_nbytes
from h5z.isolation.processes import Child, EndedError, Progress, SilentError, children
from h5z.scheduling import Job, default_client

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


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
    if timeout is not None and not timeout > 0:
        raise PlanError(f"timeout: expected a positive number of seconds, found {timeout:g}")
    timeout = None if timeout is None or timeout == math.inf else timeout
    limit = memory_limit or memory_nbytes()
    request = pickle.dumps((function, arguments, keywords, progress is not None, limit))
    child = children.take()
    try:
        answer = _ask(child, request, subject, timeout, progress, clear_up)
    except (IsolationError, TransientError):
        if not child.served or child.silent:
            raise
        child = Child()  # an earlier file may have damaged the other, or it had just ended: only a new one tells
        answer = _ask(child, request, subject, timeout, progress, clear_up)
    if "error" in answer:
        raise _error(subject, answer, limit)
    children.give(child)
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
    child: Child,
    request: bytes,
    subject: str,
    timeout: float | None,
    progress: Progress | None,
    clear_up: Callable[[str], None] | None,
) -> dict[str, Any]:
    try:
        return child.ask(request, timeout, progress)
    except EndedError:
        error = _died(subject, child)
    except SilentError:
        child.silent = True
        error = IsolationError(f"{subject}: no progress for {timeout:g} s; libhdf5 hangs on it, or its storage does")
    if clear_up is not None and isinstance(error, IsolationError):
        clear_up(child.stage)
    raise error


def _died(subject: str, child: Child) -> H5zError:
    status = child.status
    if status >= 0:
        return IsolationError(f"{subject}: the process that read it ended with status {status} {child.last_words()}".rstrip())
    name = signal.Signals(-status).name
    if -status in _FROM_OUTSIDE:
        return TransientError(f"{subject}: the process that read it was killed from outside ({name})")
    return IsolationError(f"{subject}: libhdf5 crashed while reading it ({name}): the file is damaged, or libhdf5 has a fault")


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
