"""How a target differs from its source: metadata documents, and the first value of a region."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from h5z.digest import Digest
from h5z.documents import plan_documents, without_outcome
from h5z.errors import one_line
from h5z.grid import Region
from h5z.joining.arrays import Readable
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.report import Difference

if TYPE_CHECKING:
    from h5z.target import Target
    from h5z.units import TargetArray


def structure(plan: Plan, target: Target, *, finished: bool) -> tuple[list[Difference], dict[str, Digest]]:
    """Every metadata document that is not as planned, of an unfinished target all but the root's; and the arrays' digests."""
    differences: list[Difference] = []
    digests: dict[str, Digest] = {}
    for key, expected in plan_documents(plan).items():
        if "/" not in key and not finished:
            continue
        raw = target.get(key)
        path = "/" + key.rpartition("/")[0]
        if raw is None:
            differences.append(Difference(path, "metadata", "a document", "none"))
            continue
        try:
            document, digest = without_outcome(key, json.loads(raw))
        except (ValueError, AttributeError) as error:
            differences.append(Difference(path, "metadata", "a document of h5z", one_line(error)))
            continue
        if digest is not None:
            digests[path] = digest
        differences += _document(path, expected, document)
    return differences, digests


def _document(path: str, expected: dict[str, Json], found: dict[str, Json]) -> Iterator[Difference]:
    for name in sorted({*expected, *found}):
        wanted, got = expected.get(name), found.get(name)
        if name == "attributes" and isinstance(wanted, dict) and isinstance(got, dict):
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


def compare(source: Readable, target: TargetArray, region: Region) -> Difference | None:
    """The first value of a region whose bits differ, or None."""
    return compare_values(source.read(region), target, region)


def compare_values(expected: Any, target: TargetArray, region: Region) -> Difference | None:
    """The first value of a region whose bits are not those expected, or None."""
    path = target.plan.path
    try:
        found = target.read(region)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        return unreadable(path, region, error)
    index = first_difference(expected, found)
    if index is None:
        return None
    offset = [int(i) + s.start for i, s in zip(index, region, strict=True)]
    return Difference(path, f"value at {offset}", repr(expected[index]), repr(found[index]))


def unreadable(path: str, region: Region, error: Exception) -> Difference:
    """A region that cannot be read."""
    return Difference(path, f"region {_where(region)}", "readable", one_line(error))


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
