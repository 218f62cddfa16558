"""The flow that migrates an archive: discover, plan, convert, verify, finalize, report.

Prefect owns batches, dask owns files and chunks: Prefect is called a few times for each batch, however many files are
in it. Batches run in threads of the flow's process, which hands their work to the dask cluster and waits; no task
waits inside a worker for another. Within a batch, a small file is one dask task, planned, converted, verified and
finalized by one worker; a large file is a batch of its own, a graph over the whole cluster.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.annotations import quote

from flows.batches import DEFAULT_TEMPLATE, Batch, Job, pack, pair
from flows.cluster import concurrency, connect
from flows.conversion import Options, convert_file, is_transient, quarantine
from flows.discovery import Found, check_root, discover
from flows.parameters import (
    ArchiveParameters,
    Isolate,
    Nbytes,
    PolicyFields,
    Scheduler,
    Sources,
    TargetRoot,
    Template,
    Verify,
)
from flows.progress import Ledger
from flows.report import ArchiveReport
from h5z.errors import TransientError, one_line

Failures: TypeAlias = list[tuple[Job, BaseException]]
T = TypeVar("T")
BATCHES_AT_ONCE = 2  # while one batch's last files are converted, the next one's are on their way


@dataclass(frozen=True)
class Migration:
    """What the batches of one run share; it stays in the flow's process."""

    client: Any
    options: Options
    ledger: Ledger
    isolate: str
    workers: int


def retry_if_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect to try a batch again if a store, the network or a worker failed, and only then."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)


@task(name="discover", cache_policy=NO_CACHE)
def discover_sources(sources: list[str], target_root: str) -> Found:
    """Find the files of the archive."""
    found = discover(sources, leave_out=target_root)
    get_run_logger().info("found %d files; passed over %d that are not HDF5", len(found.files), len(found.passed_over))
    return found


@task(
    name="migrate-batch",
    task_run_name="{label}",
    cache_policy=NO_CACHE,
    retry_condition_fn=retry_if_transient,
    retry_jitter_factor=0.5,
)
def migrate_batch(label: str, batch: Batch, migration: Migration) -> str:
    """Plan, convert, verify and finalize the files of a batch; those that an earlier attempt has ended are left alone.

    Returns
    -------
    str
        What became of them, in a line.

    Raises
    ------
    TransientError
        When all others have ended, if a file failed in a way that may pass.
    """
    jobs = migration.ledger.pending(batch.jobs)
    try:
        failed = _convert_big(jobs[0], migration) if batch.big and jobs else _convert_small(jobs, migration)
    except Exception as error:
        for job in jobs:
            migration.ledger.fail(job, one_line(error))
        raise
    for job, cause in failed:
        migration.ledger.fail(job, one_line(cause))
    if failed:
        raise TransientError(f"{len(failed)} of {len(batch.jobs)} files failed; the first: {one_line(failed[0][1])}")
    return f"{len(batch.jobs)} files, {batch.nbytes} bytes"


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

    futures = migration.client.map(convert_file, jobs, options=migration.options, isolated=isolated, pure=False)
    jobs_by_key = {future.key: job for future, job in zip(futures, jobs, strict=True)}
    killed: Failures = []
    failed: Failures = []
    for future in as_completed(futures, loop=migration.client.loop):
        job = jobs_by_key[future.key]
        try:
            migration.ledger.add(future.result())
        except KilledWorker:  # now, or before its result was fetched
            killed.append((job, TransientError(f"{job.source}: the worker that converted it died")))
        except Exception as error:
            if isinstance(error, CancelledError) or is_transient(error):
                failed.append((job, error))
            else:
                migration.ledger.add(quarantine(job, error))
        future.release()
    return killed, failed


@task(name="report", cache_policy=NO_CACHE)
def write_report(report: ArchiveReport) -> str:
    """Write the report into the target root, and log what needs a look."""
    logger = get_run_logger()
    for record in report.quarantined:
        logger.warning("quarantined: %s: %s", record.source, record.reason.removeprefix(f"{record.source}: "))
    for record in report.incomplete:
        logger.warning("incomplete: %s: %s", record.source, "; ".join((*record.not_carried, *record.differences)))
    logger.info("%s", str(report).partition("\n")[0])
    return report.write()


def _as_is(value: T) -> T:
    """Hand a value to a task without having Prefect look through it for other tasks' results."""
    return cast(T, quote(value))


def _migrate_all(wanted: ArchiveParameters, jobs: tuple[Job, ...], batches: list[Batch], ledger: Ledger) -> None:
    options = Options(wanted.policy, wanted.verify, wanted.overwrite, wanted.scan_timeout)
    run = migrate_batch.with_options(
        retries=wanted.retries,
        retry_delay_seconds=exponential_backoff(wanted.retry_delay_seconds),
    )
    workers = None if wanted.workers is None else min(wanted.workers, max(1, len(jobs)))
    with connect(workers=workers, scheduler=wanted.scheduler) as client:
        migration = Migration(client, options, ledger, wanted.isolate, concurrency(client))
        wait([run.submit(batch.label, _as_is(batch), _as_is(migration)) for batch in batches])


@flow(
    name="migrate-archive",
    flow_run_name="migrate to {target_root}",
    task_runner=cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE)),
)
def migrate_archive(
    sources: Sources,
    target_root: TargetRoot,
    policy: PolicyFields | None = None,
    name_template: Template = DEFAULT_TEMPLATE,
    verify: Verify = "sample",
    overwrite: bool = False,
    batch_files: int = 500,
    batch_nbytes: Nbytes = 1 << 30,
    big_file_nbytes: Nbytes = 128 << 20,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    isolate: Isolate = "always",
    scan_timeout: float | None = 300.0,
    retries: int = 3,
    retry_delay_seconds: float = 2.0,
) -> ArchiveReport:
    """Migrate many HDF5 files to Zarr stores below one folder; the same call again does only what is missing.

    Parameters
    ----------
    sources
        Files, folders, globs, URLs of these, or @listing (a text file of one path a line).
    target_root
        The folder that the stores, and the report ``h5z-report.json``, go below.
    policy
        Fields of `h5z.Policy`.
    name_template
        A target's path below the root, of its source's ``{parent}``, ``{stem}``, ``{suffix}`` and ``{name}``.
    verify
        How each target is compared with its source before it is committed.
    overwrite
        Whether targets that hold something else are replaced, each when its successor is complete.
    batch_files, batch_nbytes
        How many small files, and bytes of them, go into one Prefect task.
    big_file_nbytes
        The size from which a file has a Prefect task, and the whole cluster, to itself.
    workers, scheduler
        Processes to spawn here, or the address of a dask scheduler.
    isolate, scan_timeout
        Whether small files are converted in child processes of the workers always, so that one on which libhdf5 crashes or
        hangs costs no worker, or once one has killed its worker; and how many seconds reading a file may take without
        progress.
    retries, retry_delay_seconds
        How often, and after how long at first, a batch is tried again when a store, the network or a worker failed.

    Returns
    -------
    ArchiveReport
        What became of each file. Files that cannot be migrated are in it by name and reason; the others are done.
    """
    start, began = time.perf_counter(), datetime.now(UTC)
    wanted = ArchiveParameters.check(
        {
            "sources": sources,
            "target_root": target_root if "://" in target_root else os.path.abspath(target_root),
            "policy": policy,
            "name_template": name_template,
            "verify": verify,
            "overwrite": overwrite,
            "batch_files": batch_files,
            "batch_nbytes": batch_nbytes,
            "big_file_nbytes": big_file_nbytes,
            "workers": workers,
            "scheduler": scheduler,
            "isolate": isolate,
            "scan_timeout": scan_timeout,
            "retries": retries,
            "retry_delay_seconds": retry_delay_seconds,
        }
    )
    check_root(wanted.target_root)
    found = discover_sources(wanted.sources, wanted.target_root)
    jobs = pair(found.files, wanted.target_root, wanted.name_template)
    sizes = {"batch_files": wanted.batch_files, "batch_nbytes": wanted.batch_nbytes}
    batches = pack(jobs, **sizes, big_file_nbytes=wanted.big_file_nbytes)
    ledger = Ledger(jobs)
    _migrate_all(wanted, jobs, batches, ledger)
    report = ArchiveReport(
        wanted.target_root,
        ledger.close(),
        verify=wanted.verify,
        policy=wanted.policy,
        passed_over=found.passed_over,
        started=began.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 3),
        batches=len(batches),
        flow_run=str(flow_run.id or ""),
    )
    write_report(_as_is(report))
    return report
