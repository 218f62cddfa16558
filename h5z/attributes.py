"""HDF5 values <-> JSON, exactly: attributes, fill values, and the plain form that a Zarr reader expects.

JSON has no NaN, no bytes and no references. Here floats that are not finite are the Zarr v3 specification's strings
(``"NaN"``, ``"Infinity"``, ``"-Infinity"``, or ``"0x7fc00001"`` for a NaN of other bits), bytes are ``{"base64": …}``,
complex numbers ``[real, imaginary]``, references the path that they point to, compounds a list in the members' order.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from h5z.dtypes import BOOL, STRING, access, class_of, is_string, plain, relabelled
from h5z.nodes import ArrayNode, Attribute, Datatype, Json

NonFinite = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
DIMENSION_ATTRIBUTES = frozenset(
    {"DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "_NCProperties"}
)
SCALE_ATTRIBUTES = frozenset({"CLASS", "NAME"})


def encode(value: Any, dtype: Datatype, name_of: Callable[[Any], str | None]) -> Json:
    """Turn a value that h5py read into JSON.

    Parameters
    ----------
    value : numpy array or scalar, str, bytes, or list
        Of any shape, the dimensions of array datatypes last.
    dtype : Datatype
        The HDF5 datatype of its elements, as `h5z.hdf5.datatypes.describe` gives it.
    name_of : callable
        Path (and selection) of an h5py reference.

    Examples
    --------
    >>> encode(np.array([1.5, np.nan], "<f4"), "<f4", str)
    [1.5, 'NaN']
    """
    if isinstance(dtype, dict) and dtype["class"] == "array":
        return encode(value, dtype["base"], name_of)
    array = np.asarray(value) if not isinstance(value, str | bytes) else None
    if array is not None and class_of(dtype) == "vlen" and array.dtype != object:
        base = cast(dict[str, Any], dtype)["base"]
        return encode(relabelled(array, base), base, name_of)
    if array is not None and array.ndim and array.dtype != object:
        if array.dtype.kind in "iub" and class_of(dtype) != "compound":
            return array.tolist()
        if array.dtype.kind == "f" and isinstance(dtype, str) and np.isfinite(array).all():
            return array.astype(float).tolist()
    if array is not None and array.ndim and (class_of(dtype) != "vlen" or array.dtype == object):
        if class_of(dtype) == "vlen" and not _of_sequences(array):
            base = cast(dict[str, Any], dtype)["base"]
            return [encode(item, base, name_of) for item in relabelled(array, base)]
        return [encode(item, dtype, name_of) for item in array]
    return _scalar(value if array is None or array.dtype == object else array[()], dtype, name_of)


def _of_sequences(array: Any) -> bool:
    return array.dtype == object and all(isinstance(i, np.ndarray | list | tuple | type(None)) for i in array.flat)


def _scalar(value: Any, dtype: Datatype, name_of: Callable[[Any], str | None]) -> Json:
    kind = class_of(dtype)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == object:
        value = value[()]
    if kind == "reference":
        return name_of(value)
    if kind == "vlen":
        base = cast(dict[str, Any], dtype)["base"]
        items = () if value is None else relabelled(value, base)
        return [encode(item, base, name_of) for item in items]
    if kind == "string":
        return text_or_bytes(value)
    if kind == "compound" and getattr(value, "dtype", None) is not None and value.dtype.names:
        members = cast(dict[str, Any], dtype)["members"]
        return [encode(value[name], member, name_of) for name, _, member in members]
    value = np.asarray(value)[()]
    if value.dtype.kind == "b":
        return bool(value)
    if value.dtype.kind in "iu":
        return int(value)
    if value.dtype.kind == "f" and value.dtype.itemsize <= 8:
        return number(value)
    if value.dtype.kind == "c" and value.dtype.itemsize <= 16:
        return [number(value.real), number(value.imag)]
    if value.dtype.kind in "mM":
        return int(value.view("i8"))
    return {"base64": base64.b64encode(value.tobytes()).decode()}


def number(value: Any) -> float | str:
    """A float as JSON: itself where finite, else the Zarr specification's string for it.

    >>> number(np.float32(0.5)), number(-np.inf), number(np.array(0x7fc00001, "u4").view("f4")[()])
    (0.5, '-Infinity', '0x7fc00001')
    """
    if np.isfinite(value):
        return float(value)
    if np.isnan(value):
        bits = np.asarray(value)
        bits = bits.astype(bits.dtype.newbyteorder(">"))
        usual = np.asarray(np.nan, bits.dtype).tobytes()
        return "NaN" if bits.tobytes() == usual else "0x" + bits.tobytes().hex()
    return "Infinity" if value > 0 else "-Infinity"


def text_or_bytes(value: Any) -> Json:
    r"""Text as a string, bytes that are not UTF-8 as ``{"base64": …}``.

    >>> text_or_bytes(b"abc"), text_or_bytes("gr\udcfc")
    ('abc', {'base64': 'Z3L8'})
    """
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value or b"")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def decode(value: Json, dtype: Datatype) -> Any:
    """Turn the JSON of one fixed-size element back into a numpy scalar of the dtype that carries it.

    >>> decode("NaN", "<f4")
    np.float32(nan)
    >>> np.atleast_1d(decode(["0x7fc00001", 1.0], {"class": "complex", "base": "<f4"})).view("<u4").tolist()
    [2143289345, 1065353216]
    """
    found = plain(dtype, raw=access(dtype) == "raw")
    if found is None:
        raise ValueError(f"a {class_of(dtype)} has no fixed-size value")
    return _fill_in(np.zeros((), found), value, dtype)[()]


def _fill_in(out: Any, value: Json, dtype: Datatype) -> Any:
    if class_of(dtype) == "compound" and out.dtype.names:
        for (name, _, member), item in zip(cast(dict[str, Any], dtype)["members"], value, strict=True):
            out[name] = _fill_in(np.zeros((), out.dtype[name]), item, member)
    elif isinstance(value, dict):
        raw = base64.b64decode(value["base64"])
        out[...] = np.frombuffer(raw.ljust(out.dtype.itemsize, b"\0"), out.dtype)[0]
    elif is_string(dtype):
        out[...] = value.encode("utf-8")
    elif out.dtype.kind == "c":
        kind = f"{out.dtype.str[0]}f{out.dtype.itemsize // 2}"
        halves = [_fill_in(np.zeros((), kind), part, kind) for part in value]
        out[...] = np.array(halves, kind).view(out.dtype)[0]
    elif out.dtype.kind == "f" and isinstance(value, str) and value.startswith("0x"):
        out[...] = np.frombuffer(bytes.fromhex(value[2:]), out.dtype.newbyteorder(">"))[0]
    elif out.dtype.kind in "mM":
        out[...] = np.int64(value).view(out.dtype)
    else:
        out[...] = _float(value) if isinstance(value, str) else value
    return out


def _float(value: Json) -> float:
    return NonFinite[value] if isinstance(value, str) else float(value)


def _visible(value: Json) -> Json:
    """The form that a plain reader gets: bytes as Latin-1 text, which shows them without failing; a null string is empty."""
    if value is None:
        return ""
    if isinstance(value, dict) and "base64" in value:
        return base64.b64decode(value["base64"]).rstrip(b"\0").decode("latin-1")
    return [_visible(item) for item in value] if isinstance(value, list) else value


def _implied(item: Attribute, value: Json) -> bool:
    """Whether the plain JSON form alone says the attribute's datatype, dataspace and value."""
    if item.shape not in ((),) and not (item.shape is not None and len(item.shape) == 1 and item.shape[0] > 0):
        return False
    first = value if item.shape == () else value[0] if isinstance(value, list) and value else None
    kinds: list[tuple[type, Datatype]] = [(bool, BOOL), (str, STRING), (int, "<i8"), (float, "<f8")]
    return (
        item.committed is None
        and item.maxshape is None
        and any(type(first) is kind and item.dtype == dtype for kind, dtype in kinds)
    )


def project(
    attributes: tuple[Attribute, ...], *, netcdf: bool, zarr_format: int, array: ArrayNode | None = None
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Split a node's attributes into those that Zarr readers see and what is recorded under ``h5z``.

    Parameters
    ----------
    netcdf : bool
        Whether netCDF-4's conventions hold: one-element attributes are scalars.
    array : ArrayNode, optional
        The array that the attributes belong to: xarray keeps its ``_FillValue`` in a form of its own.

    Returns
    -------
    plain, record : dict
        ``record`` maps a name to datatype, shape and, where the plain form loses it, value.
    """
    seen: dict[str, Json] = {}
    record: dict[str, Json] = {}
    is_scale = any(a.name == "CLASS" and a.value == "DIMENSION_SCALE" for a in attributes)
    for item in attributes:
        value = item.value
        hidden = item.name in DIMENSION_ATTRIBUTES or (is_scale and item.name in SCALE_ATTRIBUTES)
        hidden = hidden or (zarr_format == 2 and item.name == "_ARRAY_DIMENSIONS")
        visible = None if hidden or item.name == "h5z" else _plain_form(item, netcdf, zarr_format, array)
        if visible is not None:
            seen[item.name] = visible[0]
        if visible is None or visible[0] != value or not _strict(visible[0]) or not _implied(item, value):
            entry: dict[str, Json] = {"dtype": item.dtype, "shape": None if item.shape is None else list(item.shape)}
            if item.committed:
                entry["committed"] = item.committed
            if item.maxshape is not None:
                entry["maxshape"] = list(item.maxshape)
            if visible is None or _json(visible[0]) != _json(value):
                entry["value"] = value
            record[item.name] = entry
    return seen, record


def _json(value: Json) -> str:
    return json.dumps(value)


def _strict(value: Json) -> bool:
    return not (isinstance(value, float) and not math.isfinite(value))


def _plain_form(item: Attribute, netcdf: bool, zarr_format: int, array: ArrayNode | None) -> tuple[Json] | None:
    """What a reader sees of an attribute, in a tuple; None where it is better not shown."""
    if item.shape is None and array is not None and item.name == "_FillValue":
        return None
    if item.shape is None:
        return ("",) if is_string(item.dtype) and cast(dict[str, Any], item.dtype)["size"] == 1 else ([],)
    value = _visible(item.value)
    if array is not None and item.name == "categories" and class_of(item.dtype) == "reference" and isinstance(value, str):
        return (value.removeprefix(array.path.rpartition("/")[0] + "/"),)  # AnnData's, before 0.8, is relative to its group
    if netcdf and len(item.shape) == 1 and item.shape[0] == 1 and len(value) == 1 and class_of(item.dtype) != "array":
        value = value[0]
    if array is not None and item.name in ("_FillValue", "missing_value"):
        lone = value[0] if isinstance(value, list) and len(value) == 1 else value
        if item.name == "_FillValue":
            return None if zarr_format == 2 else fill_attribute(lone, array.dtype)
        if isinstance(lone, str) and not is_string(array.dtype):
            return None
    return (value,)


def _is_real(value: Json) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value in NonFinite)


def fill_attribute(value: Json, dtype: Datatype) -> tuple[Json] | None:
    """``_FillValue`` in the form that xarray's Zarr backend reads (`FillValueCoder`), or None."""
    found = plain(dtype)
    if found is None:
        return None
    if found.kind == "f" and isinstance(value, str) and value.startswith("0x"):
        value = "NaN"
    if found.kind == "f" and _is_real(value):
        return (base64.standard_b64encode(struct.pack("<d", _float(value))).decode(),)
    if found.kind == "c" and isinstance(value, list) and len(value) == 2 and all(map(_is_real, value)):
        return ([base64.standard_b64encode(struct.pack("<d", _float(part))).decode() for part in value],)
    return (value,) if found.kind in "iub" and isinstance(value, int | float) else None
