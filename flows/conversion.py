"""Migrate one file: what a dask worker runs. It needs h5z and this package there, and no Prefect."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import h5z
from flows.batches import Job
from flows.report import FileRecord
from h5z.errors import H5zError, TransientError, one_line


@dataclass(frozen=True)
class Options:
    """What every file of a migration has in common."""

    policy: dict[str, Any]
    verify: str
    overwrite: bool
    scan_timeout: float | None


def is_transient(error: BaseException | None) -> bool:
    """Whether trying again may help: a store, the network or a worker failed, not the file."""
    if isinstance(error, H5zError):
        return isinstance(error, TransientError)
    return isinstance(error, ConnectionError | TimeoutError)


def convert_file(
    job: Job,
    options: Options,
    *,
    isolated: bool = False,
    scheduler: Any = "sync",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> FileRecord:
    """Plan, convert, verify and finalize one file.

    Parameters
    ----------
    scheduler : "sync" or distributed.Client
        A small file is one task of a worker and runs there as it stands; a large one is a graph on the cluster.
    isolated : bool
        Scan in a process of its own.

    Returns
    -------
    FileRecord
        In quarantine with the reason if the file cannot be migrated.

    Raises
    ------
    TransientError, ConnectionError, TimeoutError
        If trying again may help.
    """
    try:
        report = h5z.convert(
            job.source,
            job.target,
            policy=h5z.Policy.from_dict(options.policy),
            verify=None if options.verify == "none" else cast(Literal["structure", "sample", "full"], options.verify),
            overwrite=options.overwrite,
            patient=True,  # it may be held by a worker that died on another machine
            isolated=isolated,
            timeout=options.scan_timeout if isolated else None,
            scheduler=scheduler,
            workers=workers,
            progress=progress or False,
        )
    except Exception as error:
        if is_transient(error):
            raise
        return quarantine(job, error)
    return _record(job, report)


def quarantine(job: Job, error: BaseException | str) -> FileRecord:
    """Say why a file is left out."""
    reason = error if isinstance(error, str) else one_line(error)
    return FileRecord(job.source, job.target, "quarantined", nbytes=job.nbytes, reason=reason)


def _record(job: Job, report: h5z.Report) -> FileRecord:
    unchanged = report.status == "unchanged"
    return FileRecord(
        job.source,
        job.target,
        "unchanged" if unchanged else "converted",
        nbytes=job.nbytes,
        stored_nbytes=None if unchanged else _stored_nbytes(job.target),
        seconds=round(report.seconds, 3),
        not_carried=tuple(f"{problem.path}: {problem.reason}" for problem in report.not_carried),
        differences=tuple(map(str, report.differences)),
        notes=tuple(report.notes),
    )


def _stored_nbytes(target: str) -> int | None:
    """Bytes of a local target's files."""
    if "://" in target:
        return None
    folders, total = [target], 0
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
