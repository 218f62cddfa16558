"""How the files of a batch are converted on the cluster: a small file is one dask task, a large one a graph over all workers.

Batches run in threads of the flow's process, which hand their work to the dask cluster and wait; no task waits inside a
worker for another, and workers need no Prefect. That is why this is not `prefect_dask.DaskTaskRunner`: it would have each
Prefect task occupy a worker while its dask tasks wait for one, and each worker talk to Prefect's API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from flows.batches import Batch, Job
from flows.cluster import result_of, results_of
from flows.conversion import Options, convert_file, is_transient, quarantine
from flows.progress import Ledger
from flows.report import FileRecord
from h5z.errors import TransientError, one_line

_TOGETHER = 0.1  # seconds in which files end whose results are fetched in one call: each call costs milliseconds
Failures: TypeAlias = list[tuple[Job, BaseException]]


@dataclass(frozen=True)
class Migration:
    """What the batches of one run share; it stays in the flow's process.

    Attributes
    ----------
    batch_timeout : float, optional
        Seconds that a batch of small files may take.
    say : callable
        Told what went wrong with a file that will be tried again, in a line.
    """

    client: Any
    options: Options
    ledger: Ledger
    isolate: str
    workers: int
    batch_timeout: float | None
    say: Callable[[str], None]


def convert_batch(batch: Batch, migration: Migration) -> None:
    """Convert the files of a batch that have no record yet, and note what becomes of each.

    Raises
    ------
    TransientError
        When all others have ended, if a file failed in a way that may pass.
    """
    jobs = migration.ledger.pending(batch.jobs)
    if not jobs or migration.ledger.stopped:
        return
    try:
        failed = _convert_big(jobs[0], migration) if batch.big else _convert_small(jobs, migration)
    except Exception as error:
        for job in jobs:
            migration.ledger.fail(job, one_line(error))
        raise
    for job, cause in failed:
        migration.ledger.fail(job, one_line(cause))
        migration.say(f"{job.source}: {one_line(cause)}")
    if failed:
        raise TransientError(f"{len(failed)} of {len(batch.jobs)} files failed; the first: {one_line(failed[0][1])}")


def _convert_big(job: Job, migration: Migration) -> Failures:
    """Convert one large file on all of the cluster."""
    from distributed import CancelledError, KilledWorker

    def advance(done: int, total: int) -> None:
        migration.ledger.advance(job, done, total)

    try:
        record = convert_file(
            job,
            migration.options,
            isolated=True,
            scheduler=migration.client,
            workers=migration.workers,
            progress=advance,
        )
    except (KilledWorker, CancelledError) as error:
        return [(job, error)]
    except Exception as error:
        if not is_transient(error):
            raise
        return [(job, error)]
    migration.ledger.add(record)
    return []


def _convert_small(jobs: list[Job], migration: Migration) -> Failures:
    """Convert small files, each one task of a worker; those whose worker died once more, scanned in a child process."""
    always = migration.isolate == "always"
    killed, failed = _gather(jobs, migration, isolated=always)
    if killed and not always:
        killed, more = _gather([job for job, _ in killed], migration, isolated=True)
        failed += more
    return failed + killed


def _gather(jobs: list[Job], migration: Migration, *, isolated: bool) -> tuple[Failures, Failures]:
    """Have the cluster convert files, and note each as it ends; return those whose worker died, and what may pass."""
    from distributed import CancelledError, KilledWorker, as_completed

    client, ledger, timeout = migration.client, migration.ledger, migration.batch_timeout
    futures = client.map(convert_file, jobs, options=migration.options, isolated=isolated, pure=False)
    left = {future.key: (future, job) for future, job in zip(futures, jobs, strict=True)}
    killed: Failures = []
    failed: Failures = []
    try:
        for done in as_completed(futures, loop=client.loop, timeout=timeout).batches():
            there = [future for future in done if future.status == "finished"]  # what is lost meanwhile is asked for alone
            records = {record.source: record for record in results_of(client, there)}
            for future in done:
                _, job = left.pop(future.key)
                try:
                    ledger.add(records.get(job.source) or result_of(future))
                except KilledWorker:  # now, or before its result was fetched
                    killed.append((job, TransientError(f"{job.source}: the worker that converted it died")))
                except Exception as error:
                    if isinstance(error, CancelledError) or is_transient(error):
                        failed.append((job, error))
                    else:
                        ledger.add(quarantine(job, error))
                future.release()
            if ledger.stopped:
                client.cancel([future for future, _ in left.values()])
                break
            if left:
                time.sleep(_TOGETHER)
    except TimeoutError:
        _give_up(left, migration)
    return killed, failed


def _give_up(left: dict[str, tuple[Any, Job]], migration: Migration) -> None:
    """End what a batch has not done in its time: the files being converted, with their workers; the others are left."""
    client, seconds = migration.client, migration.batch_timeout
    at_work = {worker: set(keys) & set(left) for worker, keys in client.processing().items()}
    begun: set[str] = set().union(*at_work.values())
    client.cancel([future for future, _ in left.values()])
    client.restart_workers([worker for worker, keys in at_work.items() if keys], raise_for_error=False)
    for key, (_, job) in left.items():
        if key in begun:
            migration.ledger.add(quarantine(job, f"it was not done when its batch's {seconds:g} s were over"))
        else:
            reason = f"its batch's {seconds:g} s were over before its turn"
            migration.ledger.add(FileRecord(job.source, job.target, "waiting", nbytes=job.nbytes, reason=reason))
