"""What a run has to do: each target is asked how it stands to its source, so that what is done costs next to nothing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import h5z
from flows.batches import Job
from flows.conversion import Options, being_written, quarantine
from flows.discovery import SourceFile
from flows.report import ArchiveReport, FileRecord
from h5z.errors import H5zError

LEVELS = ("none", "structure", "sample", "full")
_REMOTE_AT_ONCE = 32


@dataclass(frozen=True)
class Sorted:
    """The files of a run that are to be migrated, and what became of the others already."""

    jobs: tuple[Job, ...]
    records: tuple[FileRecord, ...]


def sort_out(
    jobs: Sequence[Job],
    files: Iterable[SourceFile],
    options: Options,
    *,
    since: float | None = None,
    settle_seconds: float = 0.0,
    on_change: str = "redo",
) -> Sorted:
    """Tell what is to be migrated from what is done, what has changed, and what is still being written.

    A file costs one look at it and one at its target's root; none is opened as HDF5.

    Parameters
    ----------
    since : float, optional
        A file that was modified before, in seconds since 1970, is skipped without a look at its target.
    settle_seconds : float
        A file that was modified more recently is left for the next run.
    on_change : {"redo", "quarantine"}
        What becomes of a file whose target is of the file as it once was.
    """
    modified = {file.path: file.modified for file in files}
    now = time.time()

    def look(job: Job) -> Job | FileRecord:
        when = modified.get(job.source)
        if since is not None and when is not None and when < since:
            return FileRecord(job.source, job.target, "skipped", nbytes=job.nbytes)
        try:
            return _look(job, options, when is not None and when > now - settle_seconds, on_change)
        except (H5zError, OSError):
            return job  # its conversion will say what is wrong, or go better

    remote = any("://" in job.target for job in jobs[:1])
    if remote:
        with ThreadPoolExecutor(_REMOTE_AT_ONCE) as pool:
            found = list(pool.map(look, jobs))
    else:
        found = list(map(look, jobs))
    todo = tuple(item for item in found if isinstance(item, Job))
    return Sorted(todo, tuple(item for item in found if isinstance(item, FileRecord)))


def _look(job: Job, options: Options, recent: bool, on_change: str) -> Job | FileRecord:
    state = h5z.state(
        job.source,
        job.target,
        policy=options.policy_of(job.relative),
        identity=(job.nbytes, job.mtime_ns),
        storage_options=options.target_options,
    )
    if state.name == "current" and LEVELS.index(state.level or "none") >= LEVELS.index(options.verify):
        lacking = tuple(f"{problem.path}: {problem.reason}" for problem in state.not_carried)
        return FileRecord(job.source, job.target, "unchanged", nbytes=job.nbytes, not_carried=lacking)
    reason = being_written(job.source)
    if reason or recent:
        reason = reason or "it was modified moments ago"
        return FileRecord(job.source, job.target, "waiting", nbytes=job.nbytes, reason=reason)
    if state.name == "outdated":
        if on_change == "quarantine" and not options.overwrite:
            return quarantine(job, "it has changed since its target was made (on_change: redo replaces that)")
        return replace(job, outdated=True)
    return job


def vanished(last: ArchiveReport | None, files: Iterable[SourceFile], sources: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The sources that an earlier run migrated and that are gone, each with the target that is left of it.

    Parameters
    ----------
    last : ArchiveReport, optional
        The report that the last run left in the target root.
    sources : sequence of str
        What this run was given: of URLs, only those below these can be said to be gone.
    """
    if last is None:
        return ()
    listed = tuple(re.split(r"[*?\[]", source)[0].rstrip("/") for source in sources if "://" in source)
    found = {file.path for file in files}
    done = ("converted", "unchanged", "skipped")
    known = {**dict(last.vanished), **{record.source: record.target for record in last.files if record.status in done}}
    gone = ((source, target) for source, target in known.items() if source not in found)
    return tuple(sorted((source, target) for source, target in gone if _is_gone(source, target, listed)))


def _is_gone(source: str, target: str, listed: tuple[str, ...]) -> bool:
    if "://" in source:
        return source.startswith(listed)
    return not os.path.lexists(source) and ("://" in target or os.path.lexists(target))
