"""A plan carried out: its target brought to where tasks can run, the tasks run, values compared, the target committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from h5z.arrayplan import DEFAULT_MEMORY
from h5z.bars import Progress
from h5z.errors import H5zError, PlanError, SourceChangedError, SourceError
from h5z.hdf5.files import forget
from h5z.hdf5.identity import unchanged
from h5z.isolation import Guard, guarding
from h5z.isolation.heartbeat import beat
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.report import Difference, Report
from h5z.scheduling import elsewhere, on_workers, run, watching
from h5z.tasks import account, run_task, work_nbytes, work_of
from h5z.verify.checking import LEVELS, check

if TYPE_CHECKING:
    from h5z.target import Target

_SMALL_NBYTES = 1 << 16  # of a unit that takes less time in libraries, side by side, than in Python
_BEGUN = {"begun": "", "replacing": ".h5z"}  # stages at which what is unfinished in a target is this call's own: where


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a plan is carried out; each field as the keyword of `h5z.convert`."""

    verify: str | None = None
    overwrite: bool = False
    patient: bool = False
    progress: Progress = False
    scheduler: Any = None
    source_options: dict[str, Any] | None = None
    isolated: bool = False
    timeout: float | None = None
    memory_limit: int | None = None

    def guard(self, subject: str) -> Guard | None:
        """Within what each task is done in a child of its worker; None where workers do them themselves."""
        return Guard(subject, self.timeout, self.memory_limit) if self.isolated else None


def check_reach(target: Target, scheduler: Any) -> None:
    """Refuse a target that whoever does the work cannot reach.

    Raises
    ------
    PlanError
        If it is in this process's memory, and workers are other processes.
    """
    if not target.shared and elsewhere(scheduler):
        what = "a target that worker processes reach, found one in this process's memory"
        raise PlanError(f"{target.name}: expected {what}")


def carry_out(plan: Plan, target: Target, execution: Execution, *, start: float) -> Report:
    """Do what is left of a plan, and say what was done.

    Parameters
    ----------
    start : float
        When the call began, by `time.perf_counter`.
    """
    from h5z.prepare import prepare

    target, begun = prepare(target, plan, overwrite=execution.overwrite, patient=execution.patient)
    try:
        if begun is None:
            report = _look_again(plan, target, execution, start)
        else:
            report = _complete(_as_begun(plan, begun), target, execution, start)
    except BaseException:
        with suppress(H5zError):
            target.release()
        raise
    target.release(tidy=not report.differences)
    return report


def verified(target: Target, level: str) -> bool:
    """Whether a finished target was verified at a level, or a stricter one, before it was committed."""
    record = (target.root() or {}).get("h5z", {}).get("verified")
    return record in LEVELS and LEVELS.index(record) >= LEVELS.index(level)


def _look_again(plan: Plan, target: Target, execution: Execution, start: float) -> Report:
    """Leave a finished target alone; compare it with its source if that is asked for and was not done before."""
    level = execution.verify
    if level is None or verified(target, level):
        _let_go(plan, execution)
        return account(plan, target, "unchanged", start)
    with watching(execution.progress, _nbytes_to_read(plan, level)) as advance, _letting_go(plan, execution):
        differences, checked, _ = check(
            plan,
            target,
            level,
            execution.scheduler,
            advance,
            execution.source_options,
            finished=True,
            guard=execution.guard(plan.subject),
        )
    if differences:
        target.check(now=True)  # of a target that was removed meanwhile, or taken over, nothing is said
    status = "differs" if differences else "unchanged"
    return account(plan, target, status, start, differences=differences, level=level, checked_nbytes=checked)


def _complete(plan: Plan, target: Target, execution: Execution, start: float) -> Report:
    """Run what is left of a plan's tasks, compare, and commit the target if nothing differs."""
    from h5z.commit import commit, describe
    from h5z.verify.differences import structure

    level, options = execution.verify, execution.source_options
    guard = execution.guard(plan.subject)
    differences: tuple[Difference, ...] = ()
    checked = 0
    with (
        watching(execution.progress, _nbytes_to_read(plan, level)) as advance,
        _letting_go(plan, execution),
        _taking_away(plan, target, options),
    ):
        _run_tasks(plan, target, execution, advance)
        if level:
            differences, checked, digests = check(plan, target, level, execution.scheduler, advance, options, guard=guard)
        _check_unchanged(plan, options)
    if level and not differences:
        target.mark_verified(level, digests)
        describe(target, plan)
        differences = () if plan.grows else tuple(structure(plan, target, finished=False)[0])
    if differences:
        target.check(now=True)
        return account(plan, target, "differs", start, differences=differences, level=level or "", checked_nbytes=checked)
    stored = sum(record["nbytes"] for record in target.done().values())
    commit(target, plan)
    return account(plan, target, "converted", start, stored_nbytes=stored, level=level or "", checked_nbytes=checked)


def _nbytes_to_read(plan: Plan, level: str | None) -> int:
    """Decoded bytes that a run reads: a full verification reads both sides again."""
    return plan.nbytes * (1 + 2 * (level == "full"))


def _run_tasks(plan: Plan, target: Target, execution: Execution, advance: Callable[[int], None]) -> None:
    """Run what is left of a plan's tasks: what stages first."""
    done: dict[int, dict[str, Json]] = target.done()
    small = plan.nbytes < _SMALL_NBYTES * sum(array.units.size for array in plan.arrays)
    guard = execution.guard(plan.subject)
    advance(sum(record.get("decoded", 0) for record in done.values()))
    for staging in (True, False):
        tasks = work_of(plan, target, set(done), staging=staging, storage_options=execution.source_options)
        jobs = ((run_task, (target, task.number, work), 0 if staging else work_nbytes(work)) for task, work in tasks)
        run(guarding(jobs, guard), execution.scheduler, plan.workers, advance, small=small)


def _as_begun(plan: Plan, begun: Plan) -> Plan:
    """A plan with the blocks of the run that it goes on from, whose tasks' marks mean those; as many workers as memory allows."""
    room = cast(int, plan.policy.memory or DEFAULT_MEMORY) - plan.headers_nbytes
    count = max(1, min(plan.workers, room // max(1, begun.largest_task_nbytes)))
    return replace(plan, arrays=begun.arrays, base=begun.base, workers=count)


def _check_unchanged(plan: Plan, source_options: dict[str, Any] | None) -> None:
    for identity in plan.identities:
        unchanged(*identity, source_options, plan.policy.attempts)


@contextmanager
def _letting_go(plan: Plan, execution: Execution) -> Iterator[None]:
    """Close the source's files at the end, here and on workers."""
    try:
        yield
    finally:
        _let_go(plan, execution)


def _let_go(plan: Plan, execution: Execution) -> None:
    for name, *_ in plan.identities:
        forget(name)
        on_workers(execution.scheduler, forget, name)


@contextmanager
def _taking_away(plan: Plan, target: Target, source_options: dict[str, Any] | None) -> Iterator[None]:
    """Take away a target that this call began if its source cannot be read, though it is what it was.

    No rerun could end that; where the source has changed or gone away, one can when it is back.
    """
    stage = _stage(plan, target)
    beat(stage)
    try:
        yield
    except SourceChangedError:
        raise
    except (SourceError, MemoryError):
        _check_unchanged(plan, source_options)
        take_away(target, None, stage)
        raise


def _stage(plan: Plan, target: Target) -> str:
    """What a run is about to do with its target, for who must clear up after it."""
    if plan.grows:
        return "growing"
    if target.prefix:
        return "replacing"
    return "begun" if target.lease is not None and target.lease.number == 1 else "resumed"


def take_away(where: Any, storage_options: dict[str, Any] | None, stage: str) -> None:
    """Take away what a run that broke off at a stage had begun of its target."""
    from h5z.target import Target

    if stage not in _BEGUN:
        return
    target = replace(Target.of(where, storage_options), prefix="")
    if target.lease is not None:
        target.clear(_BEGUN[stage])
        return
    with suppress(H5zError):  # the run was another process's, and died
        held = target.hold()
        held.clear(_BEGUN[stage])
        held.release(tidy=True)
