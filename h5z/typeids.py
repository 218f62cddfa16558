"""Datatypes as JSON -> HDF5's own: in a file (`build`), and in memory, where values may be pointers (`InMemory`).

`build` is the inverse of `h5z.dtypes.describe`. What libhdf5 takes and gives in memory: HDF5 Reference Manual, ``hvl_t``,
``hobj_ref_t``, ``hdset_reg_ref_t``; a string of variable length is a ``char *``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from h5py import h5t

from h5z.dtypes import access, class_of, is_string, parts, plain, raw_layout
from h5z.errors import UnsupportedError
from h5z.nodes import Datatype

_ORDERS = {"little": h5t.ORDER_LE, "big": h5t.ORDER_BE, "vax": h5t.ORDER_VAX}
_PADDINGS = {"nullterm": h5t.STR_NULLTERM, "nullpad": h5t.STR_NULLPAD, "spacepad": h5t.STR_SPACEPAD}
_CHARSETS = {"ascii": h5t.CSET_ASCII, "utf-8": h5t.CSET_UTF8}
_COMPLEX = {
    f"{order}f{size}": getattr(h5t, f"COMPLEX_IEEE_F{8 * size}{name}", None)
    for size in (2, 4, 8)
    for order, name in (("<", "LE"), (">", "BE"))
}
SEQUENCE = np.dtype([("length", "<u8"), ("at", "<u8")])
POINTER = np.dtype("<u8")


def raw_name(name: str) -> bytes:
    """A name's bytes in HDF5."""
    return name.encode("utf-8", "surrogateescape")


def build(dtype: Datatype) -> Any:
    """Build the HDF5 datatype that `describe` described.

    Returns
    -------
    h5py.h5t.TypeID

    Raises
    ------
    UnsupportedError
        For a class that this libhdf5 does not know.
    """
    if isinstance(dtype, str):
        return h5t.py_create(np.dtype(dtype))
    make = _MAKERS.get(dtype["class"])
    if make is None:
        raise UnsupportedError(f"a datatype of class {dtype['class']} cannot be made here")
    return make(dtype)


def _integer(dtype: dict[str, Any]) -> Any:
    out = (h5t.STD_I8LE if dtype["signed"] else h5t.STD_U8LE).copy()
    _place_bits(out, dtype)
    out.set_pad(*dtype["pad"])
    return out


def _place_bits(out: Any, dtype: dict[str, Any]) -> None:
    out.set_size(dtype["size"])
    if dtype["order"] in _ORDERS:
        out.set_order(_ORDERS[dtype["order"]])
    out.set_offset(0)
    out.set_precision(dtype["precision"])
    out.set_offset(dtype["offset"])


def _float(dtype: dict[str, Any]) -> Any:
    """From 32 bits: room is made before the fields are placed, and taken away after."""
    out = h5t.IEEE_F32LE.copy()
    size, precision = dtype["size"], dtype["precision"]
    out.set_size(max(size, 4))
    out.set_order(_ORDERS[dtype["order"]])
    if precision > 32:
        out.set_precision(precision)
    out.set_fields(*dtype["fields"])
    if precision < 32:
        out.set_precision(precision)
    out.set_size(size)
    out.set_offset(dtype["offset"])
    out.set_ebias(dtype["bias"])
    out.set_norm(dtype["norm"])
    out.set_pad(*dtype["pad"])
    out.set_inpad(dtype["inpad"])
    return out


def _string(dtype: dict[str, Any]) -> Any:
    out = h5t.C_S1.copy()
    out.set_size(dtype["size"] or h5t.VARIABLE)
    charset, padding = dtype["charset"], dtype["padding"]
    out.set_cset(_CHARSETS[charset] if charset in _CHARSETS else int(charset))
    out.set_strpad(_PADDINGS[padding] if padding in _PADDINGS else int(padding))
    return out


def _compound(dtype: dict[str, Any]) -> Any:
    out = h5t.create(h5t.COMPOUND, dtype["size"])
    for name, offset, member in dtype["members"]:
        out.insert(raw_name(name), offset, build(member))
    return out


def _enum(dtype: dict[str, Any]) -> Any:
    return _named(build(dtype["base"]), dtype["members"])


def _named(base: Any, members: dict[str, int]) -> Any:
    out = h5t.enum_create(base)
    for name, value in members.items():
        out.enum_insert(raw_name(name), value)
    return out


def _complex(dtype: dict[str, Any]) -> Any:
    found = _COMPLEX.get(dtype["base"]) if isinstance(dtype["base"], str) else None
    if found is None:
        raise UnsupportedError("a complex datatype of an unusual base")
    return found.copy()


def _opaque(dtype: dict[str, Any]) -> Any:
    out = h5t.create(h5t.OPAQUE, dtype["size"])
    out.set_tag(raw_name(dtype["tag"]))
    return out


def _bitfield(dtype: dict[str, Any]) -> Any:
    out = h5t.STD_B8LE.copy()
    _place_bits(out, dtype)
    return out


def _time(dtype: dict[str, Any]) -> Any:
    name = f"UNIX_D{8 * dtype['size']}{'BE' if dtype.get('order') == 'big' else 'LE'}"
    if not hasattr(h5t, name):
        raise UnsupportedError(f"a time of {dtype['size']} bytes")
    return getattr(h5t, name).copy()


def _reference(dtype: dict[str, Any]) -> Any:
    known = {"object": h5t.STD_REF_OBJ, "region": h5t.STD_REF_DSETREG}
    if dtype["kind"] not in known:
        raise UnsupportedError("references of HDF5 1.12's kind (H5R_ref_t) cannot be written with h5py")
    return known[dtype["kind"]].copy()


_MAKERS = {
    "integer": _integer,
    "float": _float,
    "string": _string,
    "compound": _compound,
    "enum": _enum,
    "array": lambda dtype: h5t.array_create(build(dtype["base"]), tuple(dtype["shape"])),
    "vlen": lambda dtype: h5t.vlen_create(build(dtype["base"])),
    "complex": _complex,
    "opaque": _opaque,
    "bitfield": _bitfield,
    "time": _time,
    "reference": _reference,
}


@dataclass(frozen=True)
class InMemory:
    """How elements of a datatype lie in memory for libhdf5.

    Attributes
    ----------
    dtype : numpy.dtype
        Compounds are packed, their members ``f0``, ``f1``, …; strings and sequences of variable length are pointers.
    tid : h5py.h5t.TypeID
        The memory datatype; numbers that numpy has no word for are widened (`h5z.dtypes.access` ``convert``).
    """

    dtype: np.dtype[Any]
    tid: Any

    @classmethod
    def of(cls, dtype: Datatype) -> InMemory:
        """The layout of a described datatype."""
        if access(dtype) == "raw":
            return cls(raw_layout(dtype), build(dtype))
        return cls(*_layout(dtype))


def _layout(dtype: Datatype) -> tuple[np.dtype[Any], Any]:
    kind = class_of(dtype)
    if isinstance(dtype, str):
        return np.dtype(dtype), build(dtype)
    if is_string(dtype):
        return (np.dtype(f"S{dtype['size']}") if dtype["size"] else POINTER), build(dtype)
    if kind == "vlen":
        return SEQUENCE, h5t.vlen_create(_layout(dtype["base"])[1])
    if kind == "reference":
        return np.dtype("V8" if dtype["kind"] == "object" else "V12"), build(dtype)
    if kind == "array":
        inner, tid = _layout(dtype["base"])
        return np.dtype((inner, tuple(dtype["shape"]))), h5t.array_create(tid, tuple(dtype["shape"]))
    if kind == "compound":
        inners = [_layout(member) for _, _, member in dtype["members"]]
        packed = np.dtype([(f"f{i}", inner) for i, (inner, _) in enumerate(inners)])
        tid = h5t.create(h5t.COMPOUND, packed.itemsize)
        for i, ((name, _, _), (_, member)) in enumerate(zip(dtype["members"], inners, strict=True)):
            tid.insert(raw_name(name), packed.fields[f"f{i}"][1], member)  # type: ignore[index]
        return packed, tid
    if dtype["class"] == "enum":
        inner, base = _layout(dtype["base"])
        return inner, _named(base, dtype["members"])
    found = cast("np.dtype[Any]", plain(dtype))
    return found, h5t.py_create(found) if kind in ("integer", "float") else build(dtype)


def has_text(dtype: Datatype) -> bool:
    """Whether a datatype holds strings of variable length, which may be null pointers."""
    return any(is_string(part) and cast(dict[str, Any], part)["size"] is None for part in parts(dtype))
