"""Single values <-> JSON, with their types: keys of dicts, attributes, and what of a mark JSON has no word for.

JSON's own null, true, text, finite number and list stand for themselves; everything else is ``{"type": …, …}``.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import zoneinfo
from collections.abc import Mapping
from typing import Any

import numpy as np

from h5z.errors import PlanError
from h5z.nodes import Json
from h5z.objects.elements import describe_dtype, dtype_of

_EXACT_INT = 1 << 53  # beyond it, readers that take JSON's numbers for floats lose digits


def tag(value: Any) -> Json:
    """A value as JSON.

    Raises
    ------
    PlanError
        For a value of a type that has no tag.

    Examples
    --------
    >>> tag([1, "a", None]), tag((1.5, float("nan"))), tag(b"x")
    ([1, 'a', None], {'type': 'tuple', 'items': [1.5, {'type': 'float', 'value': 'nan'}]}, {'type': 'bytes', 'value': 'eA=='})
    """
    kind = type(value)
    if kind in (bool, type(None)) or _plain_number(value) or (kind is str and not _has_surrogates(value)):
        return value
    if kind is list:
        return [tag(item) for item in value]
    if kind is tuple:
        return {"type": "tuple", "items": [tag(item) for item in value]}
    if kind is dict:
        return {"type": "dict", "items": [[tag(key), tag(item)] for key, item in value.items()]}
    if kind in (bytes, bytearray):
        return {"type": kind.__name__, "value": _base64(value)}
    if kind is str:
        return {"type": "str", "value": _base64(value.encode("utf-8", "surrogatepass"))}
    if kind is int:
        return {"type": "int", "value": str(value) if abs(value) < 10**1000 else hex(value)}
    if kind is float:
        return {"type": "float", "value": value.hex() if math.isfinite(value) else str(value)}
    if kind is complex:
        return {"type": "complex", "items": [tag(value.real), tag(value.imag)]}
    if kind in _TIMES:
        return {"type": kind.__name__, **time_fields(value)}
    if isinstance(value, np.generic) and not isinstance(value, np.object_):
        array = np.asarray(value)
        return {"type": "scalar", "dtype": describe_dtype(array.dtype), "value": _base64(array.tobytes())}
    if kind is np.ndarray and value.dtype.kind not in "OT" and not value.dtype.hasobject:
        described = describe_dtype(value.dtype)
        return {"type": "ndarray", "dtype": described, "shape": list(value.shape), "value": _base64(value.tobytes())}
    if kind is np.ndarray and value.dtype.kind == "O":
        return {"type": "objects", "shape": list(value.shape), "items": [tag(item) for item in value.ravel()]}
    raise PlanError(f"expected a number, text, bytes, a time, or a tuple, list or dict of those, found {article(value)}")


def untag(found: Json) -> Any:
    """The value that `tag` described.

    >>> untag(tag({"a": (1, float("inf"), 2**70)}))
    {'a': (1, inf, 1180591620717411303424)}
    """
    if isinstance(found, list):
        return [untag(item) for item in found]
    if not isinstance(found, Mapping):
        return found
    kind = found["type"]
    if kind in ("tuple", "complex"):
        items = [untag(item) for item in found["items"]]
        return tuple(items) if kind == "tuple" else complex(*items)
    if kind == "dict":
        return {untag(key): untag(item) for key, item in found["items"]}
    if kind in ("bytes", "bytearray", "str"):
        raw = base64.b64decode(found["value"])
        return raw.decode("utf-8", "surrogatepass") if kind == "str" else bytearray(raw) if kind == "bytearray" else raw
    if kind == "int":
        return int(found["value"], 0)
    if kind == "float":
        return float.fromhex(found["value"])
    if kind in ("scalar", "ndarray"):
        raw = np.frombuffer(bytearray(base64.b64decode(found["value"])), dtype_of(found["dtype"]))
        return raw[0] if kind == "scalar" else raw.reshape(found["shape"])
    if kind == "objects":
        array = np.empty(len(found["items"]), object)
        for i, item in enumerate(found["items"]):
            array[i] = untag(item)
        return array.reshape(found["shape"])
    if kind in _TIME_NAMES:
        return time_of(kind, found)
    raise ValueError(f"an unknown type {kind!r}")


_TIMES = (dt.datetime, dt.date, dt.time, dt.timedelta)
_TIME_NAMES = {kind.__name__: kind for kind in _TIMES}


def time_fields(value: Any) -> dict[str, Json]:
    """What describes a `datetime`, `date`, `time` or `timedelta`: ISO 8601, and what that leaves open.

    >>> time_fields(dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc))
    {'value': '2020-01-02T00:00:00', 'zone': {'offset': [0, 0], 'name': None}}
    """
    if isinstance(value, dt.timedelta):
        return {"value": f"{value.days} {value.seconds} {value.microseconds}"}
    if not isinstance(value, dt.datetime | dt.time):
        return {"value": value.isoformat()}
    fold = {"fold": 1} if value.fold else {}
    if value.tzinfo is None:
        return {"value": value.isoformat(), **fold}
    return {"value": value.replace(tzinfo=None).isoformat(), "zone": zone_fields(value.tzinfo), **fold}


def time_of(kind: str, found: Mapping[str, Json], text: str | None = None) -> Any:
    """The value that `time_fields` described."""
    text = found["value"] if text is None else text
    if kind == "timedelta":
        days, seconds, microseconds = map(int, text.split())
        return dt.timedelta(days, seconds, microseconds)
    value = _TIME_NAMES[kind].fromisoformat(text)
    if found.get("zone") is not None:
        value = value.replace(tzinfo=zone_of(found["zone"]))
    return value.replace(fold=1) if found.get("fold") else value


def zone_fields(zone: Any) -> dict[str, Json]:
    """What describes a time zone: a fixed offset, or a name in the tz database.

    Raises
    ------
    PlanError
        For a zone that has neither.
    """
    if type(zone) is dt.timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        named = name if name != dt.timezone(offset).tzname(None) else None
        return {"offset": [offset.days * 86400 + offset.seconds, offset.microseconds], "name": named}
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return {"zone": zone.key}
    if type(zone).__module__.partition(".")[0] == "pytz" and getattr(zone, "zone", None):
        return {"pytz": zone.zone}
    raise PlanError(f"expected a time zone of a fixed offset or of a name in the tz database, found {article(zone)}")


def zone_of(found: Mapping[str, Json]) -> Any:
    """The time zone that `zone_fields` described."""
    if "zone" in found:
        return zoneinfo.ZoneInfo(found["zone"])
    if "pytz" in found:
        import pytz

        return pytz.timezone(found["pytz"])
    seconds, microseconds = found["offset"]
    offset = dt.timedelta(seconds=seconds, microseconds=microseconds)
    if not offset and found.get("name") is None:
        return dt.timezone.utc
    return dt.timezone(offset) if found.get("name") is None else dt.timezone(offset, found["name"])


def article(value: Any) -> str:
    """A value's type, for a message.

    >>> article({1}), article(1j)
    ("'set'", "'complex'")
    """
    kind = type(value)
    return repr(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")


def _plain_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _EXACT_INT
    return type(value) is float and math.isfinite(value) and not value.is_integer()


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _base64(raw: Any) -> str:
    return base64.b64encode(raw).decode()


def plain_json(value: Any) -> Json:
    """A value as a reader of plain Zarr expects it among attributes, exact or not; None where there is nothing to show.

    >>> plain_json(np.float32(0.5)), plain_json((1, 2)), plain_json(float("nan")), plain_json(b"ab")
    (0.5, [1, 2], 'NaN', 'ab')
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist() if value.dtype.kind not in "mM" else value.astype(str).tolist()
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, complex):
        return [plain_json(value.real), plain_json(value.imag)]
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    if isinstance(value, bool | int | float | None):
        return value
    return str(value)


def is_plain(value: Any) -> bool:
    """Whether plain JSON gives back exactly this value, type included.

    >>> is_plain([1, "a", 1.5]), is_plain((1,)), is_plain(1.0)
    (True, False, True)
    """
    kind = type(value)
    if kind is list:
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(key) is str and not _has_surrogates(key) and is_plain(item) for key, item in value.items())
    if kind is float:
        return math.isfinite(value)
    return kind in (bool, type(None)) or (kind is str and not _has_surrogates(value)) or (kind is int and abs(value) <= _EXACT_INT)
