"""What became of each session of a run: records, their sum, and the JSON beside the stores."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

EVENTS_REPORT = "h5z-events-report.json"
STATUSES = ("published", "unchanged", "quarantined")


@dataclass(frozen=True)
class SessionRecord:
    """What became of one source file.

    Attributes
    ----------
    status : {"published", "unchanged", "quarantined"}
        Unchanged: its store held this same session already.
    counts : mapping of str to int
        Rows by entity.
    problems : int
        How many problems its rows have, that were kept and reported in the store.
    reason : str
        Why the session is in quarantine, on one line; empty otherwise.
    """

    source: str
    status: str
    session_id: str = ""
    target: str = ""
    processed_at: str = ""
    nbytes: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: int = 0
    seconds: float = 0.0
    attempts: int = 1
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON's own types, without what is empty."""
        return {key: value for key, value in asdict(self).items() if value not in ("", {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SessionRecord:
        """Build the record that `to_dict` described."""
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True)
class EventsReport:
    """What a run over many sessions did.

    Attributes
    ----------
    target : str
        Where the stores are, with ``{session_id}``.
    passed_over : tuple of str
        Files in the folders named as sources that are not HDF5.
    """

    target: str
    sessions: tuple[SessionRecord, ...]
    passed_over: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    flow_run: str = ""

    def count(self, status: str) -> int:
        """How many sessions have a status."""
        return sum(record.status == status for record in self.sessions)

    @property
    def quarantined(self) -> tuple[SessionRecord, ...]:
        """The sessions that were not published."""
        return tuple(record for record in self.sessions if record.status == "quarantined")

    @property
    def exit_code(self) -> int:
        """The exit status of a command: 5 with sessions in quarantine, 1 with problems reported, else 0."""
        if self.quarantined:
            return 5
        return 1 if any(record.problems for record in self.sessions) else 0

    @property
    def path(self) -> str:
        """Where the report goes: the folder that all stores are in."""
        folder = self.target.partition("{session_id}")[0].rpartition("/")[0]
        return f"{folder or ('/' if self.target.startswith('/') else '.')}/{EVENTS_REPORT}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types."""
        return {
            "target": self.target,
            "started": self.started,
            "seconds": self.seconds,
            "flow_run": self.flow_run,
            "counts": {status: self.count(status) for status in STATUSES},
            "exit_code": self.exit_code,
            "sessions": [record.to_dict() for record in self.sessions],
            "passed_over": list(self.passed_over),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EventsReport:
        """Build the report that `to_dict` described."""
        rest = {key: data[key] for key in ("target", "started", "seconds", "flow_run") if key in data}
        records = tuple(map(SessionRecord.from_dict, data["sessions"]))
        return cls(sessions=records, passed_over=tuple(data.get("passed_over", ())), **rest)

    def __str__(self) -> str:
        """The report in a few lines: the sum, each session that fell short, and where to look."""
        counts = ", ".join(f"{self.count(status)} {status}" for status in STATUSES if self.count(status))
        lines = [f"{counts or 'no sessions'} of {len(self.sessions)} in {self.seconds:.1f} s"]
        for record in self.sessions:
            if record.status == "quarantined":
                lines.append(f"quarantined: {record.source}: {record.reason.removeprefix(f'{record.source}: ')}")
            elif record.problems:
                lines.append(f"problems: {record.source}: {record.problems}, named in {record.target}")
        if self.passed_over:
            lines.append(f"passed over, not HDF5: {len(self.passed_over)} files")
        return "\n".join([*lines, f"report: {self.path}"])

    def write(self) -> str:
        """Write the report beside the stores, whole or not at all.

        Returns
        -------
        str
            Where it is.
        """
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        if "://" in self.path and not self.path.startswith("file://"):
            import fsspec

            with fsspec.open(self.path, "w") as file:
                file.write(text)
            return self.path
        place = Path(self.path.removeprefix("file://"))
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{uuid4().hex}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, place)
        return self.path


def read_events_report(where: str | os.PathLike[str]) -> EventsReport:
    """Read the report of a run by its path or URL."""
    import fsspec

    with fsspec.open(os.fspath(where), "r") as file:
        return EventsReport.from_dict(json.load(file))
