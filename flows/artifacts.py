"""What people see of a run in Prefect: a progress bar, a table of files, a link to the report, and events for automations."""

from __future__ import annotations

import os
import posixpath
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from flows.progress import Progress
from flows.report import PAGE_NAME, ArchiveReport, FileRecord, printable

PROGRESS_KEY, FILES_KEY, REPORT_KEY = "h5z-progress", "h5z-files", "h5z-report"
MOST_ROWS = 1000  # of a table that people look at; the report has all
MOST_EVENTS = 100  # of files of one run; the run's own event counts all
_SECONDS = 3.0  # between two calls of Prefect's API, however many files end


class ProgressBar:
    """A progress artifact, brought up to date every few seconds; a listener of `flows.progress.Ledger`."""

    def __init__(self, description: str) -> None:
        self._artifact = cast(UUID, create_progress_artifact(0.0, key=PROGRESS_KEY, description=description))
        self._lock = threading.Lock()
        self._told = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Take note of how far the migration is."""
        done = progress.files_done == progress.files_total
        if not done and time.monotonic() - self._told < _SECONDS:
            return
        if self._lock.acquire(blocking=done):
            try:
                self._told = time.monotonic()
                files = f"{progress.files_done} of {progress.files_total} files"
                share = progress.nbytes_done / progress.nbytes_total if progress.nbytes_total else float(done)
                with suppress(Exception):  # Prefect's API is of no importance to a file
                    update_progress_artifact(self._artifact, round(100 * share, 1), description=files)
            finally:
                self._lock.release()


def show(report: ArchiveReport) -> None:
    """Publish the table of files and the link to the report, and emit the run's events."""
    head = str(report).partition("\n")[0]
    create_table_artifact(rows(report), key=FILES_KEY, description=f"{head}\n\nAll files are in `{report.path}`.")
    create_link_artifact(link(report.target_root), "The report of this migration", key=REPORT_KEY, description=head)
    archive = {"prefect.resource.id": f"h5z.archive.{report.target_root}", "prefect.resource.name": report.target_root}
    for record in report.quarantined[:MOST_EVENTS]:
        resource = {"prefect.resource.id": f"h5z.file.{record.source}", "prefect.resource.name": record.source}
        related = [{**archive, "prefect.resource.role": "archive"}]
        payload = {"target": record.target, "reason": record.reason}
        emit_event("h5z.file.quarantined", resource, related=related, payload=payload)
    counts = {key: value for key, value in report.to_dict().items() if key in ("counts", "nbytes", "seconds", "exit_code")}
    emit_event("h5z.migration.completed", archive, payload={**counts, "vanished": len(report.vanished)})


def link(target_root: str) -> str:
    """The address of a target root's report page."""
    page = posixpath.join(target_root, PAGE_NAME)
    return page if "://" in page else Path(os.path.abspath(page)).as_uri()


def rows(report: ArchiveReport, most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """The files as a table: what needs a look first, then what was converted, then the rest."""
    rank = {"quarantined": 0, "held": 2, "waiting": 2, "converted": 3, "unchanged": 4, "skipped": 5}
    ordered = sorted(report.files, key=lambda record: 1 if record.not_carried else rank[record.status])
    return [_row(record) for record in ordered[:most]]


def _row(record: FileRecord) -> dict[str, Any]:
    rate = record.nbytes / record.seconds / 2**20 if record.seconds else None
    return {
        "file": printable(record.source),
        "status": record.status,
        "bytes": record.nbytes,
        "stored": record.stored_nbytes,
        "ratio": round(record.nbytes / record.stored_nbytes, 2) if record.stored_nbytes else None,
        "MiB/s": None if rate is None else round(rate, 1),
        "reason": printable(record.reason or "; ".join(record.not_carried)),
    }
