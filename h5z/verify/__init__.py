"""Verify a target: against its source, by structure, a sample of regions or every value; or alone, by its own digests."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h5z import planning
from h5z.bars import Progress
from h5z.credentials import separate, shown
from h5z.errors import PlanError, TargetError, TargetHeldError
from h5z.hdf5.files import forget, open_file
from h5z.isolation import Guard, can_isolate, run_isolated
from h5z.plan import Plan
from h5z.policy import Policy
from h5z.report import Difference, Report
from h5z.scheduling import telling, watching
from h5z.tasks import account
from h5z.verify.checking import LEVELS, check

if TYPE_CHECKING:
    from h5z.target import Target


def verify(
    source: str | os.PathLike[str] | None,
    target: Any = None,
    *,
    level: str = "full",
    repair: bool = False,
    scheduler: Any = None,
    progress: Progress = False,
    storage_options: dict[str, Any] | None = None,
    source_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> Report:
    """Compare a finished target with its source, or with what it says of itself.

    Parameters
    ----------
    source, target
        The HDF5 file and what `convert` made of it; or the target alone: its values are then compared with the digests that
        it carries (`h5z.digest`), its stored bytes with their checksums.
    level : {"structure", "sample", "full"}
        Metadata only; also regions at random and at the edges of each array; or every value: the source as libhdf5 reads
        it and the target as zarr decodes it are digested, each chunk once, and where the digests differ compared bit for bit.
    repair : bool
        Write anew what differs, from the source, and look again.
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
    PlanError
        If a repair is asked for of a target that another source or policy made, or without a source.
    """
    from h5z.target import MARK, Target

    if level not in LEVELS:
        raise PlanError(f"level: expected one of {', '.join(map(repr, LEVELS))}, found {level!r}")
    if source is None or target is None:
        from h5z.verify.audit import audit

        alone = Target.of(source if target is None else target, storage_options)
        if repair:
            raise PlanError(f"{alone.name}: a repair needs the source, found none")
        return audit(alone, level, scheduler, progress)
    if isolated and can_isolate(target, scheduler):
        with telling(progress) as tell:
            report = run_isolated(
                verify,
                source,
                target,
                subject=shown(os.fspath(source)),
                timeout=timeout,
                memory_limit=memory_limit,
                progress=tell,
                level=level,
                repair=repair,
                scheduler=scheduler,
                storage_options=storage_options,
                source_options=source_options,
            )
        return Report.from_dict(report)
    start = time.perf_counter()
    source, source_options = separate(os.fspath(source), source_options)
    open_file(source, source_options).close()
    opened = Target.of(target, storage_options)
    policy = _policy_of(opened)
    plan = planning.plan(
        source,
        target,
        policy=policy,
        storage_options=source_options,
        isolated=isolated,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    guard = Guard(plan.source, timeout, memory_limit) if isolated else None
    notes: tuple[str, ...] = ()
    try:
        with watching(progress, plan.nbytes * (2 if level == "full" else 1)) as advance:
            differences, checked, _ = check(plan, opened, level, scheduler, advance, source_options, finished=True, guard=guard)
        if repair:
            differences, notes = _repair(plan, opened, differences, scheduler, source_options)
    finally:
        forget(plan.source)
    status = "differs" if differences else "repaired" if notes else "verified"
    report = account(plan, opened, status, start, differences=differences, level=level, checked_nbytes=checked)
    if repair and MARK in opened.names() and opened.begun() is not None:
        notes += ("an unfinished migration that is to replace it was left as it is",)
    return replace(report, notes=(*report.notes, *notes))


def _repair(
    plan: Plan,
    target: Target,
    differences: tuple[Difference, ...],
    scheduler: Any,
    source_options: dict[str, Any] | None,
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Write anew what differs; return what differs still, and what was done."""
    from h5z.commit import holding
    from h5z.target import MARK
    from h5z.verify.repair import repair_target

    if differences:
        with holding(target, tidy=False) as held:
            return repair_target(plan, held, differences, scheduler, source_options)
    if MARK in target.names():  # a repair that was killed may have left nothing to do but its lease
        with suppress(TargetHeldError):
            target.hold().release()
    return (), ()


def _policy_of(target: Target) -> Policy:
    """The policy that a finished target was made by."""
    root = target.root()
    if root is None:
        found = "an unfinished one" if target.exists() else "nothing"
        raise TargetError(f"{target.name}: expected a finished Zarr hierarchy, found {found}")
    record = root.get("h5z")
    if not isinstance(record, dict) or "policy" not in record:
        raise TargetError(f"{target.name}: expected a target of h5z, found a Zarr hierarchy without its record")
    return Policy.from_dict(record["policy"])
