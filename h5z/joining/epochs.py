"""Times of files that count them from different dates, or in different units: brought to the first file's, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np

from h5z.errors import PlanError, SourceError, one_line

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Shift:
    """A time *t* becomes ``(t * times + plus) / over``; `missing` values stay what they are."""

    times: int
    plus: int
    over: int
    missing: tuple[Any, ...] = ()

    def to_list(self) -> list[Any]:
        """Return the shift as JSON's own types."""
        return [self.times, self.plus, self.over, list(self.missing)]

    @classmethod
    def from_list(cls, data: list[Any]) -> Shift:
        """Build the shift that `to_list` described."""
        return cls(data[0], data[1], data[2], tuple(data[3]))


def between(units: str, wanted: str, calendar: str, *, missing: tuple[Any, ...] = ()) -> Shift:
    """What brings times in some units to others, of the same calendar.

    Raises
    ------
    PlanError
        If one of them is no ``<unit> since <date>``.

    Examples
    --------
    >>> between("days since 2001-01-01", "days since 2000-01-01", "standard")
    Shift(times=1, plus=366, over=1, missing=())
    >>> between("days since 2001-01-01", "hours since 2001-01-01", "noleap").times
    24
    """
    zero, one = (_date(units, calendar, n) for n in (0, 1))
    origin, step = (_date(wanted, calendar, n) for n in (0, 1))
    length, unit = ((b - a) // _MICROSECOND for a, b in ((zero, one), (origin, step)))
    if not length or not unit:
        raise PlanError(f"expected times in units of a microsecond at least, found {units!r} and {wanted!r}")
    factor, offset = Fraction(length, unit), Fraction((zero - origin) // _MICROSECOND, unit)
    over = np.lcm(factor.denominator, offset.denominator)
    return Shift(int(factor * int(over)), int(offset * int(over)), int(over), missing)


def _date(units: str, calendar: str, number: int) -> Any:
    """The date of a number of units."""
    import cftime  # type: ignore[import-untyped]

    try:
        return cftime.num2date(number, units, calendar=calendar, only_use_cftime_datetimes=True)
    except (ValueError, TypeError) as error:
        raise PlanError(f"expected times such as 'days since 2000-01-01', found {units!r} ({one_line(error)})") from None


def shifted(values: Any, shift: Shift, file: str) -> Any:
    """Times brought to other units, in the same dtype.

    Raises
    ------
    SourceError
        If integers do not come out as integers of that dtype.
    """
    values = np.asarray(values)
    missing = np.isin(values, np.asarray(shift.missing, values.dtype)) if shift.missing else np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        found = ((values.astype("f8") * shift.times + shift.plus) / shift.over).astype(values.dtype)
        return np.where(missing, values, found).astype(values.dtype)
    exact = [int(n) * shift.times + shift.plus for n in values[~missing].flat]
    limits = np.iinfo(values.dtype)
    wrong = next((n for n in exact if n % shift.over or not limits.min <= n // shift.over <= limits.max), None)
    if wrong is not None:
        raise SourceError(
            f"{file}: expected times that the first file's units hold as {values.dtype} too, found {Fraction(wrong, shift.over)}"
        )
    out = values.copy()
    out[~missing] = [n // shift.over for n in exact]
    return out
