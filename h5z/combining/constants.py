"""What does not lie along the dimension, and so must be the same in every file that is joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from h5z.arrayplan import ArrayPlan
from h5z.digest import Digest, digest
from h5z.errors import PlanError
from h5z.joining.arrays import Readable
from h5z.plan import Part, Plan
from h5z.scheduling import run
from h5z.target import Target
from h5z.tasks import of_file
from h5z.units import TargetArray


def check_constants(plan: Plan, source_options: dict[str, Any] | None, scheduler: Any, target: Target | None = None) -> None:
    """See that what does not lie along the dimension has the same values in every file, and in the target that is to grow.

    Raises
    ------
    PlanError
        If it has not; naming the first file that differs.
    """
    for item, array, whose in unlike(plan, source_options, scheduler, target):
        what = f"expected the values that {whose} has, since it does not lie along {plan.dim!r}; found others"
        raise PlanError(f"{item.file}: {array.source}: {what}")


def unlike(
    plan: Plan, source_options: dict[str, Any] | None, scheduler: Any, target: Target | None = None
) -> Iterator[tuple[Part, ArrayPlan, str]]:
    """Files, and what in them has other values than in the first, or in the target that is to grow; and whose those are."""
    arrays = [array for array in plan.arrays if array.axis is None]
    if not arrays or (target is None and len(plan.parts) < 2):
        return
    jobs = ((_constants, (part.file, [of_file(plan, a, part, source_options) for a in arrays], arrays), 0) for part in plan.parts)
    found = dict(run(jobs, scheduler, plan.workers, lambda nbytes: None))
    whose = plan.parts[0].file
    wanted = found[whose]
    if target is not None:
        handles = [TargetArray(target, replace(array, attributes={}), plan.policy.zarr_format) for array in arrays]
        whose, wanted = _constants(target.name, handles, arrays)
    for item in plan.parts:
        for array, expected, got in zip(arrays, wanted, found[item.file], strict=True):
            if got != expected:
                yield item, array, whose


def _constants(name: str, handles: Sequence[Readable], arrays: Sequence[ArrayPlan]) -> tuple[str, list[str]]:
    """The digests of arrays' values as one file, or the target, has them."""
    out = []
    for handle, array in zip(handles, arrays, strict=True):
        total = Digest()
        for region in array.cells(array.witness):
            total += digest(handle.read(region), region)
        out.append(str(total))
    return name, out
