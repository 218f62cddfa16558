"""Which row has an id: duplicates, and rows by their ids; sorted arrays, no Python object a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from h5z.events.values import Array

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Identifiers:
    """The ids of an entity's rows.

    Parameters
    ----------
    values : ndarray of shape (rows,)
    missing : ndarray of bool
        Rows without an id: nothing leads to them.
    """

    values: Array
    missing: npt.NDArray[np.bool_]

    @cached_property
    def _order(self) -> Rows:
        present = np.flatnonzero(~self.missing)
        return present[np.argsort(self.values[present], kind="stable")]

    @cached_property
    def _sorted(self) -> Array:
        return self.values[self._order]

    def duplicates(self) -> Rows:
        """Rows whose id an earlier row has, in order.

        >>> Identifiers(np.array([3, 1, 3, 3]), np.zeros(4, bool)).duplicates()
        array([2, 3])
        """
        again = self._sorted[1:] == self._sorted[:-1]
        return np.sort(self._order[1:][again])

    def rows(self, wanted: Array) -> Rows:
        """The first row that has each id, -1 where none has.

        >>> Identifiers(np.array([3, 1, 3]), np.zeros(3, bool)).rows(np.array([1, 2, 3]))
        array([ 1, -1,  0])
        """
        out = np.full(len(wanted), -1, np.int64)
        if not len(wanted) or not len(self._order) or (wanted.dtype.kind == "T") != (self.values.dtype.kind == "T"):
            return out
        starts = np.flatnonzero(np.concatenate(([True], wanted[1:] != wanted[:-1])))  # rows of one container follow each other
        keys = wanted[starts]
        place = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        found = np.where(self._sorted[place] == keys, self._order[place], -1)
        return np.repeat(found, np.diff(np.append(starts, len(wanted))))
