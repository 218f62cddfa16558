"""Pictures for people, as SVG that needs no style sheet: how an array is cut, and which routes a plan takes."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from h5z.report import size

_WIDTH, _HEIGHT = 260.0, 180.0
_MOST_LINES = 48  # of a grid that can still be told apart in a picture
_MOST_BANDS = 10
_LONGEST = 26
# Presentation attributes, which a page's own rules for the classes override; legible on white and on black.
_LOOK = {
    "array": 'fill="#8a94a0" fill-opacity=".12" stroke="#8a94a0"',
    "first": 'fill="#3d85d1" opacity=".35"',
    "target": 'fill="none" stroke="#3d85d1"',
    "shard": 'fill="none" stroke="#8a94a0" stroke-width="2"',
    "source": 'fill="none" stroke="#d0453c" stroke-dasharray="3 3"',
}
_COLOURS = {"copy": "#3f9e63", "recode": "#3d85d1", "regrid": "#b8860b", "staged": "#d0653c", "library": "#8a5fc0"}


@dataclass(frozen=True)
class Layout:
    """How one array is cut: its shape, the chunks that it had in its HDF5 file, and those that it has in Zarr."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    source_chunks: tuple[int, ...] | None
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: str
    nbytes: int

    def __str__(self) -> str:
        """The layout in words.

        >>> print(Layout("/x", (4, 6), "f4", (1, 6), (2, 3), None, "zstd", 96))
        source 1×6, 4 chunks; target 2×3, 4 chunks
        """
        before = "contiguous"
        if self.source_chunks:
            before = f"{_times(self.source_chunks)}, {_count(self.shape, self.source_chunks):,} chunks"
        after = f"{_times(self.chunks)}, {_count(self.shape, self.chunks):,} chunks"
        shards = f" in shards of {_times(self.shards)}" if self.shards else ""
        return f"source {before}; target {after}{shards}"

    @property
    def is_cut(self) -> bool:
        """Whether there is more than one chunk, before or after."""
        return any(cut and _count(self.shape, cut) > 1 for cut in (self.source_chunks, self.chunks))

    def svg(self) -> str:
        """The chunks as SVG: of the last two dimensions, those of the source dashed over those of the target.

        Where a grid is too fine to be seen, only a corner of the array is drawn, and the title says so. Empty where there is
        nothing to cut.
        """
        if not self.shape or 0 in self.shape:
            return ""
        shape, chunks = _plane(self.shape), _plane(self.chunks)
        before = _plane(self.source_chunks) if self.source_chunks else shape
        shown = (_shown(shape[0], chunks[0], before[0]), _shown(shape[1], chunks[1], before[1]))
        scale = _scales(shown)
        width, height = shown[1] * scale[1], shown[0] * scale[0]
        first = (min(chunks[0], shown[0]) * scale[0], min(chunks[1], shown[1]) * scale[1])
        parts = [_rect("array", width, height), _rect("first", first[1], first[0]), _grid("target", shown, chunks, scale)]
        if self.shards:
            parts.append(_grid("shard", shown, _plane(self.shards), scale))
        if self.source_chunks:
            parts.append(_grid("source", shown, before, scale))
        about = f"{'' if shown == shape else 'a corner of '}{self.path}, {_times(self.shape)}: {self}"
        box = f"-2 -2 {width + 4:.1f} {height + 4:.1f}"
        head = f'<svg class="layout" role="img" viewBox="{box}" width="{width + 4:.0f}"><title>{_text(about)}</title>'
        return f"{head}{''.join(parts)}</svg>"

    def figure(self) -> str:
        """The picture with its caption, as HTML."""
        words = f"{_text(self.path)}: {_text(self.dtype)}, {size(self.nbytes)}, {_text(self.codecs)}; {self}"
        return f"<figure>{self.svg()}<figcaption>{words}</figcaption></figure>"


@dataclass(frozen=True)
class Passage:
    """How one array, or several that go alike, get from a file to a store."""

    name: str
    route: str
    codecs: str
    nbytes: int


def route_map(passages: Iterable[Passage]) -> str:
    """Where bytes go, as SVG: from arrays, the largest first, by their routes to what encodes them.

    A band is as wide as its share of the bytes, and wide enough to be seen.
    """
    bands = _bands(passages)
    total = sum(band.nbytes for band in bands) or 1
    widths = [max(14.0, 150.0 * band.nbytes / total) for band in bands]
    left = _stack([band.name for band in bands], widths)
    routes = _stack([band.route for band in bands], widths)
    codecs = _stack([band.codecs for band in bands], widths)
    height = max((top + width for tops in (left, routes, codecs) for top, width in zip(tops, widths, strict=True)), default=0.0)
    parts = []
    for band, width, *tops in zip(bands, widths, left, routes, codecs, strict=True):
        colour = _COLOURS.get(band.route, "#8a94a0")
        parts += [_ribbon(210, 330, tops[0], tops[1], width, colour), _ribbon(410, 530, tops[1], tops[2], width, colour)]
        parts.append(f'<rect x="330" y="{tops[1]:.1f}" width="80" height="{width:.1f}" fill="{colour}" opacity=".55"/>')
        words = f"{_cut(band.name)}  {size(band.nbytes)}"
        parts.append(_label(204, tops[0] + width / 2, words, "end"))
    for names, tops, x, anchor in (
        ([band.route for band in bands], routes, 370, "middle"),
        ([band.codecs for band in bands], codecs, 536, "start"),
    ):
        for name in dict.fromkeys(names):
            spans = [(top, top + width) for found, top, width in zip(names, tops, widths, strict=True) if found == name]
            parts.append(_label(x, (spans[0][0] + spans[-1][1]) / 2, _cut(name), anchor))
    about = "from arrays by their routes to codecs: " + "; ".join(f"{b.name}: {b.route}, {b.codecs}" for b in bands)
    head = f'<svg class="routes" role="img" viewBox="0 0 740 {height + 4:.0f}" width="740"><title>{_text(about)}</title>'
    return f'{head}<g font-family="sans-serif" font-size="12" fill="currentColor">{"".join(parts)}</g></svg>' if bands else ""


def _bands(passages: Iterable[Passage]) -> list[Passage]:
    """The largest passages, then those of the others that go alike in one band each."""
    ordered = sorted(passages, key=lambda passage: (-passage.nbytes, passage.name))
    alike: dict[tuple[str, str], list[Passage]] = {}
    for passage in ordered[_MOST_BANDS:]:
        alike.setdefault((passage.route, passage.codecs), []).append(passage)
    others = [
        Passage(f"{len(found)} others" if len(found) > 1 else found[0].name, *key, sum(passage.nbytes for passage in found))
        for key, found in alike.items()
    ]
    return ordered[:_MOST_BANDS] + others[:_MOST_BANDS]


def _stack(names: Sequence[str], widths: Sequence[float]) -> list[float]:
    """Where each band begins on one side: bands of one name side by side, names below each other."""
    tops: dict[int, float] = {}
    place = 2.0
    for name in dict.fromkeys(names):
        for i in (i for i, found in enumerate(names) if found == name):
            tops[i] = place
            place += widths[i]
        place += 8
    return [tops[i] for i in range(len(names))]


def _ribbon(start: int, end: int, top: float, other: float, width: float, colour: str) -> str:
    middle = (start + end) // 2
    upper = f"M{start} {top:.1f}C{middle} {top:.1f} {middle} {other:.1f} {end} {other:.1f}"
    lower = f"v{width:.1f}C{middle} {other + width:.1f} {middle} {top + width:.1f} {start} {top + width:.1f}z"
    return f'<path d="{upper}{lower}" fill="{colour}" opacity=".35"/>'


def _label(x: int, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y + 4:.1f}" text-anchor="{anchor}">{_text(text)}</text>'


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def _plane(shape: Sequence[int]) -> tuple[int, int]:
    """A shape's last two dimensions; one dimension is a strip."""
    return (shape[-2], shape[-1]) if len(shape) > 1 else (1, shape[-1]) if shape else (1, 1)


def _shown(extent: int, *chunks: int) -> int:
    return min(extent, *(_MOST_LINES * max(1, chunk) for chunk in chunks))


def _scales(shown: tuple[int, int]) -> tuple[float, float]:
    """Pixels of an element along each axis: true to scale, but never a line."""
    scale = min(_WIDTH / shown[1], _HEIGHT / shown[0])
    return max(scale, 24 / shown[0]), max(scale, 24 / shown[1])


def _rect(kind: str, width: float, height: float) -> str:
    return f'<rect class="{kind}" width="{width:.1f}" height="{height:.1f}" {_LOOK[kind]}/>'


def _grid(kind: str, shown: tuple[int, int], chunks: tuple[int, int], scale: tuple[float, float]) -> str:
    width, height = shown[1] * scale[1], shown[0] * scale[0]
    across = [f"M0 {y * scale[0]:.1f}H{width:.1f}" for y in range(0, shown[0] + 1, max(1, chunks[0]))]
    down = [f"M{x * scale[1]:.1f} 0V{height:.1f}" for x in range(0, shown[1] + 1, max(1, chunks[1]))]
    return f'<path class="{kind}" d="{"".join(across + down)}" {_LOOK[kind]}/>'


def _count(shape: Sequence[int], chunks: Sequence[int]) -> int:
    return math.prod(-(-extent // max(1, chunk)) for extent, chunk in zip(shape, chunks, strict=True))


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"
