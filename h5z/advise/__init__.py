"""Which chunks and codecs suit a file's own data and the way in which it will be read: measured on samples, not guessed."""

from __future__ import annotations

import html
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from h5z.advise.access import Cost, best, cost, patterns
from h5z.advise.trials import CODECS, Trial, trials
from h5z.arrayplan import ArrayPlan
from h5z.errors import H5zError, PlanError, TargetError, TargetExistsError, one_line
from h5z.grid import ChunkGrid
from h5z.hdf5.files import forget
from h5z.nodes import Json, Problem, Record, Shape
from h5z.plan import Plan
from h5z.planning import plan
from h5z.policy import literal, matches, nbytes
from h5z.report import size, table_html, table_text
from h5z.tasks import source_array

_SAMPLES = (0.1, 0.5, 0.9)  # where in the grid of chunks
_MOST_ARRAYS = 30
_COVERED = 0.99  # of the bytes of all arrays; what is smaller is advised as most of the larger are
_SLACK = 1.05  # codecs whose reads take so little longer than the fastest are told apart by their ratio
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


def advise(
    source: str | os.PathLike[str],
    *,
    access: str | Mapping[str, str] = "balanced",
    codecs: Sequence[str] = CODECS,
    sample: str | int = "8MiB",
    bandwidth: str | int = "200MB",
    storage_options: dict[str, Any] | None = None,
    isolated: bool = False,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Advice:
    """Measure, on samples of each dataset, what codecs and chunk shapes give for the reads to come.

    Parameters
    ----------
    source : path or URL
        An HDF5 file.
    access : "time", "space", "balanced", a read's shape such as "64,*,*", or {path pattern: any of those}
        How the data will be read (`h5z.advise.access`). A shape applies to arrays of its rank, the others are read ``balanced``.
    codecs : sequence of str
        What to try, as Policy's ``codec`` names it.
    sample : str or int
        Bytes to read of each dataset.
    bandwidth : str or int
        Bytes a second at which stored bytes will come; the slower, the more a codec's ratio counts.
    **fields
        Fields of Policy, such as ``include``.

    Returns
    -------
    Advice
        Prints as tables and a plot, and writes the policy.

    Raises
    ------
    PlanError, SourceError
        If the call is wrong, or the file cannot be read.
    """
    limit, rate = nbytes(sample), nbytes(bandwidth)
    made = plan(source, storage_options=storage_options, isolated=isolated, **{"unsupported": "report", **fields})
    chosen, left = _chosen(made)
    if isinstance(access, Mapping):
        for pattern in access:
            if not any(matches(pattern, array.source) for array in chosen):
                raise PlanError(f"access: the path pattern {pattern!r} matches no dataset that can be measured")
    elif "," in access and not any(len(array.source_shape) == access.count(",") + 1 for array in chosen):
        raise PlanError(f"access: {access!r} has rank {access.count(',') + 1}, found no dataset of that rank")
    advised = []
    try:
        for array in chosen:
            if progress is not None:
                progress(array.source)
            word = _access(access, array)
            try:
                advised.append(_advised(made, array, word, tuple(codecs), limit, rate, storage_options))
            except H5zError as error:
                if isinstance(error, PlanError):
                    raise
                left.append(Problem(array.source, one_line(error)))
    finally:
        forget(made.source)
    return Advice(made.source, rate, tuple(advised), tuple(left))


def _chosen(made: Plan) -> tuple[list[ArrayPlan], list[Problem]]:
    """The arrays to measure, the largest first; and those that are not, with why."""
    able, left = [], list(made.not_carried)
    for array in made.arrays:
        if array.steps or array.is_text or array.ragged:
            left.append(Problem(array.source, "its elements are not of one size: automatic chunks and codec"))
        elif array.nbytes and array.source_shape:
            able.append(array)
    able.sort(key=lambda array: -array.nbytes)
    total, covered = sum(array.nbytes for array in able), 0
    chosen: list[ArrayPlan] = []
    for array in able:
        if len(chosen) >= _MOST_ARRAYS or covered >= _COVERED * total:
            break
        chosen.append(array)
        covered += array.nbytes
    rest = len(able) - len(chosen)
    if rest:
        left.append(
            Problem(able[len(chosen)].source, f"and {rest - 1} more: small beside the others; automatic chunks and codec")
        )
    return chosen, left


def _access(access: str | Mapping[str, str], array: ArrayPlan) -> str:
    word = access if isinstance(access, str) else next((w for p, w in access.items() if matches(p, array.source)), "balanced")
    return "balanced" if isinstance(access, str) and "," in word and word.count(",") + 1 != len(array.source_shape) else word


def _advised(
    made: Plan,
    array: ArrayPlan,
    access: str,
    codecs: tuple[str, ...],
    limit: int,
    bandwidth: int,
    storage_options: dict[str, Any] | None,
) -> ArrayAdvice:
    shape, extra = array.source_shape, array.extra
    itemsize = array.itemsize * math.prod(extra)
    reads = patterns(access, shape)
    advised = best(shape, itemsize, reads)
    options = {"advised": advised.chunks, "automatic": array.chunks[: len(shape)]}
    if array.source_chunks:
        options["the source's"] = array.source_chunks
    options["of 1 MiB"] = best(shape, itemsize, reads, least=1 << 19, most=1 << 20).chunks
    options["of 16 MiB"] = best(shape, itemsize, reads, least=1 << 23, most=1 << 24).chunks
    unique: dict[Shape, list[str]] = {}
    for label, chunks in options.items():
        unique.setdefault(tuple(map(min, chunks, shape)), []).append(label)
    cuts: list[Cut] = []
    found: tuple[Trial, ...] = ()
    for chunks, labels in unique.items():
        samples = _samples(made, array, chunks, limit, storage_options)
        if chunks == advised.chunks:
            found = tuple(trials(samples, codecs))
        (usual,) = trials(samples, ("blosc-zstd:1",))
        cuts.append(Cut(", ".join(labels), cost(chunks, shape, itemsize, reads), usual.ratio))
    fastest = min(trial.seconds(bandwidth) for trial in found)
    codec = max((t for t in found if t.seconds(bandwidth) <= _SLACK * fastest), key=lambda trial: trial.ratio).codec
    kind = array.dtype if isinstance(array.dtype, str) else "struct"
    return ArrayAdvice(
        array.source, shape, kind, array.nbytes, array.source_nbytes, access, tuple(cuts), found, advised.chunks, codec
    )


def _samples(made: Plan, array: ArrayPlan, chunks: Shape, limit: int, storage_options: dict[str, Any] | None) -> list[Any]:
    """Chunks of the array cut so, from its start, middle and end; cut short where they are larger than what may be read."""
    grid = ChunkGrid(array.source_shape, chunks)
    handle = source_array(made, array, storage_options)
    numbers = sorted({min(grid.size - 1, int(grid.size * at)) for at in _SAMPLES})
    each = max(1, limit // len(numbers) // max(1, array.itemsize * math.prod(array.extra)))
    out = []
    for number in numbers:
        region = [slice(s.start, s.stop) for s in grid.region(grid.index(number))]
        for axis, part in enumerate(region):
            inner = math.prod(s.stop - s.start for s in region[axis + 1 :])
            room = max(1, each // max(1, math.prod(s.stop - s.start for s in region[:axis]) * inner))
            region[axis] = slice(part.start, min(part.stop, part.start + room))
        out.append(handle.read((*region, *(slice(0, n) for n in array.extra))))
    return out


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
