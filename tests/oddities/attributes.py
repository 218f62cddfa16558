"""Attributes of every kind, on groups, datasets and the root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5s, h5t

from .registry import oddity
from .strings import LATIN, PADDINGS


def raw_attribute(holder: h5py.HLObject, name: str, tid: h5t.TypeID, values: np.ndarray) -> None:
    """Write an attribute's bytes unconverted."""
    values = np.asarray(values, order="C")
    space = h5s.create_simple(values.shape) if values.ndim else h5s.create(h5s.SCALAR)
    h5a.create(holder.id, name.encode(), tid, space).write(values, tid)


@oddity
def attributes_of_numbers(path: Path) -> None:
    """Each type and size, as scalar, with one element, with several, with several dimensions, with none."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.arange(3))
        for holder in (file, file.create_group("group"), data):
            for dtype in ("<i1", "<u2", ">i4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", "<c8", "?"):
                holder.attrs.create(f"scalar_{dtype}", np.ones((), dtype))
            holder.attrs.create("largest", np.uint64(2**64 - 1))
            holder.attrs.create("one", np.array([7], "<i4"))
            holder.attrs.create("one_by_one", np.array([[7.0]], "<f8"))
            holder.attrs.create("several", np.array([0.1, 0.2], "<f4"))
            holder.attrs.create("table", np.arange(6, dtype="<i8").reshape(2, 3))
            holder.attrs.create("none", np.zeros((0,), "<f8"))
            holder.attrs.create("no_columns", np.zeros((2, 0), "<i2"))


@oddity
def attributes_that_are_not_finite(path: Path) -> None:
    """What JSON has no word for: NaN of several bits, infinities, in scalars and in arrays."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.arange(3.0), fillvalue=np.nan)
        for holder in (file, data):
            holder.attrs["nan"] = np.nan
            holder.attrs["inf"] = np.inf
            holder.attrs["minus_inf_f4"] = np.float32(-np.inf)
            holder.attrs["payload"] = np.array(0x7FC00001, "<u4").view("<f4")[()]
            holder.attrs["row"] = np.array([1.5, np.nan, -np.inf])
            holder.attrs["minus_zero"] = -0.0
            holder.attrs["complex"] = complex(np.nan, np.inf)
        data.attrs["_FillValue"] = np.nan
        data.attrs["missing_value"] = np.array([np.nan], "<f4")
        data.attrs["valid_range"] = np.array([-np.inf, np.inf], "<f4")


@oddity
def attributes_of_text(path: Path) -> None:
    """Variable and fixed, each padding, arrays, empty, not UTF-8, empty fixed strings, long."""
    with h5py.File(path, "w") as file:
        for holder in (file, file.create_dataset("data", data=np.arange(3))):
            holder.attrs["plain"] = "ünï ☃"
            holder.attrs["empty"] = ""
            holder.attrs["ascii"] = np.bytes_(b"fixed")
            holder.attrs.create("words", ["a", "", "☃"], dtype=h5py.string_dtype())
            holder.attrs["one_word"] = np.array(["alone"], object)
            holder.attrs["fixed_words"] = np.array([[b"ab", b"c"], [b"", b"de"]], "S2")
            holder.attrs.create("latin", np.bytes_(LATIN))
            holder.attrs["long"] = "x" * 60_000
            for padding, code in PADDINGS.items():
                tid = h5t.C_S1.copy()
                tid.set_size(6)
                tid.set_strpad(code)
                fill = b" " if padding == "spacepad" else b"\0"
                raw_attribute(holder, padding, tid, np.array(np.void(b"abc".ljust(6, fill))))


@oddity
def attributes_of_odd_types(path: Path) -> None:
    """Null dataspaces, enumerations, booleans, compounds, arrays, sequences, opaque bytes, references."""
    with h5py.File(path, "w") as file:
        target = file.create_dataset("there", data=np.arange(6).reshape(2, 3))
        for holder in (file, file.create_dataset("data", data=np.arange(3))):
            attrs = holder.attrs
            attrs["null"] = h5py.Empty("<f4")
            attrs["null_text"] = h5py.Empty("S1")
            attrs["null_words"] = h5py.Empty(h5py.string_dtype())
            attrs.create("enum", 2, dtype=h5py.enum_dtype({"RED": 0, "BLUE": 2}, basetype="u1"))
            attrs["flags"] = np.array([True, False])
            attrs["compound"] = np.array((1, 2.5, b"xy"), [("a", "<i4"), ("b", ">f4"), ("c", "S2")])[()]
            attrs["compounds"] = np.array([(1, np.nan), (2, 0.5)], [("a", "<i4"), ("b", "<f4")])
            attrs["nested"] = np.array([((1, 2), 3)], [("in", [("x", "u1"), ("y", "u1")]), ("z", "i1")])
            attrs.create("with_text", np.array((1, "ünï"), [("n", "<i4"), ("s", h5py.string_dtype())]))
            attrs.create("vectors", np.arange(6, dtype="<i2").reshape(2, 3), dtype=np.dtype(("<i2", (3,))))
            rows = np.empty(2, h5py.vlen_dtype("<i4"))
            rows[0], rows[1] = np.array([1, 2], "<i4"), np.array([], "<i4")
            attrs.create("rows", rows, dtype=h5py.vlen_dtype("<i4"))
            rows[0] = np.array([1, 2], ">i4")
            attrs.create("rows_big_endian", rows, dtype=h5py.vlen_dtype(">i4"))
            attrs["bytes"] = np.void(b"\x00\x01\xff")
            attrs["moment"] = np.array(["2020-01-01"], "<M8[s]").astype(h5py.opaque_dtype("<M8[s]"))
            attrs["where"] = target.ref
            attrs["wheres"] = np.array([target.ref, file.ref], h5py.ref_dtype)
            attrs["region"] = target.regionref[0:1, 1:3]
            raw_attribute(holder, "bits", h5t.STD_B16LE, np.array([0xA5, 1], "<u2"))
            raw_attribute(holder, "time", h5t.UNIX_D32LE, np.array(1_700_000_000, "<i4"))
            raw_attribute(holder, "long_double", h5t.NATIVE_LDOUBLE, np.array(np.longdouble(1) / 3))


@oddity
def attributes_with_hard_names(path: Path) -> None:
    """Not ASCII, with slashes, spaces and dots, and those that mean something to Zarr readers."""
    names = [
        "ünï ☃",
        "a/b",
        " ",
        "a.b",
        "x" * 500,
        "h5z",
        "_ARRAY_DIMENSIONS",
        "dtype",
        "shape",
        "zarr_format",
        "attributes",
        "\\n",
    ]
    with h5py.File(path, "w") as file:
        for holder in (file, file.create_group("group"), file.create_dataset("data", data=np.arange(3))):
            for i, name in enumerate(names):
                holder.attrs[name] = np.int32(i)


@oddity
def many_and_large_attributes(path: Path) -> None:
    """Past compact storage: more than 64 KiB in one, and a hundred of them."""
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["large"] = np.arange(20_000, dtype="<f8")
        for i in range(100):
            file.attrs[f"a{i:03d}"] = i


@oddity
def fill_attributes_of_odd_forms(path: Path) -> None:
    """``_FillValue`` as others write it: of text, of several values, of another type than its array."""
    with h5py.File(path, "w") as file:
        file["words"] = np.array(["NA", "x"], object)
        file["words"].attrs["_FillValue"] = "NA"
        file["letters"] = np.array([b"NA", b"x"])
        file["letters"].attrs["_FillValue"] = np.bytes_(b"NA")
        file["floats"] = np.arange(3, dtype="<f4")
        file["floats"].attrs["_FillValue"] = [1.0, 2.0]
        file["complexes"] = np.arange(3, dtype="<c8")
        file["complexes"].attrs["_FillValue"] = [1.0, 2.0, 3.0]
        file["integers"] = np.arange(3)
        file["integers"].attrs["_FillValue"] = "NA"
        file["compounds"] = np.zeros(2, [("a", "<i4")])
        file["compounds"].attrs["_FillValue"] = np.zeros(1, [("a", "<i4")])
        values: dict[str, Any] = {
            "an_integer": 5,
            "a_real": 1.5,
            "a_truth": True,
            "nothing": np.zeros(0),
            "a_table": np.zeros((2, 2)),
            "two_words": ["a", "b"],
            "a_record": np.array([(1, b"x")], [("a", "<i4"), ("b", "S2")]),
            "null": h5py.Empty("<f4"),
            "null_word": h5py.Empty("S1"),
            "a_reference": file.ref,
        }
        for name, value in values.items():
            for kind in ("letters", "floats", "complexes", "integers", "compounds"):
                file.copy(file[kind], f"{kind}_with_{name}")
                file[f"{kind}_with_{name}"].attrs["_FillValue"] = value
