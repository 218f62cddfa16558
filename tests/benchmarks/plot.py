"""The ratios as an SVG: a panel a case, a bar a contender. Plain text, so that it needs no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from .run import Outcome, Result

WIDTH, LABEL, BAR, GAP, HEAD = 860, 230, 18, 6, 46
ROOM = WIDTH - LABEL - 190  # for the longest bar
COLOURS = {"h5z": "#1f6f8b", "floor": "#b8b8b8", "start": "#b8b8b8", "cp": "#b8b8b8"}
PEER = "#e0a458"


def write_svg(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Wall time of each contender over the baseline's; shorter is faster."""
    panels, top = [], 10
    for outcome in outcomes:
        panel, height = _panel(outcome, top)
        panels.append(panel)
        top += height
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
