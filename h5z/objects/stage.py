"""Where a save prepares what it will put in place by one rename: a folder beside the store, locked while its process lives.

The lock is the kernel's (flock), so that a kill releases it: the next save clears away what the killed one left.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from h5z.errors import TargetError

_ATTEMPTS = 100
_PATIENCE, _PAUSE = 1.0, 0.01  # seconds that a swap in two steps may take, and between looks
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2), Linux 3.15
_HERE = -100  # AT_FDCWD


def base_of(folder: Path) -> Path:
    """The folder that holds the stages of a store: beside it; inside it where only that can be written, or is the same disk."""
    beside = folder.parent / f".{folder.name}.h5z"
    existing = next(parent for parent in (folder.parent, *folder.parent.parents) if parent.exists())
    apart = folder.exists() and folder.stat().st_dev != existing.stat().st_dev
    return folder / ".h5z" / "save" if folder.is_dir() and (apart or not os.access(existing, os.W_OK)) else beside


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A stage for a store: a new, empty folder, taken away at the end with what is left in it."""
    base = base_of(folder)
    clear_dead(base)
    lock, stage = _locked(base)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        stage.with_suffix(".lock").unlink(missing_ok=True)
        os.close(lock)
        _remove_empty(base)


def _remove_empty(base: Path) -> None:
    with suppress(OSError):
        base.rmdir()
        if base.name == "save":
            base.parent.rmdir()


def _locked(base: Path) -> tuple[int, Path]:
    for _ in range(_ATTEMPTS):
        stage = base / uuid.uuid4().hex
        try:
            base.mkdir(parents=True, exist_ok=True)
            lock = os.open(stage.with_suffix(".lock"), os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except FileNotFoundError:  # another save took the empty base away
            continue
        if _try_lock(lock) and stage.with_suffix(".lock").exists():  # else another took this for a dead one's
            stage.mkdir()
            return lock, stage
        os.close(lock)
    raise TargetError(f"{base}: cannot be used to prepare a save")


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody clears anything away then
        return True
    return True


def clear_dead(base: Path) -> None:
    """End the swaps that killed saves left half done, and clear away their stages."""
    for path in (base / name for name in _names(base) if name.endswith(".lock")):
        try:
            lock = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stage = path.with_suffix("")
            end_swap(stage)
            shutil.rmtree(stage, ignore_errors=True)
            path.unlink(missing_ok=True)
        except OSError:  # in use, or a file system without locks
            continue
        finally:
            os.close(lock)
    _remove_empty(base)


def end_swap(stage: Path) -> None:
    """Put in place what a kill left between the two renames of a swap."""
    with suppress(FileNotFoundError, ValueError):
        source, destination = json.loads((stage / "swap.json").read_text())
        if os.path.exists(source) and not os.path.lexists(destination):
            os.rename(source, destination)


def swap(source: Path, destination: Path, stage: Path) -> None:
    """Put a folder in the place of another, which goes where it was: in one step where the file system can.

    Elsewhere in two, with a note between them, from which whoever comes next ends it.
    """
    if exchange(source, destination):
        return
    note = stage / "swap.json"
    note.with_suffix(".new").write_text(json.dumps([str(source), str(destination)]))
    os.replace(note.with_suffix(".new"), note)
    os.rename(destination, stage / "old")
    os.rename(source, destination)
    note.unlink()


def exchange(a: Path, b: Path) -> bool:
    """Exchange two folders atomically; False where this system or file system cannot."""
    try:
        rename: Any = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if rename(_HERE, os.fsencode(a), _HERE, os.fsencode(b), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if not (os.path.lexists(a) and os.path.lexists(b)):
        raise FileNotFoundError(number, os.strerror(number), str(b))
    return False


def settle(base: Path) -> bool:
    """Wait for swaps in two steps to end, or end those of killed saves; whether there were any."""
    until = time.monotonic() + _PATIENCE
    found = False
    while _swapping(base) and time.monotonic() < until:
        found = True
        clear_dead(base)
        time.sleep(_PAUSE)
    return found


def _names(base: Path) -> list[str]:
    try:
        return os.listdir(base)
    except (FileNotFoundError, NotADirectoryError):  # whoever ends last takes it away
        return []


def _swapping(base: Path) -> bool:
    return any((base / name / "swap.json").exists() for name in _names(base))


def listed(folder: Path, base: Path) -> list[str]:
    """The names of a folder's folders, at a moment when none of them was between the two steps of a swap."""
    for _ in range(_ATTEMPTS):
        settle(base)
        before = folder.stat().st_mtime_ns
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
        if folder.stat().st_mtime_ns == before and not _swapping(base):
            break
    return names
