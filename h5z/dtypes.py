"""What numpy dtype carries an HDF5 datatype, as `h5z.hdf5.datatypes` describes it, and how its values are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from threading import get_ident
from typing import Any, cast

import h5py
import numpy as np

from h5z.errors import UnsupportedError
from h5z.nodes import Datatype

BOOL: Datatype = {"class": "enum", "base": "<i1", "members": {"FALSE": 0, "TRUE": 1}}
REGION: Datatype = {"class": "reference", "kind": "region"}
STRING: Datatype = {"class": "string", "size": None, "charset": "utf-8", "padding": "nullterm"}


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


def refers(dtype: Datatype) -> bool:
    """Whether all text in a value is that of references."""
    found = list(parts(dtype))
    return any(class_of(part) == "reference" for part in found) and not any(map(is_string, found))


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
    """How values are read.

    ``h5py``: as h5py reads them; ``convert``: HDF5 widens to numpy's; ``raw``: bytes as stored; ``lent``: out of libhdf5's
    own memory.
    """
    if any(class_of(part) == "vlen" and REGION in parts(part) for part in parts(dtype)):
        return "lent" if dtype == {"class": "vlen", "base": REGION} else "raw"  # h5py (3.16) writes past its buffer
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


def array_of(inner: np.dtype[Any], shape: Sequence[int]) -> np.dtype[Any]:
    """The numpy dtype of arrays of a dtype, which may be arrays themselves.

    >>> array_of(array_of(np.dtype("<i4"), (6, 3)), [4])
    dtype(('<i4', (4, 6, 3)))
    """
    return np.dtype((inner.base, (*shape, *inner.shape)))


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
        return array_of(raw_layout(dtype["base"]), dtype["shape"])
    found = plain(dtype, raw=True)
    if found is None:
        raise UnsupportedError(f"a {class_of(dtype)} has no fixed size")
    return found


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
