"""The pictures of these pages, drawn as a migration's report draws them: ``python docs/pictures.py`` writes images/*.svg."""

from __future__ import annotations

import html
import re
import tempfile
from pathlib import Path

import h5py
import numpy as np

import h5z
from h5z.pictures import Layout

_STYLE = (
    "text{font:13px sans-serif;fill:#222}.soft{fill:#666;font-size:11px}"
    ".box{fill:#f4f6fb;stroke:#2f4b9a}.ask{fill:#fff;stroke:#8a8fa3}.way{fill:none;stroke:#8a8fa3;marker-end:url(#tip)}"
)
LAYOUTS = {
    "same-grid": Layout("/x", (128, 128), "f4", (32, 32), (32, 32), None, "blosc", 4 * 128 * 128),
    "regrid": Layout("/x", (128, 192), "f4", (16, 32), (64, 64), None, "blosc", 4 * 128 * 192),
    "crossing": Layout("/x", (128, 192), "f4", (8, 192), (128, 16), None, "blosc", 4 * 128 * 192),
    "shards": Layout("/x", (128, 192), "f4", (16, 192), (16, 16), (64, 64), "blosc", 4 * 128 * 192),
}
# The way to a route: what is asked, and the route where the answer is yes.
QUESTIONS = (
    (
        ("virtual, external, of varying", "length, or a filter that only", "libhdf5 decodes?"),
        "library",
        "through libhdf5 and its lock",
    ),
    (("same chunks and", "the same codecs?"), "copy", "encoded bytes, unchanged"),
    (("same chunks?",), "recode", "one chunk at a time"),
    (("would each source chunk be", "decoded more than 3 times", "in the memory given?"), "staged", "through a scratch"),
)


def standalone(svg: str) -> str:
    """A picture as a file of its own, on white whatever the page's colours are."""
    named = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    x, y, width, height = re.findall(r"[-0-9.]+", re.search(r'viewBox="([^"]+)"', named)[1])
    return named.replace("</title>", f'</title><rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff"/>', 1) + "\n"


def route_map() -> str:
    """The route map of a plan in which each array goes another way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "routes.h5")
        with h5py.File(path, "w") as file:
            zipped = {"compression": "gzip", "shuffle": True}
            file.create_dataset("detector/frames", (96, 256, 256), "u2", chunks=(1, 256, 256), **zipped)
            file.create_dataset("detector/series", (96, 256, 256), "u2", chunks=(1, 256, 256), **zipped)
            file.create_dataset("image", (1024, 1024), "f4", chunks=(256, 256), compression="lzf")
            file.create_dataset("kept", (64, 128, 128), "f4", chunks=(16, 128, 128), **zipped)
            file.create_dataset("log", data=["a"] * 5000, dtype=h5py.string_dtype())
            file["detector/x"] = np.zeros(4)
        chunks = {"detector/frames": (8, 256, 256), "detector/series": (96, 16, 16), "image": "source"}
        plan = h5z.plan(path, "a.zarr", chunks=chunks, codec={"kept": "keep"}, memory="32MiB", workers=2)
        return plan.route_map()


def routes() -> str:
    """The questions that lead to a route."""
    parts = []
    for i, (question, route, how) in enumerate(QUESTIONS):
        y = 8 + 92 * i
        parts.append(f'<rect class="ask" x="4" y="{y}" width="196" height="64" rx="8"/>')
        top = y + 37 - 8 * (len(question) - 1)
        parts += [f'<text x="102" y="{top + 16 * n}" text-anchor="middle">{line}</text>' for n, line in enumerate(question)]
        parts.append(f'<path class="way" d="M200 {y + 32}H236"/><text class="soft" x="206" y="{y + 26}">yes</text>')
        parts += _route(240, y + 7, route, how)
        parts.append(f'<path class="way" d="M102 {y + 64}V{y + 90}"/><text class="soft" x="108" y="{y + 82}">no</text>')
    parts += _route(4, 8 + 92 * len(QUESTIONS), "regrid", "each block reads what it needs")
    tip = '<marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
    words = "; else ".join(f"{' '.join(question)} {route}" for question, route, _ in QUESTIONS)
    head = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 440 436" width="440">'
    ground = '<rect width="440" height="436" fill="#fff" rx="6"/>'
    return f"{head}<title>{html.escape(words)}</title><style>{_STYLE}</style><defs>{tip}</defs>{ground}{''.join(parts)}</svg>"


def _route(x: int, y: int, name: str, how: str) -> list[str]:
    box = f'<rect class="box" x="{x}" y="{y}" width="196" height="50" rx="8"/>'
    word = f'<text x="{x + 98}" y="{y + 21}" text-anchor="middle" font-weight="bold">{name}</text>'
    return [box, word, f'<text class="soft" x="{x + 98}" y="{y + 39}" text-anchor="middle">{how}</text>']


def write(folder: Path) -> None:
    """All of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, layout in LAYOUTS.items():
        (folder / f"{name}.svg").write_text(standalone(layout.svg()), encoding="utf-8")
    (folder / "routes.svg").write_text(routes() + "\n", encoding="utf-8")
    (folder / "route-map.svg").write_text(standalone(route_map()), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent / "images")
