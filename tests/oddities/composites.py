"""Compounds, array datatypes, variable-length sequences and references."""

from __future__ import annotations

import ctypes
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5p, h5s, h5t

from .registry import call, identifier, oddity, raw_dataset


@oddity
def array_datatypes(path: Path) -> None:
    """Of one and of two dimensions, of arrays, of strings, chunked, in a scalar."""
    with h5py.File(path, "w") as file:
        block = np.arange(4 * 3 * 2, dtype="<i4").reshape(4, 3, 2)
        file.create_dataset("numbers", shape=(4,), dtype=np.dtype(("<i4", (3, 2))), chunks=(2,))[...] = block
        tid = h5t.array_create(h5t.py_create(np.dtype("S3")), (2,))
        raw_dataset(file, "words", tid, np.array([b"abcdef", b"x\0\0yz\0"], "V6"))
        tid = h5t.array_create(h5t.IEEE_F64BE, (3,))
        raw_dataset(file, "scalar", tid, np.array(np.array([1.5, -0.0, np.nan], ">f8").tobytes(), "V24"))
        tid = h5t.array_create(h5t.array_create(h5t.STD_I16LE, (2, 3)), (4,))
        raw_dataset(file, "nested", tid, np.arange(48, dtype="<i2").view("V48"))
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        raw_dataset(file, "nested_chunked", tid, np.arange(72, dtype="<i2").view("V48"), plist=plist)


@oddity
def compounds_of_numbers(path: Path) -> None:
    """Packed, of mixed byte order, with a boolean, an enumeration and a complex number."""
    colour = h5py.enum_dtype({"RED": 0, "BLUE": 2}, basetype="u1")
    dtype = np.dtype([("a", "<i2"), ("b", ">f8"), ("flag", "?"), ("colour", colour), ("z", "<c8"), ("ünï code", "<u8")])
    rows = np.zeros(5, dtype)
    rows["a"], rows["b"], rows["flag"] = np.arange(5) - 2, [0.1, np.nan, -0.0, np.inf, 5e-324], [1, 0, 1, 1, 0]
    rows["colour"], rows["z"], rows["ünï code"] = (
        [0, 2, 2, 0, 2],
        np.arange(5) * (1 - 1j),
        2**64 - 1 - np.arange(5, dtype="u8"),
    )
    with h5py.File(path, "w") as file:
        file.create_dataset("rows", data=rows, chunks=(2,), compression="gzip")
        file["scalar"] = rows[1]


@oddity
def padded_compounds(path: Path) -> None:
    """Members with room between them and after the last, and in another order than their offsets."""
    aligned = np.dtype({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [3, 16], "itemsize": 32})
    rows = np.zeros(3, aligned)
    rows["a"], rows["b"] = [1, -2, 3], [0.5, -0.25, np.nan]
    with h5py.File(path, "w") as file:
        file["rows"] = rows
        tid = h5t.create(h5t.COMPOUND, 12)
        tid.insert(b"second", 8, h5t.STD_I32LE)
        tid.insert(b"first", 0, h5t.IEEE_F32BE)
        packed = np.zeros(2, {"names": ["first", "second"], "formats": [">f4", "<i4"], "offsets": [0, 8], "itemsize": 12})
        packed["first"], packed["second"] = [1.5, -2], [7, -8]
        raw_dataset(file, "reordered", tid, packed.view("V12"))


@oddity
def nested_compounds(path: Path) -> None:
    """Three levels, the innermost with a fixed string."""
    inner = np.dtype([("x", "<f4"), ("tag", "S3")])
    middle = np.dtype([("inner", inner), ("n", "<i8")])
    rows = np.zeros((2, 2), np.dtype([("middle", middle), ("last", ">u2")]))
    rows["middle"]["inner"]["x"] = [[1, 2], [3, np.nan]]
    rows["middle"]["inner"]["tag"] = [[b"abc", b""], [b"z", b"yy"]]
    rows["middle"]["n"], rows["last"] = [[1, 2], [3, -4]], [[9, 8], [7, 65535]]
    with h5py.File(path, "w") as file:
        file["rows"] = rows


@oddity
def compounds_with_strings_arrays_and_references(path: Path) -> None:
    """Members that Zarr's structured type has no word for."""
    dtype = np.dtype(
        [
            ("id", "<i4"),
            ("name", h5py.string_dtype()),
            ("vector", "<f8", (3,)),
            ("where", h5py.ref_dtype),
            ("ragged", h5py.vlen_dtype("<i2")),
            ("ragged_big", h5py.vlen_dtype(">i2")),
            ("inner", np.dtype([("label", h5py.string_dtype("ascii")), ("w", ">f4")])),
        ]
    )
    with h5py.File(path, "w") as file:
        file["there"] = np.arange(3)
        rows = np.zeros(3, dtype)
        rows["id"], rows["name"] = [1, 2, 3], ["eins", "", "drei ☃"]
        rows["vector"] = np.arange(9).reshape(3, 3) / 8
        rows["where"] = [file["there"].ref, file.ref, file["there"].ref]
        for i, values in enumerate(([1, 2], [], [3])):
            rows["ragged"][i] = np.array(values, "<i2")
            rows["ragged_big"][i] = np.array(values, ">i2")
        rows["inner"]["label"], rows["inner"]["w"] = ["a", "b", ""], [0.5, 1.5, -2.5]
        file.create_dataset("rows", data=rows, chunks=(2,))


@oddity
def compounds_with_an_array_only(path: Path) -> None:
    """Fixed-size members of which one is an array datatype."""
    rows = np.zeros(4, np.dtype([("id", "<u2"), ("matrix", "<f4", (2, 2))]))
    rows["id"], rows["matrix"] = np.arange(4), np.arange(16).reshape(4, 2, 2)
    with h5py.File(path, "w") as file:
        file["rows"] = rows


@oddity
def compounds_of_odd_numbers(path: Path) -> None:
    """Numbers of four and of 24 bits, alone, in an enumeration and in an array, beside text, a truth value and an array."""
    nibble = h5t.STD_U8LE.copy()
    nibble.set_precision(4)
    state = h5t.enum_create(nibble)
    state.enum_insert(b"OFF", 0)
    state.enum_insert(b"ON", 9)
    text = h5t.C_S1.copy()
    text.set_size(4)
    text.set_cset(h5t.CSET_UTF8)
    truth = h5t.py_create(np.dtype(bool), logical=True)
    wide = h5t.STD_I32BE.copy()
    wide.set_precision(24)
    tid = h5t.create(h5t.COMPOUND, 24)
    members = [(0, state), (1, nibble), (4, text), (8, truth), (9, h5t.array_create(nibble, (3,))), (12, wide)]
    for place, member in [*members, (16, h5t.array_create(h5t.IEEE_F32LE, (2,)))]:
        tid.insert(f"at{place}".encode(), place, member)
    rows = np.zeros((3, 24), "u1")
    rows[:, 0], rows[:, 1], rows[:, 4:6], rows[:, 8] = [9, 0, 9], [15, 1, 7], [0xC3, 0xBC], [1, 0, 1]
    rows[:, 9:12], rows[:, 13:16] = [1, 15, 8], [[0, 1, 2], [127, 255, 255], [255, 255, 255]]
    rows[:, 16:] = np.array([0.5, np.inf], "<f4").view("u1")
    with h5py.File(path, "w") as file:
        raw_dataset(file, "rows", tid, rows.view("V24")[:, 0])
        aid = h5a.create(file["rows"].id, b"first", tid, h5s.create_simple((1,)))
        aid.write(rows[:1].view("V24")[:, 0], tid)


def _sequences(rows: list[object], base: object) -> np.ndarray:
    out = np.empty(len(rows), h5py.vlen_dtype(base))
    for i, row in enumerate(rows):
        out[i] = np.array(row, base)
    return out


@oddity
def sequences(path: Path) -> None:
    """Of numbers, with empty rows, chunked, in two dimensions, in a scalar, all empty, never written."""
    with h5py.File(path, "w") as file:
        ragged = _sequences([[1, 2, 3], [], [4], [-5, 6]], "<i4")
        file.create_dataset("rows", data=ragged, dtype=h5py.vlen_dtype("<i4"), chunks=(3,))
        file.create_dataset("big_endian", data=_sequences([[0.5], [np.nan, -0.0]], ">f8"), dtype=h5py.vlen_dtype(">f8"))
        table = file.create_dataset("table", (2, 2), dtype=h5py.vlen_dtype("<u1"))
        table[0, 0], table[1, 1], table[1, 0] = np.array([1, 2], "u1"), np.array([3], "u1"), np.array([], "u1")
        file.create_dataset("scalar", (), dtype=h5py.vlen_dtype("<i8"))[()] = np.array([7, 8, 9])
        file.create_dataset("empty_rows", (3,), dtype=h5py.vlen_dtype("<f4"))
        file.create_dataset("no_rows", (0,), maxshape=(None,), dtype=h5py.vlen_dtype("<f4"))


@oddity
def sequences_of_compounds(path: Path) -> None:
    """Each row a table of its own."""
    point = np.dtype([("x", ">f4"), ("n", "<i2")])
    with h5py.File(path, "w") as file:
        data = file.create_dataset("rows", (3,), dtype=h5py.vlen_dtype(point))
        data[0], data[2] = np.array([(1.5, 2), (-0.5, 3)], point), np.array([(np.nan, -1)], point)


@oddity
def sequences_of_strings(path: Path) -> None:
    """Rows of words: PyTables' and HDF5's own examples write them."""
    kind = h5t.vlen_create(h5t.py_create(h5py.string_dtype(), logical=True))
    words = [[b"a", b"bc"], [], ["☃".encode()]]
    texts = [(ctypes.c_char_p * len(row))(*row) for row in words]
    rows = (_Sequence * 3)(*(_Sequence(len(row), ctypes.cast(row, ctypes.c_void_p)) for row in texts))
    with h5py.File(path, "w") as file:
        did = h5d.create(file.id, b"rows", kind, h5s.create_simple((3,)))
        # h5py's own conversion to sequences of strings fails on arrays of text.
        everything = ctypes.c_int64(0)
        call("H5Dwrite", identifier(did), identifier(kind), everything, everything, everything, rows)


class _Sequence(ctypes.Structure):
    """HDF5's ``hvl_t``."""

    _fields_ = (("length", ctypes.c_size_t), ("items", ctypes.c_void_p))


@oddity
def sequences_of_fixed_strings(path: Path) -> None:
    """Rows of words of four bytes."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("rows", (2,), dtype=h5py.vlen_dtype(np.dtype("S4")))
        data[0], data[1] = np.array([b"ab", b"cdef"], "S4"), np.array([b""], "S4")


@oddity
def object_references(path: Path) -> None:
    """To a dataset, a group, the root, itself; and null."""
    with h5py.File(path, "w") as file:
        file["a/data"] = np.arange(4)
        refs = file.create_dataset("refs", (2, 3), dtype=h5py.ref_dtype)
        refs[0, 0], refs[0, 1], refs[0, 2] = file["a/data"].ref, file["a"].ref, file.ref
        refs[1, 0] = refs.ref
        file.create_dataset("scalar", data=file["a/data"].ref, dtype=h5py.ref_dtype)


@oddity
def region_references(path: Path) -> None:
    """A block, single points, everything; and null."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.arange(20).reshape(4, 5))
        refs = file.create_dataset("refs", (4,), dtype=h5py.regionref_dtype)
        refs[0] = data.regionref[1:3, 0:4]
        refs[1] = data.regionref[[0, 2], 3]
        refs[2] = data.regionref[...]


@oddity
def sequences_of_region_references(path: Path) -> None:
    """Of a dataset, one of them empty, and of an attribute; HDF5's own tests have such. h5py cannot read them."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.arange(20).reshape(4, 5))
        raw = []
        for rows in (slice(0, 2), slice(1, 4)):
            space = data.id.get_space()
            space.select_hyperslab((rows.start, 0), (rows.stop - rows.start, 3))
            room = ctypes.create_string_buffer(12)
            call("H5Rcreate", room, identifier(data.id), b".", ctypes.c_int(1), identifier(space))
            raw.append(room.raw)
        texts = [b"".join(raw), b"", raw[1]]
        rows_of = [(len(text) // 12, ctypes.create_string_buffer(text, len(text) or 1)) for text in texts]
        rows = (_Sequence * 3)(*(_Sequence(n, ctypes.cast(room, ctypes.c_void_p)) for n, room in rows_of))
        kind, space, default = h5t.vlen_create(h5t.STD_REF_DSETREG), h5s.create_simple((3,)), ctypes.c_int64(0)
        did = h5d.create(file.id, b"rows", kind, space)
        call("H5Dwrite", identifier(did), identifier(kind), default, default, default, rows)
        aid = h5a.create(file.id, b"regions", kind, space)
        call("H5Awrite", identifier(aid), identifier(kind), rows)


@oddity
def dangling_reference(path: Path) -> None:
    """To a dataset that was deleted since."""
    with h5py.File(path, "w") as file:
        file["gone"] = np.arange(3)
        file.create_dataset("refs", data=[file["gone"].ref], dtype=h5py.ref_dtype)
        del file["gone"]
