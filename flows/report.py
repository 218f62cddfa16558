"""What became of each file of an archive: records, their sum, and the JSON in the target root."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

REPORT_NAME = "h5z-report.json"
STATUSES = ("converted", "unchanged", "quarantined")


@dataclass(frozen=True)
class FileRecord:
    """What became of one source file.

    Attributes
    ----------
    status : {"converted", "unchanged", "quarantined"}
        Unchanged: the target already held this same migration.
    nbytes : int
        Size of the source file.
    stored_nbytes : int, optional
        Size of the target; None where it was not measured (unchanged, quarantined, not a local folder).
    reason : str
        Why the file is in quarantine, on one line; empty otherwise.
    not_carried, differences : tuple of str
        What the target lacks of the source, and where verification found another value, one line each.
    """

    source: str
    target: str
    status: str
    nbytes: int = 0
    stored_nbytes: int | None = None
    seconds: float = 0.0
    attempts: int = 1
    reason: str = ""
    not_carried: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the target holds all of the source."""
        return self.status != "quarantined" and not self.not_carried and not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON's own types, without what is empty."""
        kept = {key: value for key, value in asdict(self).items() if value not in (None, "", ())}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileRecord:
        """Build the record that `to_dict` described."""
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key in known}
        return cls(**values)


@dataclass(frozen=True)
class ArchiveReport:
    """What a migration of an archive did, file by file.

    Attributes
    ----------
    passed_over : tuple of str
        Files in the folders named as sources that are not HDF5 by name or signature.
    """

    target_root: str
    files: tuple[FileRecord, ...]
    verify: str = "none"
    policy: Mapping[str, Any] | None = None
    passed_over: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    batches: int = 0
    flow_run: str = ""

    def count(self, status: str) -> int:
        """How many files have a status."""
        return sum(record.status == status for record in self.files)

    @property
    def quarantined(self) -> tuple[FileRecord, ...]:
        """The files that were not migrated."""
        return tuple(record for record in self.files if record.status == "quarantined")

    @property
    def incomplete(self) -> tuple[FileRecord, ...]:
        """The files that were migrated, but not wholly or not truly."""
        return tuple(record for record in self.files if record.status != "quarantined" and not record.ok)

    @property
    def exit_code(self) -> int:
        """The exit status of the command line: 5 with files in quarantine, 1 with any incomplete, else 0."""
        if self.quarantined:
            return 5
        return 1 if self.incomplete else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the source files that were converted."""
        return sum(record.nbytes for record in self.files if record.status == "converted")

    @property
    def stored_nbytes(self) -> int:
        """Bytes that the converted files' targets take, where measured."""
        return sum(record.stored_nbytes or 0 for record in self.files)

    @property
    def path(self) -> str:
        """Where the report is written."""
        return posixpath.join(self.target_root, REPORT_NAME)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types, the counts and the exit code included."""
        return {
            "target_root": self.target_root,
            "started": self.started,
            "seconds": self.seconds,
            "verify": self.verify,
            "policy": dict(self.policy or {}),
            "flow_run": self.flow_run,
            "batches": self.batches,
            "counts": {status: self.count(status) for status in STATUSES},
            "nbytes": self.nbytes,
            "stored_nbytes": self.stored_nbytes,
            "exit_code": self.exit_code,
            "files": [record.to_dict() for record in self.files],
            "passed_over": list(self.passed_over),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchiveReport:
        """Build the report that `to_dict` described."""
        known = {item.name for item in fields(cls)} - {"files", "passed_over"}
        rest = {key: value for key, value in data.items() if key in known}
        records = tuple(map(FileRecord.from_dict, data["files"]))
        return cls(files=records, passed_over=tuple(data.get("passed_over", ())), **rest)

    def __str__(self) -> str:
        """The report in a few lines: the sum, each file that fell short, and where to look."""
        counts = ", ".join(f"{self.count(status)} {status}" for status in STATUSES if self.count(status))
        lines = [f"{counts or 'no files'} of {len(self.files)} in {self.seconds:.1f} s (verified: {self.verify})"]
        if self.count("unchanged") == len(self.files):
            lines[0] = f"nothing to do: all {len(self.files)} files are already migrated"
        for record in self.quarantined:
            lines.append(f"quarantined: {record.source}: {record.reason.removeprefix(f'{record.source}: ')}")
        for record in self.incomplete:
            lines += [f"not carried over: {record.source}: {line}" for line in record.not_carried]
            lines += [f"differs: {record.source}: {line}" for line in record.differences]
        if self.passed_over:
            lines.append(f"passed over, not HDF5: {len(self.passed_over)} files")
        return "\n".join([*lines, f"report: {self.path}"])

    def write(self) -> str:
        """Write the report into the target root, whole or not at all.

        Returns
        -------
        str
            Where it is.
        """
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        if "://" in self.target_root:
            import fsspec

            with fsspec.open(self.path, "w") as file:
                file.write(text)
            return self.path
        place = Path(self.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{uuid4().hex}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, place)
        return self.path


def read_report(target_root: str | os.PathLike[str]) -> ArchiveReport:
    """Read the report of a migration's last run."""
    text = (Path(target_root) / REPORT_NAME).read_text(encoding="utf-8")
    return ArchiveReport.from_dict(json.loads(text))
