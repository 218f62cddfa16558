"""The dask cluster of a migration: an address, or processes spawned here for as long as it lasts."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from h5z.errors import PlanError, one_line


@contextmanager
def connect(*, workers: int | None = None, scheduler: str | None = None) -> Iterator[Any]:
    """Connect to a dask cluster.

    Parameters
    ----------
    workers : int, optional
        Processes to spawn here where no scheduler is given; as many as there are cores by default.
    scheduler : str, optional
        The address of a running scheduler, whose workers have h5z and reach the sources and the target root.

    Yields
    ------
    distributed.Client

    Raises
    ------
    PlanError
        If no scheduler answers at the address, within dask's ``distributed.comm.timeouts.connect``.
    """
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise PlanError(f"scheduler: expected a dask scheduler at {scheduler} ({one_line(error)})") from None
        with client:
            yield client
        return
    # One death of a worker is enough to suspect the file: it is then scanned in a process of its own.
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.multiprocessing-method": "spawn"}
    with (
        _quiet("distributed", "distributed.client", "distributed.gc"),
        tempfile.TemporaryDirectory(prefix="h5z-dask-", ignore_cleanup_errors=True) as scratch,
        dask.config.set({**settings, "temporary-directory": scratch}),
        LocalCluster(
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
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


def concurrency(client: Any) -> int:
    """How many tasks a cluster runs at once."""
    return max(1, sum(map(int, client.nthreads().values())))
