"""How the arrays of a target are laid out, read from its metadata."""

from __future__ import annotations

import logging
from typing import Any

import zarr
from zarr.storage import StorePath

from h5z import Layout
from h5z.errors import H5zError, one_line
from h5z.target import Target, reaching


def layouts(target: str, storage_options: dict[str, Any] | None = None, *, most: int = 8) -> list[Layout]:
    """The largest arrays of a finished target; none where it does not open."""
    try:
        place = Target.of(target, storage_options)
        with reaching(place.name):
            root = zarr.open_group(StorePath(place.store, place.prefix.rstrip("/")), mode="r")
            members = [(path, member) for path, member in root.members(max_depth=None) if isinstance(member, zarr.Array)]
    except (H5zError, ValueError, KeyError, TypeError, AttributeError) as error:  # it says nothing that zarr understands
        logging.getLogger(__name__).info("%s: no picture of its chunks (%s)", target, one_line(error))
        return []
    found = [_layout(f"/{path}", array) for path, array in members]
    return sorted(found, key=lambda layout: (-layout.nbytes, layout.path))[:most]


def _layout(path: str, array: Any) -> Layout:
    record = dict(array.attrs).get("h5z")
    chunks = record.get("chunks") if isinstance(record, dict) else None
    before = tuple(chunks) if isinstance(chunks, list) and len(chunks) == array.ndim else None
    names = (type(codec).__name__.removesuffix("Codec").lower() for codec in (*array.filters, *array.compressors))
    return Layout(
        path, array.shape, str(array.dtype), before, array.chunks, array.shards, "+".join(names) or "none", array.nbytes
    )
