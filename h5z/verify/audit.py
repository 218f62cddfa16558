"""A target by itself, years later: what it holds against the digests and checksums that it carries."""

from __future__ import annotations

import json
import math
import os
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zarr
from zarr.storage import StorePath

from h5z.bars import Progress
from h5z.errors import TargetError
from h5z.grid import ChunkGrid
from h5z.report import Difference, Report
from h5z.scheduling import Job, run, watching
from h5z.target import Target, reaching
from h5z.units import Stored, UnitReader
from h5z.verify.differences import unreadable

_JOB_NBYTES = 16 << 20
_SAMPLES = 4

Found = tuple[str, Stored, Difference | None]


def audit(target: Target, level: str = "full", scheduler: Any = None, progress: Progress = False) -> Report:
    """Compare the arrays of a Zarr hierarchy with the digests under their `h5z` attribute, or stored bytes with checksums.

    Any hierarchy will do whose arrays carry digests: h5z's own, or one that was copied or rechunked since.

    Parameters
    ----------
    level : {"structure", "sample", "full"}
        That every array is there; also that some of its units decode; or that all its values are those that were written.

    Raises
    ------
    TargetError
        If no hierarchy opens there, or its arrays carry neither digest nor checksum.
    """
    start = time.perf_counter()
    root = target.root()
    if root is None:
        there = "an unfinished one" if target.exists() else "nothing"
        raise TargetError(f"{target.name}: expected a finished Zarr hierarchy, found {there}")
    record: Any = root.get("h5z", {})
    checksums: dict[str, str] = dict(record.get("checksums", {}))
    arrays, groups = _members(target)
    digests = {path: found for path, array in arrays.items() if (found := _digest(array)) is not None}
    if arrays and not digests and not checksums:
        raise TargetError(f"{target.name}: expected arrays that carry digests, found none: verify it with its source")
    missing = [Difference(path, "array", "an array", "none") for path in sorted({*checksums} - {*arrays})]
    nbytes = sum(array.nbytes for array in arrays.values())
    with watching(progress, nbytes) as advance:
        jobs = _jobs(target, arrays, level)
        differences, notes = _judge(run(jobs, scheduler, os.cpu_count() or 1, advance), level, checksums, digests)
    unlike = (*missing, *differences)
    return Report(
        "",
        target.name,
        "differs" if unlike else "verified",
        arrays=len(arrays),
        groups=groups,
        nbytes=nbytes,
        seconds=time.perf_counter() - start,
        differences=unlike,
        level=level,
        checked_nbytes=nbytes if level == "full" else 0,
        notes=tuple(notes),
    )


def _members(target: Target) -> tuple[dict[str, zarr.Array[Any]], int]:
    """Every array by path, and the number of groups, the root among them."""
    with reaching(target.name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(StorePath(target.store, target.prefix.rstrip("/")), mode="r")
        members = list(group.members(max_depth=None))
    arrays = {f"/{name}": node for name, node in members if isinstance(node, zarr.Array)}
    return arrays, 1 + len(members) - len(arrays)


def _digest(array: zarr.Array[Any]) -> str | None:
    record = array.attrs.get("h5z")
    return str(record["digest"]) if isinstance(record, Mapping) and "digest" in record else None


def _jobs(target: Target, arrays: Mapping[str, zarr.Array[Any]], level: str) -> Iterator[Job]:
    """Tasks that read units, each of one array."""
    for path, array in arrays.items() if level != "structure" else ():
        unit = array.shards or array.chunks
        grid = ChunkGrid(array.shape, unit)
        unit_nbytes = math.prod(map(min, unit, array.shape)) * array.dtype.itemsize
        document = _document(target, path, array)
        numbers: Sequence[int] = range(grid.size)
        if level == "sample":
            chosen = {0, grid.size - 1, *(random.randrange(grid.size) for _ in range(_SAMPLES))} if grid.size else set()
            numbers = sorted(chosen)
        step = max(1, _JOB_NBYTES // max(1, unit_nbytes))
        for first in range(0, len(numbers), step):
            some = numbers[first : first + step]
            yield _read, (target, path, document, tuple(some)), len(some) * unit_nbytes


def _document(target: Target, path: str, array: zarr.Array[Any]) -> dict[str, Any]:
    """An array's metadata as it is stored, where that is one document: zarr's own words for it lose which NaN fills it."""
    if array.metadata.zarr_format == 3:
        raw = target.get(f"{path.strip('/')}/zarr.json")
        if raw is None:
            raise TargetError(f"{target.name}: {path}: expected its metadata, found none: they were removed meanwhile")
        return dict(json.loads(raw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data types that zarr does not know by name
        return dict(array.metadata.to_dict())


def _read(target: Target, path: str, document: dict[str, Any], numbers: tuple[int, ...]) -> Found:
    """What is stored of some units, and the first that cannot be read."""
    reader = UnitReader(target, path, document, int(document["zarr_format"]))
    out, difference = Stored(), None
    for number in numbers:
        index = reader.grid.index(number)
        try:
            out += reader.read(index)
        except Exception as error:  # a decoder may raise anything on damaged bytes
            difference = difference or unreadable(path, reader.grid.region(index), error)
    return path, out, difference


def _judge(
    results: list[Found], level: str, checksums: Mapping[str, str], digests: Mapping[str, str]
) -> tuple[list[Difference], list[str]]:
    """The first difference of each array, and what else there is to say."""
    sums: dict[str, Stored] = {}
    differences: dict[str, Difference] = {}
    for path, stored, difference in results:
        sums[path] = sums.get(path, Stored()) + stored
        if difference is not None:
            differences.setdefault(path, difference)
    changed = bare = 0
    for path, stored in sums.items() if level == "full" else ():
        checksum = f"{stored.checksum:016x}"
        same = checksums.get(path, checksum) == checksum
        if path in digests and str(stored.digest) != digests[path]:
            differences.setdefault(path, Difference(path, "digest of values", digests[path], str(stored.digest)))
        elif path in digests:
            changed += not same
        elif not same:
            differences.setdefault(path, Difference(path, "checksum of stored bytes", checksums[path], checksum))
        else:
            bare += 1
    notes = [f"{changed} arrays hold their values in other bytes than were written"] if changed else []
    notes += [f"{bare} arrays carry no digest of their values: their stored bytes were compared"] if bare else []
    return [differences[path] for path in sorted(differences)], notes
