"""Report: what was done and what fell short, as JSON and as text; tables."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from h5z.nodes import Problem, Record


@dataclass(frozen=True)
class Difference(Record):
    """One thing in which a target differs from its source."""

    path: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        """The difference on one line."""
        return f"{self.path}: {self.what}: expected {self.expected}, found {self.found}"


class Summary(Record, ABC):
    """What a call did, and whether that is all of it; the report of a migration, of a shard store or of a vault."""

    @property
    @abstractmethod
    def ok(self) -> bool:
        """Whether nothing fell short."""

    @property
    def exit_code(self) -> int:
        """The exit status of the command line: 0 done and true, 1 something fell short."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types, `ok` included."""
        return {**super().to_dict(), "ok": self.ok}


@dataclass(frozen=True)
class Report(Summary):
    """What a call did.

    Attributes
    ----------
    status : str
        ``converted``, ``unchanged`` (this same migration was already complete), ``verified``, ``repaired``,
        ``restored`` or ``differs``.
    nbytes, source_nbytes, stored_nbytes : int
        Bytes of all arrays decoded; of the source file; of the write units that this run stored.
    not_carried : tuple of Problem
        What of the source is not in the target, each named.
    differences : tuple of Difference
        What verification found; the first of each array.
    routes : mapping
        Decoded bytes by the route that they took.
    level : str
        The level at which the target was verified; empty where it was not.
    """

    source: str
    target: str
    status: str
    arrays: int = 0
    groups: int = 0
    nbytes: int = 0
    source_nbytes: int = 0
    stored_nbytes: int = 0
    units: int = 0
    seconds: float = 0.0
    not_carried: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    level: str = ""
    checked_nbytes: int = 0
    routes: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the target holds all of the source."""
        return not self.not_carried and not self.differences

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Build the report that `to_dict` described."""
        rest = {key: value for key, value in data.items() if key != "ok"}
        problems = tuple(map(Problem.from_dict, data.get("not_carried", ())))
        differences = tuple(Difference(**item) for item in data.get("differences", ()))
        return cls(**{**rest, "not_carried": problems, "differences": differences, "notes": tuple(data.get("notes", ()))})

    def __str__(self) -> str:
        """The report in a few lines."""
        against = self.source or "its own digests"
        amount = f"{self.arrays} arrays, {size(self.nbytes)}"
        head = {
            "converted": f"converted {self.source} -> {self.target}: {amount} in {self.seconds:.1f} s",
            "restored": f"restored {self.source} -> {self.target}: {amount} in {self.seconds:.1f} s",
            "unchanged": f"{self.target} already holds this migration of {self.source}: nothing to do",
            "verified": f"verified {self.target} against {against}: {amount}",
            "repaired": f"repaired {self.target} from {self.source}: {amount}",
            "differs": f"{self.target} differs from {against}",
        }.get(self.status, self.status)
        lines = [head + (f"; verified ({self.level})" if self.level and self.status in ("converted", "restored") else "")]
        left = "not restored" if self.status == "restored" else "not carried over"
        lines += [f"{left}: {problem.path}: {problem.reason}" for problem in self.not_carried]
        lines += [f"differs: {difference}" for difference in self.differences]
        return "\n".join([*lines, *self.notes])


def size(nbytes: int) -> str:
    """A size for people.

    >>> size(512), size(3 << 20)
    ('512 B', '3.0 MiB')
    """
    amount, unit = float(nbytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024 or unit == "PiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def table_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows, the first of them the head, in columns.

    >>> print(table_text([("a", "size"), ("/x", "4 B")]))
    a   size
    /x  4 B
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def table_html(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows, the first of them the head, as an HTML table."""
    head, *body = (tuple(map(html.escape, row)) for row in rows)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    columns = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
