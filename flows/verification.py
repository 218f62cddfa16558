"""The flow that verifies an archive's targets again, years later: by their own digests, or against their sources."""

from __future__ import annotations

import json
import os
import posixpath
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from pydantic import Field

import h5z
from flows.cluster import connect
from flows.conversion import is_transient
from flows.parameters import Block, ClusterParameters, ClusterSpec, Scheduler, TargetRoot
from flows.report import ArchiveError, printable, read_report, write_text
from flows.storage import storage_options
from flows.targets import find_targets
from flows.tasks import TAGS, as_is
from h5z.errors import one_line

VERIFICATION_NAME = "h5z-verification.json"
Level: TypeAlias = Annotated[
    Literal["digest", "structure", "sample", "full"],
    Field(description="By the digests that the targets carry; or against the sources, where they still are."),
]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1, description="Share of the targets, drawn at random, of each run.")]


@dataclass(frozen=True)
class Finding:
    """What verification found of one target: why it is not as it should be, or nothing."""

    target: str
    nbytes: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What a verification of an archive found."""

    target_root: str
    level: str
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The targets that are not as they should be."""
        return tuple(finding for finding in self.findings if finding.reasons)

    def __str__(self) -> str:
        """The verification in a few lines."""
        good = len(self.findings) - len(self.bad)
        head = f"{good} of {len(self.findings)} targets are as they were written ({self.level}, {self.seconds:.1f} s)"
        return "\n".join([head, *(f"differs: {item.target}: {'; '.join(item.reasons)}" for item in self.bad)])


class VerificationParameters(ClusterParameters):
    """What a verification was asked to do."""

    target_root: TargetRoot
    level: Level = "digest"
    share: Share = 1.0
    source_storage: Block | None = None
    target_storage: Block | None = None


@dataclass(frozen=True)
class Storage:
    """Storage options of sources and targets; never shown."""

    sources: dict[str, Any] | None = field(default=None, repr=False)
    targets: dict[str, Any] | None = field(default=None, repr=False)


def verify_target(target: str, source: str | None, level: str, storage: Storage) -> Finding:
    """Verify one target: what a dask worker runs.

    Raises
    ------
    TransientError
        If trying again may help.
    """
    try:
        if level == "digest":
            report = h5z.verify(None, target, scheduler="sync", storage_options=storage.targets)
        elif source is None:
            return Finding(target, reasons=("its source is not known: no report of a migration names it",))
        else:
            options: dict[str, Any] = {"storage_options": storage.targets, "source_options": storage.sources}
            report = h5z.verify(source, target, level=level, scheduler="sync", **options)
    except Exception as error:
        if is_transient(error):
            raise
        return Finding(target, reasons=(one_line(error),))
    return Finding(target, report.checked_nbytes, tuple(map(str, report.differences)))


@task(name="find-targets", tags=TAGS, cache_policy=NO_CACHE)
def find(target_root: str, share: float, storage: Storage) -> list[str]:
    """Find the targets, or a share of them."""
    found = list(find_targets(target_root, storage_options=storage.targets))
    chosen = found if share == 1.0 else sorted(random.sample(found, max(1, round(share * len(found))))) if found else []
    get_run_logger().info("found %d targets; verifying %d", len(found), len(chosen))
    return chosen


@task(name="verify-targets", tags=TAGS, cache_policy=NO_CACHE)
def verify_targets(targets: Sequence[str], given: VerificationParameters, storage: Storage) -> tuple[Finding, ...]:
    """Verify targets, each one task of a worker; one that fails in a way that may pass is tried three times."""
    sources = _sources(given.target_root, storage)
    wanted = [sources.get(target) for target in targets]
    logger = get_run_logger()
    with connect(**given.where, say=logger.warning) as client:
        futures = client.map(
            verify_target, targets, wanted, level=given.level, storage=storage, pure=False, retries=2, batch_size=1000
        )
        found = []
        for target, future in zip(targets, futures, strict=True):
            error = future.exception()
            found.append(future.result() if error is None else Finding(target, reasons=(one_line(error),)))
    return tuple(found)


def _sources(target_root: str, storage: Storage) -> dict[str, str]:
    """The source of each target, as the last migration's report has it."""
    try:
        report = read_report(target_root, storage.targets)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {record.target: record.source for record in report.files}


@flow(name="verify-archive", validate_parameters=False, flow_run_name="verify {target_root}")
def verify_archive(
    target_root: TargetRoot,
    level: Level = "digest",
    share: Share = 1.0,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    cluster: ClusterSpec | None = None,
    source_storage: Block | None = None,
    target_storage: Block | None = None,
) -> Verification:
    """Verify again the targets below a folder.

    Parameters
    ----------
    target_root
        The folder or URL that a migration's stores are below.
    level
        ``digest`` reads every stored byte and compares it with the digest taken when it was written; no source is needed.
        ``structure``, ``sample`` and ``full`` compare with the sources, where the last migration's report names them.
    share
        The share of the targets to verify, drawn at random: a tenth every night is all of them in a month or so.
    workers, scheduler, cluster, source_storage, target_storage
        As for `flows.archive.migrate_archive`.

    Raises
    ------
    ArchiveError
        If a target is not as it was written; all are verified first, and ``h5z-verification.json`` names each.
    """
    given = {**locals()}
    start = time.perf_counter()
    given["target_root"] = target_root if "://" in target_root else os.path.abspath(target_root)
    wanted = VerificationParameters.check(given)
    storage = Storage(storage_options(wanted.source_storage), storage_options(wanted.target_storage))
    targets = find(wanted.target_root, wanted.share, as_is(storage))
    findings = verify_targets(as_is(targets), as_is(wanted), as_is(storage)) if targets else ()
    seconds = round(time.perf_counter() - start, 3)
    verification = Verification(wanted.target_root, wanted.level, findings, seconds)
    _publish(verification, storage)
    if verification.bad:
        raise ArchiveError(f"{len(verification.bad)} of {len(findings)} targets differ; the first: {verification.bad[0].target}")
    return verification


def _publish(verification: Verification, storage: Storage) -> None:
    head = str(verification).partition("\n")[0]
    text = json.dumps(asdict(verification), indent=1) + "\n"
    write_text(posixpath.join(verification.target_root, VERIFICATION_NAME), text, storage.targets)
    bad = [{"target": printable(item.target), "reason": printable("; ".join(item.reasons))} for item in verification.bad]
    create_table_artifact(bad[:1000], key="h5z-verification", description=head)
    archive = {
        "prefect.resource.id": f"h5z.archive.{verification.target_root}",
        "prefect.resource.name": verification.target_root,
    }
    payload = {"targets": len(verification.findings), "differ": len(verification.bad), "seconds": verification.seconds}
    emit_event("h5z.verification.completed", archive, payload=payload)
    logger = get_run_logger()
    for item in verification.bad:
        logger.warning("differs: %s: %s", item.target, "; ".join(item.reasons))
    logger.info("%s", head)
