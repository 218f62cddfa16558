"""What was measured of a file's data, and the policy that it comes to: as text, as HTML, and as a file for the command."""

from __future__ import annotations

import html
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from h5z.advise.access import Cost
from h5z.advise.trials import Trial
from h5z.errors import PlanError, TargetError, TargetExistsError, one_line
from h5z.nodes import Json, Problem, Record, Shape
from h5z.policy import literal
from h5z.report import size, table_html, table_text

_BAR = 30


@dataclass(frozen=True)
class Cut(Record):
    """A way to cut an array, and what samples cut so are encoded to."""

    label: str
    cost: Cost
    ratio: float


@dataclass(frozen=True)
class ArrayAdvice(Record):
    """What is advised for one array, and what it was chosen from."""

    path: str
    shape: Shape
    dtype: str
    nbytes: int
    source_nbytes: int
    access: str
    cuts: tuple[Cut, ...]
    codecs: tuple[Trial, ...]
    chunks: Shape
    codec: str


@dataclass(frozen=True)
class Advice(Record):
    """What was measured, and the policy that it comes to.

    Attributes
    ----------
    left : tuple of Problem
        Arrays that were not measured, and why.
    bandwidth : int
        Bytes a second at which stored bytes are thought to come.
    """

    source: str
    bandwidth: int
    arrays: tuple[ArrayAdvice, ...]
    left: tuple[Problem, ...] = ()

    @property
    def policy(self) -> dict[str, Json]:
        """The fields of a Policy, as JSON's own types."""
        if not self.arrays:
            return {}
        codec: Json = {literal(array.path): array.codec for array in self.arrays}
        usual = Counter(array.codec for array in self.arrays).most_common(1)[0][0]
        if all(array.codec == usual for array in self.arrays):
            codec = usual
        return {"chunks": {literal(array.path): list(array.chunks) for array in self.arrays}, "codec": codec}

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as JSON's own types, `policy` included."""
        return {**super().to_dict(), "policy": self.policy}

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the policy to a file that `h5z convert --policy` takes: YAML or JSON, by its suffix.

        Raises
        ------
        TargetExistsError
            If the file is there and `overwrite` is not given.
        TargetError
            If it cannot be written.
        PlanError
            If its suffix is neither.
        """
        name = os.fspath(path)
        if not name.lower().endswith((".yaml", ".yml", ".json")):
            raise PlanError(f"{name}: expected a name that ends in .yaml or .json")
        try:
            with open(name, "w" if overwrite else "x", encoding="utf-8") as file:
                file.write(self._text(json_only=name.lower().endswith(".json")))
        except FileExistsError:
            raise TargetExistsError(f"{name}: expected nothing, found a file (--overwrite replaces it)") from None
        except OSError as error:
            raise TargetError(f"{name}: cannot be written ({one_line(error)})") from None

    def _text(self, *, json_only: bool) -> str:
        if json_only:
            return json.dumps(self.policy, indent=2) + "\n"
        import yaml

        reads = ", ".join(sorted({array.access for array in self.arrays}))
        head = f"# Advised for {os.path.basename(self.source)}, read by: {reads or 'nothing'}.\n"
        return head + yaml.safe_dump(self.policy, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)

    def totals(self) -> list[Trial]:
        """Each codec over the samples of all arrays."""
        out = []
        for name in [trial.codec for trial in self.arrays[0].codecs] if self.arrays else []:
            found = [next(trial for trial in array.codecs if trial.codec == name) for array in self.arrays]
            total = sum(trial.nbytes for trial in found)
            encoded = sum(trial.encoded_nbytes for trial in found)
            rates = (sum(trial.nbytes / getattr(trial, side) for trial in found) for side in ("encode", "decode"))
            encode, decode = (total / max(seconds, 1e-9) for seconds in rates)
            out.append(Trial(name, total, encoded, encode, decode))
        return out

    def tables(self) -> list[tuple[str, list[tuple[str, ...]]]]:
        """What was measured of each array, as tables with a title each."""
        out = []
        for array in self.arrays:
            amounts = f"{size(array.nbytes)}, {size(array.source_nbytes)} in the file"
            head = f"{array.path}  {array.dtype} {_times(array.shape)}  {amounts}  read by {array.access}"
            out.append((head, _cut_rows(array)))
            out.append(("", _codec_rows(array.codecs, self.bandwidth, array.codec)))
        return out

    def __str__(self) -> str:
        """Tables, a plot of all codecs, and what is advised."""
        parts = []
        for head, rows in self.tables():
            parts += [head] if head else []
            parts.append("\n".join("  " + text for text in table_text(rows).splitlines()))
        if self.arrays:
            parts.append(self._bars())
        parts += [f"not measured: {problem.path}: {problem.reason}" for problem in self.left]
        return "\n\n".join(parts)

    def _bars(self) -> str:
        totals = self.totals()
        best_ratio, best_rate = (max(getattr(t, name) for t in totals) for name in ("ratio", "decode"))
        lines = [f"all samples ({size(totals[0].nbytes)})"]
        for trial in totals:
            ratio, rate = _bar(trial.ratio / best_ratio), _bar(trial.decode / best_rate)
            lines.append(f"  {trial.codec:<14} ratio {trial.ratio:5.2f} {ratio}  decode {_rate(trial.decode):>8} {rate}".rstrip())
        return "\n".join(lines)

    def svg(self) -> str:
        """Each codec over all samples: ratio across, rate of decoding up, on a logarithmic scale."""
        totals = self.totals()
        width, height, edge = 640, 360, 60
        across = max((trial.ratio for trial in totals), default=1) * 1.1
        rates = [math.log10(trial.decode) for trial in totals] or [0.0]
        low, high = min(rates) - 0.2, max(rates) + 0.2
        marks = []
        for trial in totals:
            x = edge + (width - 2 * edge) * trial.ratio / across
            y = height - edge - (height - 2 * edge) * (math.log10(trial.decode) - low) / (high - low)
            label = html.escape(f"{trial.codec} ({trial.ratio:.2f}, {_rate(trial.decode)})")
            marks.append(f"<circle cx='{x:.0f}' cy='{y:.0f}' r='4'/><text x='{x + 6:.0f}' y='{y - 5:.0f}'>{label}</text>")
        frame = f"M{edge},{edge}V{height - edge}H{width - edge}"
        axes = f"<text x='{width // 2}' y='{height - 20}'>ratio</text><text x='10' y='{edge - 20}'>decoded bytes a second</text>"
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='12'>"
            f"<path d='{frame}' fill='none' stroke='gray'/>{axes}{''.join(marks)}</svg>"
        )

    def _repr_html_(self) -> str:
        parts = [f"<h4>{html.escape(head)}</h4>{table_html(rows)}" if head else table_html(rows) for head, rows in self.tables()]
        return "".join(parts) + self.svg()


def _cut_rows(array: ArrayAdvice) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("chunks", "", "objects", "reads", "decodes", "of wanted", "ratio")]
    for cut in sorted(array.cuts, key=lambda cut: cut.cost.weight):
        found = cut.cost
        mark = "*" if found.chunks == array.chunks else ""
        amounts = (str(found.objects), f"{found.reads:.4g}", size(int(found.nbytes)), f"{found.waste:.3g}×", f"{cut.ratio:.2f}")
        rows.append((mark + _times(found.chunks), cut.label, *amounts))
    return rows


def _codec_rows(found: Sequence[Trial], bandwidth: int, codec: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("codec", "ratio", "encode", "decode", f"read 1 GiB at {_rate(bandwidth)}")]
    for trial in sorted(found, key=lambda trial: trial.seconds(bandwidth)):
        mark = "*" if trial.codec == codec else ""
        rates = (_rate(trial.encode), _rate(trial.decode), f"{trial.seconds(bandwidth):.2f} s")
        rows.append((mark + trial.codec, f"{trial.ratio:.2f}", *rates))
    return rows


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _rate(value: float) -> str:
    if value > 1e11:  # nothing is done
        return "–"
    return f"{value / 1e6:.0f} MB/s" if value < 1e10 else f"{value / 1e9:.0f} GB/s"


def _bar(part: float) -> str:
    return ("█" * max(1, round(part * _BAR))).ljust(_BAR)
