"""How far a run is, for people: a bar on a terminal, or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from h5z.report import size

_PAUSE = 0.2  # seconds between two looks, in a notebook
Show: TypeAlias = Callable[[int, int], None]
Progress: TypeAlias = bool | Show  # of a verb: a bar, or who is told bytes done and bytes in all


@contextmanager
def bar() -> Iterator[Show]:
    """Show what is done, of how many bytes, as it is told; in a notebook it stays when all is done."""
    if _in_notebook():
        yield _notebook_bar()
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _notebook_bar() -> Show:
    from IPython.display import display

    start = seen = time.monotonic()
    handle = display(_looks(0, 0, 0.0), raw=True, display_id=True)

    def show(done: int, total: int) -> None:
        nonlocal seen
        now = time.monotonic()
        if done >= total or now - seen >= _PAUSE:
            seen = now
            handle.update(_looks(done, total, now - start), raw=True)

    return show


def _looks(done: int, total: int, seconds: float) -> dict[str, str]:
    """The bar as HTML and as text.

    >>> _looks(1 << 20, 2 << 20, 0.5)["text/plain"]
    '1.0 MiB of 2.0 MiB, 2.0 MiB/s'
    """
    rate = f", {size(int(done / seconds))}/s" if done and seconds else ""
    text = f"{size(done)} of {size(total)}{rate}" if total else "…"
    meter = f"<progress value='{done}' max='{max(total, 1)}'></progress>"
    return {"text/plain": text, "text/html": f"{meter} {text}"}
