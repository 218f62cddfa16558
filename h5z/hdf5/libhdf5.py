"""Calls of HDF5's C interface that h5py does not wrap, on the library that h5py has loaded.

Source: the HDF5 Reference Manual. Each call holds h5py's own lock and keeps Python's, as h5py's calls do.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from h5py import h5, h5d, h5i, h5s, h5t

_ALL = 0  # H5S_ALL and H5P_DEFAULT
_REFERENCE_KINDS = {"object": (0, 8), "region": (1, 12)}  # H5R_type_t, and bytes of the reference in memory
DONT_FILTER_PARTIAL_CHUNKS = 2
EXTENSIBLE_ARRAY = 4  # of H5D_chunk_index_t


@cache
def _function(name: str, result: Any = ctypes.c_int) -> Any:
    function = getattr(ctypes.PyDLL(h5.__file__), name)
    function.restype = result
    return function


def _call(name: str, *arguments: Any, result: Any = ctypes.c_int) -> int:
    """Call a function that returns a negative number where it fails.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    with h5t.phil:
        status = int(_function(name, result)(*arguments))
    if status < 0:
        raise RuntimeError(f"libhdf5: {name} failed")
    return status


def _id(handle: Any) -> Any:
    return ctypes.c_int64(_ALL if handle is None else handle.id)


def _pointer(buffer: Any) -> Any:
    return None if buffer is None else ctypes.c_void_p(buffer.ctypes.data)


def comment(oid: Any) -> str:
    """An object's comment; empty where it has none."""
    size = _call("H5Oget_comment", _id(oid), None, ctypes.c_size_t(0), result=ctypes.c_ssize_t)
    if size == 0:
        return ""
    room = ctypes.create_string_buffer(size + 1)
    _call("H5Oget_comment", _id(oid), room, ctypes.c_size_t(size + 1), result=ctypes.c_ssize_t)
    return room.value.decode("utf-8", "surrogateescape")


def chunk_options(plist: Any) -> int:
    """The options of a chunked layout: 0, or `DONT_FILTER_PARTIAL_CHUNKS`."""
    options = ctypes.c_uint(0)
    _call("H5Pget_chunk_opts", _id(plist), ctypes.byref(options))
    return options.value


def set_chunk_options(plist: Any, options: int) -> None:
    """Set the options of a chunked layout."""
    _call("H5Pset_chunk_opts", _id(plist), ctypes.c_uint(options))


def chunk_index(did: Any) -> int:
    """The kind of index that an open chunked dataset has."""
    kind = ctypes.c_int(-1)
    _call("H5Dget_chunk_index_type", _id(did), ctypes.byref(kind))
    return kind.value


def set_fill_value(plist: Any, mtype: Any, value: Any) -> None:
    """Set a fill value of any datatype from its bytes in memory; None leaves the dataset without one."""
    _call("H5Pset_fill_value", _id(plist), _id(mtype), _pointer(value))


def significant_bits(tid: Any) -> tuple[int, int]:
    """Precision and offset of an atomic datatype, in bits."""
    precision = _call("H5Tget_precision", _id(tid), result=ctypes.c_ssize_t)
    return precision, _call("H5Tget_offset", _id(tid))


def set_bits(tid: Any, *, order: int, precision: int, offset: int) -> None:
    """Set the byte order, and the place of the bits that count, of an atomic datatype."""
    _call("H5Tset_order", _id(tid), ctypes.c_int(order))
    _call("H5Tset_offset", _id(tid), ctypes.c_size_t(0))
    _call("H5Tset_precision", _id(tid), ctypes.c_size_t(precision))
    _call("H5Tset_offset", _id(tid), ctypes.c_size_t(offset))


def complex_of(base: Any) -> Any:
    """The complex datatype of a float datatype (HDF5 2.0)."""
    return h5t.TypeComplexID(_call("H5Tcomplex_create", _id(base), result=ctypes.c_int64))


def commit_anonymously(fid: Any, tid: Any) -> None:
    """Commit a datatype to a file, to be linked later."""
    _call("H5Tcommit_anon", _id(fid), _id(tid), _id(None), _id(None))


def write(did: Any, mtype: Any, values: Any, space: Any = None) -> None:
    """Write elements to a dataset, or to a selection of it, from their bytes in memory, which may hold pointers."""
    mspace = None if space is None else h5s.create_simple((space.get_select_npoints(),))
    _call("H5Dwrite", _id(did), _id(mtype), _id(mspace), _id(space), _id(None), _pointer(values))


def write_attribute(aid: Any, mtype: Any, values: Any) -> None:
    """Write an attribute from its elements' bytes in memory, which may hold pointers."""
    _call("H5Awrite", _id(aid), _id(mtype), _pointer(values))


class Borrowed:
    """Elements as libhdf5 has read them, with what they point to; handed back at the end of a ``with`` block."""

    def __init__(self, mtype: Any, values: Any) -> None:
        self.mtype, self.values = mtype, values

    def __enter__(self) -> Any:
        return self.values

    def __exit__(self, *_: object) -> None:
        space = h5s.create_simple((max(1, self.values.size),))
        _call("H5Dvlen_reclaim", _id(self.mtype), _id(space), _id(None), _pointer(self.values))


def read(did: Any, mtype: Any, dtype: np.dtype[Any], space: Any) -> Borrowed:
    """Read a selection of a dataset, pointers included; elements have `dtype` in memory."""
    values = np.zeros(space.get_select_npoints(), dtype)
    mspace = h5s.create_simple((max(1, values.size),))
    _call("H5Dread", _id(did), _id(mtype), _id(mspace), _id(space), _id(None), _pointer(values))
    return Borrowed(mtype, values)


def read_attribute(aid: Any, mtype: Any, dtype: np.dtype[Any], count: int) -> Borrowed:
    """Read an attribute, pointers included."""
    values = np.zeros(max(1, count), dtype)
    _call("H5Aread", _id(aid), _id(mtype), _pointer(values))
    return Borrowed(mtype, values)


def memory_at(address: int, nbytes: int) -> bytes:
    """Bytes that libhdf5 has lent."""
    return ctypes.string_at(address, nbytes)


def reference(oid: Any, kind: str, space: Any = None) -> bytes:
    """The bytes of an object reference to an open object, or of a region reference to a selection of it."""
    number, size = _REFERENCE_KINDS[kind]
    room = ctypes.create_string_buffer(size)
    where = ctypes.c_int64(-1) if space is None else _id(space)
    _call("H5Rcreate", room, _id(oid), b".", ctypes.c_int(number), where)
    return room.raw


def region_of(fid: Any, raw: bytes) -> tuple[str, Any]:
    """The path of the dataset that a region reference of a file points to, and the selection."""
    room = ctypes.create_string_buffer(raw, len(raw))
    kind = ctypes.c_int(_REFERENCE_KINDS["region"][0])
    target = h5d.DatasetID(_call("H5Rdereference2", _id(fid), _id(None), kind, room, result=ctypes.c_int64))
    space = h5s.SpaceID(_call("H5Rget_region", _id(fid), kind, room, result=ctypes.c_int64))
    return (h5i.get_name(target) or b"").decode("utf-8", "surrogateescape"), space


def register_filter(entry: ctypes.Structure) -> None:
    """Register a filter by its ``H5Z_class2_t``, in the place of any of that number."""
    _call("H5Zregister", ctypes.byref(entry))
