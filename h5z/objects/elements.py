"""numpy's data types <-> JSON, exactly, and the Zarr data type that carries each.

What Zarr has a word for is stored as it is; text of fixed length as Zarr's strings; what only numpy has (extended precision,
types of no bytes, text with lone surrogates) as numbers along a further axis; other structures as one array a member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from h5z.arrayplan import describe_numpy
from h5z.errors import PlanError
from h5z.nodes import Json

_ZARR_KINDS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16), "m": (8,), "M": (8,)}


def describe_dtype(dtype: np.dtype[Any]) -> Json:
    """A dtype as JSON: numpy's own type string, or the members of a structure with their places.

    Examples
    --------
    >>> describe_dtype(np.dtype(">f4")), describe_dtype(np.dtype([("a", "<i2"), ("b", "<f8", (2,))]))
    ('>f4', {'members': [['a', '<i2', 0], ['b', {'base': '<f8', 'shape': [2]}, 2]], 'itemsize': 18})
    """
    if isinstance(dtype, np.dtypes.StringDType):
        missing = _MISSING.get(repr(getattr(dtype, "na_object", _ABSENT)))
        if missing is None:
            raise PlanError(f"expected a StringDType whose na_object is None or nan, found {dtype!r}")
        return {"string": missing, "coerce": bool(dtype.coerce)}
    if dtype.subdtype is not None:
        return {"base": describe_dtype(dtype.subdtype[0]), "shape": list(dtype.subdtype[1])}
    if dtype.names is None:
        if dtype.isbuiltin == 2 or dtype.kind not in "biufcmMSUVO" or (dtype.kind == "V" and dtype.type is not np.void):
            raise PlanError(f"expected one of numpy's own data types, found {dtype!r}")
        return _LONG.get(dtype.char, dtype.str) if dtype.isnative else dtype.str
    members = []
    for name in dtype.names:
        inner, offset, *title = dtype.fields[name]  # type: ignore[index]
        members.append([name, describe_dtype(inner), offset, *title])
    out: dict[str, Json] = {"members": members, "itemsize": dtype.itemsize}
    if dtype.isalignedstruct:
        out["aligned"] = True
    if dtype.type is np.record:
        out["record"] = True
    return out


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()
# C's long long is a type of its own in numpy, though of the same bytes as another.
_LONG = {char: name for char, name in (("q", "longlong"), ("Q", "ulonglong")) if np.dtype(np.dtype(char).str).char != char}
_MISSING = {"absent": "", "None": "None", "nan": "nan"}


def dtype_of(described: Json) -> np.dtype[Any]:
    """The dtype that `describe_dtype` described.

    >>> dtype_of(describe_dtype(np.dtype("<M8[10us]")))
    dtype('<M8[10us]')
    """
    if isinstance(described, str):
        return np.dtype(described)
    if "string" in described:
        kinds = {"": {}, "None": {"na_object": None}, "nan": {"na_object": np.nan}}
        return np.dtypes.StringDType(coerce=described["coerce"], **cast(Any, kinds[described["string"]]))
    if "base" in described:
        return np.dtype((dtype_of(described["base"]), tuple(described["shape"])))
    members = described["members"]
    layout = {
        "names": [member[0] for member in members],
        "formats": [dtype_of(member[1]) for member in members],
        "offsets": [member[2] for member in members],
        "itemsize": described["itemsize"],
    }
    if any(len(member) > 3 for member in members):
        layout["titles"] = [member[3] if len(member) > 3 else None for member in members]
    made = np.dtype(cast(Any, layout), align=bool(described.get("aligned")))
    return np.dtype((np.record, cast(Any, made))) if described.get("record") else made


@dataclass(frozen=True)
class Stored:
    """How the values of one numpy dtype lie in a Zarr array.

    Attributes
    ----------
    form : str
        ``plain``: in the same data type; ``text``: as Zarr's strings; ``bytes``: each element's bytes along a further axis;
        ``characters``: each element's code points along a further axis.
    dtype : numpy.dtype or "string"
        What the Zarr array holds.
    extra : tuple of int
        The further axis.
    """

    form: str
    dtype: np.dtype[Any] | str
    extra: tuple[int, ...] = ()

    @property
    def planned(self) -> Json:
        """The data type as a plan's JSON."""
        return self.dtype if isinstance(self.dtype, str) else describe_numpy(self.dtype)

    def put(self, values: Any) -> Any:
        """Values in the form in which they are stored; a lone surrogate or a value that is no text raises PlanError."""
        if self.form == "text":
            return _as_text(values)
        if self.form == "plain":
            return np.ascontiguousarray(values.astype(self.dtype, copy=False)).reshape(values.shape)
        if values.dtype.itemsize == 0:
            return np.zeros((*values.shape, 0), self.dtype)
        flat = np.ascontiguousarray(values).reshape(-1)
        if self.form == "characters":
            flat = flat.astype(flat.dtype.newbyteorder("<"))
        return flat.view(self.dtype).reshape(*values.shape, *self.extra)

    def get(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """The values that `put` stored, in their own dtype."""
        if self.form == "plain":
            return values.astype(dtype, copy=False).view(dtype)  # equal dtypes are not always the same
        if self.form == "text":
            texts = values.astype(object)
            return texts if dtype.kind == "O" else texts.astype(dtype)
        shape = values.shape[:-1]
        if dtype.itemsize == 0:
            return np.empty(shape, dtype)
        flat = np.ascontiguousarray(values, self.dtype).reshape(-1)
        order = dtype.newbyteorder("<") if self.form == "characters" else dtype
        return flat.view(order).astype(dtype, copy=False).reshape(shape)


def stored_as(dtype: np.dtype[Any], values: Any = None) -> Stored | None:
    """How a dtype is stored as one Zarr array; None where it takes several.

    Parameters
    ----------
    values : numpy array, optional
        What shall be stored: objects and text are looked at, element by element.

    Examples
    --------
    >>> stored_as(np.dtype(">f4")).form, stored_as(np.dtype("<U3")).form, stored_as(np.dtype("<f16")).extra
    ('plain', 'text', (16,))
    >>> stored_as(np.dtype([("a", "<f8", (3,))])) is None
    True
    """
    if dtype.kind == "U":
        if values is not None and not _all_characters(values):
            return Stored("characters", np.dtype("<u4"), (dtype.itemsize // 4,))
        return Stored("text", "string")
    if dtype.kind == "O":
        return Stored("text", "string") if values is None or _all_text(values) else None
    if isinstance(dtype, np.dtypes.StringDType):
        return None if hasattr(dtype, "na_object") else Stored("text", "string")
    if _fits(dtype):
        return Stored("plain", packed(dtype))
    if dtype.names is None and dtype.subdtype is None:
        return Stored("bytes", np.dtype("u1"), (dtype.itemsize,))
    return None


def _fits(dtype: np.dtype[Any]) -> bool:
    """Whether Zarr has a data type for it."""
    if dtype.subdtype is not None:
        return False
    if dtype.names is not None:
        inner = [dtype[name] for name in dtype.names]
        return bool(inner) and "" not in dtype.names and all(item.kind != "U" and _fits(item) for item in inner)
    if dtype.kind in "SV":
        return dtype.itemsize > 0
    if dtype.kind == "M" and np.datetime_data(dtype)[0] == "generic":  # zarr-python 3.1 does not open it again
        return False
    return dtype.itemsize in _ZARR_KINDS.get(dtype.kind, ())


def packed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A structure without padding, titles and big-endian members; any other dtype is itself."""
    if dtype.names is None:
        return dtype
    return np.dtype([(name, packed(dtype[name]).newbyteorder("<")) for name in dtype.names])


def implied(dtype: np.dtype[Any]) -> bool:
    """Whether the Zarr array alone says the dtype."""
    return dtype.names is None and dtype.kind in "biufcmMSV" and _fits(dtype) and dtype.isnative and dtype.char not in _LONG


def _all_text(values: Any) -> bool:
    """Whether every element is a `str` that UTF-8 can hold; of no elements, not."""
    flat = values.reshape(-1)
    if not flat.size or not all(type(item) is str for item in flat):
        return False
    try:
        for item in flat:
            item.isascii() or item.encode()
    except UnicodeEncodeError:
        return False
    return True


def _all_characters(values: Any) -> bool:
    """Whether every code point is one that UTF-8 can hold."""
    if values.dtype.itemsize == 0:
        return True
    points = np.ascontiguousarray(values).reshape(-1).view(np.dtype("u4").newbyteorder(values.dtype.byteorder))
    return not bool((((points >= 0xD800) & (points < 0xE000)) | (points > 0x10FFFF)).any())


def _as_text(values: Any) -> Any:
    if values.dtype.kind == "O":
        if values.size and not _all_text(values):
            raise PlanError("expected text that UTF-8 can hold, found other objects in an array of objects")
        return values
    if values.dtype.kind == "U" and not _all_characters(values):
        raise PlanError("expected text that UTF-8 can hold, found lone surrogates")
    return values.astype(object)


def owned(values: Any) -> Any:
    """The same values, writeable, in a dtype that prints as numpy's own."""
    if values.dtype.kind in "iufcmM" and values.dtype.isnative and values.dtype.byteorder != "=":
        values = values.view(np.dtype(values.dtype.str))
    return values if values.flags.writeable else values.copy()
