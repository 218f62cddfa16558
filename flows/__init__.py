"""Prefect flows that migrate archives: `migrate` runs one from Python, `flows.archive` holds the flow to deploy.

Importing this package imports neither Prefect nor dask.
"""

from flows.launch import migrate
from flows.report import ArchiveError, ArchiveReport, FileRecord

__all__ = ["ArchiveError", "ArchiveReport", "FileRecord", "migrate"]
