"""Trying again what failed in a way that may pass: with pauses that grow and are drawn at random, so that runs spread out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from h5z.errors import TransientError, is_transient, one_line

T = TypeVar("T")

ATTEMPTS = 6
_FIRST, _LONGEST = 0.1, 20.0  # seconds


def pauses(attempts: int) -> Iterator[float]:
    """Seconds to wait before each further attempt: at random up to a bound that doubles ("full jitter").

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    >>> all(0 <= pause <= 0.1 * 2**i for i, pause in enumerate(pauses(4)))
    True
    """
    for i in range(attempts - 1):
        yield random.uniform(0, min(_LONGEST, _FIRST * 2**i))


def persist(call: Callable[[], T], attempts: int = ATTEMPTS, *, remote: bool = True) -> T:
    """Call a function until it returns, fails in a way that will not pass, or has failed so many times."""
    for pause in pauses(attempts):
        try:
            return call()
        except Exception as error:
            if not is_transient(error, remote=remote):
                raise
        time.sleep(pause)
    return call()


async def persist_async(call: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
    """As `persist`, of a function that returns an awaitable."""
    for pause in pauses(attempts):
        try:
            return await call()
        except Exception as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(pause)
    return await call()


def answered(name: str, call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """As `persist`, of what is reached over a network, by its name for the error.

    Raises
    ------
    TransientError
        If the last attempt, too, failed in a way that may pass.
    """
    try:
        return persist(call, attempts)
    except Exception as error:
        if is_transient(error):
            raise TransientError(f"{name}: the store did not answer ({one_line(error)})") from None
        raise


class PersistentFile:
    """An open remote file, as h5py reads it, whose reads are tried again."""

    def __init__(self, name: str, file: Any) -> None:
        self._name, self._file = name, file

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where the file stands."""
        view = memoryview(buffer).cast("B")
        where = self._file.tell()

        def read() -> int:
            self._file.seek(where)
            data = self._file.read(len(view))
            view[: len(data)] = data
            return len(data)

        return answered(self._name, read)

    def __repr__(self) -> str:
        return repr(self._file)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the file's own."""
        return getattr(self._file, name)
