"""Selections as text -> HDF5 dataspaces: the inverse of `h5z.hdf5.references.space_text` and `mapping_text`."""

from __future__ import annotations

from typing import Any

import numpy as np
from h5py import h5s

from h5z.nodes import Shape


def selection(text: str, extent: Shape) -> Any:
    """A dataspace of an extent with the selection that a text describes.

    Parameters
    ----------
    text : str
        ``all``, ``0:2,1:4`` (blocks, joined by ``;``), ``(0,1)`` (points), ``start:stride:count:block`` per axis, where ``inf``
        is without end, or nothing.

    Raises
    ------
    ValueError
        If the text is none of these, or reaches past the extent.

    Examples
    --------
    >>> selection("0:2,1:4;3:4,0:1", (4, 5)).get_select_npoints()
    7
    """
    unlimited = "inf" in text
    space = h5s.create_simple(extent, (h5s.UNLIMITED,) * len(extent) if unlimited else None) if extent else h5s.create(h5s.SCALAR)
    if text == "all":
        return space
    if not text:
        space.select_none()
    elif text.startswith("("):
        points = [[int(number) for number in point.strip("()").split(",")] for point in text.split(";")]
        space.select_elements(np.asarray(points, np.uint64))
    elif ";" not in text and text.count(":") == 3 * (text.count(",") + 1):
        terms = [[_count(number) for number in axis.split(":")] for axis in text.split(",")]
        start, stride, count, block = zip(*terms, strict=True)
        space.select_hyperslab(start, count, stride, block)
    else:
        space.select_none()
        for block_text in text.split(";"):
            edges = [tuple(map(int, axis.split(":"))) for axis in block_text.split(",")]
            start, size = tuple(a for a, _ in edges), tuple(b - a for a, b in edges)
            space.select_hyperslab(start, (1,) * len(start), None, size, h5s.SELECT_OR)
    if not unlimited and not space.select_valid():
        raise ValueError(f"the selection {text} reaches past the extent {extent}")
    return space


def _count(text: str) -> int:
    return int(h5s.UNLIMITED) if text == "inf" else int(text)


def region_of(text: str) -> tuple[str, str]:
    """Path and selection of a region reference's text.

    >>> region_of("/a[b][0:2]"), region_of("/a")
    (('/a[b]', '0:2'), ('/a', 'all'))
    """
    path, bracket, rest = text.rpartition("[")
    return (path, rest.removesuffix("]")) if bracket and text.endswith("]") and _is_selection(rest[:-1]) else (text, "all")


def _is_selection(text: str) -> bool:
    return not set(text) - set("0123456789:,;()inf")
