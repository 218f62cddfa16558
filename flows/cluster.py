"""The dask cluster of a migration: a running one by its address, one made by a class, or processes spawned here."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any

from flows.scratch import Scratch
from h5z.errors import PlanError, one_line

Say = Callable[[str], None]
_AGAIN_SECONDS = 60.0  # for a task whose result was lost to end again
# What workers log on these loggers, warnings and worse, the flow's log tells as well.
_FORWARDED = ("h5z", "flows", "distributed.worker")


@contextmanager
def connect(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: Mapping[str, Any] | None = None,
    say: Say | None = None,
) -> Iterator[Any]:
    """Connect to a dask cluster.

    Parameters
    ----------
    workers : int, optional
        Processes to spawn here where no cluster is named; as many as there are cores by default.
    scheduler : str, optional
        The address of a running scheduler, whose workers have h5z and reach the sources and the target root.
    cluster : mapping, optional
        A cluster to make for as long as this lasts: ``{"class": "dask_jobqueue.SLURMCluster", "keywords": {...}}``, and
        how large: ``"scale": 8`` workers or ``"adapt": {"minimum": 0, "maximum": 40}``.
    say : callable, optional
        Told what workers warn of, and which workers were lost.

    Yields
    ------
    distributed.Client

    Raises
    ------
    PlanError
        If no scheduler answers at the address, within dask's ``distributed.comm.timeouts.connect``, or the class cannot
        be imported, or makes no cluster of these keywords.
    """
    if scheduler is not None:
        made = _reach(scheduler)
    elif cluster is not None:
        made = _make(cluster)
    else:
        made = _spawn(workers)
    with made as client, _listening(client, say):
        yield client


@contextmanager
def _reach(scheduler: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise PlanError(f"scheduler: expected a dask scheduler at {scheduler} ({one_line(error)})") from None
    with client:
        yield client


@contextmanager
def _make(spec: Mapping[str, Any]) -> Iterator[Any]:
    """A cluster by class name and keywords, sized, and its client."""
    from distributed import Client

    kind = cluster_class(spec["class"])
    try:
        cluster = kind(**spec.get("keywords", {}))
    except (TypeError, ValueError, ImportError, OSError, RuntimeError) as error:
        raise PlanError(f"cluster: {spec['class']} could not be made ({one_line(error)})") from None
    with cluster:
        if "adapt" in spec:
            cluster.adapt(**spec["adapt"])
        elif "scale" in spec:
            cluster.scale(spec["scale"])
        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(1)  # scaled up by a queue's leave: as long as that takes
            yield client


def cluster_class(name: str) -> Any:
    """The class of a cluster by its dotted name.

    Raises
    ------
    PlanError
        If it cannot be imported, or is no class of dask clusters.
    """
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(import_module(module or "distributed"), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise PlanError(f"cluster: expected a class such as dask_jobqueue.SLURMCluster, found {name!r} ({error})") from None
    if not isinstance(kind, type) or not all(hasattr(kind, method) for method in ("scale", "adapt", "close")):
        raise PlanError(f"cluster: expected a class of dask clusters, found {name}")
    return kind


@contextmanager
def _spawn(workers: int | None) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    settings = {"distributed.worker.multiprocessing-method": "spawn"}
    with (
        _quiet("distributed", "distributed.client", "distributed.gc"),
        Scratch("h5z-dask-") as scratch,
        dask.config.set({**settings, "temporary-directory": str(scratch)}),
        LocalCluster(
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,
            # One death of a worker is enough to suspect the file: it is then scanned in a process of its own.
            scheduler_kwargs={"allowed_failures": 0},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep what a cluster of our own says about itself off the console; what fails comes back as an error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _listening(client: Any, say: Say | None) -> Iterator[None]:
    """Pass on what workers warn of, and each worker that is lost while the cluster is in use."""
    if say is None:
        yield
        return
    ending = threading.Event()

    def told(event: tuple[float, Any]) -> None:
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker" and not ending.is_set():
            busy = len(message.get("processing-tasks") or ())
            if busy or not message.get("expected"):
                say(f"the worker {message.get('worker')} was lost; {busy} of its tasks go to others")

    handlers = [(logging.getLogger(name), _Relay(say)) for name in _FORWARDED]
    client.subscribe_topic("all", told)
    for logger, handler in handlers:
        logger.addHandler(handler)
        client.forward_logging(logger.name, logging.WARNING)
    try:
        yield
    finally:
        ending.set()
        for logger, handler in handlers:
            logger.removeHandler(handler)
        if client.status == "running":
            client.unsubscribe_topic("all")  # else the scheduler tells us that we are leaving, when we have left


class _Relay(logging.Handler):
    """Hands records that came from a worker to the flow's log, each as one line."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        worker = getattr(record, "worker", None)
        if worker is not None:
            self.say(f"{worker}: {record.name}: {' '.join(record.getMessage().split())}")


def result_of(future: Any) -> Any:
    """What a task returned that has ended; or, where that was lost with its worker, what it returns when it is run again.

    Raises
    ------
    TimeoutError
        If it does not end again within a minute: a client that was told of a cancelled task that it is lost, too, would wait for
        good.
    """
    return future.result(timeout=_AGAIN_SECONDS)


def results_of(client: Any, futures: list[Any]) -> list[Any]:
    """What tasks returned that have ended, in one call; none where one was lost and does not come again in a minute."""
    with suppress(TimeoutError):
        found: list[Any] = client.sync(
            partial(client.gather, futures, errors="skip", asynchronous=True), callback_timeout=_AGAIN_SECONDS
        )
        return found
    return []


def concurrency(client: Any) -> int:
    """How many tasks a cluster runs at once."""
    return max(1, sum(map(int, client.nthreads().values())))
