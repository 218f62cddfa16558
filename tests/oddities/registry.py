"""The register of generators, and what h5py's high level has no word for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import hdf5plugin  # noqa: F401  (before netCDF4, whose own plugins would be taken in its place)
import numpy as np
from h5py import h5d, h5s

Generator: TypeAlias = Callable[[Path], None]
ODDITIES: dict[str, Generator] = {}


def oddity(make: Generator) -> Generator:
    """Register a generator under its own name."""
    ODDITIES[make.__name__] = make
    return make


def raw_dataset(file: h5py.File, name: str, tid: Any, values: Any, *, plist: Any = None) -> Any:
    """Create a dataset of any HDF5 datatype and write the bytes of `values` unconverted.

    Parameters
    ----------
    tid : h5py.h5t.TypeID
        The file's datatype.
    values : numpy.ndarray
        Elements of the datatype's size, as they shall lie in the file.
    """
    values = np.asarray(values, order="C")
    space = h5s.create_simple(values.shape) if values.ndim else h5s.create(h5s.SCALAR)
    did = h5d.create(file.id, name.encode(), tid, space, plist)
    did.write(h5s.ALL, h5s.ALL, values, tid)
    return did


def libhdf5() -> Any:
    """The HDF5 library that h5py has loaded, for calls that h5py does not wrap."""
    return ctypes.CDLL(h5py.h5.__file__)


def call(name: str, *arguments: Any) -> int:
    """Call a function of the HDF5 library that returns a status.

    Raises
    ------
    RuntimeError
        If the status is negative.
    """
    function = getattr(libhdf5(), name)
    function.restype = ctypes.c_int
    status = int(function(*arguments))
    if status < 0:
        raise RuntimeError(f"{name} failed")
    return status


def identifier(handle: Any) -> Any:
    """An h5py handle's identifier as `call` passes it on."""
    return ctypes.c_int64(handle.id)
