"""Many files that are slices along a dimension -> one Zarr array set; files that come later are added behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from h5z.bars import Progress
from h5z.combining.plans import ORDERS, TIMES, Joiner
from h5z.commit import finalize, swapping
from h5z.credentials import shown
from h5z.errors import PlanError, SourceError, TargetExistsError, UnfinishedTargetError, one_line
from h5z.execution import Execution, carry_out, check_reach, verified
from h5z.hdf5.listing import identify
from h5z.joining.growth import recorded
from h5z.nodes import Json
from h5z.plan import Plan, located
from h5z.policy import Policy
from h5z.records import json_name
from h5z.report import Report
from h5z.state import policy_record
from h5z.target import MARK, Target
from h5z.verify.audit import audit
from h5z.verify.checking import LEVELS

Identity = tuple[str, int, int]  # where a file is, its size and time


def combine(
    files: Iterable[str | os.PathLike[str]],
    target: Any,
    *,
    dim: str,
    new_dim: bool = False,
    policy: Policy | None = None,
    times: str = "same",
    order: str = "coordinate",
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
    """Join HDF5 files along a dimension into one Zarr store; add to it those that it does not hold yet.

    All files' headers are compared before anything is written. Arrays along the dimension take each file's values behind those
    of the file before; all others must be the same in every file. The target's final shapes are declared before the first
    write, and each write unit is written whole by one task, from as many files as it covers. A later call with further files
    adds them in place: what the target holds is not read again nor written anew, but for a last unit that they fill up, and
    the files that it came from need not be there any more (`h5z.joining.growth` says what readers see meanwhile).

    Parameters
    ----------
    files : iterable of paths or URLs
        All files, or only those that are new.
    target : path, URL or zarr Store
        Where the Zarr store is, or shall be. The same call twice is the same as once; of an unfinished run the rest is done.
    dim : str
        The dimension: a dimension scale's name.
    new_dim : bool
        Each file lacks the dimension and is one step along it, as for ``xarray.open_mfdataset(combine="nested")``: it becomes the
        first of all arrays but the coordinates that are the same in every file, and a scalar of its name its coordinate.
    times : "same" or "first"
        Refuse files whose times count from another date, or in other units; or count them as the first file's do.
    order : "coordinate" or "given"
        By the values of the coordinate of the dimension's name, where there is one; or as they are given.
    overwrite : bool
        Join all files anew where they cannot be added: what the target holds has changed, or lies behind them, or is
        something else. What is there is replaced when its successor is complete.
    policy, verify, patient, progress, scheduler, storage_options, source_options, isolated, timeout, memory_limit, workers
        As for `h5z.convert`.

    Returns
    -------
    Report
        Of the files that were added, or with the status ``unchanged``.

    Raises
    ------
    PlanError
        If files do not fit together; the odd ones are named, with what differs.
    TargetExistsError
        If there is something else, or a file has changed since it was added.
    UnsupportedError, SourceError, TargetError
        Nothing is left behind that opens as what it is not.
    """
    for name, value, allowed in (("verify", verify, (None, *LEVELS)), ("times", times, TIMES), ("order", order, ORDERS)):
        if value not in allowed:
            raise PlanError(f"{name}: expected one of {', '.join(repr(item) for item in allowed if item)}, found {value!r}")
    names = [os.fspath(file) for file in files]
    opened = Target.of(target, storage_options)
    if not names:
        raise PlanError(f"{opened.name}: expected files to join, found none")
    check_reach(opened, scheduler)
    identities = {name: (located(shown(name)), *_identity(name, source_options)) for name in names}
    execution = Execution(
        verify=verify,
        overwrite=overwrite,
        patient=patient,
        progress=progress,
        scheduler=scheduler,
        source_options=source_options,
        isolated=isolated,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    joiner = Joiner(
        target=opened,
        dim=dim,
        new_dim=new_dim,
        times=times,
        order=order,
        policy=Policy.of(policy, fields),
        workers=workers,
        execution=execution,
    )
    combination = _Combination(joiner, identities)
    if swapping(opened):  # a run was killed when all was done but for its documents
        finalize(opened)
    waiting = combination.begun()
    if 0 < len(waiting) < len(names):
        combination.step(waiting)
    return combination.step(names)


def _identity(name: str, options: dict[str, Any] | None) -> tuple[int, int]:
    """A file's size and time."""
    try:
        return identify(name, options)
    except FileNotFoundError:
        raise SourceError(f"{shown(name)}: no such file") from None
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{shown(name)}: cannot be read ({one_line(error)})") from None


@dataclass(frozen=True)
class _Combination:
    """One call: files by name, each with its identity, and what joins them."""

    joiner: Joiner
    identities: dict[str, Identity]

    @property
    def _target(self) -> Target:
        return self.joiner.target

    @property
    def _execution(self) -> Execution:
        return self.joiner.execution

    def begun(self) -> list[str]:
        """The files of an unfinished run that can be ended as it was begun; none where it cannot."""
        plan = self._target.begun()
        if plan is None or plan.dim != self.joiner.dim:
            return []
        wanted = {(item.name, item.size, item.mtime_ns) for item in plan.parts}
        names = [name for name, identity in self.identities.items() if identity in wanted]
        return names if len(names) == len(plan.parts) else []

    def step(self, names: list[str]) -> Report:
        """Join files to what the target holds, or all of them to a new target."""
        start = time.perf_counter()
        root, begun = self._target.root(), self._target.begun()
        plan = self.joiner.plan_new(names) if root is None else self._plan_further(names, root)
        if plan is None:
            self._tidy()
            return self._unchanged(names, start)
        anew = root is None and begun is not None and bool(begun.dim)  # of which nobody has opened anything
        execution = replace(self._execution, overwrite=self._execution.overwrite or anew)
        return carry_out(plan, self._target, execution, start=start)

    def _plan_further(self, names: list[str], root: dict[str, Json]) -> Plan | None:
        """The plan that adds to a finished target what it does not hold yet; None if it holds all."""
        try:
            new = self._new(names, root)
            return self.joiner.plan_growth(new, root) if new else None
        except TargetExistsError:
            if not self._execution.overwrite:
                raise
        return self.joiner.plan_new(names)

    def _new(self, names: list[str], root: dict[str, Json]) -> list[str]:
        """The files that a finished target does not hold yet.

        Raises
        ------
        TargetExistsError
            If it is something else, or one of those that it holds has changed.
        """
        record, own = recorded(root), cast(dict[str, Any], root.get("h5z", {}))
        name = self._target.name
        if not record or record["dim"] != self.joiner.dim:
            what = f"files joined along {record['dim']!r}" if record else "another Zarr hierarchy"
            raise TargetExistsError(f"{name}: expected nothing, or files joined along {self.joiner.dim!r}; found {what}")
        if policy_record(own.get("policy", {})) != policy_record(self.joiner.policy.to_dict()):
            raise TargetExistsError(f"{name}: expected files joined by this policy, found another (overwrite joins them anew)")
        held = {item[0]: (item[1], item[2]) for item in record["parts"]}
        new = []
        for file in names:
            known = self._known(file, names, held)
            if known is None:
                new.append(file)
            elif held[known] != self.identities[file][1:]:
                what = "the file that it was joined of, found that it has changed since (overwrite joins all anew)"
                raise TargetExistsError(f"{name}: {file}: expected {what}")
        return new

    def _known(self, file: str, names: list[str], held: dict[str, tuple[int, int]]) -> str | None:
        """Under which name a target holds a file, if it does: by its place, or as the only one of its name that has moved."""
        place, *identity = self.identities[file]
        if (name := json_name(place)) in held:
            return name
        twins = [other for other in held if os.path.basename(other) == os.path.basename(name)]
        alike = [other for other in names if os.path.basename(other) == os.path.basename(file)]
        moved = len(twins) == len(alike) == 1 and held[twins[0]] == tuple(identity)
        return twins[0] if moved and not self._is_there(twins[0]) else None

    def _is_there(self, file: str) -> bool:
        with suppress(OSError):
            identify(file, self._execution.source_options)
            return True
        return False

    def _tidy(self) -> None:
        """Take away what a run has left that was killed after its commit."""
        if MARK in self._target.names():
            with suppress(UnfinishedTargetError):  # of files that are not among these
                finalize(self._target)

    def _unchanged(self, names: list[str], start: float) -> Report:
        """The report of a target that holds all files; verified where that is asked for, and was not done before."""
        level = self._execution.verify
        if level is None or verified(self._target, level):
            source = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
            return Report(shown(source), self._target.name, "unchanged")
        report = audit(self._target, level, self._execution.scheduler, self._execution.progress)
        return replace(report, seconds=time.perf_counter() - start)
