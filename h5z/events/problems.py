"""What is wrong with rows: an error that names entity, id and attribute, or lines that are kept beside the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from h5z.errors import PlanError, RecordError

OnProblem: TypeAlias = Literal["error", "report"]
MOST_LINES = 100  # kept of a session; all are counted
_EACH = 10  # of one kind, in one attribute


class Problems:
    """The problems of one session.

    Parameters
    ----------
    session : str
        Its id, for messages.
    policy : {"error", "report"}
        Whether the first problem is raised, or all are kept and reported.
    source : str
        Where its rows come from, for messages.
    """

    def __init__(self, session: str, policy: OnProblem, source: str = "") -> None:
        if policy not in get_args(OnProblem):
            raise PlanError(f"problems: expected one of {', '.join(get_args(OnProblem))}, found {policy!r}")
        self.where = f"{source}: session {session}" if source else f"session {session}"
        self.policy = policy
        self.count = 0
        self.lines: list[str] = []
        self._kinds: dict[tuple[str, str, str], int] = {}

    def rows(
        self,
        entity: str,
        attribute: str,
        rows: npt.NDArray[np.int64],
        expected: str,
        found: Callable[[int], str],
        label: Callable[[int], str],
    ) -> None:
        """Note rows in which an attribute is not what was expected.

        Parameters
        ----------
        rows : ndarray of int
            Their numbers; nothing is noted if there are none.
        found, label : callable
            What was found in a row, and the row's id, both as text.

        Raises
        ------
        RecordError
            By policy, naming the first and how many more there are.
        """
        if not len(rows):
            return
        name = f": {attribute}" if attribute else ""
        lines = [f"{entity} {label(row)}{name}: expected {expected}, found {found(row)}" for row in map(int, rows[:_EACH])]
        self._note(entity, attribute, expected, lines, len(rows))

    def column(self, entity: str, attribute: str, expected: str, found: str, count: int) -> None:
        """Note what is wrong with a whole column, in each of its rows."""
        self._note(entity, attribute, expected, [f"{entity}: {attribute}: expected {expected}, found {found}"], count)

    def _note(self, entity: str, attribute: str, expected: str, lines: list[str], count: int) -> None:
        if self.policy == "error":
            more = f" (and {count - 1} more)" if count > 1 else ""
            raise RecordError(f"{self.where}: {lines[0]}{more}")
        self.count += count
        kind = (entity, attribute, expected)
        before = self._kinds.get(kind, 0)
        self._kinds[kind] = before + count
        room = max(0, min(_EACH - before, MOST_LINES - len(self.lines)))
        self.lines += lines[:room]

    def summary(self) -> list[str]:
        """The lines kept, and how many more there are of each kind."""
        out = list(self.lines)
        for (entity, attribute, expected), count in self._kinds.items():
            if count > _EACH:
                out.append(f"{entity}: {attribute}: expected {expected}: {count} in all")
        return out

    def to_attributes(self) -> dict[str, Any]:
        """The problems as a Dataset carries them."""
        if self.policy == "error":
            return {}
        return {"problem_count": self.count, "problems": self.summary()}
