"""Compare source and target: structure, a sample of regions, or every value bit for bit."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from h5z.credentials import separate, shown
from h5z.errors import PlanError, TargetError, one_line
from h5z.files import forget, open_file
from h5z.grid import Region, region_shape
from h5z.heartbeat import beat
from h5z.isolation import can_isolate, guarding, run_isolated
from h5z.nodes import Json
from h5z.plan import ArrayPlan, Plan
from h5z.policy import Policy
from h5z.report import Difference, Report
from h5z.scheduling import run, telling, watching
from h5z.source import SourceArray

if TYPE_CHECKING:
    from h5z.target import Target
    from h5z.units import TargetArray

LEVELS = ("structure", "sample", "full")
_SAMPLES = 4


def verify(
    source: str | os.PathLike[str],
    target: Any,
    *,
    level: str = "full",
    scheduler: Any = None,
    progress: bool | Callable[[int, int], None] = False,
    storage_options: dict[str, Any] | None = None,
    source_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> Report:
    """Compare a finished target with its source.

    Parameters
    ----------
    level : {"structure", "sample", "full"}
        Metadata only; also regions at random and at the edges of each array; or every value, bit for bit.
    isolated, timeout, memory_limit
        As for `h5z.convert`.

    Returns
    -------
    Report
        With the first difference of each array.

    Raises
    ------
    TargetError
        If there is no finished target.
    """
    from h5z.convert import plan
    from h5z.target import Target

    if level not in LEVELS:
        raise PlanError(f"level: expected one of {', '.join(map(repr, LEVELS))}, found {level!r}")
    limits: dict[str, Any] = {"timeout": timeout, "memory_limit": memory_limit}
    if isolated and can_isolate(target, scheduler):
        given = {"level": level, "scheduler": scheduler, "storage_options": storage_options, "source_options": source_options}
        with telling(progress) as tell:
            subject = shown(os.fspath(source))
            answer = run_isolated(verify, source, target, subject=subject, progress=tell, **limits, **given)
        return Report.from_dict(answer)
    start = time.perf_counter()
    place = Target.of(target, storage_options)
    source, source_options = separate(os.fspath(source), source_options)
    open_file(source, source_options).close()
    root = place.root()
    if root is None:
        found = "an unfinished one" if place.exists() else "nothing"
        raise TargetError(f"{place.name}: expected a finished Zarr hierarchy, found {found}")
    record = root.get("h5z")
    if not isinstance(record, dict) or "policy" not in record:
        raise TargetError(f"{place.name}: expected a target of h5z, found a Zarr hierarchy without its record")
    policy = Policy.from_dict(record["policy"])
    made = plan(source, target, policy=policy, storage_options=source_options, isolated=isolated, **limits)
    guard = {"subject": made.source, **limits} if isolated else None
    try:
        with watching(progress, made.nbytes) as advance:
            differences, checked = check(made, place, level, scheduler, advance, source_options, finished=True, guard=guard)
    finally:
        forget(made.source)
    status = "differs" if differences else "verified"
    return account(made, place, status, start, differences=differences, level=level, checked_nbytes=checked)


def account(made: Plan, place: Target, status: str, start: float, **rest: Any) -> Report:
    """The report of a plan that was carried out or verified, begun at `start` of `time.perf_counter`."""
    return Report(
        made.source,
        place.name,
        status,
        arrays=len(made.arrays),
        groups=len(made.groups),
        nbytes=made.nbytes,
        source_nbytes=made.size,
        units=sum(array.units.size for array in made.arrays),
        seconds=time.perf_counter() - start,
        not_carried=made.not_carried,
        notes=made.notes,
        **rest,
    )


def check(
    made: Plan,
    place: Target,
    level: str,
    scheduler: Any,
    advance: Callable[[int], None],
    source_options: dict[str, Any] | None = None,
    *,
    finished: bool = False,
    guard: dict[str, Any] | None = None,
) -> tuple[tuple[Difference, ...], int]:
    """Compare a target with its plan and the plan's source.

    Returns
    -------
    differences : tuple of Difference
        The first of each array, and every metadata document that differs.
    checked_nbytes : int
        Decoded bytes compared.
    """
    from h5z.convert import source_array
    from h5z.units import TargetArray

    found = list(_structure(made, place, finished))
    broken = {difference.path for difference in found}
    jobs = []
    for array, pieces in _pieces(made, level) if level != "structure" else ():
        if array.path in broken:
            continue
        handle = source_array(made, array, source_options, direct=False)
        written = TargetArray(place, array, made.policy.zarr_format)
        for group in _grouped(array, pieces):
            jobs.append((compare, (handle, written, tuple(group)), sum(_nbytes(array, region) for region in group)))
    first: dict[str, Difference] = {}
    sums: dict[str, int] = {}
    for path, difference, stored in run(guarding(jobs, guard), scheduler, made.workers, advance):
        sums[path] = (sums.get(path, 0) + stored) % (1 << 64)
        if difference is not None:
            first.setdefault(path, Difference(**difference) if isinstance(difference, dict) else difference)
    if level == "full":
        for path, wanted in _recorded(place, finished).items():
            got = f"{sums[path]:016x}" if path in sums else wanted
            if got != wanted:
                first.setdefault(path, Difference(path, "checksum of stored bytes", wanted, got))
    return (*found, *first.values()), sum(job[2] for job in jobs)


def _recorded(place: Target, finished: bool) -> dict[str, str]:
    """The checksums that were taken when the units were written."""
    from h5z.target import checksums

    root = place.root() if finished else None
    return checksums(place.done()) if root is None else dict(root["h5z"].get("checksums", {}))


def _grouped(array: ArrayPlan, regions: list[Region]) -> Iterator[list[Region]]:
    group: list[Region] = []
    for region in regions:
        group.append(region)
        if sum(_nbytes(array, item) for item in group) >= 16 << 20:
            yield group
            group = []
    if group:
        yield group


def _nbytes(array: ArrayPlan, region: Region) -> int:
    return math.prod(region_shape(region)) * array.itemsize


def _pieces(made: Plan, level: str) -> Iterator[tuple[ArrayPlan, list[Region]]]:
    """What to compare of each array: all of its blocks, or the first, the last and some write units between."""
    for array in made.arrays:
        grid = array.blocks if level == "full" else array.units
        if level == "full":
            yield array, [grid.region(index) for index in grid.indices()]
        elif grid.size:
            chosen = {0, grid.size - 1, *(random.randrange(grid.size) for _ in range(_SAMPLES))}
            yield array, [grid.region(grid.index(number)) for number in sorted(chosen)]


def _structure(made: Plan, place: Target, finished: bool) -> Iterator[Difference]:
    """Every metadata document that is not as planned; of an unfinished target all but the root's."""
    from h5z.documents import plan_documents

    for key, expected in plan_documents(made).items():
        if "/" not in key and not finished:
            continue
        raw = place.get(key)
        path = "/" + key.rpartition("/")[0]
        if raw is None:
            yield Difference(path, "metadata", "a document", "none")
            continue
        document = json.loads(raw)
        document.pop("consolidated_metadata", None)
        if "/" not in key:
            record = (document if key == ".zattrs" else document.get("attributes", {})).get("h5z", {})
            for name in ("checksums", "verified"):
                record.pop(name, None)
        yield from _document(path, expected, document)


def _document(path: str, expected: dict[str, Json], found: dict[str, Json]) -> Iterator[Difference]:
    for name in sorted({*expected, *found}):
        wanted, got = expected.get(name), found.get(name)
        if name in ("attributes",) and isinstance(wanted, dict) and isinstance(got, dict):
            for key in sorted({*wanted, *got}):
                if not _same(wanted.get(key), got.get(key)):
                    yield Difference(path, f"attribute {key}", _short(wanted.get(key)), _short(got.get(key)))
        elif not _same(wanted, got):
            yield Difference(path, name, _short(wanted), _short(got))


def _same(a: Json, b: Json) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def compare(source: SourceArray, target: TargetArray, regions: tuple[Region, ...]) -> tuple[str, Difference | None, int]:
    """Compare regions of one array bit for bit.

    Returns
    -------
    path : str
        The array's.
    difference : Difference or None
        The first.
    checksum : int
        Of the stored bytes of the regions' write units.
    """
    path, stored = target.plan.path, 0
    for region in regions:
        beat()
        expected = source.read(region)
        try:
            found = target.read(region)
            for index in target.plan.units.overlapping(region):
                stored = (stored + target.stored(index).checksum) % (1 << 64)
        except Exception as error:  # a decoder may raise anything on damaged bytes
            return path, Difference(path, f"region {_where(region)}", "readable", one_line(error)), stored
        place = first_difference(expected, found)
        if place is not None:
            offset = [int(i) + s.start for i, s in zip(place, region, strict=True)]
            return path, Difference(path, f"value at {offset}", repr(expected[place]), repr(found[place])), stored
    return path, None, stored


def _where(region: Region) -> str:
    return "[" + ",".join(f"{s.start}:{s.stop}" for s in region) + "]"


def first_difference(expected: Any, found: Any) -> tuple[int, ...] | None:
    """Index of the first element whose bits differ, whatever the byte order; None where all are the same.

    >>> first_difference(np.array([0.0, np.nan]), np.array([-0.0, np.nan]))
    (0,)
    >>> first_difference(np.array([1, 2], ">i4"), np.array([1, 2], "<i4")) is None
    True
    """
    if expected.shape != found.shape:
        return tuple(0 for _ in expected.shape)
    if expected.dtype == object:
        unequal: Any = np.array([a != b for a, b in zip(expected.ravel(), found.ravel(), strict=True)], bool)
    else:
        a = np.ascontiguousarray(expected)
        b = np.ascontiguousarray(found if found.dtype == a.dtype else found.astype(a.dtype))
        if a.dtype.itemsize == 0 or np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)):
            return None
        width = a.dtype.itemsize
        unequal = (a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8)).reshape(-1, width).any(axis=1)
    if not unequal.any():
        return None
    index = np.unravel_index(int(unequal.argmax()), expected.shape)
    return tuple(int(i) for i in index)
