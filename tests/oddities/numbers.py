"""Integers, floats, complex numbers, booleans, enumerations, times, bitfields and opaque bytes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from h5py import h5t

from .registry import oddity, raw_dataset

INTEGERS = [f"{order}{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8) for order in "<>" if size > 1 or order == "<"]
FLOATS = [f"{order}f{size}" for size in (2, 4, 8) for order in "<>"]
COMPLEX = [f"{order}c{size}" for size in (8, 16) for order in "<>"]
NAN_PAYLOADS = [0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800001, 0xFFABCDEF, 0x7F800000, 0xFF800000, 0x80000000]


@oddity
def integers_of_every_size_and_order(path: Path) -> None:
    """Each with its extremes, which a detour over another type would lose."""
    with h5py.File(path, "w") as file:
        for name in INTEGERS:
            limits = np.iinfo(name)
            file[f"{name[1:]}_{'big' if name[0] == '>' else 'little'}"] = np.array(
                [limits.min, limits.max, 0, 1, limits.max - 1], name
            )


@oddity
def floats_of_every_size_and_order(path: Path) -> None:
    """Each with its extremes, its smallest subnormal, both zeros, infinities and NaN."""
    with h5py.File(path, "w") as file:
        for name in FLOATS:
            limits = np.finfo(name)
            values = [
                limits.max,
                limits.min,
                limits.tiny,
                limits.smallest_subnormal,
                0.0,
                -0.0,
                np.inf,
                -np.inf,
                np.nan,
            ]
            file[f"{name[1:]}_{'big' if name[0] == '>' else 'little'}"] = np.array(values, name)


@oddity
def nan_payloads(path: Path) -> None:
    """NaNs of other bits, signalling ones and negative ones."""
    with h5py.File(path, "w") as file:
        file["f4"] = np.array(NAN_PAYLOADS, "<u4").view("<f4")
        file["f4_big"] = np.array(NAN_PAYLOADS, ">u4").view(">f4")
        file["f8"] = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001], "<u8").view("<f8")
        file["f2"] = np.array([0x7E01, 0xFE00, 0x7C01], "<u2").view("<f2")


@oddity
def negative_zero_over_zero_fill(path: Path) -> None:
    """-0.0 equals the fill value 0.0, and differs in its bits."""
    with h5py.File(path, "w") as file:
        minus = np.full((4, 4), -0.0, "<f8")
        file.create_dataset("minus", data=minus, chunks=(2, 2))
        file.create_dataset("plus_over_minus", data=np.zeros((4, 4), "<f4"), chunks=(2, 2), fillvalue=np.float32(-0.0))


@oddity
def complex_numbers(path: Path) -> None:
    """h5py's compound of r and i, in each size and byte order, with NaN parts."""
    with h5py.File(path, "w") as file:
        for name in COMPLEX:
            values = np.array([1 + 2j, complex(np.nan, -0.0), complex(-np.inf, 3)], name)
            file[f"{name[1:]}_{'big' if name[0] == '>' else 'little'}"] = values
        file["scalar"] = np.complex128(3 - 4j)


@oddity
def complex_of_hdf5_two(path: Path) -> None:
    """The native complex datatype that HDF5 2.0 brought."""
    with h5py.File(path, "w", libver="latest") as file:
        raw_dataset(file, "c8", h5t.COMPLEX_IEEE_F32LE, np.array([1 + 2j, -3.5 - 0.25j], "<c8"))
        raw_dataset(file, "c16_big", h5t.COMPLEX_IEEE_F64BE, np.array([1 + 2j, -3.5 - 0.25j], ">c16"))


@oddity
def booleans(path: Path) -> None:
    """h5py's enumeration of FALSE and TRUE."""
    with h5py.File(path, "w") as file:
        file["flags"] = np.array([[True, False], [False, True]])
        file["scalar"] = np.True_


@oddity
def enumerations(path: Path) -> None:
    """Over several integer types, with a gap, a negative value, and a value that has no name."""
    with h5py.File(path, "w") as file:
        colours = h5py.enum_dtype({"RED": 0, "GREEN": 1, "BLUE": 42}, basetype="u1")
        file.create_dataset("colours", data=np.array([0, 42, 1, 7], "u1"), dtype=colours)
        signs = h5py.enum_dtype({"minus one": -1, "nought": 0, "ünïcode": 1}, basetype=">i2")
        file.create_dataset("signs", data=np.array([-1, 0, 1], ">i2"), dtype=signs)
        wide = h5py.enum_dtype({"LAST": 2**63 - 1, "FIRST": -(2**63)}, basetype="<i8")
        file.create_dataset("wide", data=np.array([2**63 - 1, -(2**63)], "<i8"), dtype=wide)


@oddity
def bfloat16(path: Path) -> None:
    """A 16-bit float with float32's exponent; and one of 20 bits, seven bits from the end of four bytes."""
    tid = h5t.IEEE_F32LE.copy()
    tid.set_fields(15, 7, 8, 0, 7)
    tid.set_size(2)
    tid.set_ebias(127)
    with h5py.File(path, "w") as file:
        raw_dataset(file, "values", tid, np.array([0x3F80, 0xC000, 0x7F80, 0x7FC0, 0x0001], "<u2"))
        short = h5t.IEEE_F32LE.copy()
        short.set_fields(26, 20, 6, 7, 13)
        short.set_offset(7)
        short.set_precision(20)
        short.set_size(4)
        short.set_ebias(31)
        raw_dataset(file, "short", short, np.array([31 << 20, 1 << 26 | 32 << 20 | 1 << 19, 33 << 20 | 1 << 7], "<u4"))


@oddity
def long_doubles(path: Path) -> None:
    """The 80 bits of an x87 in 16 bytes."""
    with h5py.File(path, "w") as file:
        raw_dataset(file, "values", h5t.NATIVE_LDOUBLE, np.array([1, 1 / np.longdouble(3), np.nan], np.longdouble))


@oddity
def integers_of_odd_sizes(path: Path) -> None:
    """Three bytes; twelve of sixteen bits, shifted, and 24 of 32, in both byte orders; five bytes; sixteen."""
    with h5py.File(path, "w") as file:
        three = h5t.STD_I32LE.copy()
        three.set_precision(24)
        three.set_size(3)
        raw_dataset(file, "three", three, np.array([b"\x01\x02\x03", b"\xff\xff\xff", b"\x00\x00\x80"], "V3"))
        twelve = h5t.STD_U16LE.copy()
        twelve.set_precision(12)
        twelve.set_offset(2)
        raw_dataset(file, "twelve", twelve, np.array([0x0004, 0x3FFC, 0x0C0C], "<u2"))
        twelve.set_order(h5t.ORDER_BE)
        raw_dataset(file, "twelve_big_endian", twelve, np.array([0x0004, 0x3FFC, 0x0C0C], ">u2"))
        for name, wide in (("wide", h5t.STD_I32LE.copy()), ("wide_big_endian", h5t.STD_I32BE.copy())):
            wide.set_precision(24)
            raw_dataset(file, name, wide, np.array([1, 0x7FFFFF, 0x800000, 0xFFFFFF], wide.dtype.str.replace("i", "u")))
        five = h5t.STD_U64BE.copy()
        five.set_precision(40)
        five.set_size(5)
        raw_dataset(file, "five", five, np.array([b"\x01\x02\x03\x04\x05", b"\xff\xff\xff\xff\xff"], "V5"))
        sixteen = h5t.STD_I64LE.copy()
        sixteen.set_size(16)
        sixteen.set_precision(128)
        raw_dataset(file, "sixteen", sixteen, np.array([bytes(range(16)), b"\xff" * 16], "V16"))


@oddity
def bitfields(path: Path) -> None:
    """Of each size and byte order."""
    with h5py.File(path, "w") as file:
        for size in (8, 16, 32, 64):
            for order in ("LE", "BE"):
                values = np.array([1, 0xA5, 0], f"{'<' if order == 'LE' else '>'}u{size // 8}")
                raw_dataset(file, f"b{size}_{order}", getattr(h5t, f"STD_B{size}{order}"), values)


@oddity
def times(path: Path) -> None:
    """HDF5's own, deprecated, time datatype."""
    with h5py.File(path, "w") as file:
        for name, dtype in {"D32LE": "<i4", "D32BE": ">i4", "D64LE": "<i8", "D64BE": ">i8"}.items():
            raw_dataset(file, name, getattr(h5t, f"UNIX_{name}"), np.array([0, 1_700_000_000, -1], dtype))


@oddity
def opaque_bytes(path: Path) -> None:
    """With a tag, without one, and longer than any number."""
    with h5py.File(path, "w") as file:
        for name, size, tag in (("tagged", 5, b"image/x-odd"), ("untagged", 3, b""), ("long", 300, b"blob")):
            tid = h5t.create(h5t.OPAQUE, size)
            tid.set_tag(tag)
            raw_dataset(file, name, tid, np.array([bytes([i]) * size for i in (0, 1, 255)], f"V{size}"))


@oddity
def numpy_times(path: Path) -> None:
    """numpy's datetime64 and timedelta64 as h5py's tagged opaque, with NaT."""
    with h5py.File(path, "w") as file:
        moments = np.array(["2020-02-29T12:34:56", "NaT", "1969-12-31T23:59:59"], "<M8[s]")
        file["seconds"] = moments.astype(h5py.opaque_dtype("<M8[s]"))
        file["nanoseconds"] = moments.astype("<M8[ns]").astype(h5py.opaque_dtype("<M8[ns]"))
        spans = np.array([1, -5, "NaT"], "<m8[ms]")
        file["spans"] = spans.astype(h5py.opaque_dtype("<m8[ms]"))
