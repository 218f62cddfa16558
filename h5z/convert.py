"""Plan -> dask graph -> target: tasks read source blocks and write whole write units."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from h5z.chunking import DEFAULT_MEMORY
from h5z.errors import H5zError, PlanError, SourceChangedError, SourceError
from h5z.hdf5.files import forget
from h5z.hdf5.identity import unchanged
from h5z.isolation import can_isolate, guarding, run_isolated
from h5z.isolation.heartbeat import beat
from h5z.nodes import Json, Tree
from h5z.plan import Plan
from h5z.planning import plan, source_name, with_access
from h5z.policy import Policy
from h5z.report import Report
from h5z.scheduling import elsewhere, on_workers, run, telling, watching
from h5z.source import SourceArray, lazy_array
from h5z.tasks import Work, account, run_task, source_array, work_nbytes, work_of
from h5z.verify.checking import LEVELS, check

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

    from h5z.target import Target

_SMALL_NBYTES = 1 << 16  # of a unit that takes less time in libraries, side by side, than in Python
_BEGUN = {"begun": "", "replacing": ".h5z"}  # stages at which what is unfinished in a target is this call's own: where


def lazy(source: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None, **fields: Any) -> dict[str, da.Array]:
    """Every dataset of an HDF5 file as a lazy dask array, by path; nothing is read until they are computed.

    Blocks are those that a migration with the same policy would write. A dataset that Zarr holds as several arrays
    (sequences, compounds of strings) is several here too, by the paths that they would have.

    Raises
    ------
    SourceError, PlanError
        As `plan`; what cannot be read is left out unless ``unsupported="error"`` is given.
    """
    made = plan(source, storage_options=storage_options, **{"unsupported": "report", **fields})
    out = {}
    for array in made.arrays:
        handle = cast(SourceArray, source_array(made, array, with_access(made, storage_options)))
        name = f"h5z-{made.fingerprint[:16]}-{array.path}"
        out[array.path] = lazy_array(handle, tuple(map(max, map(min, array.block, array.shape), (1,) * len(array.shape))), name)
    return out


def graph(
    made: Plan,
    *,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    source_options: dict[str, Any] | None = None,
) -> Delayed:
    """Turn a plan into one dask graph over all arrays; compute it on any scheduler, then `finalize` the target.

    The plan is written to the target now; tasks that an earlier run has ended are left out. The graph holds the target until it
    is finalized, or a minute has passed without any of its tasks; other runs are refused meanwhile.

    Returns
    -------
    dask.delayed.Delayed
        Computes to the number of tasks run. Its tasks carry (file, dataset, region), no open files.
    """
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    from h5z.prepare import prepare
    from h5z.target import Target

    source_options = with_access(made, source_options)
    place = Target.of(made.place or made.target, storage_options)
    target, finished = prepare(place, made, overwrite=overwrite, shared=True)
    if finished:
        target.release(tidy=True)
    made = made if finished else cast(Plan, target.pending())
    name = f"h5z-convert-{made.fingerprint[:16]}"
    done = set() if finished else set(target.done())
    phases = (
        []
        if finished
        else [list(work_of(made, target, done, staging=phase, storage_options=source_options)) for phase in (True, False)]
    )
    staging, writing = phases or ([], [])
    layer: dict[Any, Any] = {(name, task.number): (partial(run_task, target, task.number, work),) for task, work in staging}
    layer[name, "staged"] = (_count, list(layer))
    for task, work in writing:
        layer[name, task.number] = (partial(_run_after, target, task.number, work), (name, "staged"))
    layer[name] = (_count, [(name, task.number) for task, _ in (*staging, *writing)])
    return Delayed(name, HighLevelGraph.from_collections(name, layer, dependencies=[]))


def _count(records: list[Any]) -> int:
    return len(records)


def _run_after(target: Target, number: int, work: Work, _: int) -> dict[str, Json]:
    return run_task(target, number, work)


def convert(
    source: str | os.PathLike[str] | Tree,
    target: Any,
    *,
    policy: Policy | None = None,
    verify: str | None = None,
    overwrite: bool = False,
    patient: bool = False,
    progress: bool | Callable[[int, int], None] = False,
    scheduler: Any = None,
    storage_options: dict[str, Any] | None = None,
    source_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
    workers: int | None = None,
    **fields: Any,
) -> Report:
    """Migrate one HDF5 file to a Zarr store: scan, plan, convert, verify, finalize.

    Parameters
    ----------
    source : path, URL or Tree
        The HDF5 file.
    target : path, URL or zarr Store
        Where the Zarr store shall be. The same call twice is the same as once; of an unfinished run the rest is done.
    policy : Policy, optional
        What to do; its fields (``chunks``, ``codec``, ``memory``, …) may also be given as keywords.
    verify : {"structure", "sample", "full"}, optional
        Compare target and source before the target is committed.
    overwrite : bool
        Replace a Zarr hierarchy that is something else, once its successor is complete.
    patient : bool
        Where another run holds the target, wait until its lease runs out, or is renewed, rather than refuse at once.
    progress : bool or callable
        Show a progress bar, or be called with bytes done and bytes in all.
    scheduler : "threads", "processes", "sync", address, distributed.Client, optional
        Where tasks run; by default an active distributed client, else threads here.
    storage_options, source_options : dict, optional
        For a target, and a source, by URL: what fsspec takes.
    isolated : bool
        Do all of it in a process of its own, so that a file on which libhdf5 crashes or hangs costs an error, not the
        program. Where a client's cluster does the work, each task is done in a child of its worker.
    timeout : float, optional
        Seconds that isolated work may take without progress: an object read, a task ended.
    memory_limit : int, optional
        Bytes of memory that isolated work may take; the machine's by default.

    Returns
    -------
    Report
        ``ok`` tells whether the target holds all of the source.

    Raises
    ------
    PlanError, UnsupportedError, SourceError, TargetError
        Nothing is left behind that opens as a finished target.
    """
    if verify is not None and verify not in LEVELS:
        raise PlanError(f"verify: expected one of {', '.join(map(repr, LEVELS))}, found {verify!r}")
    limits: dict[str, Any] = {"timeout": timeout, "memory_limit": memory_limit}
    if isolated and can_isolate(target, scheduler):
        given = {"policy": Policy.of(policy, fields), "verify": verify, "overwrite": overwrite, "scheduler": scheduler}
        given |= {"storage_options": storage_options, "source_options": source_options, "workers": workers}
        limits |= {"subject": source_name(source), "clear_up": partial(_take_away, target, storage_options)}
        with telling(progress) as tell:
            return Report.from_dict(run_isolated(convert, source, target, progress=tell, **limits, **given))
    from h5z.target import Target

    start = time.perf_counter()
    place = Target.of(target, storage_options)
    if not place.shared and elsewhere(scheduler):
        raise PlanError(f"{place.name}: expected a target that worker processes reach, found one in this process's memory")
    made = plan(
        source,
        target,
        policy=policy,
        storage_options=source_options,
        isolated=isolated,
        workers=workers,
        **limits,
        **fields,
    )
    how: dict[str, Any] = {"verify": verify, "scheduler": scheduler, "progress": progress, "start": start}
    how |= {"source_options": with_access(made, source_options), "limits": limits if isolated else None}
    return carry_out(made, place, overwrite=overwrite, patient=patient, **how)


def carry_out(
    made: Plan,
    place: Target,
    *,
    verify: str | None,
    overwrite: bool,
    patient: bool,
    progress: bool | Callable[[int, int], None],
    scheduler: Any,
    source_options: dict[str, Any] | None,
    limits: dict[str, Any] | None,
    start: float,
) -> Report:
    """Do what is left of a plan: bring its target to where tasks can run, run them, verify, finalize.

    Parameters
    ----------
    limits : dict, optional
        Of tasks that are done in children of their workers (`h5z.isolation.run_isolated`).
    start : float
        When the call began, by `time.perf_counter`.
    """
    from h5z.commit import describe, finalize
    from h5z.prepare import prepare
    from h5z.verify.differences import structure

    place, finished = prepare(place, made, overwrite=overwrite, patient=patient)
    try:
        made = made if finished else _as_begun(made, cast(Plan, place.pending()))
        verify = None if finished and _verified(place, verify) else verify
        stored = 0
        status = "unchanged" if finished else "converted"
        differences: tuple[Any, ...] = ()
        checked = 0
        total = made.nbytes * (1 + 2 * (verify == "full"))  # which reads both sides
        guard = None if limits is None else {"subject": made.subject, **limits}
        stage = (
            "growing"
            if made.grows
            else "replacing"
            if place.prefix
            else "begun"
            if place.lease is not None and place.lease.number == 1
            else "resumed"
        )
        beat(stage)
        with watching(progress, total) as advance, _leaving(made, place, stage, scheduler, source_options):
            if not finished:
                _run_tasks(made, place, scheduler, advance, source_options, guard)
            if verify:
                differences, checked, digests = check(
                    made, place, verify, scheduler, advance, source_options, finished=finished, guard=guard
                )
            if not finished:
                _unchanged(made, source_options)
        if verify and not finished and not differences:
            place.mark_verified(verify, digests)
            describe(place, made)
            differences = () if made.grows else tuple(structure(made, place, finished=False)[0])
        if differences:
            place.check(now=True)  # of a target that was removed meanwhile, or taken over, nothing is said
            status = "differs"
        elif not finished:
            stored = sum(record["nbytes"] for record in place.done().values())
            finalize(place)
    except BaseException:
        with suppress(H5zError):
            place.release()
        raise
    place.release(tidy=not differences)
    found = {"differences": differences, "level": verify or "", "checked_nbytes": checked}
    return account(made, place, status, start, stored_nbytes=stored, **found)


def _run_tasks(
    made: Plan, place: Target, scheduler: Any, advance: Callable[[int], None], source_options: Any, guard: dict[str, Any] | None
) -> None:
    """Run what is left of a plan's tasks: what stages first."""
    done = place.done()
    small = made.nbytes < _SMALL_NBYTES * sum(array.units.size for array in made.arrays)
    advance(sum(record.get("decoded", 0) for record in done.values()))
    for staging in (True, False):
        tasks = work_of(made, place, set(done), staging=staging, storage_options=source_options)
        jobs = ((run_task, (place, task.number, work), 0 if staging else work_nbytes(work)) for task, work in tasks)
        run(guarding(jobs, guard), scheduler, made.workers, advance, small=small)


def _as_begun(made: Plan, begun: Plan) -> Plan:
    """A plan with the blocks of the run that it goes on from, whose tasks' marks mean those; as many workers as memory allows."""
    each = begun.peak_nbytes // begun.workers
    memory = cast(int, made.policy.memory or DEFAULT_MEMORY)
    return replace(made, arrays=begun.arrays, base=begun.base, workers=max(1, min(made.workers, memory // max(1, each))))


def _verified(place: Target, level: str | None) -> bool:
    """Whether a finished target was verified at a level, or a stricter one, before it was committed."""
    record = (place.root() or {}).get("h5z", {}).get("verified")
    return level is not None and record in LEVELS and LEVELS.index(record) >= LEVELS.index(level)


def _unchanged(made: Plan, source_options: dict[str, Any] | None) -> None:
    for identity in made.identities:
        unchanged(*identity, source_options, made.policy.attempts)


@contextmanager
def _leaving(made: Plan, place: Target, stage: str, scheduler: Any, source_options: dict[str, Any] | None) -> Iterator[None]:
    """Let go of the source; take away a target that this call began if its source cannot be read, though it is what it was.

    No rerun could end that; where the source has changed or gone away, one can when it is back.
    """
    try:
        yield
    except SourceChangedError:
        raise
    except (SourceError, MemoryError):
        _unchanged(made, source_options)
        _take_away(place, None, stage)
        raise
    finally:
        for name, *_ in made.identities:
            forget(name)
            on_workers(scheduler, forget, name)


def _take_away(where: Any, storage_options: dict[str, Any] | None, stage: str) -> None:
    """Take away what a run that broke off at a stage had begun of its target."""
    from h5z.target import Target

    if stage not in _BEGUN:
        return
    place = replace(Target.of(where, storage_options), prefix="")
    if place.lease is not None:
        place.clear(_BEGUN[stage])
        return
    with suppress(H5zError):  # the run was another process's, and died
        held = place.hold()
        held.clear(_BEGUN[stage])
        held.release(tidy=True)
