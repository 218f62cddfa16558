"""Publish the events of one session: what a dask worker runs; and what became of each so far. No Prefect here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from flows.conversion import is_transient
from flows.events_report import SessionRecord
from h5z.errors import one_line
from h5z.events import Schema, SessionLayout, identify, publish_file


@dataclass(frozen=True)
class SessionJob:
    """One file to publish."""

    source: str
    nbytes: int


@dataclass(frozen=True)
class Settings:
    """What every session of a run has in common."""

    target: str
    layout: SessionLayout
    schema: Schema
    problems: str
    chunks: Any
    overwrite: bool
    verify: bool


def session_of(job: SessionJob, layout: SessionLayout) -> str | SessionRecord:
    """The id of the session that a file holds; a record in quarantine where it cannot be read.

    Raises
    ------
    TransientError, ConnectionError, TimeoutError
        If trying again may help.
    """
    try:
        return identify(job.source, layout)
    except Exception as error:
        if is_transient(error):
            raise
        return quarantined(job, one_line(error))


def publish_session(job: SessionJob, settings: Settings) -> SessionRecord:
    """Publish one file's session; in quarantine with the reason if that cannot be done.

    Raises
    ------
    TransientError, ConnectionError, TimeoutError
        If trying again may help.
    """
    start = time.perf_counter()
    try:
        found = publish_file(
            job.source,
            settings.target,
            settings.layout,
            settings.schema,
            problems=settings.problems,  # type: ignore[arg-type]
            overwrite=settings.overwrite,
            chunks=settings.chunks,
            verify=settings.verify,
        )
    except Exception as error:
        if is_transient(error):
            raise
        return quarantined(job, one_line(error))
    return SessionRecord(
        job.source,
        found["status"],
        session_id=found["session_id"],
        target=found["zarr_stores"]["events"],
        processed_at=found["processed_at"],
        nbytes=job.nbytes,
        counts={name: found[f"{name}_count"] for name in (entity.name for entity in settings.schema.entities)},
        problems=found["problem_count"],
        seconds=round(time.perf_counter() - start, 3),
    )


def quarantined(job: SessionJob, reason: str, session_id: str = "") -> SessionRecord:
    """Say why a session is left out."""
    return SessionRecord(job.source, "quarantined", session_id=session_id, nbytes=job.nbytes, reason=reason)


class SessionLedger:
    """What became of each session so far. Batches in several threads write it; a batch tried again reads it.

    Parameters
    ----------
    jobs : iterable of SessionJob
        All of the run.
    """

    def __init__(self, jobs: Iterable[SessionJob]) -> None:
        self._jobs = {job.source: job for job in jobs}
        self._records: dict[str, SessionRecord] = {}
        self._attempts: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()

    def left(self, jobs: Iterable[SessionJob]) -> list[SessionJob]:
        """The jobs that have no record yet."""
        with self._lock:
            return [job for job in jobs if job.source not in self._records]

    def begin(self, jobs: Iterable[SessionJob]) -> list[SessionJob]:
        """The jobs that have no record yet, each with one more attempt counted."""
        left = self.left(jobs)
        with self._lock:
            for job in left:
                self._attempts[job.source] = self._attempts.get(job.source, 0) + 1
        return left

    def add(self, record: SessionRecord) -> None:
        """Note what became of a session."""
        with self._lock:
            self._records[record.source] = replace(record, attempts=max(1, self._attempts.get(record.source, 1)))

    def fail(self, job: SessionJob, reason: str) -> None:
        """Note why a session could not be published this time."""
        with self._lock:
            self._errors[job.source] = reason

    def close(self) -> tuple[SessionRecord, ...]:
        """The records in the order of the jobs; a session without one is put in quarantine with its last error."""
        for source, job in self._jobs.items():
            if source not in self._records:
                tries = self._attempts.get(source, 0)
                reason = self._errors.get(source, "the run ended before its turn")
                self.add(quarantined(job, f"{reason} (given up after {tries} attempts)" if tries > 1 else reason))
        return tuple(self._records[source] for source in self._jobs)
