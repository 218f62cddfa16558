"""Trying again what failed in a way that may pass: with pauses that grow and are drawn at random, so that runs spread out."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

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
    import asyncio

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
