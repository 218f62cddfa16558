"""HDF5 datatypes as JSON, and what carries each in Zarr: a numpy dtype, strings, or several arrays (leaves).

`describe` follows the datatype message of the HDF5 File Format Specification (IV.A.2.d); whatever numpy names completely is
its type string (``"<f4"``), everything else a mapping with a ``class``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from typing import Any, cast

import h5py
import numpy as np
from h5py import h5t

from h5z.errors import UnsupportedError
from h5z.libhdf5 import significant_bits
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
BOOL: Datatype = {"class": "enum", "base": "<i1", "members": {"FALSE": 0, "TRUE": 1}}
STRING: Datatype = {"class": "string", "size": None, "charset": "utf-8", "padding": "nullterm"}


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


def class_of(dtype: Datatype) -> str:
    """Class of a described datatype.

    >>> class_of("<f4"), class_of(BOOL), class_of({"class": "vlen", "base": "<i4"})
    ('number', 'bool', 'vlen')
    """
    if isinstance(dtype, str):
        return "number"
    if dtype["class"] == "enum" and dtype["members"] == BOOL["members"] and dtype["base"] in ("<i1", ">i1"):  # type: ignore[index]
        return "bool"
    if dtype["class"] == "compound" and _complex_base(dtype):
        return "complex"
    return cast(str, dtype["class"])


def _complex_base(dtype: dict[str, Any]) -> str | None:
    """The float type of h5py's complex compound ``{r, i}``, or None."""
    members = dtype["members"]
    if [m[0] for m in members] != ["r", "i"] or members[0][2] != members[1][2]:
        return None
    base = members[0][2]
    packed = isinstance(base, str) and base[1:] in ("f4", "f8") and dtype["size"] == 2 * int(base[2])
    return base if packed and members[1][1] == int(base[2]) else None


def is_string(dtype: Datatype) -> bool:
    """Whether a datatype is a string, of fixed or variable length."""
    return class_of(dtype) == "string"


def parts(dtype: Datatype) -> Iterator[Datatype]:
    """A datatype and all that it is made of, outermost first."""
    yield dtype
    if isinstance(dtype, dict):
        inner = [dtype["base"]] if "base" in dtype else [m[2] for m in dtype.get("members", ()) if isinstance(m, list)]
        for item in inner:
            yield from parts(item)


def variable(dtype: Datatype) -> bool:
    """Whether values live in HDF5's heap: variable-length strings and sequences, and references."""
    return any(
        class_of(p) in ("vlen", "reference") or (is_string(p) and cast(dict[str, Any], p)["size"] is None) for p in parts(dtype)
    )


def _native(dtype: dict[str, Any]) -> np.dtype[Any] | None:
    """The smallest numpy number that holds a non-standard integer or IEEE-like float exactly, or None."""
    if dtype["class"] == "integer":
        size = next((s for s in (1, 2, 4, 8) if s >= dtype["size"]), None)
        return np.dtype(f"{'i' if dtype['signed'] else 'u'}{size}") if size else None
    _, _, exponent, _, mantissa = dtype["fields"]
    for name, (bits, fraction, bias) in {"f2": (5, 10, 15), "f4": (8, 23, 127), "f8": (11, 52, 1023)}.items():
        # A foreign bias shifts the range: the next larger exponent has room for it.
        room = exponent <= bits if dtype["bias"] == (1 << (exponent - 1)) - 1 else exponent < bits
        if room and mantissa <= fraction and dtype["bias"] <= bias and dtype["size"] <= 8:
            return np.dtype(name)
    return None


def access(dtype: Datatype) -> str:
    """How values are read: ``h5py`` (as h5py reads them), ``convert`` (HDF5 widens to numpy's), ``raw`` (bytes as stored)."""
    found = {"h5py"}
    for part in parts(dtype):
        kind = class_of(part)
        if kind in ("bitfield", "time") or (kind == "opaque" and not _numpy_time(cast(dict[str, Any], part))):
            found.add("raw")
        elif kind in ("compound", "enum") and not _utf8_names(cast(dict[str, Any], part)["members"]):
            found.add("raw")  # h5py cannot name them
        elif kind in ("integer", "float"):
            found.add("convert" if _native(cast(dict[str, Any], part)) is not None else "raw")
        elif kind == "complex" and isinstance(part, dict) and not isinstance(part.get("base", ""), str):
            found.add("raw")
    if "raw" not in found and "convert" in found and variable(dtype):
        return "h5py"
    return "raw" if "raw" in found else "convert" if "convert" in found else "h5py"


def _utf8_names(members: Any) -> bool:
    """Whether the names of members, of a compound or of an enumeration, are UTF-8."""
    try:
        "".join(item if isinstance(item, str) else item[0] for item in members).encode()
    except UnicodeEncodeError:
        return False
    return True


def _numpy_time(dtype: dict[str, Any]) -> np.dtype[Any] | None:
    """Numpy's dtype of h5py's tagged opaque times, where it has a unit."""
    if dtype["tag"].startswith("NUMPY:"):
        try:
            found = np.dtype(dtype["tag"][6:])
        except TypeError:
            return None
        return found if found.kind in "mM" and np.datetime_data(found)[0] != "generic" else None
    return None


def plain(dtype: Datatype, *, raw: bool = False) -> np.dtype[Any] | None:
    """The packed numpy dtype that carries a fixed-size datatype, or None where only several arrays or strings can.

    With `raw`, members that numpy has no word for are their bytes, unconverted.

    >>> plain(BOOL), plain({"class": "opaque", "size": 5, "tag": ""}), plain({"class": "vlen", "base": "<i4"})
    (dtype('bool'), dtype('V5'), None)
    """
    kind = class_of(dtype)
    if isinstance(dtype, str):
        return np.dtype(dtype)
    if kind == "bool":
        return np.dtype(np.int8) if raw else np.dtype(bool)
    if kind == "enum":
        return plain(dtype["base"], raw=raw)
    if kind == "string":
        return np.dtype(f"S{dtype['size']}") if dtype["size"] else None
    if kind == "complex":
        base = _complex_base(dtype) if dtype["class"] == "compound" else dtype["base"]
        if isinstance(base, str) and base[1:] in ("f4", "f8"):
            return np.dtype(f"{base[0]}c{2 * int(base[2])}")
        return np.dtype(f"V{_size(dtype)}")
    if kind in ("bitfield", "time"):
        whole = dtype["size"] in (1, 2, 4, 8) and dtype.get("order") != "vax"
        order, letter = ">" if dtype.get("order") == "big" else "<", "u" if kind == "bitfield" else "i"
        return np.dtype(f"{order}{letter}{dtype['size']}" if whole else f"V{dtype['size']}")
    if kind in ("integer", "float"):
        return (None if raw else _native(dtype)) or np.dtype(f"V{dtype['size']}")
    if kind == "opaque":
        return _numpy_time(dtype) or np.dtype(f"V{dtype['size']}")
    if kind == "compound":
        fields = [(name, plain(member, raw=raw)) for name, _, member in dtype["members"]]
        names = {name for name, _ in fields}
        if len(names) == len(fields) > 0 and "" not in names and all(f is not None for _, f in fields):
            return np.dtype(fields)
    return None


def _size(dtype: Datatype) -> int:
    """Bytes of a fixed-size datatype in the file."""
    if isinstance(dtype, str):
        return np.dtype(dtype).itemsize
    if dtype["class"] == "array":
        return int(np.prod(dtype["shape"])) * _size(dtype["base"])
    factor = 2 if dtype["class"] == "complex" else 1
    return factor * _size(dtype["base"]) if "base" in dtype else cast(int, dtype["size"])


def raw_layout(dtype: Datatype) -> np.dtype[Any]:
    """The numpy dtype of a fixed-size datatype's bytes exactly as they lie in the file, padding included."""
    if isinstance(dtype, dict) and class_of(dtype) == "compound":
        members = dtype["members"]
        return np.dtype(
            {
                "names": [name for name, _, _ in members],
                "offsets": [offset for _, offset, _ in members],
                "formats": [raw_layout(member) for _, _, member in members],
                "itemsize": dtype["size"],
            }
        )
    if isinstance(dtype, dict) and dtype["class"] == "array":
        return np.dtype((raw_layout(dtype["base"]), tuple(dtype["shape"])))
    found = plain(dtype, raw=True)
    if found is None:
        raise UnsupportedError(f"a {class_of(dtype)} has no fixed size")
    return found


def memory(dtype: Datatype, tid: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """An empty numpy array, and the HDF5 memory datatype to read into it, for what `access` calls ``raw`` or ``convert``.

    Parameters
    ----------
    tid : h5py.h5t.TypeID
        The file's datatype, that `dtype` describes: read without conversion where ``raw``.
    """
    if access(dtype) == "raw":
        return np.zeros(shape, raw_layout(dtype)), tid
    extra: tuple[int, ...] = ()
    while isinstance(dtype, dict) and dtype["class"] == "array":
        extra += tuple(dtype["shape"])
        dtype = dtype["base"]
    found = cast("np.dtype[Any]", plain(dtype))
    mtype = h5t.py_create(found, logical=True)
    return np.zeros(shape + extra, found), h5t.array_create(mtype, extra) if extra else mtype


def relabelled(values: Any, dtype: Datatype) -> Any:
    """Numbers out of a sequence, with the byte order that they really have.

    h5py hands over big-endian sequences unswapped, but calls them native (at least up to 3.16).
    """
    found = plain(dtype) if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" else None
    if found is None or found.byteorder != ">" or values.dtype.byteorder == ">" or not _unswapped():
        return values
    return values.view(found)


@cache
def _unswapped() -> bool:
    """Whether h5py mislabels big-endian sequences here."""
    with h5py.File(f"probe {get_ident()}", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset("x", (1,), h5py.vlen_dtype(np.dtype(">i2")))
        made[0] = np.array([1], ">i2")
        found = made[0]
        return bool(found[0] != 1)


@dataclass(frozen=True)
class Leaf:
    """One Zarr array of those that carry a dataset.

    Attributes
    ----------
    steps : tuple of str
        How its values are taken out of the dataset's: ``.name`` a member, ``lengths`` and ``values`` of a sequence.
    dtype : numpy.dtype or str
        A numpy dtype, or ``string`` for variable-length text and the paths of references.
    extra : tuple of int
        Dimensions that array datatypes add.
    ragged : bool
        Whether its first axis counts the elements of sequences rather than the dataset's own.
    """

    steps: tuple[str, ...]
    dtype: np.dtype[Any] | str
    extra: tuple[int, ...] = ()
    ragged: bool = False
    described: Datatype = ""


def leaves(dtype: Datatype, *, nested: bool = True, raw: bool | None = None) -> list[Leaf]:
    """The arrays that carry a datatype: one where Zarr has a word for it, else one a member or part.

    Parameters
    ----------
    nested : bool
        Whether structured types may hold structured types (Zarr format 2 cannot).

    Raises
    ------
    UnsupportedError
        For what neither numpy nor h5py reads: standard references, sequences of raw types.

    Examples
    --------
    >>> [leaf.steps for leaf in leaves({"class": "vlen", "base": "<i4"})]
    [('lengths',), ('values',)]
    """
    raw = access(dtype) == "raw" if raw is None else raw
    kind = class_of(dtype)
    if kind == "reference" and cast(dict[str, Any], dtype)["kind"] == "standard":
        raise UnsupportedError("references of HDF5 1.12's kind (H5R_ref_t) cannot be read with h5py")
    if raw and (kind == "vlen" or kind == "reference" or (is_string(dtype) and plain(dtype) is None)):
        inner = sorted({class_of(p) for p in parts(dtype)})
        raise UnsupportedError(f"variable-length data with types that numpy has no word for ({', '.join(inner)})")
    if kind == "reference" or (is_string(dtype) and plain(dtype) is None):
        return [Leaf((), "string", described=dtype)]
    if kind.startswith("unknown"):
        raise UnsupportedError(f"an HDF5 datatype of an unknown class ({kind})")
    if isinstance(dtype, dict) and kind == "array":
        outer = tuple(dtype["shape"])
        inner_leaves = leaves(dtype["base"], nested=nested, raw=raw)
        return [
            leaf if leaf.ragged else Leaf(leaf.steps, leaf.dtype, outer + leaf.extra, described=leaf.described)
            for leaf in inner_leaves
        ]
    if isinstance(dtype, dict) and kind == "vlen":
        lengths = Leaf(("lengths",), np.dtype("<u8"), described="<u8")
        below = leaves(dtype["base"], nested=nested, raw=raw)
        return [lengths] + [Leaf(("values", *leaf.steps), leaf.dtype, leaf.extra, True, leaf.described) for leaf in below]
    found = plain(dtype, raw=raw)
    deep = found is not None and found.names is not None and any(found[n].names for n in found.names)
    if found is not None and (nested or not deep):
        return [Leaf((), found, described=dtype)]
    members = cast(dict[str, Any], dtype)["members"]
    if not members:
        raise UnsupportedError("a compound without members")
    return [
        Leaf((f".{name}", *leaf.steps), leaf.dtype, leaf.extra, leaf.ragged, leaf.described)
        for name, _, member in members
        for leaf in leaves(member, nested=nested, raw=raw)
    ]
