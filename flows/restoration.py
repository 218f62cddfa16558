"""The flow that restores an archive: the HDF5 files of the Zarr stores below a target root."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

import h5z
from flows.cluster import connect
from flows.conversion import is_transient
from flows.parameters import ClusterParameters, ClusterSpec, Scheduler, TargetRoot
from flows.report import ArchiveError, printable
from flows.targets import find_targets
from flows.tasks import TAGS, as_is
from h5z.errors import PlanError, one_line


@dataclass(frozen=True)
class Restored:
    """One target, the file that it became, and why it did not; ``skipped``: that file was there already."""

    target: str
    file: str
    reason: str = ""
    skipped: bool = False


class RestorationParameters(ClusterParameters):
    """What a restoration was asked to do."""

    target_root: TargetRoot
    restored_root: TargetRoot


def restore_target(target: str, below: str, restored_root: str) -> Restored:
    """Restore one target: what a dask worker runs.

    Parameters
    ----------
    below : str
        The target's path below the target root.

    Raises
    ------
    TransientError
        If trying again may help.
    """
    try:
        file = os.path.join(restored_root, posixpath.dirname(below), _source_name(target))
        if os.path.exists(file):
            return Restored(target, file, skipped=True)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        h5z.restore(target, file)
    except Exception as error:
        if is_transient(error):
            raise
        return Restored(target, "", one_line(error))
    return Restored(target, file)


def _source_name(target: str) -> str:
    """The name of the file that a target was made of; a name of its own for a store that h5z did not write."""
    import zarr

    record: Any = zarr.open_group(target, mode="r").attrs.get("h5z")
    name = record.get("source", {}).get("name") if isinstance(record, dict) else None
    stem = posixpath.basename(target).removesuffix(".zarr")
    return os.path.basename(str(name)) if name else f"{stem}.h5"


@task(name="restore-targets", tags=TAGS, cache_policy=NO_CACHE)
def restore_targets(targets: Sequence[str], given: RestorationParameters) -> tuple[Restored, ...]:
    """Restore targets, each one task of a worker."""
    root = given.target_root.rstrip("/")
    below = [target.removeprefix(root).lstrip("/") for target in targets]
    logger = get_run_logger()
    with connect(**given.where, say=logger.warning) as client:
        futures = client.map(restore_target, targets, below, restored_root=given.restored_root, pure=False, retries=2)
        found = []
        for target, future in zip(targets, futures, strict=True):
            error = future.exception()
            found.append(future.result() if error is None else Restored(target, "", one_line(error)))
    return tuple(found)


@flow(name="restore-archive", validate_parameters=False, flow_run_name="restore {target_root} to {restored_root}")
def restore_archive(
    target_root: TargetRoot,
    restored_root: TargetRoot,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
    cluster: ClusterSpec | None = None,
) -> tuple[Restored, ...]:
    """Build the HDF5 files of an archive's Zarr stores again; those that are there already are left alone.

    Parameters
    ----------
    target_root
        The folder or URL that a migration's stores are below.
    restored_root
        The folder that the files go below, each in its store's place and by the name that it had.
    workers, scheduler, cluster
        As for `flows.archive.migrate_archive`.

    Raises
    ------
    ArchiveError
        If a store cannot be restored; all are tried first, and the table of the run names each.
    """
    given = {**locals()}
    start = time.perf_counter()
    for name in ("target_root", "restored_root"):
        if "://" not in given[name]:
            given[name] = os.path.abspath(given[name])
    wanted = RestorationParameters.check(given)
    if "://" in wanted.restored_root:
        raise PlanError(f"restored_root: expected a local folder, found {wanted.restored_root!r}")
    targets = list(find_targets(wanted.target_root))
    found = restore_targets(as_is(targets), as_is(wanted)) if targets else ()
    bad = [item for item in found if item.reason]
    rows = [{"target": printable(item.target), "reason": printable(item.reason)} for item in bad]
    done = sum(not item.reason and not item.skipped for item in found)
    head = f"{done} of {len(found)} stores restored to {wanted.restored_root} in {time.perf_counter() - start:.1f} s"
    create_table_artifact(rows[:1000], key="h5z-restoration", description=head)
    get_run_logger().info("%s", head)
    if bad:
        raise ArchiveError(
            f"{len(bad)} of {len(found)} stores could not be restored; the first: {bad[0].target}: {bad[0].reason}"
        )
    return found
