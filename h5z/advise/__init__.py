"""Which chunks and codecs suit a file's own data and the way in which it will be read: measured on samples, not guessed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from h5z import planning
from h5z.advise.access import best, cost, patterns
from h5z.advise.advice import Advice, ArrayAdvice, Cut
from h5z.advise.trials import CODECS, Trial, trials
from h5z.arrayplan import ArrayPlan
from h5z.errors import H5zError, PlanError, one_line
from h5z.grid import ChunkGrid
from h5z.hdf5.files import forget
from h5z.nodes import Problem, Shape
from h5z.plan import Plan
from h5z.policy import matches, nbytes
from h5z.tasks import source_array

_SAMPLES = (0.1, 0.5, 0.9)  # where in the grid of chunks
_MOST_ARRAYS = 30
_COVERED = 0.99  # of the bytes of all arrays; what is smaller is advised as most of the larger are
_SLACK = 1.05  # codecs whose reads take so little longer than the fastest are told apart by their ratio


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
    limit, rate = nbytes(sample, "sample"), nbytes(bandwidth, "bandwidth")
    plan = planning.plan(source, storage_options=storage_options, isolated=isolated, **{"unsupported": "report", **fields})
    chosen, left = _chosen(plan)
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
                advised.append(_advised(plan, array, word, tuple(codecs), limit, rate, storage_options))
            except H5zError as error:
                if isinstance(error, PlanError):
                    raise
                left.append(Problem(array.source, one_line(error)))
    finally:
        forget(plan.source)
    return Advice(plan.source, rate, tuple(advised), tuple(left))


def _chosen(plan: Plan) -> tuple[list[ArrayPlan], list[Problem]]:
    """The arrays to measure, the largest first; and those that are not, with why."""
    able, left = [], list(plan.not_carried)
    for array in plan.arrays:
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
    plan: Plan,
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
        samples = _samples(plan, array, chunks, limit, storage_options)
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


def _samples(plan: Plan, array: ArrayPlan, chunks: Shape, limit: int, storage_options: dict[str, Any] | None) -> list[Any]:
    """Chunks of the array cut so, from its start, middle and end; cut short where they are larger than what may be read."""
    grid = ChunkGrid(array.source_shape, chunks)
    handle = source_array(plan, array, storage_options)
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
