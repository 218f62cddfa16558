"""What became of each file of an archive: records, their sum, and the JSON in the target root."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from h5z.errors import H5zError

REPORT_NAME = "h5z-report.json"
PAGE_NAME = "h5z-report.html"
STATUSES = ("converted", "unchanged", "skipped", "waiting", "held", "quarantined")


class ArchiveError(H5zError):
    """Files are in quarantine, and the migration was asked to fail for that; the report names each."""

    exit_code = 5


@dataclass(frozen=True)
class FileRecord:
    """What became of one source file.

    Attributes
    ----------
    status : str
        ``converted``; ``unchanged``: the target already held this same migration; ``skipped``: older than was asked for;
        ``waiting``: still being written, left for the next run; ``held``: another run has the target; ``quarantined``.
    nbytes : int
        Size of the source file.
    stored_nbytes : int, optional
        Size of the target; None where it was not measured (unchanged, quarantined, not a local folder).
    reason : str
        Why the file is in quarantine, waiting or held, on one line; empty otherwise.
    not_carried : tuple of str
        What the target lacks of the source, one line each.
    routes : mapping
        Decoded bytes by the route that they took.
    replaced : bool
        Whether the source had changed, and its target was replaced.
    ended : float
        Seconds from the run's start to the file's end.
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
    notes: tuple[str, ...] = ()
    routes: Mapping[str, int] = field(default_factory=dict)
    replaced: bool = False
    ended: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the target holds all of the source."""
        return self.status in ("converted", "unchanged") and not self.not_carried

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON's own types, without what is empty."""
        kept = {key: value for key, value in asdict(self).items() if value not in (None, "", (), {}, 0.0, False)}
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
    vanished : tuple of (str, str)
        Sources that an earlier run migrated and that are gone, each with its target, which is left as it is.
    """

    target_root: str
    files: tuple[FileRecord, ...]
    verify: str = "none"
    policy: Mapping[str, Any] | None = None
    passed_over: tuple[str, ...] = ()
    vanished: tuple[tuple[str, str], ...] = ()
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
        """The files that were migrated, but not wholly."""
        return tuple(record for record in self.files if record.not_carried)

    @property
    def left(self) -> tuple[FileRecord, ...]:
        """The files that are left for the next run: still being written, or held by another run."""
        return tuple(record for record in self.files if record.status in ("waiting", "held"))

    @property
    def exit_code(self) -> int:
        """The exit status of the command line: 5 with files in quarantine, 1 with any incomplete, else 0."""
        if self.quarantined:
            return 5
        return 1 if self.incomplete else 0

    @property
    def notes_of_all(self) -> tuple[str, ...]:
        """What is noted of every file that was converted: a path pattern that fits none of them, for one."""
        converted = [record.notes for record in self.files if record.status == "converted"]
        return tuple(note for note in (converted or [()])[0] if all(note in notes for notes in converted))

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
            "vanished": [list(pair) for pair in self.vanished],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchiveReport:
        """Build the report that `to_dict` described."""
        known = {item.name for item in fields(cls)} - {"files", "passed_over", "vanished"}
        rest = {key: value for key, value in data.items() if key in known}
        records = tuple(map(FileRecord.from_dict, data["files"]))
        vanished = tuple((source, target) for source, target in data.get("vanished", ()))
        return cls(files=records, passed_over=tuple(data.get("passed_over", ())), vanished=vanished, **rest)

    def __str__(self) -> str:
        """The report in a few lines: the sum, each file that fell short, and where to look."""
        counts = ", ".join(f"{self.count(status)} {status}" for status in STATUSES if self.count(status))
        lines = [f"{counts or 'no files'} of {len(self.files)} in {self.seconds:.1f} s (verified: {self.verify})"]
        if self.count("unchanged") == len(self.files):
            lines[0] = f"nothing to do: all {len(self.files)} files are already migrated"
        for record in self.quarantined:
            lines.append(f"quarantined: {record.source}: {record.reason.removeprefix(f'{record.source}: ')}")
        for record in self.left:
            lines.append(f"left for the next run: {record.source}: {record.reason.removeprefix(f'{record.source}: ')}")
        for record in self.incomplete:
            lines += [f"not carried over: {record.source}: {line}" for line in record.not_carried]
        lines += [f"noted of all: {note}" for note in self.notes_of_all]
        lines += [f"vanished: {source}, migrated to {target}" for source, target in self.vanished]
        if self.passed_over:
            lines.append(f"passed over, not HDF5: {len(self.passed_over)} files")
        return "\n".join([*lines, f"report: {self.path}"])

    def write(self, page: str = "", storage_options: dict[str, Any] | None = None) -> str:
        """Write the report into the target root, as JSON and, where it is given, as a page; each whole or not at all.

        Returns
        -------
        str
            Where the JSON is.
        """
        write_text(self.path, json.dumps(self.to_dict(), indent=1) + "\n", storage_options)
        if page:
            write_text(posixpath.join(self.target_root, PAGE_NAME), page, storage_options)
        return self.path


def printable(text: str) -> str:
    r"""Text as people can read it, whatever bytes the name of a file is of.

    >>> print(printable("a\u202eb\udcff ä"))
    a\u202eb\udcff ä
    """
    return "".join(c if c.isprintable() else c.encode("ascii", "backslashreplace").decode() for c in text)


def write_text(path: str, text: str, storage_options: dict[str, Any] | None = None) -> None:
    """Write a text to a path or URL, whole or not at all."""
    if "://" in path:
        import fsspec

        with fsspec.open(path, "w", encoding="utf-8", **(storage_options or {})) as file:
            file.write(text)
        return
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{uuid4().hex}")
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(draft, place)


def read_report(target_root: str | os.PathLike[str], storage_options: dict[str, Any] | None = None) -> ArchiveReport:
    """Read the report of a migration's last run.

    Raises
    ------
    OSError, ValueError
        If there is none, or none that can be read.
    """
    import fsspec

    path = posixpath.join(os.fspath(target_root), REPORT_NAME)
    with fsspec.open(path, "r", encoding="utf-8", **(storage_options or {})) as file:
        return ArchiveReport.from_dict(json.load(file))
