"""What a verification compares: a plan's arrays as the source has them with those of its target, region by region."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from h5z.arrayplan import ArrayPlan, column_nbytes, in_order, tables
from h5z.digest import Digest, constant_digest, digest, total
from h5z.grid import ChunkGrid, Region, grow, intersect, region_shape
from h5z.isolation import Guard, guarding
from h5z.isolation.heartbeat import beat
from h5z.joining.arrays import Readable, narrowed
from h5z.nodes import Shape
from h5z.plan import Plan
from h5z.report import Difference
from h5z.scheduling import Job, run
from h5z.source import read_columns
from h5z.tasks import of_tables, source_array

if TYPE_CHECKING:
    from h5z.target import Target
    from h5z.units import Stored, TargetArray

Pairs: TypeAlias = "list[tuple[Readable, TargetArray]]"  # an array as its source has it, and as its target has
Work: TypeAlias = Callable[[Iterable[Job]], list[Any]]  # runs jobs where they shall run
Sides: TypeAlias = "tuple[dict[str, Digest], dict[str, tuple[Stored, Difference | None]]]"  # what each holds, by path
LEVELS = ("structure", "sample", "full")
_SAMPLES = 4
_JOB_NBYTES = 16 << 20
_JOB_PIECES = 256
_MOST_PIECES = 1024  # of an array, about: regions where nothing is stored are dealt with at once


def check(
    plan: Plan,
    target: Target,
    level: str,
    scheduler: Any,
    advance: Callable[[int], None],
    source_options: dict[str, Any] | None = None,
    *,
    finished: bool = False,
    guard: Guard | None = None,
) -> tuple[tuple[Difference, ...], int, dict[str, Digest]]:
    """Compare a target's arrays with the plan's source; of a finished target also its metadata with the plan.

    Returns
    -------
    differences : tuple of Difference
        The first of each array, and every metadata document that differs.
    checked_nbytes : int
        Decoded bytes compared.
    digests : dict
        Of every array that is the same on both sides, by path; at level "full".
    """
    from h5z.units import TargetArray
    from h5z.verify.differences import structure

    def work(jobs: Iterable[Job]) -> list[Any]:
        return run(guarding(jobs, guard), scheduler, plan.workers, advance)

    found, digests = structure(plan, target, finished=True) if finished and not plan.parts else ([], {})
    if level == "structure":
        return tuple(found), 0, {}
    broken = {difference.path for difference in found}
    seat = target.seat_of(plan)
    pairs: Pairs = [
        (
            source_array(plan, array, source_options, direct=False, place=seat),
            TargetArray(seat, array, plan.policy.zarr_format),
        )
        for array in plan.arrays
        if array.path not in broken
    ]
    if level == "sample":
        differences, checked = _compare_samples(pairs, work, plan.together_nbytes)
        return (*found, *differences), checked, {}
    sums, written_digests = recorded(target, finished)
    sides = _both_sides(pairs, work, plan.together_nbytes)
    differences, same = _compare_digests(pairs, sides, sums, digests | written_digests)
    return (*found, *differences), sum(written.plan.nbytes for _, written in pairs), same


def _compare_samples(pairs: Pairs, work: Work, together_nbytes: int) -> tuple[list[Difference], int]:
    """The first difference of each array in some regions of it, and the bytes of those."""
    samples: list[Any] = []
    for numbers in tables([written.plan for _, written in pairs], lambda array: array.unit):
        chosen = zip(*_sampled([pairs[i][1].plan for i in numbers]), strict=True)
        samples += [
            (narrowed(pairs[i][0], region), pairs[i][1], region)
            for regions in chosen
            for i, region in zip(numbers, regions, strict=True)
        ]
    results = work((_differences, (group,), nbytes) for group, nbytes in _grouped(samples, together_nbytes))
    first = {item["path"]: Difference(**item) for group in reversed(results) for item in reversed(group)}
    return list(first.values()), sum(region_nbytes(written.plan, region) for _, written, region in samples)


def _compare_digests(
    pairs: Pairs, sides: Sides, checksums: dict[str, str], digests: dict[str, Digest]
) -> tuple[list[Difference], dict[str, Digest]]:
    """The first difference of each array in all of it; and the digests of those that have none, by path.

    Parameters
    ----------
    sides
        What source and target hold (`_both_sides`).
    checksums, digests : dict
        Of stored bytes and of values, as they were taken when they were written; by path, where they are known.
    """
    from h5z.units import Stored

    of_source, of_target = sides
    differences, same = [], {}
    for source, written in pairs:
        path = written.plan.path
        expected, (stored, difference) = of_source.get(path, Digest()), of_target.get(path, (Stored(), None))
        checksum = f"{stored.checksum:016x}"
        if difference is None and stored.digest != expected:
            difference = _first(source, written, expected, stored.digest)
        if difference is None and checksum != checksums.get(path, checksum):
            difference = Difference(path, "checksum of stored bytes", checksums[path], checksum)
        if difference is None and expected != digests.get(path, expected):
            difference = Difference(path, "digest of values", str(digests[path]), str(expected))
        if difference is None:
            same[path] = expected
        else:
            differences.append(difference)
    return differences, same


def _both_sides(pairs: Pairs, work: Work, together_nbytes: int) -> Sides:
    """What each side holds, by path: the source's digests; and what is stored, or the first unit that cannot be read."""
    from h5z.units import Stored

    ordered = in_order([written.plan for _, written in pairs], lambda array: _coarse(array, array.witness))
    reading = ((narrowed(pairs[i][0], region), pairs[i][1], region) for i, region, _ in ordered)
    units = (
        (None, written, region) for _, written in pairs for region in written.plan.cells(_coarse(written.plan, written.plan.unit))
    )
    jobs: Iterator[Job] = chain(
        ((_source_digests, (group,), nbytes) for group, nbytes in _grouped(reading, together_nbytes)),
        ((_target_digests, (group,), nbytes) for group, nbytes in _grouped(units)),
    )
    of_source: dict[str, Digest] = {}
    of_target: dict[str, tuple[Stored, Difference | None]] = {}
    for side, results in work(jobs):
        for path, result, difference in results:
            if side == "source":
                of_source[path] = of_source.get(path, Digest()) + Digest.parse(result)
            else:
                stored, before = of_target.get(path, (Stored(), None))
                units, nbytes, checksum, digest = result
                found = stored + Stored(units, nbytes, checksum, Digest.parse(digest))
                of_target[path] = (found, before or (Difference(**difference) if difference else None))
    return of_source, of_target


def _coarse(array: ArrayPlan, cell: Shape) -> Shape:
    """A cell that holds whole ones, so many that an array is cut into some thousands at most."""
    return grow(cell, array.shape, math.prod(array.shape) // _MOST_PIECES)


def _grouped(
    pieces: Iterable[tuple[Any, TargetArray, Region]], together_nbytes: int = _JOB_NBYTES
) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Pieces in groups that make a task each, of no more columns than may be held together, and the bytes of each group."""
    group: list[Any] = []
    nbytes = held = 0
    for piece in pieces:
        array = piece[1].plan
        held += column_nbytes(array, array.witness) if array.is_column else 0
        if group and held > together_nbytes:
            yield tuple(group), nbytes
            group, nbytes, held = [], 0, column_nbytes(array, array.witness)
        group.append(piece)
        nbytes += region_nbytes(piece[1].plan, piece[2])
        if nbytes >= _JOB_NBYTES or len(group) >= _JOB_PIECES:
            yield tuple(group), nbytes
            group, nbytes, held = [], 0, 0
    if group:
        yield tuple(group), nbytes


def region_nbytes(array: ArrayPlan, region: Region) -> int:
    """Decoded bytes of a region."""
    return math.prod(region_shape(region)) * array.itemsize


def _differences(pieces: tuple[tuple[Readable, TargetArray, Region], ...]) -> list[dict[str, Any]]:
    from h5z.verify.differences import compare, compare_values

    found = []
    for group in of_tables(pieces):
        beat()
        if len(group) == 1:
            found.append(compare(*group[0]))
            continue
        read = read_columns([source for source, _, _ in group], [region for _, _, region in group])
        found += [compare_values(values, written, region) for values, (_, written, region) in zip(read, group, strict=True)]
    return [difference.to_dict() for difference in found if difference is not None]


def _source_digests(pieces: tuple[tuple[Readable, TargetArray, Region], ...]) -> tuple[str, list[Any]]:
    results: list[Any] = []
    for group in of_tables(pieces):
        together = len(group) > 1 and _left_out(group[0][0], group[0][2]) is None
        found = _table_digests(group) if together else [_array_digest(*piece) for piece in group]
        results += [(written.plan.path, str(it), None) for (_, written, _), it in zip(group, found, strict=True)]
    return "source", results


def _parts(written: TargetArray, region: Region) -> list[Region]:
    """What verification reads of a region at once."""
    cells = ChunkGrid(written.plan.shape, written.plan.witness)
    return [intersect(cells.region(index), region) for index in cells.overlapping(region)]


def _array_digest(source: Readable, written: TargetArray, region: Region) -> Digest:
    parts = _parts(written, region)
    return _left_out(source, region) or total(_source_digest(source, part, alone=len(parts) == 1) for part in parts)


def _table_digests(columns: tuple[tuple[Any, TargetArray, Region], ...]) -> list[Digest]:
    """The digests of columns of a table in the same rows, which are read once."""
    sources = [source for source, _, _ in columns]
    out = [Digest() for _ in columns]
    for regions in zip(*(_parts(written, region) for _, written, region in columns), strict=True):
        beat()
        read = read_columns(sources, regions)
        out = [sum_ + digest(values, region) for sum_, values, region in zip(out, read, regions, strict=True)]
    return out


def _left_out(source: Readable, region: Region) -> Digest | None:
    """The digest of a region of which a source stores nothing; None of any other."""
    from h5z.units import constant

    beat()
    value = constant(source, region)
    return None if value is None else constant_digest(value, region)


def _source_digest(source: Readable, region: Region, *, alone: bool) -> Digest:
    """The digest of what verification reads at once."""
    found = None if alone else _left_out(source, region)
    if found is None:
        beat()
        found = digest(source.read(region), region)
    return found


def _target_digests(pieces: tuple[tuple[None, TargetArray, Region], ...]) -> tuple[str, list[Any]]:
    from h5z.units import Stored
    from h5z.verify.differences import unreadable

    results: list[Any] = []
    last: tuple[TargetArray | None, Any] = None, None
    for _, written, region in pieces:
        array, stored, difference = written.plan, Stored(), None
        reader = last[1] if last[0] is written else written.reader()
        last = written, reader
        for index in array.units.overlapping(region):
            beat()
            try:
                stored += reader.read(index)
            except Exception as error:  # a decoder may raise anything on damaged bytes
                difference = difference or unreadable(array.path, array.units.region(index), error).to_dict()
        results.append((array.path, (stored.units, stored.nbytes, stored.checksum, str(stored.digest)), difference))
    return "target", results


def _first(source: Readable, written: TargetArray, expected: Digest, found: Digest) -> Difference:
    """The first difference of an array whose digests differ."""
    from h5z.verify.differences import compare

    for region in written.plan.cells(written.plan.block):
        difference = compare(source, written, region)
        if difference is not None:
            return difference
    return Difference(written.plan.path, "digest of values", str(expected), str(found))


def recorded(target: Target, finished: bool) -> tuple[dict[str, str], dict[str, Digest]]:
    """The checksums of stored bytes and the digests of values that were taken when they were written, by path."""
    from h5z.commit import checksums, recorded_digests

    if finished:
        record: Any = (target.root() or {}).get("h5z", {})
        return dict(record.get("checksums", {})), {}
    done = target.done()
    return checksums(done), recorded_digests(done)


def _sampled(arrays: list[ArrayPlan]) -> list[list[Region]]:
    """The first, the last and some write units between, of an array or, the same, of each of a table's columns."""
    array = arrays[0]
    if array.kept:
        cells = list(array.cells(array.unit))
        return [random.sample(cells, min(len(cells), _SAMPLES + 2))]
    size = array.units.size
    chosen = sorted({0, size - 1, *(random.randrange(size) for _ in range(_SAMPLES))} if size else set())
    return [[array.units.region(array.units.index(number)) for number in chosen] for array in arrays]
