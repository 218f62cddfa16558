"""The ratios as an SVG, a panel a case, a bar a contender; and how planning grows.

Plain text, so that it needs no plotting library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from pathlib import Path

from .run import Outcome, Result
from .scale import ARRAYS, UNITS, Point

WIDTH, LABEL, BAR, GAP, HEAD = 860, 230, 18, 6, 46
ROOM = WIDTH - LABEL - 190  # for the longest bar
HEIGHT = 120  # of curves
COLOURS = {"h5z": "#1f6f8b", "floor": "#b8b8b8", "start": "#b8b8b8", "cp": "#b8b8b8"}
PEER = "#e0a458"


def write_svg(path: Path, outcomes: Sequence[Outcome], planning: Sequence[Point] = ()) -> None:
    """Wall time of each contender over the baseline's, shorter is faster; and what planning takes for each unit."""
    panels, top = [], 10
    for outcome in outcomes:
        panel, height = _panel(outcome, top)
        panels.append(panel)
        top += height
    for what, each in (("µs", lambda p: p.microseconds), ("bytes of memory", lambda p: p.peak_nbytes / p.units)):
        if planning:
            panels.append(_curves(f"Planning, no data: {what} a unit", planning, each, top))
            top += HEAD + HEIGHT + 40
    size = f'width="{WIDTH}" height="{top}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>"]) + "\n")


def _panel(outcome: Outcome, top: int) -> tuple[str, int]:
    """A case's bars from `top` on, and the height that they took."""
    ratios = {r.name: outcome.ratio(r, "wall", outcome.baseline) for r in outcome.results}
    shown = [result for result in outcome.results if ratios[result.name] is not None]
    longest = max([1.0, *(ratio for ratio in ratios.values() if ratio)])
    scale = f"{outcome.case.name}: wall time ÷ {outcome.baseline}; shorter is faster"
    parts = [_text(10, top + 16, outcome.case.about, weight="bold"), _text(10, top + 32, scale, fill="#666")]
    bottom = HEAD + len(shown) * (BAR + GAP)
    one = LABEL + ROOM / longest
    line = f'x1="{one:.1f}" x2="{one:.1f}" y1="{top + HEAD - 4}" y2="{top + bottom}"'
    parts.append(f'<line {line} stroke="#666" stroke-dasharray="3 3"/>')
    for row, result in enumerate(shown):
        parts.append(_bar(result, ratios[result.name] or 0.0, longest, top + HEAD + row * (BAR + GAP)))
    return "\n".join(parts), bottom + 22


def _curves(title: str, planning: Sequence[Point], each: Callable[[Point], float], top: int) -> str:
    """A line for each number of arrays, from left to right ten times as many units a step; heights are logarithmic."""
    logs = [log10(max(each(point), 1e-3)) for point in planning]
    low, high = floor(min(logs)), ceil(max(logs) + 1e-9)
    parts = [
        _text(10, top + 16, title, weight="bold"),
        _text(10, top + 32, "units; both axes logarithmic", fill="#666"),
    ]

    def height(log: float) -> float:
        return top + HEAD + HEIGHT * (high - log) / (high - low)

    for power in range(low, high + 1):
        y = height(power)
        parts.append(f'<line x1="{LABEL}" x2="{LABEL + ROOM}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(LABEL - 8, y + 4, f"{10.0**power:,.10g}", anchor="end"))
    places = [LABEL + ROOM * i / (len(UNITS) - 1) for i in range(len(UNITS))]
    parts += [_text(x, top + HEAD + HEIGHT + 18, f"{n:,}", anchor="middle") for x, n in zip(places, UNITS, strict=True)]
    for arrays, colour in zip(ARRAYS, (COLOURS["h5z"], PEER), strict=True):
        line = [log for log, point in zip(logs, planning, strict=True) if point.arrays == arrays]
        corners = " ".join(f"{x:.1f},{height(log):.1f}" for x, log in zip(places, line, strict=True))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{arrays:,} array{'s' * (arrays > 1)}"
        parts.append(_text(LABEL + ROOM + 8, height(line[-1]) + (4 if arrays == 1 else -8), label, fill=colour))
    return "\n".join(parts)


def _bar(result: Result, ratio: float, longest: float, y: int) -> str:
    length = ROOM * ratio / longest
    colour = COLOURS.get(result.name, PEER)
    peak = (result.median("peak_nbytes") or 0) / 2**20
    note = f"{ratio:.2f}  ({result.median('wall'):.2f} s, {peak:,.0f} MiB)"
    rect = f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
    label = _text(LABEL - 8, y + 13, result.label, anchor="end", weight="bold" if result.name == "h5z" else "normal")
    return "\n".join([rect, label, _text(LABEL + length + 6, y + 13, note)])


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", fill: str = "#222") -> str:
    halo = 'stroke="white" stroke-width="3" paint-order="stroke"'  # over the baseline's line
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}" {halo}'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(words)}</text>'
