"""A finished target that grows: further files are added behind those that it holds, in place.

What a reader sees meanwhile: the target as it was, until the commit. New units lie past the ends that its metadata tell. A last
unit that the new files fill up is written anew, whole, in one atomic write; of its values those that were there before are the
same, and whoever has the old metadata sees no others. The commit replaces the grown arrays' documents, then the root's with its
consolidated copy of them, in one atomic write: who opens by consolidated metadata sees all arrays grow at once, who opens each
array by its own document may for an instant see some of them longer than others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, cast

from h5z.arrayplan import ArrayPlan
from h5z.digest import Digest
from h5z.documents import Documents, Outcome, commit_record, without_outcome
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.scheduling import run
from h5z.target import Target
from h5z.units import Stored, TargetArray

LEVELS = ("structure", "sample", "full")
_JOB_UNITS = 64


def recorded(root: dict[str, Json] | None) -> dict[str, Any]:
    """What a finished target records of the files that it is joined of; empty where it is not."""
    record = (root or {}).get("h5z")
    found = record.get("joined", {}) if isinstance(record, dict) else {}
    return cast(dict[str, Any], found)


def base(target: Target, plan: Plan, scheduler: Any = None) -> dict[str, list[str]]:
    """Of each array that grows, the checksum and digest (empty for none) of its units but for those that are written anew."""
    sums: Any = (target.root() or {}).get("h5z", {}).get("checksums", {})
    out = {}
    for array in plan.arrays:
        path = array.path
        key = f"{path.lstrip('/')}/{'.zattrs' if plan.policy.zarr_format == 2 else 'zarr.json'}"
        whole = without_outcome(key, json.loads(target.get(key) or b"{}"))[1]
        tail = _tail(target, array, plan, scheduler)
        checksum = (int(sums.get(path, "0"), 16) - tail.checksum) % (1 << 64)
        out[path] = [f"{checksum:016x}", "" if whole is None else str(whole - tail.digest)]
    return out


def _tail(target: Target, array: ArrayPlan, plan: Plan, scheduler: Any) -> Stored:
    """What is stored of the units that the new files fill up."""
    old = before(array)
    axis = cast(int, array.axis)
    whole = array.kept // array.unit[axis] * array.unit[axis]
    written = TargetArray(target, replace(old, attributes={}), plan.policy.zarr_format)
    edge = tuple(slice(whole if a == axis else 0, n) for a, n in enumerate(old.shape))
    indices = list(old.units.overlapping(edge))
    jobs = ((_read, (written, indices[i : i + _JOB_UNITS]), 0) for i in range(0, len(indices), _JOB_UNITS))
    return sum(run(jobs, scheduler, plan.workers, lambda _: None), Stored())


def _read(written: TargetArray, indices: Iterable[tuple[int, ...]]) -> Stored:
    reader = written.reader()
    return sum((reader.read(index) for index in indices), Stored())


def before(array: ArrayPlan) -> ArrayPlan:
    """An array as it was before it grew."""
    shape = tuple(array.kept if axis == array.axis else n for axis, n in enumerate(array.shape))
    return replace(array, shape=shape, kept=0)


def strays(target: Target, plan: Plan) -> list[str]:
    """Keys of what a run that is given up may have written past the ends of its arrays."""
    out = []
    for array in plan.arrays:
        written, axis = TargetArray(target, replace(array, attributes={}), plan.policy.zarr_format), cast(int, array.axis)
        for region in array.cells(array.unit):
            index = tuple(s.start // n for s, n in zip(region, array.unit, strict=True))
            if index[axis] * array.unit[axis] >= array.kept:
                out.append(written.key(index))
    return out


def grown(target: Target, plan: Plan, outcome: Outcome) -> Documents:
    """The documents of a target that has grown, by key: those of the arrays that have, and the root's."""
    out: Documents = {}
    names = (".zarray", ".zattrs") if plan.policy.zarr_format == 2 else ("zarr.json",)
    digests, sums = dict(outcome.digests), dict(outcome.checksums)
    for array in plan.arrays:
        checksum, kept = plan.base[array.path]
        sums[array.path] = f"{(int(checksum, 16) + int(sums.get(array.path, '0'), 16)) % (1 << 64):016x}"
        digest = digests.get(array.path)
        whole = Digest.parse(kept) + digest if kept and digest is not None else None
        for name in names:
            key = f"{array.path.lstrip('/')}/{name}"
            document = json.loads(target.get(key) or b"{}")
            if "shape" in document:
                document["shape"] = list(array.shape)
            _tell_digest(document if name == ".zattrs" else document.get("attributes"), whole)
            if document:
                out[key] = document
    out |= _groups(target, plan)
    return out | _roots(target, plan, replace(outcome, checksums=sums), out)


def _groups(target: Target, plan: Plan) -> Documents:
    """The documents of groups below the root that tell the length of the dimension, where it is no variable."""
    out: Documents = {}
    above = {group for array in plan.arrays for group in map(str, PurePosixPath(array.path.lstrip("/")).parents)}
    for group in sorted(above - {"."}):
        key = f"{group}/{'.zattrs' if plan.policy.zarr_format == 2 else 'zarr.json'}"
        document = json.loads(target.get(key) or b"{}")
        if _lengthen(document if plan.policy.zarr_format == 2 else document.get("attributes", {}), plan):
            out[key] = document
    return out


def _lengthen(attributes: dict[str, Any], plan: Plan) -> bool:
    """Tell how long a group's dimension is now, if it records it as one that is no variable; whether it does."""
    bare = attributes.get("h5z", {}).get("dimensions", {}).get(plan.dim)
    if bare is not None:
        bare["shape"] = [sum(item[4] for item in plan.before) + sum(part.length for part in plan.parts)]
    return bare is not None


def _tell_digest(attributes: dict[str, Any] | None, digest: Digest | None) -> None:
    if attributes is None:
        return
    record = {key: value for key, value in attributes.get("h5z", {}).items() if key != "digest"}
    record |= {} if digest is None else {"digest": str(digest)}
    if record:
        attributes["h5z"] = record


def _roots(target: Target, plan: Plan, outcome: Outcome, grown: Documents) -> Documents:
    """The root's documents, with their copies of the others where they have such."""
    names = (".zattrs", ".zmetadata") if plan.policy.zarr_format == 2 else ("zarr.json",)
    out: Documents = {name: json.loads(raw) for name in names if (raw := target.get(name)) is not None}
    attributes: Any = out[".zattrs"] if plan.policy.zarr_format == 2 else out["zarr.json"]["attributes"]
    record = attributes["h5z"]
    levels = {record.get("verified", ""), outcome.verified}
    joined = {**record["joined"], "parts": [*plan.before, *(part.identity() for part in plan.parts)]}
    kept = {key: value for key, value in record.items() if key != "verified"}
    told = commit_record(plan, replace(outcome, verified="" if "" in levels else min(levels, key=LEVELS.index)))
    told |= {"checksums": {**record.get("checksums", {}), **outcome.checksums}, "source": record["source"]}
    attributes["h5z"] = {**kept, **told, "joined": joined}
    _lengthen(attributes, plan)
    if ".zmetadata" in out:
        out[".zmetadata"]["metadata"] |= {**grown, ".zattrs": attributes}
    elif "consolidated_metadata" in out.get("zarr.json", {}):
        copies: Any = out["zarr.json"]["consolidated_metadata"]
        copies["metadata"] |= {key.removesuffix("/zarr.json"): value for key, value in grown.items()}
    return out
