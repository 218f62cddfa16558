"""The flow that joins files along a dimension into one store, and adds those that are new since the last run.

What a store holds already is read from the store, not from what Prefect remembers of earlier runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.tasks import exponential_backoff
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

import h5z
from flows.archive import discover_sources
from flows.artifacts import ProgressBar
from flows.cluster import connect
from flows.conversion import being_written
from flows.discovery import SourceFile
from flows.parameters import Block, ClusterParameters, ClusterSpec, PolicyFields, Scheduler, Sources, TargetRoot, Verify
from flows.progress import Progress
from flows.report import ArchiveError, printable
from flows.storage import storage_options
from flows.tasks import TAGS, as_is, retry_if_transient

Dim: TypeAlias = Annotated[str, Field(min_length=1, description="The dimension that files are slices along, such as time.")]
NewDim: TypeAlias = Annotated[bool, Field(description="Files lack the dimension: each is one step along it.")]
Times: TypeAlias = Annotated[
    Literal["same", "first"],
    Field(description="Refuse files whose times count from another date; or count them as the first file's do."),
]
Order: TypeAlias = Annotated[
    Literal["coordinate", "given"], Field(description="By the dimension's coordinate; or as they are listed, folders by name.")
]


class CombineParameters(ClusterParameters):
    """What a run was asked to join."""

    sources: Sources
    target: TargetRoot
    dim: Dim
    new_dim: NewDim = False
    policy: PolicyFields = Field(default_factory=dict)
    times: Times = "same"
    order: Order = "coordinate"
    verify: Verify = "sample"
    overwrite: bool = False
    settle_seconds: NonNegativeFloat = 0.0
    scan_timeout: PositiveFloat | None = 300.0
    retries: NonNegativeInt = 3
    retry_delay_seconds: NonNegativeFloat = 2.0
    source_storage: Block | None = None
    target_storage: Block | None = None


@task(name="combine-files", tags=TAGS, cache_policy=NO_CACHE, retry_condition_fn=retry_if_transient, retry_jitter_factor=0.5)
def combine_files(files: Sequence[SourceFile], given: CombineParameters, options: dict[str, Any]) -> h5z.Report:
    """Join the files that the store does not hold yet; of an unfinished run the rest is done."""
    logger = get_run_logger()
    bar = ProgressBar(f"{len(files)} files to {given.target}")

    def tell(done: int, total: int) -> None:
        bar(Progress(len(files) if done >= total else 0, len(files), done, total))

    with connect(**given.where, say=logger.warning) as client:
        return h5z.combine(
            [file.path for file in files],
            given.target,
            dim=given.dim,
            new_dim=given.new_dim,
            policy=h5z.Policy.from_dict(given.policy),
            times=given.times,
            order=given.order,
            verify=None if given.verify == "none" else given.verify,
            overwrite=given.overwrite,
            progress=tell,
            scheduler=client,
            isolated=True,
            timeout=given.scan_timeout,
            patient=True,
            **options,
        )


def settled(files: Sequence[SourceFile], settle_seconds: float) -> tuple[list[SourceFile], list[tuple[SourceFile, str]]]:
    """Files by name, up to the first that is being written; and those that wait for the next run, each with the reason.

    What follows a file that waits, waits too: files are added behind what a store holds, and that one would come too late.
    """
    ordered = sorted(files, key=lambda file: file.path)
    now = time.time()
    for i, file in enumerate(ordered):
        recent = "it was modified moments ago" if file.modified and file.modified > now - settle_seconds else ""
        reason = recent or being_written(file.path)
        if reason:
            behind = [(other, f"it follows {file.path}") for other in ordered[i + 1 :]]
            return ordered[:i], [(file, reason), *behind]
    return ordered, []


@flow(name="combine-archive", validate_parameters=False, flow_run_name="combine to {target}")
def combine_archive(
    sources: Sources,
    target: TargetRoot,
    dim: Dim,
    new_dim: NewDim = False,
    policy: PolicyFields | None = None,
    times: Times = "same",
    order: Order = "coordinate",
    verify: Verify = "sample",
    overwrite: bool = False,
    settle_seconds: float = 0.0,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    cluster: ClusterSpec | None = None,
    scan_timeout: float | None = 300.0,
    retries: int = 3,
    retry_delay_seconds: float = 2.0,
    source_storage: Block | None = None,
    target_storage: Block | None = None,
) -> h5z.Report:
    """Join the files of an archive along a dimension into one Zarr store; the same call again adds what is new.

    Parameters
    ----------
    sources
        Files, folders, globs, URLs of these, or @listing (a text file of one path a line).
    target
        The store.
    dim, new_dim, times, order, verify, overwrite
        As for `h5z.combine`.
    policy
        Fields of `h5z.Policy`.
    settle_seconds
        Files modified more recently than this are left for the next run, with those that follow them.
    workers, scheduler, cluster, scan_timeout, retries, retry_delay_seconds, source_storage, target_storage
        As for `flows.archive.migrate_archive`.

    Returns
    -------
    h5z.Report
        Of the files that were added; ``unchanged`` where none was.

    Raises
    ------
    H5zError
        If files do not fit together, naming the odd ones with what differs; the store stays as it was.
    ArchiveError
        If verification finds that the store differs.
    """
    given = {**locals(), "policy": policy or {}, "target": target if "://" in target else os.path.abspath(target)}
    wanted = CombineParameters.check(given)
    from_, to = storage_options(wanted.source_storage), storage_options(wanted.target_storage)
    found = discover_sources(wanted.sources, wanted.target, as_is(from_))
    files, waiting = settled(found.files, wanted.settle_seconds)
    logger = get_run_logger()
    for file, reason in waiting:
        logger.warning("left for the next run: %s: %s", file.path, reason)
    if not files:
        return h5z.Report("", wanted.target, "waiting")
    run = combine_files.with_options(retries=wanted.retries, retry_delay_seconds=exponential_backoff(wanted.retry_delay_seconds))
    report = run(as_is(files), as_is(wanted), as_is({"source_options": from_, "storage_options": to}))
    tell(report, wanted, len(waiting))
    if report.differences:
        raise ArchiveError(f"{wanted.target} differs from its sources; the first: {report.differences[0]}")
    return report


def tell(report: h5z.Report, given: CombineParameters, waiting: int) -> None:
    """Log what a run did, show it in Prefect, and emit its event."""
    head = str(report).partition("\n")[0]
    lines = [*map(str, report.differences), *(f"{p.path}: {p.reason}" for p in report.not_carried), *report.notes]
    create_table_artifact([{"note": printable(line)} for line in lines[:1000]], key="h5z-combined", description=head)
    archive = {"prefect.resource.id": f"h5z.archive.{given.target}", "prefect.resource.name": given.target}
    payload = {"status": report.status, "nbytes": report.nbytes, "seconds": report.seconds, "waiting": waiting}
    emit_event("h5z.combination.completed", archive, payload=payload)
    logger = get_run_logger()
    for line in lines:
        logger.warning("%s", line)
    logger.info("%s", head)
