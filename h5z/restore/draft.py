"""A file that is there whole or not at all: written under a name of its own, synced, then renamed."""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from h5z.errors import H5zError, TargetError, TargetExistsError, one_line

_NAME = re.compile(r"\.h5z-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}$")


def check_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no file can go.

    Raises
    ------
    TargetExistsError
        If something is there, and is no file or shall not be overwritten.
    TargetError
        If its folder is not there.
    """
    if path.is_dir():
        raise TargetExistsError(f"{path}: expected nothing, or a file; found a folder")
    if path.exists() and not path.is_file():
        raise TargetExistsError(f"{path}: expected nothing, or a file; found a pipe, a socket or a device")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise TargetExistsError(f"{path}: expected nothing, found a file (overwrite replaces it)")
    if not path.parent.is_dir():
        raise TargetError(f"{path}: cannot be created (its folder {path.parent} is not there)")


@contextmanager
def draft(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Where to write the file; on leaving the ``with`` block, what is there takes its place, unless it was taken away.

    What a killed run on this machine left is removed. After an error nothing is left.

    Raises
    ------
    TargetExistsError
        If another file took the place in the meantime.
    """
    remove_stale(path)
    drafted = path.with_name(f".{path.name[:120]}.h5z-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield drafted
        if drafted.exists():
            _sync(drafted)
            if overwrite:
                os.replace(drafted, path)
            else:
                _place(drafted, path)
            _sync(path.parent)
    except OSError as error:
        if isinstance(error, H5zError):
            raise
        raise TargetError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None
    finally:
        with suppress(OSError):
            drafted.unlink(missing_ok=True)


def _place(drafted: Path, path: Path) -> None:
    """Rename without replacing: a hard link fails where there is a file; file systems without them have a gap in time."""
    try:
        os.link(drafted, path)
    except FileExistsError:
        raise TargetExistsError(f"{path}: expected nothing, found a file that another wrote meanwhile") from None
    except OSError:
        check_place(path, overwrite=False)
        os.rename(drafted, path)


def _sync(path: Path) -> None:
    with suppress(PermissionError):  # a folder that may be written, but not read
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_stale(path: Path) -> None:
    """Remove drafts of a file whose processes, of this machine, are gone."""
    with suppress(OSError):
        for entry in path.parent.iterdir():
            found = _NAME.search(entry.name) if entry.name.startswith(f".{path.name[:120]}.h5z-") else None
            if found and found["host"] == socket.gethostname() and not _lives(int(found["pid"])):
                entry.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
