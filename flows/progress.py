"""How far a migration is: a ledger of records in the flow's process, and who wants to be told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeAlias

from flows.batches import Job
from flows.report import FileRecord


@dataclass(frozen=True)
class Progress:
    """How far a migration is.

    Attributes
    ----------
    nbytes_done, nbytes_total : int
        Bytes of source files.
    record : FileRecord, optional
        The file that has just ended; None while a large file is on its way.
    """

    files_done: int
    files_total: int
    nbytes_done: int
    nbytes_total: int
    record: FileRecord | None = None


Listener: TypeAlias = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("flows_progress_listener", default=None)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Tell a listener of every migration that starts in this context: a callable is no parameter of a flow run."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Ledger:
    """What became of each job so far. Batches in several threads write it; a batch tried again reads it.

    Parameters
    ----------
    jobs : iterable of Job
        All files of the migration.
    records : iterable of FileRecord
        What became of some of them before any was converted.
    stop_at_error : bool
        Whether the first file in quarantine ends the run: no further one is begun.
    listener : callable, optional
        Told of progress, besides whoever listens in this context.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        records: Iterable[FileRecord] = (),
        *,
        stop_at_error: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self._jobs = {job.source: job for job in jobs}
        self._records: dict[str, FileRecord] = {}
        self._attempts: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._underway: dict[str, int] = {}
        self._lock = threading.Lock()
        self._listeners = [told for told in (_listener.get(), listener) if told is not None]
        self._total = sum(job.nbytes for job in self._jobs.values())
        self._done = 0
        self._start = time.perf_counter()
        self._stop_at_error = stop_at_error
        self.stopped = False
        for record in records:
            self._note(record)
        if self._records:
            self._tell(None)

    def pending(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that have no record yet, each with one more attempt counted."""
        with self._lock:
            left = [job for job in jobs if job.source not in self._records]
            for job in left:
                self._attempts[job.source] = self._attempts.get(job.source, 0) + 1
        return left

    def add(self, record: FileRecord) -> None:
        """Note what became of a file."""
        with self._lock:
            attempts, ended = self._attempts.get(record.source, 1), round(time.perf_counter() - self._start, 3)
            self._note(replace(record, attempts=attempts, ended=ended))
            self.stopped = self.stopped or (self._stop_at_error and record.status == "quarantined")
        self._tell(record)

    def _note(self, record: FileRecord) -> None:
        self._records[record.source] = record
        self._underway.pop(record.source, None)
        self._done += self._jobs[record.source].nbytes

    def fail(self, job: Job, reason: str) -> None:
        """Note why a file could not be migrated this time."""
        with self._lock:
            self._errors[job.source] = reason
            self._underway.pop(job.source, None)

    def advance(self, job: Job, done: int, total: int) -> None:
        """Note how far one large file is, in any unit."""
        with self._lock:
            self._underway[job.source] = job.nbytes * done // max(total, 1)
        self._tell(None)

    def close(self) -> tuple[FileRecord, ...]:
        """The records in the order of the jobs; a file without one is put in quarantine with its last error.

        Of a run that was stopped, what had no turn is left for the next.
        """
        for job in self.pending(self._jobs.values()):
            if self.stopped and job.source not in self._errors:
                self.add(FileRecord(job.source, job.target, "waiting", nbytes=job.nbytes, reason="the run was stopped"))
                continue
            tries = self._attempts[job.source] - 1
            reason = self._errors.get(job.source, "the run ended before its turn")
            text = f"{reason} (given up after {tries} attempts)" if tries > 1 else reason
            self._attempts[job.source] = tries
            self.add(FileRecord(job.source, job.target, "quarantined", nbytes=job.nbytes, reason=text))
        return tuple(self._records[source] for source in self._jobs)

    def _tell(self, record: FileRecord | None) -> None:
        if self._listeners:
            with self._lock:
                done = self._done + sum(self._underway.values())
                files = len(self._records)
            for told in self._listeners:
                told(Progress(files, len(self._jobs), done, self._total, record))
