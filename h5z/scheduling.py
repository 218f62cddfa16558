"""Run a list of independent tasks on the scheduler that the user chose, and tell how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, cast

from h5z.bars import bar
from h5z.errors import PlanError, TransientError, one_line

Job = tuple[Callable[..., Any], tuple[Any, ...], int]
Progress = Callable[[int], None]
WINDOW = 10_000
# By name: the libraries that have them may not have been imported.
_DEATHS = ("KilledWorker", "BrokenProcessPool", "CommClosedError", "FutureCancelledError", "CancelledError", "StreamClosedError")


def run(
    jobs: Iterable[Job], scheduler: Any, workers: int, advance: Progress, *, window: int = WINDOW, small: bool = False
) -> list[Any]:
    """Run jobs and return their results, in order here, as they end on a cluster.

    Jobs are taken `window` at a time, so that neither this process nor a scheduler ever holds all of them.

    Parameters
    ----------
    jobs : iterable of (function, arguments, nbytes)
        Independent of each other; `nbytes` is what `advance` is told when one ends.
    scheduler : "threads", "processes", "sync", address, distributed.Client or None
        None is an active distributed client, else threads.
    workers : int
        Threads or processes to use here.
    small : bool
        Whether jobs may keep Python busy, which runs one thread at a time: then one thread does them all, unless the first
        shows that they wait.
    """
    with _client(scheduler) as client:
        if client is not None:
            with _surviving():
                return _on_cluster(jobs, client, advance, window)
    if scheduler not in (None, "threads", "processes", "sync", "synchronous"):
        raise PlanError(f"scheduler: expected 'threads', 'processes', 'sync', an address or a Client, found {scheduler!r}")
    results: list[Any] = []
    waiting = iter(jobs)
    while taken := list(islice(waiting, window)):
        with _surviving():
            results += _here(taken, scheduler or "threads", workers, advance, small)
    return results


@contextmanager
def _surviving() -> Iterator[None]:
    """Turn the death of workers, or of their scheduler, into a `TransientError`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ in _DEATHS:
            what = one_line(error).partition(". ")[0]
            raise TransientError(f"workers died while they ran tasks ({what}); the same command goes on from here") from None
        raise


@contextmanager
def _client(scheduler: Any) -> Iterator[Any | None]:
    """The distributed client that a scheduler stands for, or None; one opened for an address is closed again."""
    if isinstance(scheduler, str) and "://" in scheduler:
        from distributed import Client

        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PlanError(f"scheduler: expected a dask scheduler at {scheduler} ({one_line(error)})") from None
        with client:
            yield client
    elif hasattr(scheduler, "submit"):
        yield scheduler
    else:
        yield default_client() if scheduler is None else None


def default_client() -> Any | None:
    """The distributed client that is active in this process, or None."""
    if "distributed" not in sys.modules:
        return None
    import distributed

    try:
        return distributed.default_client()
    except ValueError:
        return None


def elsewhere(scheduler: Any) -> bool:
    """Whether tasks travel to where they run: to other processes, or as copies to a cluster in this one."""
    if scheduler == "processes":
        return True
    with _client(scheduler) as client:
        return client is not None


def on_workers(scheduler: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function once in every process of a scheduler's workers, this one apart."""
    with _client(scheduler) as client:
        if client is not None:
            client.run(function, *arguments, on_error="ignore")


def _here(jobs: Sequence[Job], scheduler: str, workers: int, advance: Progress, small: bool) -> list[Any]:
    """Run in this process, in threads of its own, or on dask's processes; each task a partial, into which dask need not look."""
    if scheduler == "processes":
        return _in_processes(jobs, workers, advance)
    if len(jobs) < 2 or workers < 2 or scheduler != "threads":
        return [_finish(function(*arguments), nbytes, advance) for function, arguments, nbytes in jobs]
    if small:
        start, busy = time.perf_counter(), time.thread_time()
        first = _here(jobs[:1], scheduler, 1, advance, small)
        waits = time.thread_time() - busy < (time.perf_counter() - start) / 2
        return first + _here(jobs[1:], scheduler, workers if waits else 1, advance, False)
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(function, *arguments): nbytes for function, arguments, nbytes in jobs}
        try:
            for future in as_completed(futures):
                _finish(future.result(), futures[future], advance)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _in_processes(jobs: Sequence[Job], workers: int, advance: Progress) -> list[Any]:
    from dask.base import get_scheduler
    from dask.callbacks import Callback

    sizes = {("h5z", i): nbytes for i, (_, _, nbytes) in enumerate(jobs)}
    tasks = {("h5z", i): (partial(function, *arguments),) for i, (function, arguments, _) in enumerate(jobs)}

    def ended(key: Any, *_: Any) -> None:
        advance(sizes.get(key, 0))

    with Callback(posttask=ended):
        return list(get_scheduler(scheduler="processes")(tasks, list(tasks), num_workers=max(1, workers)))


def _finish(result: Any, nbytes: int, advance: Progress) -> Any:
    advance(nbytes)
    return result


def _on_cluster(jobs: Iterable[Job], client: Any, advance: Progress, window: int) -> list[Any]:
    from distributed import as_completed

    waiting = iter(jobs)
    sizes: dict[Any, int] = {}

    def submit(count: int) -> list[Any]:
        futures = []
        for function, arguments, nbytes in islice(waiting, count):
            futures.append(client.submit(function, *arguments, pure=False))
            sizes[futures[-1]] = nbytes
        return futures

    results: list[Any] = []
    ended = as_completed(submit(window), loop=client.loop)
    for future in ended:
        results.append(future.result())
        advance(sizes.pop(future))
        ended.update(submit(1))
    return results


@contextmanager
def watching(progress: bool | Callable[[int, int], None], total: int) -> Iterator[Progress]:
    """Show how far a run is: nothing, a bar on the terminal (bytes, rate, time left), or a callable told (done, total)."""
    if not progress:
        yield lambda nbytes: None
    else:
        done = 0
        with telling(progress) as show:

            def tell(nbytes: int) -> None:
                nonlocal done
                done += nbytes
                cast(Callable[[int, int], None], show)(done, total)

            yield tell


@contextmanager
def telling(progress: bool | Callable[[int, int], None]) -> Iterator[Callable[[int, int], None] | None]:
    """As `watching`, for work elsewhere that says itself how much is done, of how much."""
    if callable(progress) or not progress:
        yield progress if callable(progress) else None
    else:
        with bar() as show:
            yield show
