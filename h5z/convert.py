"""Plan -> dask graph -> target: tasks read source blocks and write whole write units."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from h5z import planning
from h5z.bars import Progress
from h5z.errors import PlanError
from h5z.execution import Execution, carry_out, check_reach, take_away
from h5z.isolation import can_isolate, run_isolated
from h5z.nodes import Json, Tree
from h5z.plan import Plan
from h5z.planning import source_name, with_access
from h5z.policy import Policy
from h5z.report import Report
from h5z.scheduling import telling
from h5z.source import SourceArray, lazy_array
from h5z.tasks import Work, run_task, source_array, work_of
from h5z.verify.checking import LEVELS

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

    from h5z.target import Target


def lazy(source: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None, **fields: Any) -> dict[str, da.Array]:
    """Every dataset of an HDF5 file as a lazy dask array, by path; nothing is read until they are computed.

    Blocks are those that a migration with the same policy would write. A dataset that Zarr holds as several arrays
    (sequences, compounds of strings) is several here too, by the paths that they would have.

    Raises
    ------
    SourceError, PlanError
        As `plan`; what cannot be read is left out unless ``unsupported="error"`` is given.
    """
    plan = planning.plan(source, storage_options=storage_options, **{"unsupported": "report", **fields})
    out = {}
    for array in plan.arrays:
        handle = cast(SourceArray, source_array(plan, array, with_access(plan, storage_options)))
        chunks = tuple(max(1, min(block, n)) for block, n in zip(array.block, array.shape, strict=True))
        out[array.path] = lazy_array(handle, chunks, f"h5z-{plan.fingerprint[:16]}-{array.path}")
    return out


def graph(
    plan: Plan,
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

    target = Target.of(plan.place or plan.target, storage_options)
    target, begun = prepare(target, plan, overwrite=overwrite, shared=True)
    name = f"h5z-convert-{plan.fingerprint[:16]}"
    layer: dict[Any, Any]
    if begun is None:
        target.release(tidy=True)
        layer = {name: (_count, [])}
    else:
        layer = _layer(name, begun, target, with_access(plan, source_options))
    return Delayed(name, HighLevelGraph.from_collections(name, layer, dependencies=[]))


def _layer(name: str, plan: Plan, target: Target, source_options: dict[str, Any] | None) -> dict[Any, Any]:
    """The tasks that are left of a plan, as dask's graph has them: what stages first, the rest after all of it."""
    done = set(target.done())
    staging, writing = (
        list(work_of(plan, target, done, staging=phase, storage_options=source_options)) for phase in (True, False)
    )
    layer: dict[Any, Any] = {(name, task.number): (partial(run_task, target, task.number, work),) for task, work in staging}
    layer[name, "staged"] = (_count, list(layer))
    for task, work in writing:
        layer[name, task.number] = (partial(_run_after, target, task.number, work), (name, "staged"))
    layer[name] = (_count, [(name, task.number) for task, _ in (*staging, *writing)])
    return layer


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
    progress: Progress = False,
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
    if isolated and can_isolate(target, scheduler):
        with telling(progress) as tell:
            report = run_isolated(
                convert,
                source,
                target,
                subject=source_name(source),
                timeout=timeout,
                memory_limit=memory_limit,
                progress=tell,
                clear_up=partial(take_away, target, storage_options),
                policy=Policy.of(policy, fields),
                verify=verify,
                overwrite=overwrite,
                patient=patient,
                scheduler=scheduler,
                storage_options=storage_options,
                source_options=source_options,
                workers=workers,
            )
        return Report.from_dict(report)
    from h5z.target import Target

    start = time.perf_counter()
    opened = Target.of(target, storage_options)
    check_reach(opened, scheduler)
    plan = planning.plan(
        source,
        target,
        policy=policy,
        storage_options=source_options,
        isolated=isolated,
        timeout=timeout,
        memory_limit=memory_limit,
        workers=workers,
        **fields,
    )
    execution = Execution(
        verify=verify,
        overwrite=overwrite,
        patient=patient,
        progress=progress,
        scheduler=scheduler,
        source_options=with_access(plan, source_options),
        isolated=isolated,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    return carry_out(plan, opened, execution, start=start)
