"""The container files that a process has open, and those that it has appended to and not indexed yet."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from h5z.container.file import ContainerFile
from h5z.errors import H5zError, SourceError, one_line

_MOST = 256


class OpenFiles:
    """The container files that this process used last, open; and those that it has appended to since their last index."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, ContainerFile] = OrderedDict()
        self.unsealed: dict[str, Callable[[], None]] = {}  # by path, what indexes it

    def get(self, path: str) -> ContainerFile | None:
        """The file at a path, open; None if there is none."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.forget(path)
            return None
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
        with self._lock:
            file = self._files.get(path)
            if file is not None and file.identity == (status.st_dev, status.st_ino):
                self._files.move_to_end(path)
                return file
        try:
            opened = ContainerFile(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with self._lock:
            file = self._files.get(path)
            if file is None or file.identity != opened.identity:
                self._files[path] = file = opened
                if len(self._files) > _MOST:
                    self._files.popitem(last=False)
            return file

    def forget(self, path: str) -> None:
        """Close a file that was deleted, or replaced."""
        with self._lock:
            self._files.pop(path, None)
            self.unsealed.pop(path, None)

    def forget_all(self, below: str) -> None:
        """Close all whose path begins so."""
        with self._lock:
            for path in [path for path in self._files if path.startswith(below)]:
                del self._files[path]
            for path in [path for path in self.unsealed if path.startswith(below)]:
                del self.unsealed[path]

    def seal_all(self, below: str = "") -> None:
        """Index what this process has appended, so that libhdf5 sees it too."""
        for path, seal in list(self.unsealed.items()):
            if path.startswith(below):
                with suppress(H5zError, OSError):
                    seal()


_files = OpenFiles()


def files() -> OpenFiles:
    """Those of this process."""
    return _files


def _after_fork() -> None:
    """Open files, and with them locks, would be shared with the parent: have none."""
    global _files
    _files = OpenFiles()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _files.seal_all())


def seal_all(below: str = "") -> None:
    """Index what this process has appended to containers whose path begins so."""
    _files.seal_all(below)


def forget_all(below: str) -> None:
    """Close what this process holds open of containers whose path begins so: their files were deleted."""
    _files.forget_all(below)
