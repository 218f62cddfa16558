"""What was done to a shard store, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h5z.nodes import Record
from h5z.report import Summary, size


@dataclass(frozen=True)
class Problem(Record):
    """Something wrong with a store: a file, the chunk in it if it is one chunk's, and what is wrong."""

    path: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.key + ': ' if self.key else ''}{self.reason}"


@dataclass(frozen=True)
class ShardReport(Summary):
    """What was done to a store.

    Attributes
    ----------
    action : str
        ``consolidated``, ``unconsolidated``, ``exported`` or ``checked``.
    containers, chunks, nbytes : int
        Containers (or shards) concerned; chunks moved, copied or checked; and their bytes.
    """

    action: str
    store: str
    arrays: int = 0
    containers: int = 0
    chunks: int = 0
    nbytes: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types, `problems` also where there are none."""
        return {"problems": [], **super().to_dict()}

    def __str__(self) -> str:
        what = "shards" if self.action == "exported" else "containers"
        amount = f"{self.chunks} chunks, {size(self.nbytes)}, in {self.containers} {what} of {self.arrays} arrays"
        return "\n".join([f"{self.action} {self.store}: {amount}", *map(str, self.problems)])
