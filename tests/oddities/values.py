"""A dataset's values as h5py reads them, and whether what a Zarr reader finds is the same bit for bit."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5o, h5r, h5s, h5t


def address(thing: Any) -> tuple[int, int]:
    """What tells an HDF5 object from all others, whatever the path that led to it."""
    info = h5o.get_info(thing.id)
    return info.fileno, info.addr


def refuse(tid: Any) -> None:
    """Refuse what h5py (3.16) reads past its buffer's end: sequences of region references.

    Raises
    ------
    TypeError
        If a datatype is that.
    """
    if tid.get_class() == h5t.VLEN and tid.get_super().equal(h5t.STD_REF_DSETREG):
        raise TypeError("sequences of region references")


def read(source: h5py.Dataset) -> Any:
    """A dataset's values; of what h5py reads inexactly (long doubles, opaque types), the bytes as they are stored."""
    tid = source.id.get_type()
    refuse(tid)
    opaque = tid.get_class() == h5t.OPAQUE and source.dtype.kind not in "mM"
    if opaque or source.dtype.char in "gG":
        out = np.zeros(source.shape, f"V{tid.get_size()}")
        source.id.read(h5s.ALL, h5s.ALL, out, tid)
        return out
    return np.asarray(source[()]) if source.dtype != object else _objects(source)


def in_order(item: Any, base: Any) -> Any:
    """A sequence in its byte order: h5py labels big-endian numbers of sequences as native ones."""
    return item.view(base) if isinstance(base, np.dtype) and base.byteorder == ">" and not base.names else item


def _objects(source: h5py.Dataset) -> Any:
    out = np.empty(source.shape, source.dtype)
    out[...] = source[()] if source.shape else None
    if not source.shape:
        out[()] = source[()]
    return out


def difference(expected: Any, found: Any, file: h5py.File) -> str | None:
    """Why two arrays are not the same bit for bit, or None."""
    if expected.shape != found.shape:
        return f"expected shape {expected.shape}, found {found.shape}"
    if expected.dtype.names:
        if found.dtype.names != expected.dtype.names:
            return f"expected fields {expected.dtype.names}, found {found.dtype}"
        reasons = (difference(expected[name], found[name], file) for name in expected.dtype.names)
        return next((reason for reason in reasons if reason), None)
    if expected.dtype == object:
        pairs = zip(expected.ravel().tolist(), found.ravel().tolist(), strict=True)
        wrong = [(a, b) for a, b in pairs if not _same_object(a, b, file)]
        return f"expected {wrong[0][0]!r:.80}, found {wrong[0][1]!r:.80}" if wrong else None
    if expected.dtype.kind == "S":
        return (
            None if found.dtype.kind == "S" and (expected == found).all() else f"expected {expected!r:.80}, found {found!r:.80}"
        )
    if expected.dtype.newbyteorder("=") != found.dtype.newbyteorder("="):
        return f"expected dtype {expected.dtype}, found {found.dtype}"
    native = expected.dtype.newbyteorder("=")
    same = expected.astype(native).tobytes() == found.astype(native).tobytes()
    return None if same else f"expected {expected!r:.80}, found {found!r:.80}"


def _same_object(expected: Any, found: Any, file: h5py.File) -> bool:
    if isinstance(expected, h5py.RegionReference):
        return isinstance(found, str) and found.startswith(h5r.get_name(expected, file.id).decode() if expected else "")
    if isinstance(expected, h5py.Reference):
        if not expected:
            return bool(found == "")
        return isinstance(found, str) and found in file and address(file[found]) == address(file[expected])
    raw = expected.encode("utf-8", "surrogateescape") if isinstance(expected, str) else bytes(expected or b"")
    return bool((found.encode() if isinstance(found, str) else bytes(found)) == raw)
