"""Datatypes as JSON -> HDF5's own: in a file (`build`), and in memory (`InMemory`, with pointers; `memory`, to read into).

`build` is the inverse of `h5z.hdf5.datatypes.describe`. What libhdf5 takes and gives in memory: HDF5 Reference Manual, ``hvl_t``,
``hobj_ref_t``, ``hdset_reg_ref_t``; a string of variable length is a ``char *``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from h5py import h5t

from h5z.dtypes import access, array_of, class_of, is_string, parts, plain, raw_layout, variable
from h5z.errors import UnsupportedError
from h5z.hdf5.libhdf5 import Borrowed, complex_of, memory_at, set_bits
from h5z.nodes import Datatype

_ORDERS = {"little": h5t.ORDER_LE, "big": h5t.ORDER_BE, "vax": h5t.ORDER_VAX}
_PADDINGS = {"nullterm": h5t.STR_NULLTERM, "nullpad": h5t.STR_NULLPAD, "spacepad": h5t.STR_SPACEPAD}
_CHARSETS = {"ascii": h5t.CSET_ASCII, "utf-8": h5t.CSET_UTF8}
_NUMBERS = {"i": "STD_I", "u": "STD_U", "f": "IEEE_F"}
SEQUENCE = np.dtype([("length", "<u8"), ("at", "<u8")])
POINTER = np.dtype("<u8")
_REGION_NBYTES = 12


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
        name = f"{_NUMBERS[dtype[1]]}{8 * int(dtype[2:])}{'BE' if dtype[0] == '>' else 'LE'}"
        return getattr(h5t, name).copy()
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
    size = dtype["size"]
    out.set_size(size)
    order = _ORDERS.get(dtype.get("order", "little"), h5t.ORDER_LE)
    set_bits(out, order=order, precision=dtype.get("precision", 8 * size), offset=dtype.get("offset", 0))


def _float(dtype: dict[str, Any]) -> Any:
    """From 32 bits: room is made before the fields are placed, and taken away after."""
    out = h5t.IEEE_F32LE.copy()
    size, precision = dtype["size"], dtype["precision"]
    out.set_size(max(size, 4))
    out.set_order(_ORDERS.get(dtype["order"], h5t.ORDER_LE))
    if precision > 32:
        out.set_precision(precision)
    out.set_fields(*dtype["fields"])
    if precision < 32:
        out.set_offset(dtype["offset"])  # before, so that the fields are among the bits that are left
        out.set_precision(precision)
    out.set_size(size)
    out.set_offset(dtype["offset"])
    out.set_ebias(dtype["bias"])
    out.set_norm(dtype["norm"])
    out.set_pad(*dtype["pad"])
    out.set_inpad(dtype["inpad"])
    return _of_version_three(out) if dtype["order"] == "vax" else out


def _of_version_three(tid: Any) -> Any:
    """The same datatype with a message that can tell VAX's order of bytes: libhdf5 writes one of version 1, which loses it.

    Source: HDF5 File Format Specification, IV.A.2.d; an encoded datatype is such a message after two bytes of its own.
    """
    raw = bytearray(tid.encode())
    raw[2] = 3 << 4 | raw[2] & 15
    raw[3] |= 0x41
    return h5t.decode(bytes(raw))


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


def _opaque(dtype: dict[str, Any]) -> Any:
    out = h5t.create(h5t.OPAQUE, dtype["size"])
    out.set_tag(raw_name(dtype["tag"]))
    return out


def _bitfield(dtype: dict[str, Any]) -> Any:
    out = h5t.STD_B8LE.copy()
    _place_bits(out, dtype)
    return out


def _time(dtype: dict[str, Any]) -> Any:
    out = h5t.UNIX_D32LE.copy()
    _place_bits(out, dtype)
    return out


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
    "complex": lambda dtype: complex_of(build(dtype["base"])),
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
        Strings and sequences of variable length are pointers; a compound's members are ``f0``, ``f1``, ….
    tid : h5py.h5t.TypeID
        The memory datatype.
    exact : bool
        Whether an element's bytes are those in the file; otherwise compounds are packed, and numbers that numpy has no word
        for are widened (`h5z.dtypes.access` ``convert``).
    """

    dtype: np.dtype[Any]
    tid: Any
    exact: bool

    @classmethod
    def of(cls, dtype: Datatype) -> InMemory:
        """The layout of a described datatype."""
        how = access(dtype)
        exact = how == "raw" or (how == "h5py" and not variable(dtype))
        return cls(*layout(dtype, exact), exact)


def layout(dtype: Datatype, exact: bool) -> tuple[np.dtype[Any], Any]:
    """Numpy's dtype, and HDF5's datatype, of elements in memory (`InMemory`)."""
    kind = class_of(dtype)
    if isinstance(dtype, str):
        return np.dtype(dtype), build(dtype)
    if is_string(dtype):
        return (np.dtype(f"S{dtype['size']}") if dtype["size"] else POINTER), build(dtype)
    if kind == "vlen":
        return SEQUENCE, h5t.vlen_create(layout(dtype["base"], exact)[1])
    if kind == "reference":
        return np.dtype("V8" if dtype["kind"] == "object" else f"V{_REGION_NBYTES}"), build(dtype)
    if kind == "array":
        inner, tid = layout(dtype["base"], exact)
        return array_of(inner, dtype["shape"]), h5t.array_create(tid, tuple(dtype["shape"]))
    if kind == "compound":
        return _compound_layout(dtype, exact)
    if dtype["class"] == "enum":
        inner, base = layout(dtype["base"], exact)
        return inner, build(dtype) if exact else _named(base, dtype["members"])
    if kind in ("integer", "float") and not exact:
        return _wide_enough(dtype)
    return cast("np.dtype[Any]", plain(dtype, raw=exact)), build(dtype)


def _compound_layout(dtype: dict[str, Any], exact: bool) -> tuple[np.dtype[Any], Any]:
    inners = [layout(member, exact) for _, _, member in dtype["members"]]
    names = [f"f{i}" for i in range(len(inners))]
    if exact:
        places = [offset for _, offset, _ in dtype["members"]]
        formats = [inner for inner, _ in inners]
        placed = {"names": names, "formats": formats, "offsets": places, "itemsize": dtype["size"]}
        return np.dtype(cast(Any, placed)), build(dtype)
    packed = np.dtype([(name, inner) for name, (inner, _) in zip(names, inners, strict=True)])
    tid = h5t.create(h5t.COMPOUND, packed.itemsize)
    for field, (name, _, _), (_, member) in zip(names, dtype["members"], inners, strict=True):
        tid.insert(raw_name(name), packed.fields[field][1], member)  # type: ignore[index]
    return packed, tid


def memory(dtype: Datatype, tid: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """An empty numpy array, and the HDF5 memory datatype to read into it, for what `access` calls ``raw`` or ``convert``.

    Parameters
    ----------
    tid : h5py.h5t.TypeID
        The file's datatype, that `dtype` describes: read without conversion where ``raw``.
    """
    if access(dtype) == "raw":
        return np.zeros(shape, raw_layout(dtype)), tid
    found, mtype = _widened(dtype, tid)
    return np.zeros(shape, found), mtype


def _widened(dtype: Datatype, tid: Any) -> tuple[np.dtype[Any], Any]:
    """Packed, with numbers that numpy has no word for in those that hold them; all else as it is in the file."""
    if isinstance(dtype, dict) and dtype["class"] == "array":
        inner, mtype = _widened(dtype["base"], tid.get_super())
        return array_of(inner, dtype["shape"]), h5t.array_create(mtype, tuple(dtype["shape"]))
    if isinstance(dtype, dict) and class_of(dtype) == "compound":
        inners = [_widened(member, tid.get_member_type(i)) for i, (_, _, member) in enumerate(dtype["members"])]
        names = [name for name, _, _ in dtype["members"]]
        packed = np.dtype([(name, inner) for name, (inner, _) in zip(names, inners, strict=True)])
        made = h5t.create(h5t.COMPOUND, packed.itemsize)
        for name, (_, mtype) in zip(names, inners, strict=True):
            made.insert(raw_name(name), packed.fields[name][1], mtype)  # type: ignore[index]
        return packed, made
    odd = next((part for part in parts(dtype) if class_of(part) in ("integer", "float")), None)
    return _wide_enough(odd) if odd else (cast("np.dtype[Any]", plain(dtype)), tid)


def _wide_enough(dtype: Datatype) -> tuple[np.dtype[Any], Any]:
    """What holds a number that numpy has no word for; in the file's byte order.

    Where only that differs, libhdf5 (2.0) swaps bytes and overlooks which bits count.
    """
    order = cast(dict[str, Any], dtype).get("order")
    found = cast("np.dtype[Any]", plain(dtype)).newbyteorder(">" if order == "big" else "<")
    return found, h5t.py_create(found)


def regions(lent: Borrowed, shape: tuple[int, ...]) -> Any:
    """Sequences of region references that libhdf5 has lent, each an array of the references' bytes."""
    out = np.empty(shape, object)
    with lent as values:
        for row, (length, at) in zip(np.ndindex(shape), values.tolist(), strict=False):
            raw = memory_at(at, _REGION_NBYTES * length) if length else b""
            out[row] = np.array([raw[i : i + _REGION_NBYTES] for i in range(0, len(raw), _REGION_NBYTES)], object)
    return out


def has_text(dtype: Datatype) -> bool:
    """Whether a datatype holds strings of variable length, which may be null pointers."""
    return any(is_string(part) and cast(dict[str, Any], part)["size"] is None for part in parts(dtype))
