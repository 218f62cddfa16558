"""Write anew what of a finished target differs from its source, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from h5z.arrayplan import ArrayPlan
from h5z.documents import Documents, Outcome, consolidated, dump, plan_documents
from h5z.errors import PlanError
from h5z.plan import Plan
from h5z.report import Difference
from h5z.target import Target
from h5z.tasks import moved, source_array
from h5z.units import Stored, TargetArray
from h5z.verify.checking import check
from h5z.verify.differences import structure


@dataclass(frozen=True)
class _Careful(Target):
    """A target that writes only objects that are not there already, byte for byte, and remembers which it was given."""

    given: set[str] = field(default_factory=set, compare=False)
    changed: set[str] = field(default_factory=set, compare=False)

    def put(self, objects: Mapping[str, Any]) -> None:
        """Write the objects that differ from what is there."""
        for key, value in objects.items():
            self.given.add(key)
            if self.get(key) != bytes(value):
                self.changed.add(key)
                super().put({key: value})


def repair_target(
    plan: Plan,
    target: Target,
    differences: Iterable[Difference],
    scheduler: Any = None,
    source_options: dict[str, Any] | None = None,
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Write the units and metadata documents that differ; each atomically, so that readers see the old or the new.

    Returns
    -------
    differences : tuple of Difference
        What still differs.
    notes : tuple of str
        What was done, a line for each array.

    Raises
    ------
    PlanError
        If the target is of another source, or another policy.
    """
    record: Any = (target.root() or {}).get("h5z", {})
    if record.get("fingerprint") != plan.fingerprint:
        raise PlanError(
            f"{target.name}: expected a target of {plan.source} as it is now, found one of another file, or of this one before "
            "it changed (convert it with overwrite)"
        )
    careful = _Careful(**{item.name: getattr(target, item.name) for item in fields(target)})
    arrays = {array.path: array for array in plan.arrays}
    damaged = {difference.path for difference in differences}
    sums, notes = dict(record.get("checksums", {})), []
    for path in sorted(damaged & {*arrays}):
        count, stored = _rewrite(arrays[path], careful, plan, source_options)
        sums[path] = f"{stored.checksum:016x}"
        notes.append(f"{path}: {count} of {arrays[path].units.size} units written anew")
    level = str(record.get("verified", ""))
    left, _, digests = check(plan, target, "full", scheduler, lambda _: None, source_options)
    told = {path: found for path, found in digests.items() if level == "full" or arrays[path].route != "copy"}
    documents = _all_documents(plan, Outcome(sums, told, level))
    careful.changed.clear()
    careful.put({key: dump(document) for key, document in documents.items()})
    notes += [f"{key}: written anew" for key in sorted(careful.changed)]
    return (*left, *structure(plan, target, finished=True)[0]), tuple(notes)


def _rewrite(array: ArrayPlan, careful: _Careful, plan: Plan, source_options: dict[str, Any] | None) -> tuple[int, Stored]:
    """Write an array's units that differ, take away those that should not be; how many, and what is stored then."""
    written = TargetArray(careful, array, plan.policy.zarr_format)
    source = source_array(plan, array, source_options)
    stored, extra = Stored(), 0
    for block in map(array.blocks.region, array.blocks.indices()):
        stored += moved(source, written, block)
        keys = {written.key(index) for index in array.units.overlapping(block)}
        stray = [key for key in sorted(keys - careful.given) if careful.get(key) is not None]
        careful.delete(stray)
        extra += len(stray)
    count = len(careful.changed) + extra
    careful.changed.clear()
    careful.given.clear()
    return count, stored


def _all_documents(plan: Plan, outcome: Outcome) -> Documents:
    documents = plan_documents(plan, outcome)
    return documents | consolidated(plan, documents) if plan.policy.consolidate else documents
