"""Prefect flows that migrate archives: `migrate` runs one from Python, `flows.archive` holds the flow to deploy.

`publish` and `flows.events` are the same for the events of many sessions.

Importing this package imports neither Prefect nor dask.
"""

from flows.events_report import EventsReport, SessionRecord
from flows.launch import migrate
from flows.publishing import publish
from flows.report import ArchiveError, ArchiveReport, FileRecord

__all__ = ["ArchiveError", "ArchiveReport", "EventsReport", "FileRecord", "SessionRecord", "migrate", "publish"]
