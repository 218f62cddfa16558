"""The flow that migrates an archive: discover, sort out, plan, convert, verify, finalize, report.

Prefect owns batches, dask owns files and chunks: Prefect is called a few times for each batch, however many files are
in it. What a run has to do is read from the targets, not from what Prefect remembers of earlier runs.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from flows.artifacts import ProgressBar, show
from flows.batches import DEFAULT_TEMPLATE, Batch, Job, pack, pair
from flows.cluster import concurrency, connect
from flows.conversion import Options
from flows.discovery import Found, check_root, discover
from flows.execution import Migration, convert_batch
from flows.page import page
from flows.parameters import (
    ArchiveParameters,
    Block,
    ClusterSpec,
    Isolate,
    Nbytes,
    OnChange,
    OnError,
    Policies,
    PolicyFields,
    Scheduler,
    Since,
    Sources,
    TargetRoot,
    Template,
    Verify,
)
from flows.progress import Ledger
from flows.report import ArchiveError, ArchiveReport, read_report
from flows.sorting import Sorted, sort_out, vanished
from flows.storage import storage_options
from flows.tasks import TAGS, as_is, retry_if_transient

BATCHES_AT_ONCE = 2  # while one batch's last files are converted, the next one's are on their way


@dataclass(frozen=True)
class Wanted:
    """What a run was asked to do, with what is read from blocks and files."""

    parameters: ArchiveParameters
    options: Options
    found: Found
    jobs: tuple[Job, ...]


@task(name="discover", tags=TAGS, cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2, retry_condition_fn=retry_if_transient)
def discover_sources(sources: list[str], target_root: str, options: dict[str, Any] | None) -> Found:
    """Find the files of the archive."""
    found = discover(sources, leave_out=target_root, storage_options=options)
    get_run_logger().info("found %d files; passed over %d that are not HDF5", len(found.files), len(found.passed_over))
    return found


@task(name="sort-out", tags=TAGS, cache_policy=NO_CACHE)
def sort_out_files(wanted: Wanted) -> Sorted:
    """Ask each target what is left to do."""
    given = wanted.parameters
    how = {"since": given.not_before, "settle_seconds": given.settle_seconds}
    files = sort_out(wanted.jobs, wanted.found.files, wanted.options, on_change=given.on_change, **cast(Any, how))
    get_run_logger().info("%d files to migrate; %d need no work now", len(files.jobs), len(files.records))
    return files


@task(
    name="migrate-batch",
    task_run_name="{label}",
    tags=TAGS,
    cache_policy=NO_CACHE,
    retry_condition_fn=retry_if_transient,
    retry_jitter_factor=0.5,
)
def migrate_batch(label: str, batch: Batch, migration: Migration) -> str:
    """Plan, convert, verify and finalize the files of a batch; those that an earlier attempt has ended are left alone.

    Raises
    ------
    TransientError
        When all others have ended, if a file failed in a way that may pass.
    """
    convert_batch(batch, migration)
    return f"{len(batch.jobs)} files, {batch.nbytes} bytes"


@task(name="report", tags=TAGS, cache_policy=NO_CACHE)
def write_report(report: ArchiveReport, options: dict[str, Any] | None) -> str:
    """Write the report into the target root, publish it, and log what needs a look."""
    logger = get_run_logger()
    for record in report.quarantined:
        logger.warning("quarantined: %s: %s", record.source, record.reason.removeprefix(f"{record.source}: "))
    for record in report.left:
        logger.warning("left for the next run: %s: %s", record.source, record.reason.removeprefix(f"{record.source}: "))
    for record in report.incomplete:
        logger.warning("incomplete: %s: %s", record.source, "; ".join(record.not_carried))
    for source, target in report.vanished:
        logger.warning("vanished: %s, migrated to %s", source, target)
    logger.info("%s", str(report).partition("\n")[0])
    written = report.write(page(report, options), options)
    show(report)
    return written


def _ask(given: ArchiveParameters) -> Wanted:
    """Find the files and their targets."""
    sources, targets = storage_options(given.source_storage), storage_options(given.target_storage)
    check_root(given.target_root)
    found = discover_sources(given.sources, given.target_root, as_is(sources))
    jobs = pair(found.files, given.target_root, given.name_template)
    policies = tuple(given.policies.items())
    options = Options(given.policy, given.verify, given.overwrite, given.scan_timeout, policies, sources, targets)
    return Wanted(given, options, found, jobs)


def _migrate(wanted: Wanted, batches: list[Batch], ledger: Ledger) -> None:
    """Convert the files of all batches."""
    given, logger = wanted.parameters, get_run_logger()
    run = migrate_batch.with_options(
        retries=given.retries,
        retry_delay_seconds=exponential_backoff(given.retry_delay_seconds),
    )
    where = given.where
    if where["workers"] is not None:
        where["workers"] = min(where["workers"], max(1, sum(len(batch.jobs) for batch in batches)))
    with connect(**where, say=logger.warning) as client:
        migration = Migration(
            client, wanted.options, ledger, given.isolate, concurrency(client), given.batch_timeout, logger.warning
        )
        wait([run.submit(batch.label, as_is(batch), as_is(migration)) for batch in batches])


def _last_report(wanted: Wanted) -> ArchiveReport | None:
    try:
        return read_report(wanted.parameters.target_root, wanted.options.target_options)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _name() -> str:
    """A flow run's name: what is migrated, and where to."""
    given = flow_run.parameters
    sources = given.get("sources") or [""]
    first = os.path.basename(str(sources if isinstance(sources, str) else sources[0]).rstrip("/"))
    more = f" and {len(sources) - 1} more" if not isinstance(sources, str) and len(sources) > 1 else ""
    return f"{first}{more} to {given.get('target_root')}"


@flow(
    name="migrate-archive",
    validate_parameters=False,  # `ArchiveParameters` says on one line what is wrong
    flow_run_name=_name,
    task_runner=cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE)),
)
def migrate_archive(
    sources: Sources,
    target_root: TargetRoot,
    policy: PolicyFields | None = None,
    policies: Policies | None = None,
    name_template: Template = DEFAULT_TEMPLATE,
    verify: Verify = "sample",
    overwrite: bool = False,
    on_change: OnChange = "redo",
    on_error: OnError = "continue",
    since: Since | None = None,
    settle_seconds: float = 0.0,
    batch_files: int = 500,
    batch_nbytes: Nbytes = 1 << 30,
    big_file_nbytes: Nbytes = 128 << 20,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    cluster: ClusterSpec | None = None,
    isolate: Isolate = "always",
    scan_timeout: float | None = 300.0,
    batch_timeout: float | None = None,
    retries: int = 3,
    retry_delay_seconds: float = 2.0,
    source_storage: Block | None = None,
    target_storage: Block | None = None,
) -> ArchiveReport:
    """Migrate many HDF5 files to Zarr stores below one folder; the same call again does only what is missing.

    Parameters
    ----------
    sources
        Files, folders, globs, URLs of these, or @listing (a text file of one path a line).
    target_root
        The folder that the stores, and the report ``h5z-report.json``, go below.
    policy, policies
        Fields of `h5z.Policy` for all files; and, over those, for files by a pattern of their paths below their sources.
    name_template
        A target's path below the root, of its source's ``{parent}``, ``{stem}``, ``{suffix}`` and ``{name}``.
    verify
        How each target is compared with its source before it is committed.
    overwrite
        Whether targets that hold something else are replaced, each when its successor is complete.
    on_change
        What becomes of a file that has changed since its target was made: ``redo`` replaces the target when its successor
        is complete.
    on_error
        With files in quarantine, ``continue`` ends as completed, ``fail`` as failed once all were tried, ``stop`` at the
        first; what was not begun is left for the next run.
    since
        Files modified before are skipped without a look: a time, or a duration back from now.
    settle_seconds
        Files modified more recently than this are taken to be half-written and left for the next run, as are those that a
        writer has locked or marked, and those that change while they are migrated.
    batch_files, batch_nbytes
        How many small files, and bytes of them, go into one Prefect task.
    big_file_nbytes
        The size from which a file has a Prefect task, and the whole cluster, to itself.
    workers, scheduler, cluster
        Processes to spawn here, the address of a dask scheduler, or a cluster to make by its class; where none is given,
        what the environment's ``H5Z_CLUSTER`` says.
    isolate, scan_timeout
        Whether small files are converted in child processes of the workers always, so that one on which libhdf5 crashes or
        hangs costs no worker, or once one has killed its worker; and how many seconds reading a file may take without
        progress.
    retries, retry_delay_seconds
        How often, and after how long at first, a batch is tried again when a store, the network or a worker failed.
    source_storage, target_storage
        Names of Prefect Secret blocks with storage options, where the usual places hold no credentials.

    Returns
    -------
    ArchiveReport
        What became of each file. Files that cannot be migrated are in it by name and reason; the others are done.

    Raises
    ------
    ArchiveError
        If `on_error` asks for it; the report is written.
    """
    given = {**locals()}
    start, began = time.perf_counter(), datetime.now(UTC)
    given["target_root"] = target_root if "://" in target_root else os.path.abspath(target_root)
    wanted = _ask(ArchiveParameters.check(given))
    parameters = wanted.parameters
    sorted_out = sort_out_files(as_is(wanted))
    last = _last_report(wanted)
    sizes = {"batch_files": parameters.batch_files, "batch_nbytes": parameters.batch_nbytes}
    batches = pack(sorted_out.jobs, **sizes, big_file_nbytes=parameters.big_file_nbytes)
    bar = ProgressBar(f"{len(wanted.jobs)} files to {parameters.target_root}")
    ledger = Ledger(wanted.jobs, sorted_out.records, stop_at_error=parameters.on_error == "stop", listener=bar)
    if batches:
        _migrate(wanted, batches, ledger)
    report = ArchiveReport(
        parameters.target_root,
        ledger.close(),
        verify=parameters.verify,
        policy=parameters.policy,
        passed_over=wanted.found.passed_over,
        vanished=vanished(last, wanted.found.files, parameters.sources),
        started=began.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 3),
        batches=len(batches),
        flow_run=str(flow_run.id or ""),
    )
    write_report(as_is(report), as_is(wanted.options.target_options))
    if report.quarantined and parameters.on_error != "continue":
        raise ArchiveError(f"{len(report.quarantined)} files are in quarantine; see {report.path}")
    return report
