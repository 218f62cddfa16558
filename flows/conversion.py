"""Migrate one file: what a dask worker runs. It needs h5z and this package there, and no Prefect."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import h5z
from flows.batches import Job
from flows.report import FileRecord
from h5z import errors
from h5z.errors import H5zError, TransientError, one_line

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

_HELD: tuple[type[BaseException], ...] = tuple(filter(None, [getattr(errors, "TargetHeldError", None)]))
_SUPERBLOCK_3 = b"\x89HDF\r\n\x1a\n\x03"
_OPEN_FOR_WRITING = 1  # in the superblock's consistency flags (HDF5 file format specification 4.0, II.A)


@dataclass(frozen=True)
class Options:
    """What the files of a migration have in common.

    Attributes
    ----------
    policies : tuple of (pattern, fields)
        Fields of `h5z.Policy` for the files that a pattern matches, over those of `policy`; the first that matches counts.
    source_options, target_options : dict, optional
        What fsspec takes to reach sources and targets by URL; never shown.
    """

    policy: Mapping[str, Any] = field(default_factory=dict)
    verify: str = "none"
    overwrite: bool = False
    scan_timeout: float | None = None
    policies: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    source_options: dict[str, Any] | None = field(default=None, repr=False)
    target_options: dict[str, Any] | None = field(default=None, repr=False)

    def policy_of(self, relative: str) -> h5z.Policy:
        """The policy of a file. What it says of arrays that this file lacks is no error: files of an archive differ.

        >>> options = Options({"chunks": "source"}, policies=(("raw/*", {"chunks": (5, 5)}),))
        >>> options.policy_of("raw/2019/a.h5").chunks, options.policy_of("a.h5").chunks
        ((5, 5), 'source')
        """
        own = next((fields for pattern, fields in self.policies if matches(pattern, relative)), {})
        return h5z.Policy.from_dict({"unmatched": "report", **self.policy, **own})


def matches(pattern: str, relative: str) -> bool:
    """Whether a pattern with ``*``, ``?`` and ``[…]`` names a file by its path below its source, or by its name alone.

    >>> matches("2019/*", "2019/a/b.h5"), matches("*.nc", "2019/a.nc"), matches("a*", "2019/a.nc"), matches("a*", "b/c.nc")
    (True, True, True, False)
    """
    name = relative.rpartition("/")[2]
    return fnmatchcase(relative, pattern) or ("/" not in pattern and fnmatchcase(name, pattern))


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
        Convert in a child process, so that a file on which libhdf5 crashes or hangs costs no worker.

    Returns
    -------
    FileRecord
        ``held`` or ``waiting`` where another run or a writer has it; in quarantine with the reason if the file cannot be
        migrated.

    Raises
    ------
    TransientError, ConnectionError, TimeoutError
        If trying again may help.
    """
    try:
        report = h5z.convert(
            job.source,
            job.target,
            policy=options.policy_of(job.relative),
            verify=None if options.verify == "none" else cast(Literal["structure", "sample", "full"], options.verify),
            overwrite=options.overwrite or job.outdated,
            patient=True,  # it may be held by a worker that died on another machine
            isolated=isolated,
            timeout=options.scan_timeout if isolated else None,
            scheduler=scheduler,
            workers=workers,
            progress=progress or False,
            source_options=options.source_options,
            storage_options=options.target_options,
        )
    except Exception as error:
        if is_transient(error):
            raise
        return _why_not(job, error)
    if _changed(job):
        return _left(job, "waiting", "it changed while it was migrated; the next run migrates it anew")
    return _record(job, report)


def being_written(path: str) -> str:
    """Say how a local file shows that a writer has it open; empty where it does not."""
    if "://" in path or not os.path.isfile(path):  # a pipe without a writer would keep its reader waiting
        return ""
    try:
        with open(path, "rb") as file:
            if file.read(12)[:9] == _SUPERBLOCK_3 and (file.seek(11), file.read(1)[0])[1] & _OPEN_FOR_WRITING:
                return "it is marked as open for writing (h5clear -s takes the mark of a writer that died away)"
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "a writer holds a lock on it"
    except (OSError, IndexError):
        return ""  # its conversion will say what is wrong with it
    return ""


def quarantine(job: Job, error: BaseException | str) -> FileRecord:
    """Say why a file is left out."""
    return _left(job, "quarantined", error if isinstance(error, str) else one_line(error))


def _why_not(job: Job, error: Exception) -> FileRecord:
    """Tell a file that cannot be migrated from one that cannot be migrated now."""
    if isinstance(error, _HELD):
        return _left(job, "held", one_line(error))
    writer = being_written(job.source)
    if writer or _changed(job):
        return _left(job, "waiting", writer or "it changed while it was migrated")
    return quarantine(job, error)


def _left(job: Job, status: str, reason: str) -> FileRecord:
    return FileRecord(job.source, job.target, status, nbytes=job.nbytes, reason=reason)


def _changed(job: Job) -> bool:
    """Whether a local file is another than was found."""
    if "://" in job.source or not job.mtime_ns:
        return False
    try:
        stat = os.stat(job.source)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) != (job.nbytes, job.mtime_ns)


def _record(job: Job, report: h5z.Report) -> FileRecord:
    if report.differences:  # what was begun does not open; what was finished is damaged
        more = f" (and {len(report.differences) - 1} more)" if len(report.differences) > 1 else ""
        return _left(job, "quarantined", f"its target differs: {report.differences[0]}{more}")
    unchanged = report.status == "unchanged"
    return FileRecord(
        job.source,
        job.target,
        "unchanged" if unchanged else "converted",
        nbytes=job.nbytes,
        stored_nbytes=None if unchanged else (_folder_nbytes(job.target) or report.stored_nbytes or None),
        seconds=round(report.seconds, 3),
        not_carried=tuple(f"{problem.path}: {problem.reason}" for problem in report.not_carried),
        notes=tuple(report.notes),
        routes=dict(report.routes),
        replaced=job.outdated and not unchanged,
    )


def _folder_nbytes(target: str) -> int:
    """Bytes of a local target's files; 0 for a URL."""
    folders, total = [] if "://" in target else [target], 0
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
