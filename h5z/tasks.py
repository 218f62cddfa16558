"""What a plan's tasks read and write; how one is run, by any worker; and the account of them all."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from h5z.arrayplan import ArrayPlan
from h5z.digest import Digest
from h5z.grid import Region, region_shape
from h5z.hdf5.fetch import Contiguous
from h5z.isolation.heartbeat import beat
from h5z.joining.arrays import JoinedArray, narrowed, places
from h5z.joining.arrays import Piece as JoinedPiece
from h5z.joining.epochs import Shift
from h5z.nodes import Json
from h5z.payload import summed
from h5z.plan import Part, Plan, Task
from h5z.report import Report
from h5z.source import Dataset, SourceArray, read_columns

if TYPE_CHECKING:
    from h5z.target import Target
    from h5z.units import Stored, TargetArray

Work: TypeAlias = tuple[tuple[Any, Any, Region], ...]  # source or scratch, scratch or target, region


def work_of(
    made: Plan, target: Target, done: set[int], *, staging: bool, storage_options: dict[str, Any] | None = None
) -> Iterator[tuple[Task, Work]]:
    """The tasks of a phase that are still to do, each with the handles that it needs."""
    from h5z.staging import Scratch
    from h5z.units import TargetArray

    if staging and not any(array.stage for array in made.arrays):
        return
    handles: dict[int, tuple[SourceArray | JoinedArray, Scratch | None, TargetArray]] = {}
    units = target.seat_of(made)
    for task in made.tasks():
        if task.number in done or task.staging != staging:
            continue
        work: list[tuple[Any, Any, Region]] = []
        for piece in task.pieces:
            if piece.array not in handles:
                array = made.arrays[piece.array]
                bare = replace(array, attributes={}, marks=(), payload=summed(array.payload))
                scratch = Scratch(target, bare, piece.array) if array.stage else None
                written = TargetArray(units, bare, made.policy.zarr_format)
                handles[piece.array] = source_array(made, array, storage_options, place=units), scratch, written
            source, scratch, written = handles[piece.array]
            near = narrowed(source, piece.region)
            work.append((near, scratch, piece.region) if staging else (scratch or near, written, piece.region))
        yield task, tuple(work)


def run_task(target: Target, number: int, work: Work) -> dict[str, Json]:
    """Read and write one task's pieces, then mark it done."""
    from h5z.staging import Scratch

    ended = target.record(number)
    if ended is not None:  # by a worker that died before it could tell
        return ended
    record: dict[str, Json] = {"units": 0, "nbytes": 0, "decoded": 0, "checksums": {}}
    digests: dict[str, Digest] = {}
    for pieces in of_tables(work):
        beat()
        if isinstance(pieces[0][1], Scratch):
            source, scratch, region = pieces[0]
            scratch.put(region, source.read(region))
            continue
        for (_, written, region), stored in zip(pieces, _moved_together(pieces), strict=True):
            record["decoded"] += math.prod(region_shape(region)) * written.plan.itemsize
            record["units"] += stored.units
            record["nbytes"] += stored.nbytes
            sums = record["checksums"]
            sums[written.plan.path] = (sums.get(written.plan.path, 0) + stored.checksum) % (1 << 64)
            if written.plan.route != "copy":  # whose values nobody has seen
                digests[written.plan.path] = digests.get(written.plan.path, Digest()) + stored.digest
    record["digests"] = {path: str(found) for path, found in digests.items()}
    target.mark_done(number, record)
    for source, _, region in work:
        if isinstance(source, Scratch):
            source.drop(region)
    return record


def moved(source: Any, written: TargetArray, region: Region) -> Stored:
    """Move a region by its array's route."""
    move = {"copy": written.copy, "recode": written.recode}.get(written.plan.route, written.regrid)
    return move(source, region)


def of_tables(work: Work) -> Iterator[Work]:
    """Pieces that follow each other, together where they are columns of a table in the same rows."""
    start = 0
    for stop in range(1, len(work) + 1):
        if stop == len(work) or not _beside(work[start], work[stop]):
            yield work[start:stop]
            start = stop


def _beside(one: tuple[Any, Any, Region], other: tuple[Any, Any, Region]) -> bool:
    both = one[0], other[0]
    if not all(isinstance(source, SourceArray) and source.leaf.steps and not source.leaf.ragged for source in both):
        return False
    rank = len(one[0].source_shape)
    return bool(one[0].dataset == other[0].dataset and one[2][:rank] == other[2][:rank])


def _moved_together(pieces: Work) -> Iterator[Stored]:
    """Move pieces, of which several are columns of a table: its rows are read once."""
    sources, regions = [piece[0] for piece in pieces], [piece[2] for piece in pieces]
    if len(pieces) == 1 or sources[0].constant(regions[0]) is not None:
        yield from (moved(*piece) for piece in pieces)
        return
    for (_, written, region), values in zip(pieces, read_columns(sources, regions), strict=True):
        yield written.write(region, values)


def work_nbytes(work: Work) -> int:
    """Decoded bytes of a task's pieces."""
    return sum(math.prod(region_shape(region)) * int(written.plan.itemsize) for _, written, region in work)


def source_array(
    made: Plan,
    array: ArrayPlan,
    storage_options: dict[str, Any] | None = None,
    *,
    direct: bool = True,
    place: Target | None = None,
) -> SourceArray | JoinedArray:
    """The handle that reads what becomes one planned array; past libhdf5 where that can be done, or not.

    Of an array that grows, what its target has already is read from there, at `place`.
    """
    direct = direct and array.route != "library"
    if array.axis is None:
        return of_file(made, array, Part(made.source, made.size, made.mtime_ns, "", 0), storage_options, direct=direct)
    from h5z.units import TargetArray

    pieces = []
    for part, (start, stop) in zip(made.parts, places([p.length for p in made.parts], array.kept), strict=True):
        shift = part.shifts.get(array.source)
        found = of_file(made, array, part, storage_options, direct=direct)
        pieces.append(JoinedPiece(start, stop, found, Shift.from_list(shift) if shift else None, made.adds_dim))
    if array.kept:
        held = TargetArray(cast("Target", place), replace(array, attributes={}), made.policy.zarr_format)
        pieces.insert(0, JoinedPiece(0, array.kept, held))
    dtype = np.dtype(object) if array.is_text else array.leaf().dtype
    return JoinedArray(array.axis, array.shape, cast("np.dtype[Any]", dtype), tuple(pieces))


def of_file(
    made: Plan, array: ArrayPlan, part: Part, storage_options: dict[str, Any] | None, *, direct: bool = True
) -> SourceArray:
    """The handle that reads what one file holds of a planned array."""
    roots = tuple(os.fspath(folder) for folder in made.policy.external_roots)
    stamp = (part.size, part.mtime_ns)
    known = direct and not made.parts and array.offset is not None  # of several files it is the first one's
    at = Contiguous(cast(int, array.offset), array.source_shape) if known else None
    dataset = Dataset(part.file, array.source, array.whole or array.described, storage_options, direct, roots, stamp, at)
    shape, source_shape, own = array.shape, array.source_shape, array.own
    if made.adds_dim and array.axis is not None:
        shape, source_shape, own = shape[1:], source_shape[1:], own and own[1:]
        source_shape = tuple(part.shapes.get(array.source, [1, *source_shape])[1:])
    elif array.axis is not None:
        shape, source_shape = (
            tuple(part.length if axis == array.axis else n for axis, n in enumerate(whole)) for whole in (shape, source_shape)
        )
        source_shape = tuple(part.shapes.get(array.source, source_shape))
    return SourceArray(
        dataset,
        array.leaf(),
        shape,
        fill=array.fill_scalar(),
        step=array.unit[0] if array.ragged else 0,
        marks=array.marks,
        source_shape=source_shape,
        chunks=own,
    )


def account(made: Plan, place: Target, status: str, start: float, **rest: Any) -> Report:
    """The report of a plan that was carried out or verified, begun at `start` of `time.perf_counter`."""
    routes: dict[str, int] = {}
    for array in made.arrays:
        routes[array.route] = routes.get(array.route, 0) + array.nbytes
    return Report(
        made.subject,
        place.name,
        status,
        arrays=len(made.arrays),
        groups=len(made.groups),
        nbytes=made.nbytes,
        source_nbytes=sum(size for _, size, _, _ in made.identities),
        units=sum(array.units.size for array in made.arrays),
        seconds=time.perf_counter() - start,
        not_carried=made.not_carried,
        notes=made.notes,
        routes=routes,
        **rest,
    )
