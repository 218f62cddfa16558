"""Signs of life of work that may hang or crash: `beat` after each step, heard by whoever watches over it."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str], None]
_listener: Listener | None = None


def beat(stage: str = "") -> None:
    """Tell that a step has ended; and, where it matters to who must clear up, what stage the work is at now."""
    if _listener is not None:
        _listener(stage)


def listen(listener: Listener | None) -> None:
    """Have this process's beats heard; by nobody, with None."""
    global _listener
    _listener = listener
