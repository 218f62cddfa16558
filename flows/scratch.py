"""Folders for what a process needs while it lives. What a killed one has left, the next one takes away."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"


class Scratch:
    """A new folder among the system's temporary ones, held by a lock that ends with this process, however it ends.

    Parameters
    ----------
    prefix : str
        Of its name. Folders of the same prefix whose processes are dead are taken away.
    """

    def __init__(self, prefix: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _take_away(left)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        draft = self.path / f"{_LOCK}.draft"
        self._lock = draft.open("wb")
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)  # there is none that nobody has held

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the folder away, as far as nothing in it is in use."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _take_away(folder: Path) -> None:
    """Delete a folder of ours if nobody holds its lock."""
    with suppress(OSError):
        if folder.lstat().st_uid == os.getuid():
            lock: IO[bytes]
            with (folder / _LOCK).open("rb") as lock:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
