"""One writer at a time of a file, among threads, processes and libhdf5: ``flock``, which ends with its process."""

from __future__ import annotations

import errno
import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from h5z.errors import TargetError

_LONGEST_PAUSE = 0.02


@contextmanager
def exclusive(descriptor: int, name: str, timeout: float) -> Iterator[None]:
    """Hold an open file's exclusive lock.

    ``flock`` belongs to the open file, not to its process: two handles of one process exclude each other too, and the lock
    is let go when the last descriptor of that open file is closed. libhdf5 takes the same lock, so that a program that has
    the file open for writing (or reads it with HDF5's file locking on) is waited for.

    Parameters
    ----------
    timeout : float
        Seconds to wait for another holder.

    Raises
    ------
    TargetError
        If another holds it for longer, or the file system has no locks.
    """
    deadline = time.monotonic() + timeout
    pause = 0.00005
    while not _locked(descriptor, name):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TargetError(f"{name}: expected to write, found it locked by another writer for {timeout:g} s")
        time.sleep(min(left, pause * random.uniform(0.5, 1.5)))
        pause = min(_LONGEST_PAUSE, 2 * pause)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _locked(descriptor: int, name: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        if error.errno == errno.EINTR:
            return False
        raise TargetError(f"{name}: expected a file system with locks (flock), found none ({error.strerror})") from None
    return True
