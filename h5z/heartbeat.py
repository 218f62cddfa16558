"""Signs of life of work that may hang: `beat` after each step, heard by whoever says how long a step may take."""

from __future__ import annotations

from collections.abc import Callable

_listener: Callable[[], None] | None = None


def beat() -> None:
    """Tell that a step has ended."""
    if _listener is not None:
        _listener()


def listen(listener: Callable[[], None] | None) -> None:
    """Have this process's beats heard; by nobody, with None."""
    global _listener
    _listener = listener
