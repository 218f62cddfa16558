"""The flow that publishes the events of many sessions: discover, identify, publish, report.

As in the flow that migrates archives, Prefect owns batches and dask owns sessions: each is one task of a worker process, and a
file on which a worker dies costs that session alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from flows.batches import Job, pack
from flows.cluster import connect, result_of
from flows.conversion import is_transient
from flows.discovery import Found, discover
from flows.events_parameters import EventsParameters, LayoutFields, OnProblem, Rows, SchemaFields, Target
from flows.events_report import EventsReport, SessionRecord
from flows.parameters import Nbytes, Scheduler, Sources
from flows.sessions import SessionJob, SessionLedger, Settings, publish_session, quarantined, session_of
from flows.tasks import as_is, retry_if_transient
from h5z.errors import PlanError, TransientError, one_line

Failures = list[tuple[SessionJob, BaseException]]


@dataclass(frozen=True)
class Run:
    """What the tasks of one run share; it stays in the flow's process.

    Attributes
    ----------
    sessions : dict
        The id of each source's session, as far as they are known.
    """

    client: Any
    settings: Settings
    ledger: SessionLedger
    sessions: dict[str, str] = field(default_factory=dict)


@task(name="discover-sessions", cache_policy=NO_CACHE)
def discover_sessions(sources: list[str], leave_out: str) -> Found:
    """Find the files of the sessions."""
    found = discover(sources, leave_out=leave_out)
    get_run_logger().info("found %d files; passed over %d that are not HDF5", len(found.files), len(found.passed_over))
    return found


@task(name="identify-sessions", cache_policy=NO_CACHE, retry_condition_fn=retry_if_transient, retry_jitter_factor=0.5)
def identify_sessions(jobs: list[SessionJob], run: Run) -> None:
    """Read each file's session id; what cannot be read, and what shares an id with another, goes into quarantine."""
    failed: Failures = []
    waiting = [job for job in run.ledger.left(jobs) if job.source not in run.sessions]
    for job, found in _each(run.client, session_of, waiting, run.settings.layout):
        if isinstance(found, str):
            run.sessions[job.source] = found
        elif isinstance(found, SessionRecord):
            run.ledger.add(found)
        else:
            failed.append((job, found))
    by_id: dict[str, list[SessionJob]] = {}
    for job in jobs:
        if job.source in run.sessions:
            by_id.setdefault(run.sessions[job.source], []).append(job)
    for session_id, same in by_id.items():
        for job in same if len(same) > 1 else []:
            other = next(item.source for item in same if item is not job)
            reason = f"{job.source}: expected one source of session {session_id!r}, found {other} too"
            run.ledger.add(quarantined(job, reason, session_id))
    _settle(failed, len(jobs), run.ledger)


@task(
    name="publish-batch",
    task_run_name="{label}",
    cache_policy=NO_CACHE,
    retry_condition_fn=retry_if_transient,
    retry_jitter_factor=0.5,
)
def publish_batch(label: str, jobs: list[SessionJob], run: Run) -> str:
    """Publish the sessions of a batch; those that an earlier attempt has ended are left alone.

    Returns
    -------
    str
        What became of them, in a line.

    Raises
    ------
    TransientError
        When all others have ended, if a session failed in a way that may pass.
    """
    failed: Failures = []
    for job, found in _each(run.client, publish_session, run.ledger.begin(jobs), run.settings):
        if isinstance(found, SessionRecord):
            run.ledger.add(found)
        else:
            failed.append((job, found))
    _settle(failed, len(jobs), run.ledger)
    return f"{len(jobs)} sessions"


def _settle(failed: Failures, total: int, ledger: SessionLedger) -> None:
    """Note what failed; have a task tried again for what may pass."""
    for job, error in failed:
        ledger.fail(job, one_line(error))
    if failed:
        raise TransientError(f"{len(failed)} of {total} sessions failed; the first: {one_line(failed[0][1])}")


def _each(client: Any, function: Any, jobs: list[SessionJob], shared: Any) -> Iterable[tuple[SessionJob, Any]]:
    """Call a function for each job on the cluster; its result, or what may pass, as they end.

    When a worker dies, what else it had to do dies with it: each of those is tried again, alone, so that only the file that kills
    its worker a second time goes into quarantine.
    """
    killed: list[SessionJob] = []
    for job, found in _gathered(client, function, jobs, shared):
        if _is_death(found):
            killed.append(job)
        else:
            yield job, found
    for job in killed:
        for _, found in _gathered(client, function, [job], shared):
            yield job, quarantined(job, f"{job.source}: the worker that read it died twice") if _is_death(found) else found


def _is_death(found: Any) -> bool:
    from distributed import KilledWorker

    return isinstance(found, KilledWorker)


def _gathered(client: Any, function: Any, jobs: list[SessionJob], shared: Any) -> Iterable[tuple[SessionJob, Any]]:
    from distributed import CancelledError, KilledWorker, as_completed

    futures = client.map(function, jobs, [shared] * len(jobs), pure=False)
    by_key = {future.key: job for future, job in zip(futures, jobs, strict=True)}
    for future in as_completed(futures, loop=client.loop):
        job = by_key[future.key]
        try:
            found = result_of(future)
        except KilledWorker as error:
            found = error
        except Exception as error:
            passing = isinstance(error, CancelledError) or is_transient(error)
            found = error if passing else quarantined(job, one_line(error))
        future.release()
        yield job, found


@task(name="report-events", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def write_events_report(report: EventsReport) -> str:
    """Write the report beside the stores, and log what needs a look."""
    logger = get_run_logger()
    for record in report.quarantined:
        logger.warning("quarantined: %s: %s", record.source, record.reason.removeprefix(f"{record.source}: "))
    for record in report.sessions:
        if record.problems:
            logger.warning("problems: %s: %d, named in %s", record.source, record.problems, record.target)
    logger.info("%s", str(report).partition("\n")[0])
    return report.write()


def _publish_all(wanted: EventsParameters, settings: Settings, jobs: list[SessionJob], ledger: SessionLedger) -> None:
    delays: dict[str, Any] = {"retries": wanted.retries, "retry_delay_seconds": exponential_backoff(wanted.retry_delay_seconds)}
    workers = None if wanted.workers is None else min(wanted.workers, max(1, len(jobs)))
    with connect(workers=workers, scheduler=wanted.scheduler) as client:
        run = Run(client, settings, ledger)
        wait([identify_sessions.with_options(**delays).submit(as_is(jobs), as_is(run))])
        left = {job.source: job for job in ledger.left(jobs) if job.source in run.sessions}
        batches = pack(
            [Job(job.source, "", job.nbytes) for job in left.values()],
            batch_files=wanted.batch_files,
            batch_nbytes=wanted.batch_nbytes,
            big_file_nbytes=sys.maxsize,  # a session is one worker's work, however large
        )
        publish = publish_batch.with_options(**delays)
        parts = [[left[item.source] for item in batch.jobs] for batch in batches]
        wait([publish.submit(f"batch {i}: {len(part)} sessions", as_is(part), as_is(run)) for i, part in enumerate(parts)])


@flow(
    name="publish-events",
    flow_run_name="publish to {target}",
    task_runner=cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=2)),
)
def publish_events(
    sources: Sources,
    target: Target,
    layout: LayoutFields = None,
    events_schema: SchemaFields = None,
    problems: OnProblem = "error",
    chunks: Rows = None,
    overwrite: bool = False,
    verify: bool = True,
    batch_files: int = 100,
    batch_nbytes: Nbytes = 1 << 30,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    retries: int = 3,
    retry_delay_seconds: float = 2.0,
) -> EventsReport:
    """Publish the events of many sessions, a Zarr store each; the same call again does only what is missing.

    Credentials of object stores are taken from the environment of the workers (``AWS_…``, or fsspec's configuration), so that no
    run's parameters hold them.

    Parameters
    ----------
    sources
        Files, folders, globs, URLs, or @listing (a text file of one path a line): a file a session.
    target
        Where each store goes, with ``{session_id}``; the report ``h5z-events-report.json`` goes into the folder of all.
    layout, events_schema
        As JSON: where in a file the rows are (`h5z.events.SessionLayout`), and what they are (`h5z.events.Schema`).
    problems
        "error": a session with a row that breaks the schema goes into quarantine. "report": such rows are kept and reported.
    chunks
        Rows of a chunk, or by entity.
    overwrite
        Whether the stores of sessions that have changed are replaced, each when its successor is complete.
    verify
        Whether each store is read back and compared before it is committed.
    batch_files, batch_nbytes
        How many sessions, and bytes of them, go into one Prefect task.
    workers, scheduler
        Processes to spawn here, or the address of a dask scheduler.
    retries, retry_delay_seconds
        How often, and after how long at first, a batch is tried again when a store, the network or a worker failed.

    Returns
    -------
    EventsReport
        What became of each session. Those that cannot be published are in it by source and reason; the others are done.
    """
    given = {**locals()}
    start, began = time.perf_counter(), datetime.now(UTC)
    given["target"] = target if "://" in target else os.path.abspath(target)
    wanted = EventsParameters.check(given)
    stores = os.path.dirname(EventsReport(wanted.target, ()).path)
    found = discover_sessions(wanted.sources, "" if stores in map(os.path.abspath, wanted.sources) else stores)
    jobs = [SessionJob(file.path, file.nbytes) for file in found.files]
    if len(jobs) > 1 and "{session_id}" not in wanted.target:
        raise PlanError(f"target: expected {{session_id}} in it, as there are {len(jobs)} sources; found {wanted.target!r}")
    settings = Settings(
        wanted.target,
        wanted.parsed_layout,
        wanted.parsed_schema,
        wanted.problems,
        wanted.chunks,
        wanted.overwrite,
        wanted.verify,
    )
    ledger = SessionLedger(jobs)
    _publish_all(wanted, settings, jobs, ledger)
    report = EventsReport(
        wanted.target,
        ledger.close(),
        passed_over=found.passed_over,
        started=began.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 3),
        flow_run=str(flow_run.id or ""),
    )
    write_events_report(as_is(report))
    return report
