"""Files and folders on disk that change whole or not at all, and reach the disk itself when they shall."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_WRITER, _DRAFTS = uuid.uuid4().hex, itertools.count()  # whose drafts have names that no other process gives
_LARGE_NBYTES = 1 << 16  # of a file that is worth a disk's while on its own
_FLUSHES = 8  # at once: file systems write what waits together in one go, where one after the other each waits for the disk
_WAITED = 1e-4  # seconds, for a disk: memory takes a file faster than threads take turns
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2)
_RENAME_SWAP = 2  # renamex_np(2) of macOS


def write_whole(path: str, value: Any, drafts: str, *, durable: str = "none") -> None:
    """Write a file under a name of its own below `drafts`, then rename it to its place.

    Each thread has a folder of its own there: file systems make one file at a time in a folder.

    Parameters
    ----------
    durable : "none", "commit" or "always"
        Whether it reaches the disk before this returns, or starts on its way, so that a later `flush` has little to wait for.

    Raises
    ------
    FileNotFoundError
        If `drafts` is gone; the file's own folder is made where there is none.
    """
    room = f"{drafts}/{_WRITER}-{os.getpid()}-{threading.get_native_id()}"
    draft = f"{room}/{next(_DRAFTS)}"
    try:
        try:
            fd = os.open(draft, _NEW_FILE, 0o666)
        except FileNotFoundError:
            os.mkdir(room)
            fd = os.open(draft, _NEW_FILE, 0o666)
        try:
            nbytes = _write_all(fd, value)
            if durable == "always":
                os.fsync(fd)
            elif durable == "commit" and nbytes >= _LARGE_NBYTES and hasattr(os, "posix_fadvise"):
                with suppress(OSError):  # advice that a file system may not take
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux starts to write, and keeps what is not written
        finally:
            os.close(fd)
        try:
            os.replace(draft, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            os.unlink(draft)
        raise
    if durable == "always":
        flush(os.path.dirname(path))


def _write_all(fd: int, value: Any) -> int:
    view = memoryview(value).cast("B")
    done = os.write(fd, view)
    while done < len(view):  # more than 2 GiB, which Linux writes at once, or a disk that is nearly full
        done += os.write(fd, view[done:])
    return done


def flush(path: Path | str) -> None:
    """Have a file or a folder reach the disk; folders of which a file system knows no such thing are let be."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


def flush_tree(folder: Path, *, leave_out: Iterable[str] = ()) -> None:
    """Have everything below a folder, and the folder, reach the disk; names right below it may be left out."""
    paths, taking = _tree(folder, set(leave_out)), threading.Lock()
    for path in paths:
        began = time.perf_counter()
        flush(path)
        if time.perf_counter() - began > _WAITED:
            break
    else:
        return

    def flush_rest(_: int) -> None:
        while True:
            with taking:
                path = next(paths, None)
            if path is None:
                return
            flush(path)

    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(flush_rest, range(_FLUSHES)))


def _tree(folder: Path, left_out: set[str]) -> Iterator[str]:
    """A folder and all that is below it."""
    for parent, folders, files in os.walk(folder):
        if os.fspath(folder) == parent:
            folders[:] = [name for name in folders if name not in left_out]
        for name in files:
            yield os.path.join(parent, name)
        yield parent


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; what is gone already is no error, what stays is."""

    def failed(function: Any, name: Any, info: Any) -> None:
        if not isinstance(info[1], FileNotFoundError):
            raise info[1]

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=failed)
    else:
        path.unlink(missing_ok=True)


def clear_folder(folder: Path, kept: Iterable[Path]) -> None:
    """Remove what is in a folder, and the folder, but for the paths that are kept and the folders that lead to them."""
    left = list(kept)
    if folder in left:
        return
    if not any(path.is_relative_to(folder) for path in left):
        remove(folder)
        return
    with suppress(FileNotFoundError):
        for entry in list(folder.iterdir()):
            clear_folder(entry, left)


def remove_empty(*folders: Path) -> None:
    """Remove folders that are empty, in turn, up to the first that is not."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def boot() -> str:
    """What names this boot of this machine; empty where there is no telling."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names at once, so that neither is ever missing; False where the system cannot."""
    call = _exchanging()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), os.fspath(one))


@cache
def _exchanging() -> Any:
    """The C library's function that exchanges two names, or None."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return swap and (lambda one, other: swap(one, other, ctypes.c_uint(_RENAME_SWAP)))
    rename = getattr(library, "renameat2", None)
    return rename and (lambda one, other: rename(_AT_FDCWD, one, _AT_FDCWD, other, ctypes.c_uint(_RENAME_EXCHANGE)))
