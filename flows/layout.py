"""How the arrays of a target are laid out, read from its metadata."""

from __future__ import annotations

import logging
from typing import Any

import zarr

from h5z import Layout
from h5z.errors import one_line

# What zarr raises where nothing opens, and where metadata say nothing that it understands; and whose errors are their own.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)
_CLIENTS = ("obstore", "botocore", "aiohttp", "gcsfs", "azure")


def layouts(target: str, storage_options: dict[str, Any] | None = None, *, most: int = 8) -> list[Layout]:
    """The largest arrays of a finished target; none where it does not open."""
    try:
        root = zarr.open_group(target, mode="r", storage_options=storage_options)
        members = [(path, member) for path, member in root.members(max_depth=None) if isinstance(member, zarr.Array)]
    except Exception as error:
        if not isinstance(error, _UNREADABLE) and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
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
