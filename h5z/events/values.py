"""Columns of anything -> one typed array and a mask: a value is taken where its type holds it exactly, or it is named.

None, masked, NaN, NaT and pandas' NA are missing. Text is never taken for a number, nor a number for text; integers are taken
for floats and whole floats for integers where they are held exactly, 0 and 1 for bool. Fixed-length bytes are UTF-8.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from h5z.events.schema import ANY_ID, FLOATS, INTEGERS, TIME

Array = npt.NDArray[Any]
TEXT = np.dtypes.StringDType()
_EXACT = 1 << 53  # integers up to here are held by float64; by float32 up to 2**24
_SHOWN = 60


@dataclass(frozen=True)
class Typed:
    """A column as one type.

    Attributes
    ----------
    values : ndarray of shape (rows,)
        Where there is no value: 0, the empty text, False, NaN or NaT.
    missing : ndarray of bool
        Where there is none.
    wrong : ndarray of int
        Rows whose value is not of the type; missing too.
    """

    values: Array
    missing: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.int64]


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype of a schema's.

    >>> numpy_dtype("string"), numpy_dtype("int32")
    (StringDType(), dtype('int32'))
    """
    return TEXT if dtype == "string" else np.dtype(dtype)


def nothing(dtype: str) -> Any:
    """What stands where a value is missing."""
    if dtype == "string":
        return ""
    return np.nan if dtype in FLOATS else np.datetime64("NaT") if dtype == TIME else 0


def one_dimensional(column: Any) -> Array | None:
    """A column as an array of rank 1, masked where it was; None for what has another rank.

    >>> one_dimensional([[1, 2], [3, 4]]) is None
    True
    """
    if isinstance(column, np.ndarray):
        return column if column.ndim == 1 else None
    if hasattr(column, "to_numpy"):  # a pandas Series, an xarray DataArray
        return one_dimensional(np.asarray(column.to_numpy()))
    items = list(column)
    if any(isinstance(item, np.ndarray | list | tuple) for item in items):
        return None
    out = np.empty(len(items), object)
    out[:] = items
    return out


def guess_id(column: Array) -> str | None:
    """Whether a column of ids is of text or of int64; None where it has no value to tell by."""
    kind = column.dtype.kind
    if kind == "O":
        found = next((item for item in column.tolist() if not is_missing(item)), None)
        if found is None:
            return None
        return "int64" if isinstance(found, int | np.integer) and not isinstance(found, bool) else "string"
    return "int64" if kind in "iu" else "string"


def is_missing(value: Any) -> bool:
    """Whether a Python object stands for no value.

    >>> [is_missing(item) for item in (None, float("nan"), "None", 0, "")]
    [True, True, False, False, False]
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, float | np.floating | np.datetime64) and bool(value != value)


def typed(column: Array, dtype: str) -> Typed:
    """Bring a column to a schema's type.

    Parameters
    ----------
    column : ndarray of shape (rows,)
        Of any dtype; masked where there is no value.
    dtype : str
        One of `h5z.events.schema.DTYPES`.

    Examples
    --------
    >>> found = typed(np.array([1, None, "2"], object), "int32")
    >>> found.values, found.missing, found.wrong
    (array([1, 0, 0], dtype=int32), array([False,  True,  True]), array([2]))
    """
    masked = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    plain = np.asarray(column.data if masked is not None else column)
    plain = _unboxed(plain) if plain.dtype.kind == "O" else plain
    values, missing, wrong = (_vector if plain.dtype.kind != "O" else _objects)(plain, dtype)
    if masked is not None and masked.any():
        missing, wrong = missing | masked, wrong & ~masked
    missing = missing | wrong
    if missing.any():
        values = values if values.flags.writeable else values.copy()
        values[missing] = nothing(dtype)
    return Typed(values, missing, np.flatnonzero(wrong))


def _unboxed(objects: Array) -> Array:
    """Objects that are all of one simple Python type (or None, among floats) as an array of that type; bytes as text."""
    kinds = set(map(type, objects.tolist()))
    if kinds and kinds <= {float, type(None)}:
        return objects.astype(np.float64)
    if kinds == {bool}:
        return objects.astype(np.bool_)
    if kinds == {int}:
        try:
            return objects.astype(np.int64)
        except OverflowError:
            return objects
    if kinds in ({str}, {bytes}):
        items = objects.tolist()
        try:
            return np.array(list(map(bytes.decode, items)) if kinds == {bytes} else items, TEXT)
        except UnicodeError:  # not UTF-8, or a lone surrogate
            return objects
    return objects


Parts = tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def _vector(plain: Array, dtype: str) -> Parts:
    """Values, what is missing and what is wrong of an array of a simple dtype."""
    if dtype == "string":
        return _text(plain)
    if dtype == "bool":
        return _bools(plain)
    if dtype in INTEGERS:
        return _integers(plain, np.dtype(dtype))
    return _floats(plain, np.dtype(dtype)) if dtype in FLOATS else _times(plain)


def _all_wrong(plain: Array, dtype: Any) -> Parts:
    missing = plain != plain if plain.dtype.kind in "fcmM" else np.zeros(len(plain), bool)
    return np.zeros(len(plain), dtype), missing, ~missing


def _none(n: int) -> npt.NDArray[np.bool_]:
    return np.zeros(n, bool)


def _text(plain: Array) -> Parts:
    n = len(plain)
    if plain.dtype.kind == "T" and not hasattr(plain.dtype, "na_object"):
        return plain.astype(TEXT), _none(n), _none(n)
    if plain.dtype.kind == "U":
        try:
            return plain.astype(TEXT), _none(n), _none(n)
        except UnicodeEncodeError:
            return _objects(plain.astype(object), "string")
    if plain.dtype.kind in "ST":
        return _objects(plain.astype(object), "string")
    return _all_wrong(plain, TEXT)


def _bools(plain: Array) -> Parts:
    n = len(plain)
    if plain.dtype.kind == "b":
        return plain.copy(), _none(n), _none(n)  # not a view that keeps a whole table's batch
    if plain.dtype.kind in "iuf":
        missing = plain != plain
        return plain == 1, missing, (plain != 0) & (plain != 1) & ~missing
    return _all_wrong(plain, bool)


def _integers(plain: Array, dtype: np.dtype[Any]) -> Parts:
    n, limits = len(plain), np.iinfo(dtype)
    if plain.dtype.kind in "iu":
        if np.can_cast(plain.dtype, dtype):
            return plain.astype(dtype), _none(n), _none(n)
        wrong = (plain < limits.min) | (plain > limits.max)
        return np.where(wrong, 0, plain).astype(dtype), _none(n), wrong
    if plain.dtype.kind == "f":
        plain = plain.astype(np.float64) if plain.dtype.itemsize < 8 else plain
        missing = np.isnan(plain)
        with np.errstate(invalid="ignore"):
            wrong = ~missing & ((plain != np.trunc(plain)) | (plain < float(limits.min)) | (plain >= float(limits.max + 1)))
        return np.where(missing | wrong, 0, plain).astype(dtype), missing, wrong
    return _all_wrong(plain, dtype)


def _floats(plain: Array, dtype: np.dtype[Any]) -> Parts:
    n = len(plain)
    if plain.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = plain.astype(dtype)
        return values, np.isnan(plain), np.isinf(values) & ~np.isinf(plain)
    if plain.dtype.kind in "iu":
        values, exact = plain.astype(dtype), _EXACT if dtype.itemsize == 8 else 1 << 24
        return values, _none(n), (plain > exact) | (plain < -exact)
    return _all_wrong(plain, dtype)


def _times(plain: Array) -> Parts:
    dtype = np.dtype(TIME)
    if plain.dtype.kind == "M":
        missing = np.isnat(plain)
        values = plain.astype(dtype)
        return values, missing, ~missing & (values.astype(plain.dtype) != plain)  # beyond 1677 to 2262, or finer
    if plain.dtype.kind in "USTO":
        return _objects(plain.astype(object), TIME)
    return _all_wrong(plain, dtype)


def _objects(objects: Array, dtype: str) -> Parts:
    """Values, what is missing and what is wrong of an array of Python objects, one by one."""
    n = len(objects)
    missing, wrong = _none(n), _none(n)
    values: list[Any] = [nothing(dtype)] * n
    take = _taker(dtype)
    for i, item in enumerate(objects.tolist()):
        if is_missing(item):
            missing[i] = True
            continue
        try:
            values[i] = take(item)
        except (TypeError, ValueError, OverflowError):
            wrong[i] = True
    return np.array(values, numpy_dtype(dtype)), missing, wrong


def _taker(dtype: str) -> Callable[[Any], Any]:
    """What takes one Python object for a type, or raises TypeError, ValueError or OverflowError."""
    if dtype == "string":
        return _take_text
    if dtype == TIME:
        return _take_time
    if dtype == "bool":
        return _take_bool
    return _take_integer(np.iinfo(dtype)) if dtype in INTEGERS else _take_float(np.finfo(cast(Any, dtype)))


def _take_text(item: Any) -> str:
    if isinstance(item, bytes):
        return item.decode("utf-8")
    if not isinstance(item, str):
        raise TypeError
    item.encode("utf-8")
    return str(item)


def _number(item: Any) -> Any:
    item = item.item() if isinstance(item, np.generic) else item
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise TypeError
    return item


def _take_bool(item: Any) -> bool:
    if isinstance(item, bool | np.bool_):
        return bool(item)
    if _number(item) not in (0, 1):
        raise ValueError
    return bool(item)


def _take_integer(limits: Any) -> Callable[[Any], int]:
    def take(item: Any) -> int:
        number = _number(item)
        whole = int(number)  # raises for infinity
        if whole != number or not limits.min <= whole <= limits.max:
            raise ValueError
        return whole

    return take


def _take_float(limits: Any) -> Callable[[Any], float]:
    exact = _EXACT if limits.bits == 64 else 1 << 24

    def take(item: Any) -> float:
        number = _number(item)
        if isinstance(number, int) and abs(number) > exact:
            raise ValueError
        if math.isfinite(number) and abs(number) > float(limits.max):
            raise ValueError
        return float(number)

    return take


def _take_time(item: Any) -> np.datetime64:
    if isinstance(item, np.datetime64):
        return _whole_ns(item)
    if isinstance(item, dt.datetime):
        return _whole_ns(np.datetime64(_naive(item), "us"))
    if isinstance(item, dt.date):
        return _whole_ns(np.datetime64(item, "D"))
    if not isinstance(item, str | bytes):
        raise TypeError
    text = _take_text(item).strip()
    if not text[:4].isdigit():  # numpy takes "now" and "today" too
        raise ValueError
    tail = text[10:]
    if "+" in tail or "-" in tail or tail.endswith(("Z", "z")):
        return _whole_ns(np.datetime64(_naive(dt.datetime.fromisoformat(text)), "us"))
    return _whole_ns(np.datetime64(text))


def _naive(moment: dt.datetime) -> dt.datetime:
    """UTC without saying so, as numpy keeps times."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _whole_ns(moment: np.datetime64) -> np.datetime64:
    out = moment.astype(TIME)
    if np.isnat(out) or out.astype(moment.dtype) != moment:
        raise OverflowError
    return cast(np.datetime64, out)


def show(value: Any) -> str:
    """A value in an error's one line, cut where it is long.

    >>> show(b"abc"), show("x" * 99)[-6:]
    ("b'abc'", 'xxxxx…')
    """
    value = value.item() if isinstance(value, np.generic) else value
    text = " ".join(repr(value).split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def concatenated(parts: Sequence[Array], dtype: str) -> Array:
    """Batches of a column as one array."""
    if not parts:
        return np.zeros(0, numpy_dtype(dtype))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def resolved(dtype: str, column: Array) -> str | None:
    """The type of an id's column: the schema's, or what the column itself says where the schema leaves it open."""
    return guess_id(column) if dtype == ANY_ID else dtype
