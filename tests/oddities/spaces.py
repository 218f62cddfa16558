"""Dataspaces, fill values and unallocated chunks."""

from __future__ import annotations

import ctypes
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from .registry import call, identifier, oddity


@oddity
def null_dataspaces(path: Path) -> None:
    """Datasets without any element, which are not of size zero."""
    with h5py.File(path, "w") as file:
        file["float"] = h5py.Empty("<f4")
        file["text"] = h5py.Empty(h5py.string_dtype())
        file["fixed"] = h5py.Empty("S3")
        file["rows"] = h5py.Empty(np.dtype([("a", "<i2"), ("b", "<f8")]))


@oddity
def scalars(path: Path) -> None:
    """Of a number and of text, and beside it a dimension of one."""
    with h5py.File(path, "w") as file:
        file["number"] = np.float64(np.pi)
        file["text"] = "one"
        file["bytes"] = np.bytes_(b"abc")
        file["one"] = np.array([np.pi])


@oddity
def zero_sized(path: Path) -> None:
    """Of several ranks and types, chunked and contiguous."""
    with h5py.File(path, "w") as file:
        file.create_dataset("none", shape=(0,), dtype="<i4")
        file.create_dataset("rows", shape=(0, 3), maxshape=(None, 3), dtype="<f8", chunks=(4, 3), fillvalue=7.5)
        file.create_dataset("columns", shape=(3, 0), dtype="<u2")
        file.create_dataset("words", shape=(0,), maxshape=(None,), dtype=h5py.string_dtype())
        file.create_dataset("fixed", shape=(0, 2), dtype="S4")


@oddity
def unlimited(path: Path) -> None:
    """Without a limit in one dimension, in both, and with a limit that is not reached."""
    with h5py.File(path, "w") as file:
        data = np.arange(15, dtype="<i4").reshape(3, 5)
        file.create_dataset("rows", data=data, maxshape=(None, 5), chunks=(2, 5))
        file.create_dataset("both", data=data, maxshape=(None, None), chunks=(2, 2))
        file.create_dataset("limited", data=data, maxshape=(30, 5), chunks=(3, 5))


@oddity
def fill_values(path: Path) -> None:
    """Given by the user, for each kind of type; half of each dataset is never written."""
    compound = np.dtype([("a", "<i2"), ("b", ">f4"), ("c", "S2")])
    fills = {
        "int": np.int32(-7),
        "int_big": np.array(-7, ">i4")[()],
        "unsigned": np.uint64(2**64 - 1),
        "long": np.int64(-(2**63)),
        "half": np.float16(1.5),
        "float": np.float32(0.1),
        "nan": np.float64(np.nan),
        "nan_payload": np.array(0x7FC00001, "<u4").view("<f4")[()],
        "infinite": np.float32(-np.inf),
        "minus_zero": np.float64(-0.0),
        "complex": np.complex64(complex(np.nan, -1)),
        "boolean": np.True_,
        "fixed": np.bytes_(b"n/a"),
        "compound": np.array((-1, np.nan, b"xy"), compound)[()],
    }
    with h5py.File(path, "w") as file:
        for name, fill in fills.items():
            data = file.create_dataset(name, shape=(6,), chunks=(2,), dtype=fill.dtype, fillvalue=fill)
            data[:2] = np.zeros(2, fill.dtype)
        big = file.create_dataset("stored_big_endian", shape=(4,), chunks=(2,), dtype=">i2", fillvalue=258)
        big[2:] = [1, -1]
        file.create_dataset("text", shape=(3,), dtype=h5py.string_dtype(), fillvalue="missing ☃")


@oddity
def fill_of_an_array_datatype_and_enumeration(path: Path) -> None:
    """Fill values that h5py itself cannot give."""
    colour = h5py.enum_dtype({"RED": 0, "BLUE": 2}, basetype="<i2")
    with h5py.File(path, "w") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_fill_value(np.array(2, "<i2"))
        h5d.create(file.id, b"colours", h5t.py_create(colour, logical=True), h5s.create_simple((4,)), plist)
        tid = h5t.array_create(h5t.STD_I16LE, (3,))
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        buffer = np.array([1, 2, 3], "<i2")
        call("H5Pset_fill_value", identifier(plist), identifier(tid), buffer.ctypes.data_as(ctypes.c_void_p))
        h5d.create(file.id, b"triples", tid, h5s.create_simple((4,)), plist)


@oddity
def undefined_fill_value(path: Path) -> None:
    """HDF5 knows datasets without any fill value."""
    with h5py.File(path, "w") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        call("H5Pset_fill_value", identifier(plist), identifier(h5t.STD_I32LE), None)
        did = h5d.create(file.id, b"written", h5t.STD_I32LE, h5s.create_simple((4,)), plist)
        did.write(h5s.ALL, h5s.ALL, np.array([1, -2, 3, 0], "<i4"))


@oddity
def fill_written_never_and_always(path: Path) -> None:
    """Each fill time with each time of allocation."""
    with h5py.File(path, "w") as file:
        for alloc in ("EARLY", "LATE", "INCR"):
            for fill in ("ALLOC", "NEVER", "IFSET"):
                plist = h5p.create(h5p.DATASET_CREATE)
                plist.set_chunk((2,))
                plist.set_alloc_time(getattr(h5d, f"ALLOC_TIME_{alloc}"))
                plist.set_fill_time(getattr(h5d, f"FILL_TIME_{fill}"))
                plist.set_fill_value(np.array(9, "<i4"))
                did = h5d.create(file.id, f"{alloc}_{fill}".encode(), h5t.STD_I32LE, h5s.create_simple((4,)), plist)
                if fill == "NEVER":
                    did.write(h5s.ALL, h5s.ALL, np.arange(4, dtype="<i4"))


@oddity
def unallocated_chunks(path: Path) -> None:
    """Some chunks stored, one of them with nothing but fill values; none at all; and a contiguous dataset."""
    with h5py.File(path, "w") as file:
        sparse = file.create_dataset("sparse", shape=(6, 6), chunks=(2, 3), dtype="<f4", fillvalue=-1.0)
        sparse[0:2, 0:3] = 5
        sparse[4:6, 3:6] = -1.0
        file.create_dataset("zeros_stored", data=np.zeros((4, 4), "<i2"), chunks=(2, 2))
        file.create_dataset("zeros_missing", shape=(4, 4), dtype="<i2", chunks=(2, 2), compression="gzip")
        file.create_dataset("contiguous_never_written", shape=(4, 4), dtype="<i2", fillvalue=3)
