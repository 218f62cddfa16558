"""HDF5's datatypes -> JSON; `h5z.hdf5.typeids` is the way back.

`describe` follows the datatype message of the HDF5 File Format Specification (IV.A.2.d); whatever numpy names completely is
its type string (``"<f4"``), everything else a mapping with a ``class``.
"""

from __future__ import annotations

from typing import Any

from h5py import h5t

from h5z.errors import UnsupportedError
from h5z.hdf5.libhdf5 import significant_bits
from h5z.limits import MOST_TYPE_LEVELS, at_most
from h5z.nodes import Datatype

_ORDER = {h5t.ORDER_LE: "<", h5t.ORDER_BE: ">"}
_ORDER_NAMES = {h5t.ORDER_LE: "little", h5t.ORDER_BE: "big", h5t.ORDER_NONE: "none", 2: "vax"}
_PADDING = {h5t.STR_NULLTERM: "nullterm", h5t.STR_NULLPAD: "nullpad", h5t.STR_SPACEPAD: "spacepad"}
_CHARSET = {h5t.CSET_ASCII: "ascii", h5t.CSET_UTF8: "utf-8"}
_IEEE = {
    "<f2": h5t.IEEE_F16LE,
    ">f2": h5t.IEEE_F16BE,
    "<f4": h5t.IEEE_F32LE,
    ">f4": h5t.IEEE_F32BE,
    "<f8": h5t.IEEE_F64LE,
    ">f8": h5t.IEEE_F64BE,
}


def describe(tid: Any, level: int = 1) -> Datatype:
    """Describe an HDF5 datatype as JSON.

    Parameters
    ----------
    tid : h5py.h5t.TypeID

    Returns
    -------
    str or dict
        A numpy type string where that says it all; else a mapping with ``class`` and what that class has.

    Raises
    ------
    UnsupportedError
        If datatypes are in datatypes to no end, or one tells of more bits than it has.
    """
    at_most(MOST_TYPE_LEVELS, level, "levels of datatypes")
    kind = tid.get_class()
    if kind == h5t.INTEGER:
        return _integer(tid)
    if kind == h5t.FLOAT:
        return _float(tid)
    if kind == h5t.STRING:
        size = None if tid.is_variable_str() else tid.get_size()
        return {
            "class": "string",
            "size": size,
            "charset": _CHARSET.get(tid.get_cset(), str(tid.get_cset())),
            "padding": _PADDING.get(tid.get_strpad(), str(tid.get_strpad())),
        }
    if kind == h5t.COMPOUND:
        members = [
            [_text(tid.get_member_name(i)), tid.get_member_offset(i), describe(tid.get_member_type(i), level + 1)]
            for i in range(tid.get_nmembers())
        ]
        return {"class": "compound", "size": tid.get_size(), "members": members}
    if kind == h5t.ENUM:
        names = {_text(tid.get_member_name(i)): int(tid.get_member_value(i)) for i in range(tid.get_nmembers())}
        return {"class": "enum", "base": describe(tid.get_super(), level + 1), "members": names}
    if kind == h5t.ARRAY:
        return {"class": "array", "shape": list(tid.get_array_dims()), "base": describe(tid.get_super(), level + 1)}
    if kind == h5t.VLEN:
        return {"class": "vlen", "base": describe(tid.get_super(), level + 1)}
    if kind == h5t.COMPLEX:
        return {"class": "complex", "base": describe(tid.get_super(), level + 1)}
    if kind == h5t.OPAQUE:
        return {"class": "opaque", "size": tid.get_size(), "tag": _text(tid.get_tag())}
    if kind == h5t.REFERENCE:
        kinds = {"object": h5t.STD_REF_OBJ, "region": h5t.STD_REF_DSETREG}
        name = next((name for name, known in kinds.items() if tid.equal(known)), "standard")
        return {"class": "reference", "kind": name}
    named = {h5t.BITFIELD: "bitfield", h5t.TIME: "time"}.get(kind, f"unknown-{kind}")
    return {"class": named, **_bits(tid)}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bits(tid: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"size": tid.get_size()}
    for name in ("order", "precision", "offset"):
        if hasattr(tid, f"get_{name}"):
            out[name] = getattr(tid, f"get_{name}")()
    if "order" in out:
        out["order"] = _ORDER_NAMES.get(out["order"], str(out["order"]))
    elif tid.get_class() == h5t.TIME:
        out["order"] = "little" if tid.equal(h5t.UNIX_D32LE) or tid.equal(h5t.UNIX_D64LE) else "big"
    if "precision" not in out and significant_bits(tid) != (8 * out["size"], 0):
        out["precision"], out["offset"] = significant_bits(tid)
    if out.get("precision", 0) + out.get("offset", 0) > 8 * out["size"]:
        raise UnsupportedError(f"a damaged datatype: {out['precision']} bits in {out['size']} bytes")
    return out


def _integer(tid: Any) -> Datatype:
    size, sign = tid.get_size(), "i" if tid.get_sign() == h5t.SGN_2 else "u"
    if size in (1, 2, 4, 8) and tid.get_precision() == 8 * size and tid.get_order() in _ORDER:
        return f"{_ORDER[tid.get_order()]}{sign}{size}"
    return {"class": "integer", "signed": sign == "i", **_bits(tid), "pad": list(map(int, tid.get_pad()))}


def _float(tid: Any) -> Datatype:
    for name, known in _IEEE.items():
        if tid.equal(known):
            return name
    fields = list(map(int, tid.get_fields()))
    extra = {"fields": fields, "bias": int(tid.get_ebias()), "norm": int(tid.get_norm())}
    return {
        "class": "float",
        **_bits(tid),
        **extra,
        "pad": list(map(int, tid.get_pad())),
        "inpad": int(tid.get_inpad()),
    }
