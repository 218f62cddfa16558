"""Filters that stand in for others while datasets are created, so that those keep their options to the letter."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from h5py import h5t, h5z

from h5z.hdf5.libhdf5 import register_filter


class _FilterClass(ctypes.Structure):
    """``H5Z_class2_t``."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("number", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


def _unchanged(flags: int, count: int, values: int, nbytes: int, size: int, buffer: int) -> int:
    return nbytes


_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_UNCHANGED = ctypes.CFUNCTYPE(_SIZE, ctypes.c_uint, _SIZE, _POINTER, _SIZE, _POINTER, _POINTER)(_unchanged)
_standing: dict[int, _FilterClass] = {}


@contextmanager
def stand_ins(filters: Mapping[int, str]) -> Iterator[frozenset[int]]:
    """Let datasets be created with filters, by number and name, exactly as given, whatever is installed here.

    A filter computes its options anew when a dataset is created, each version of it in its own way; one that is not installed
    cannot be used at all. Until the end of the ``with`` block, others stand in for them, which do nothing; h5py's lock is held,
    so that nobody meets them. The filters themselves are registered again then, those of hdf5plugin at least; HDF5 itself
    loads plugins from a folder when they are needed.

    Yields
    ------
    frozenset of int
        The filters that have a stand-in: not those that an open dataset uses.
    """
    with h5t.phil:
        replaced = [number for number in filters if h5z.filter_avail(number)]
        kept = [number for number in replaced if not _unregistered(number)]
        if kept:
            gc.collect()  # datasets that nobody has any more, but that are not closed yet
            kept = [number for number in kept if not _unregistered(number)]
        made = {number: name for number, name in filters.items() if number not in kept}
        for number, name in made.items():
            raw = name.encode("utf-8", "surrogateescape")
            entry = _FilterClass(1, number, 1, 1, raw, None, None, ctypes.cast(_UNCHANGED, ctypes.c_void_p))
            register_filter(entry)
            _standing[number] = entry  # libhdf5 keeps the pointer to its name
        try:
            yield frozenset(made)
        finally:
            for number in made:
                _unregistered(number)
            _register_again([number for number in replaced if number in made])


def _unregistered(number: int) -> bool:
    try:
        return bool(h5z.unregister_filter(number))
    except (RuntimeError, ValueError):
        return False


def _register_again(numbers: list[int]) -> None:
    with suppress(ImportError):
        import hdf5plugin

        known = tuple(number for number in numbers if number in hdf5plugin.FILTERS.values())
        if known:
            hdf5plugin.register(known, force=True)
