"""How the arrays of a target are laid out, read from its metadata, and a picture of an array's chunks."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zarr

_WIDTH, _HEIGHT = 260.0, 180.0
_MOST_LINES = 48  # of a grid that can still be told apart in a picture


@dataclass(frozen=True)
class ArrayLayout:
    """One array of a target: its shape, and the chunks that it had and has."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    source_chunks: tuple[int, ...] | None
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: str
    nbytes: int


def layouts(target: str, storage_options: dict[str, Any] | None = None, *, most: int = 8) -> list[ArrayLayout]:
    """The largest arrays of a finished target; none where it does not open."""
    try:
        root = zarr.open_group(target, mode="r", storage_options=storage_options)
        members = [(path, member) for path, member in root.members(max_depth=None) if isinstance(member, zarr.Array)]
    except Exception:  # a picture is missed, no more: stores and their clients raise errors of their own
        return []
    found = [_layout(f"/{path}", array) for path, array in members]
    return sorted(found, key=lambda layout: (-layout.nbytes, layout.path))[:most]


def _layout(path: str, array: Any) -> ArrayLayout:
    record = dict(array.attrs).get("h5z")
    chunks = record.get("chunks") if isinstance(record, dict) else None
    before = tuple(chunks) if isinstance(chunks, list) and len(chunks) == array.ndim else None
    names = (type(codec).__name__.removesuffix("Codec").lower() for codec in (*array.filters, *array.compressors))
    return ArrayLayout(
        path, array.shape, str(array.dtype), before, array.chunks, array.shards, "+".join(names) or "none", array.nbytes
    )


def picture(layout: ArrayLayout) -> str:
    """The chunks of an array as SVG: of its last two dimensions, those of the source dashed over those of the target.

    Where a grid is too fine to be seen, only a corner of the array is drawn, and the caption says so.
    """
    if not layout.shape or 0 in layout.shape:
        return ""
    shape, chunks = _plane(layout.shape), _plane(layout.chunks)
    before = _plane(layout.source_chunks) if layout.source_chunks else shape
    shown = (_shown(shape[0], chunks[0], before[0]), _shown(shape[1], chunks[1], before[1]))
    scale = _scales(shown)
    width, height = shown[1] * scale[1], shown[0] * scale[0]
    whole = shown == shape
    parts = [
        f'<rect class="array" width="{width:.1f}" height="{height:.1f}"/>',
        f'<rect class="first" width="{min(chunks[1], shown[1]) * scale[1]:.1f}" '
        f'height="{min(chunks[0], shown[0]) * scale[0]:.1f}"/>',
        _grid("target", shown, chunks, scale),
    ]
    if layout.shards:
        parts.append(_grid("shard", shown, _plane(layout.shards), scale))
    if layout.source_chunks:
        parts.append(_grid("source", shown, before, scale))
    about = f"{'' if whole else 'a corner of '}{layout.path}, {_times(layout.shape)}: {caption(layout)}"
    box = f"-2 -2 {width + 4:.1f} {height + 4:.1f}"
    head = f'<svg class="layout" role="img" viewBox="{box}" width="{width + 4:.0f}"><title>{html.escape(about)}</title>'
    return f"{head}{''.join(parts)}</svg>"


def caption(layout: ArrayLayout) -> str:
    """The layout in words.

    >>> caption(ArrayLayout("/x", (4, 6), "f4", (1, 6), (2, 3), None, "zstd", 96))
    'source 1×6, 4 chunks; target 2×3, 4 chunks'
    """
    before = "contiguous"
    if layout.source_chunks:
        before = f"{_times(layout.source_chunks)}, {_count(layout.shape, layout.source_chunks):,} chunks"
    after = f"{_times(layout.chunks)}, {_count(layout.shape, layout.chunks):,} chunks"
    shards = f" in shards of {_times(layout.shards)}" if layout.shards else ""
    return f"source {before}; target {after}{shards}"


def _plane(shape: Sequence[int]) -> tuple[int, int]:
    """A shape's last two dimensions; one dimension is a strip."""
    return (shape[-2], shape[-1]) if len(shape) > 1 else (1, shape[-1]) if shape else (1, 1)


def _shown(extent: int, *chunks: int) -> int:
    return min(extent, *(_MOST_LINES * max(1, chunk) for chunk in chunks))


def _scales(shown: tuple[int, int]) -> tuple[float, float]:
    """Pixels of an element along each axis: true to scale, but never a line."""
    scale = min(_WIDTH / shown[1], _HEIGHT / shown[0])
    return max(scale, 24 / shown[0]), max(scale, 24 / shown[1])


def _grid(kind: str, shown: tuple[int, int], chunks: tuple[int, int], scale: tuple[float, float]) -> str:
    width, height = shown[1] * scale[1], shown[0] * scale[0]
    across = [f"M0 {y * scale[0]:.1f}H{width:.1f}" for y in range(0, shown[0] + 1, max(1, chunks[0]))]
    down = [f"M{x * scale[1]:.1f} 0V{height:.1f}" for x in range(0, shown[1] + 1, max(1, chunks[1]))]
    return f'<path class="{kind}" d="{"".join(across + down)}"/>'


def _count(shape: Sequence[int], chunks: Sequence[int]) -> int:
    return math.prod(-(-extent // max(1, chunk)) for extent, chunk in zip(shape, chunks, strict=True))


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"
