"""Single values <-> JSON, with their types: keys of dicts, attributes, and what of a mark JSON has no word for.

JSON's own null, true, text, finite number and list stand for themselves; everything else is ``{"type": …, …}``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from h5z.errors import PlanError
from h5z.nodes import Json
from h5z.objects.elements import describe_dtype, dtype_of
from h5z.objects.times import TIMES, article, time_fields, time_of

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
    if kind in _TAGS:
        return {"type": kind.__name__, **_TAGS[kind](value)}
    if isinstance(value, np.generic) and not isinstance(value, np.object_):
        array = np.asarray(value)
        return {"type": "scalar", "dtype": describe_dtype(array.dtype), "value": _base64(array.tobytes())}
    raise PlanError(f"expected a number, text, bytes, a time, or a tuple, list or dict of those, found {article(value)}")


def _tagged_array(value: Any) -> dict[str, Json]:
    if value.dtype.kind == "O":
        return {"shape": list(value.shape), "items": [tag(item) for item in value.ravel()]}
    if value.dtype.hasobject:
        raise PlanError(f"expected an array of numbers, text, bytes or times, found one of {value.dtype}")
    return {"dtype": describe_dtype(value.dtype), "shape": list(value.shape), "value": _base64(value.tobytes())}


_TAGS: dict[type, Callable[[Any], dict[str, Json]]] = {
    tuple: lambda value: {"items": [tag(item) for item in value]},
    dict: lambda value: {"items": [[tag(key), tag(item)] for key, item in value.items()]},
    bytes: lambda value: {"value": _base64(value)},
    bytearray: lambda value: {"value": _base64(value)},
    str: lambda value: {"value": _base64(value.encode("utf-8", "surrogatepass"))},
    int: lambda value: {"value": str(value) if abs(value) < 10**1000 else hex(value)},
    float: lambda value: {"value": value.hex() if math.isfinite(value) else str(value)},
    complex: lambda value: {"items": [tag(value.real), tag(value.imag)]},
    np.ndarray: _tagged_array,
    **dict.fromkeys(TIMES, time_fields),
}


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
    if kind not in _UNTAGS:
        raise ValueError(f"an unknown type {kind!r}")
    return _UNTAGS[kind](found)


def _untagged_array(found: Mapping[str, Json]) -> Any:
    if "items" not in found:
        raw = bytearray(base64.b64decode(found["value"]))
        dtype = dtype_of(found["dtype"])
        return np.frombuffer(raw, dtype).reshape(found["shape"]) if raw else np.zeros(found["shape"], dtype)
    array = np.empty(len(found["items"]), object)
    for i, item in enumerate(found["items"]):
        array[i] = untag(item)
    return array.reshape(found["shape"])


_UNTAGS: dict[str, Callable[[Mapping[str, Json]], Any]] = {
    "tuple": lambda found: tuple(map(untag, found["items"])),
    "complex": lambda found: complex(*map(untag, found["items"])),
    "dict": lambda found: {untag(key): untag(item) for key, item in found["items"]},
    "bytes": lambda found: base64.b64decode(found["value"]),
    "bytearray": lambda found: bytearray(base64.b64decode(found["value"])),
    "str": lambda found: base64.b64decode(found["value"]).decode("utf-8", "surrogatepass"),
    "int": lambda found: int(found["value"], 0),
    "float": lambda found: float.fromhex(found["value"]),
    "scalar": lambda found: _untagged_array({**found, "shape": ()})[()],
    "ndarray": _untagged_array,
    **{kind.__name__: partial(time_of, kind.__name__) for kind in TIMES},
}


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
    return (
        kind in (bool, type(None)) or (kind is str and not _has_surrogates(value)) or (kind is int and abs(value) <= _EXACT_INT)
    )
