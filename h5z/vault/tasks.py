"""Members shared out to tasks, in the order in which they lie in their files; and vaults that this process has open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from h5z.vault.archive import Vault

_TASK_NBYTES, _TASK_COUNT = 16 << 20, 2000
_OPEN = 4


class _Opened:
    """The vaults that this process opened last, each as it was then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: OrderedDict[str, tuple[tuple[int, ...], Vault]] = OrderedDict()

    def get(self, path: str) -> Vault:
        """The vault at a path, opened anew if its first file has changed."""
        with self._lock:
            kept = self._vaults.get(path)
            if kept is None or kept[0] != _stamp(kept[1].files[0]):
                vault = Vault(path)
                kept = self._vaults[path] = _stamp(vault.files[0]), vault
            self._vaults.move_to_end(path)
            while len(self._vaults) > _OPEN:
                self._vaults.popitem(last=False)
            return kept[1]


def _stamp(path: str) -> tuple[int, ...]:
    """What tells a file from what it was, or from another that has its name; nothing of none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_opened = _Opened()


def opened(path: str) -> Vault:
    """The vault at a path, opened once in this process."""
    return _opened.get(path)


def groups(vault: Vault, patterns: Sequence[str] = ()) -> list[list[int]]:
    """Members, by their first rows, in groups of a task each."""
    rows = vault.catalog.rows
    wanted = vault.catalog.matching(patterns)
    order = np.lexsort((rows.columns["at"][wanted], rows.columns["file"][wanted]))
    out: list[list[int]] = []
    total = 0
    for first in wanted[order].tolist():
        nbytes = int(rows.columns["stored"][first])
        if not out or total + nbytes > _TASK_NBYTES or len(out[-1]) == _TASK_COUNT:
            out.append([])
            total = 0
        out[-1].append(first)
        total += nbytes
    return out


def nbytes_of(vault: Vault, group: Sequence[int]) -> int:
    """Stored bytes of the first parts of members: a measure of progress."""
    return int(vault.catalog.rows.columns["stored"][np.asarray(group, np.int64)].sum())
