"""Many files that are slices along a dimension -> one Zarr array set; files that come later are added behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np

from h5z.arrayplan import ArrayPlan
from h5z.commit import finalize, swapping
from h5z.convert import carry_out
from h5z.credentials import shown
from h5z.digest import Digest, digest
from h5z.errors import PlanError, SourceError, TargetExistsError, UnfinishedTargetError, one_line
from h5z.hdf5.listing import identify
from h5z.joining.arrays import Readable
from h5z.joining.epochs import Shift, shifted
from h5z.joining.growth import LEVELS, base, recorded
from h5z.joining.promotion import promoted
from h5z.joining.trees import Schema, Slice, joined, odd_ones, part
from h5z.nodes import Json, Tree
from h5z.plan import Part, Plan, located
from h5z.planner import make_plan
from h5z.policy import Policy
from h5z.records import json_name
from h5z.report import Report
from h5z.scan import scan
from h5z.scheduling import elsewhere, run
from h5z.source import Dataset
from h5z.state import policy_record
from h5z.target import MARK, Target
from h5z.tasks import of_file, source_array
from h5z.units import TargetArray
from h5z.verify.audit import audit

TIMES = ("same", "first")
ORDERS = ("coordinate", "given")
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
    place = Target.of(target, storage_options)
    if not names:
        raise PlanError(f"{place.name}: expected files to join, found none")
    if not place.shared and elsewhere(scheduler):
        raise PlanError(f"{place.name}: expected a target that worker processes reach, found one in this process's memory")
    limits: dict[str, Any] | None = {"timeout": timeout, "memory_limit": memory_limit} if isolated else None
    how = {"verify": verify, "patient": patient, "progress": progress, "scheduler": scheduler}
    found = {name: (located(shown(name)), *_identity(name, source_options)) for name in names}
    call = _Call(
        place, dim, new_dim, Policy.of(policy, fields), times, order, overwrite, found, workers, source_options, limits, how
    )
    if swapping(place):  # a run was killed when all was done but for its documents
        finalize(place)
    waiting = call.begun()
    if 0 < len(waiting) < len(names):
        call.step(waiting)
    return call.step(names)


def _identity(name: str, options: dict[str, Any] | None) -> tuple[int, int]:
    try:
        return identify(name, options)
    except FileNotFoundError:
        raise SourceError(f"{shown(name)}: no such file") from None
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{shown(name)}: cannot be read ({one_line(error)})") from None


@dataclass(frozen=True)
class _Call:
    """What one call was asked to do; `found` are the files, each with its identity."""

    place: Target
    dim: str
    new_dim: bool
    policy: Policy
    times: str
    order: str
    overwrite: bool
    found: dict[str, Identity]
    workers: int | None
    source_options: dict[str, Any] | None
    limits: dict[str, Any] | None
    how: dict[str, Any]

    def begun(self) -> list[str]:
        """The files of an unfinished run that can be ended as it was begun; none where it cannot."""
        plan = self.place.begun()
        if plan is None or plan.dim != self.dim:
            return []
        wanted = {(item.name, item.size, item.mtime_ns) for item in plan.parts}
        names = [name for name, identity in self.found.items() if identity in wanted]
        return names if len(names) == len(plan.parts) else []

    def step(self, names: list[str]) -> Report:
        """Join files to what the target holds, or all of them to a new target."""
        start = time.perf_counter()
        root, begun = self.place.root(), self.place.begun()
        made = self._fresh(names) if root is None else self._further(names, root)
        if made is None:
            self._tidy()
            return self._unchanged(names, start)
        anew = root is None and begun is not None and bool(begun.dim)  # of which nobody has opened anything
        shared: dict[str, Any] = {"source_options": self.source_options, "limits": self.limits, "start": start, **self.how}
        return carry_out(made, self.place, overwrite=self.overwrite or anew, **shared)

    def _further(self, names: list[str], root: dict[str, Json]) -> Plan | None:
        """The plan that adds to a finished target what it does not hold yet; None if it holds all."""
        try:
            new = self._new(names, root)
            return self._growth(new, root) if new else None
        except TargetExistsError:
            if not self.overwrite:
                raise
        return self._fresh(names)

    def _new(self, names: list[str], root: dict[str, Json]) -> list[str]:
        """The files that a finished target does not hold yet.

        Raises
        ------
        TargetExistsError
            If it is something else, or one of those that it holds has changed.
        """
        record, own = recorded(root), cast(dict[str, Any], root.get("h5z", {}))
        name = self.place.name
        if not record or record["dim"] != self.dim:
            what = f"files joined along {record['dim']!r}" if record else "another Zarr hierarchy"
            raise TargetExistsError(f"{name}: expected nothing, or files joined along {self.dim!r}; found {what}")
        if policy_record(own.get("policy", {})) != policy_record(self.policy.to_dict()):
            raise TargetExistsError(f"{name}: expected files joined by this policy, found another (overwrite joins them anew)")
        held = {item[0]: (item[1], item[2]) for item in record["parts"]}
        new = []
        for file in names:
            known = self._known(file, names, held)
            if known is None:
                new.append(file)
            elif held[known] != self.found[file][1:]:
                what = "the file that it was joined of, found that it has changed since (overwrite joins all anew)"
                raise TargetExistsError(f"{name}: {file}: expected {what}")
        return new

    def _known(self, file: str, names: list[str], held: dict[str, tuple[int, int]]) -> str | None:
        """Under which name a target holds a file, if it does: by its place, or as the only one of its name that has moved."""
        place, *identity = self.found[file]
        if (name := json_name(place)) in held:
            return name
        twins = [other for other in held if os.path.basename(other) == os.path.basename(name)]
        alike = [other for other in names if os.path.basename(other) == os.path.basename(file)]
        moved = len(twins) == len(alike) == 1 and held[twins[0]] == tuple(identity)
        return twins[0] if moved and not self._is_there(twins[0]) else None

    def _is_there(self, file: str) -> bool:
        with suppress(OSError):
            identify(file, self.source_options)
            return True
        return False

    def _fresh(self, names: list[str]) -> Plan:
        """The plan that joins files to a new target."""
        trees = self._trees(names)
        made = self._joined(self._slices(trees))
        if self.new_dim:
            varying = {array.source for _, array, _ in unlike(made, self.source_options, self.how["scheduler"])}
            made = self._joined(self._slices(trees, varying)) if varying else made
        check_constants(made, self.source_options, self.how["scheduler"])
        return made

    def _joined(self, slices: list[Slice]) -> Plan:
        slices = self._ordered(slices, odd_ones(slices, None, rebase=self.times == "first"))
        return self._planned(slices, slices[0].schema)  # whose times the others' are counted as

    def _growth(self, names: list[str], root: dict[str, Json]) -> Plan:
        """The plan that adds files to a finished target: of those arrays alone that grow."""
        record = recorded(root)
        along = {path for path, own in record["schema"].items() if self.dim in own.get("dimensions", ())}
        slices = self._slices(self._trees(names), along)
        odd_ones(slices, record["schema"], rebase=self.times == "first")
        slices = self._ordered(slices, record["schema"])
        start = sum(item[4] for item in record["parts"])
        made = replace(self._planned(slices, record["schema"], start, record["cut"]), before=tuple(record["parts"]))
        check_constants(made, self.source_options, self.how["scheduler"], self.place)
        arrays = tuple(_unstaged(array) for array in made.arrays if array.axis is not None)
        made = replace(made, arrays=arrays, groups={})
        self._check_behind(made)
        return replace(made, base=base(self.place, made, self.how["scheduler"]))

    def _planned(self, slices: list[Slice], common: Schema, start: int = 0, cut: dict[str, Any] | None = None) -> Plan:
        tree, joins = joined(slices, self.dim, start=start, cut=cut)
        made = make_plan(tree, self.place.name, self.policy, workers=self.workers, joins=joins)
        parts = tuple(part(item, self.dim, common) for item in slices)
        return replace(made, dim=self.dim, parts=parts, schema=common, adds_dim=self.new_dim)

    def _trees(self, names: list[str]) -> list[Tree]:
        """The files' hierarchies, read here or on workers."""
        jobs = ((_scanned, (name, self.policy, self.source_options, self.limits), 0) for name in names)
        trees = {tree.file: tree for tree in run(jobs, self.how["scheduler"], self.workers or os.cpu_count() or 1, _ignore)}
        return [trees[shown(name)] for name in names]

    def _slices(self, trees: list[Tree], varying: Collection[str] = ()) -> list[Slice]:
        return [Slice.of(promoted(tree, self.dim, varying) if self.new_dim else tree, self.dim) for tree in trees]

    def _ordered(self, slices: list[Slice], common: Schema) -> list[Slice]:
        """Files in the order of the coordinate of the dimension's name, where there is one.

        Raises
        ------
        PlanError
            If one begins before another ends.
        """
        path = _coordinate(slices[0], self.dim)
        if self.order == "given" or path is None:
            return slices
        empty, slices = [item for item in slices if not item.length], [item for item in slices if item.length]
        ends = [self._ends(item, path, common) for item in slices]
        falls = bool(sum(last < first for first, last in ends) > len(ends) // 2)
        order = sorted(range(len(slices)), key=lambda i: ends[i][0], reverse=falls)
        for i, j in pairwise(order):
            if (ends[j][0] >= ends[i][1]) if falls else (ends[j][0] <= ends[i][1]):
                what = f"expected {path} to begin behind that of {slices[i].tree.file}, which ends at {ends[i][1]}"
                raise PlanError(f"{slices[j].tree.file}: {what}, found {ends[j][0]} (order='given' joins them as they are given)")
        return [*(slices[i] for i in order), *empty]

    def _ends(self, item: Slice, path: str, common: Schema) -> tuple[Any, Any]:
        """A coordinate's first and last value."""
        own = part(item, self.dim, common)
        dataset = Dataset(own.file, path, item.array(path).dtype, self.source_options, stamp=(own.size, own.mtime_ns))
        regions = [() if self.new_dim else (slice(n, n + 1),) for n in (0, item.length - 1)]
        ends = [np.asarray(dataset.read(region)).reshape(1) for region in regions]
        if path in own.shifts:
            ends = [shifted(value, Shift.from_list(own.shifts[path]), own.file) for value in ends]
        return ends[0][0], ends[1][0]

    def _check_behind(self, made: Plan) -> None:
        """See that the coordinate goes on where the target's ends.

        Raises
        ------
        TargetExistsError
            If the new files lie before, or within, what the target holds.
        """
        array = next((a for a in made.arrays if a.path.rpartition("/")[2] == self.dim and a.names == (self.dim,)), None)
        if self.order == "given" or array is None or array.is_text or not array.kept:
            return
        source = source_array(made, array, self.source_options, place=self.place)
        first = max(0, array.kept - 2)
        values = source.read((slice(first, array.kept + 1),))
        if (len(values) > 2 and (values[1] < values[0]) != (values[2] < values[1])) or values[-1] == values[-2]:
            what = f"expected {array.path} to go on behind {values[-2]}, where {self.place.name} ends, found {values[-1]}"
            raise TargetExistsError(f"{made.source}: {what} (overwrite joins all files anew)")

    def _tidy(self) -> None:
        """Take away what a run has left that was killed after its commit."""
        if MARK in self.place.names():
            with suppress(UnfinishedTargetError):  # of files that are not among these
                finalize(self.place)

    def _unchanged(self, names: list[str], start: float) -> Report:
        """The report of a target that holds all files; verified where that is asked for, and was not done before."""
        level = self.how["verify"]
        done = cast(dict[str, Any], (self.place.root() or {}).get("h5z", {})).get("verified", "")
        if level is None or (done in LEVELS and LEVELS.index(done) >= LEVELS.index(level)):
            source = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
            return Report(shown(source), self.place.name, "unchanged")
        found = audit(self.place, level, self.how["scheduler"], self.how["progress"])
        return replace(found, seconds=time.perf_counter() - start)


def _scanned(name: str, policy: Policy, source_options: dict[str, Any] | None, limits: dict[str, Any] | None) -> Tree:
    """A file's hierarchy, measured; in a process of its own where limits are given."""
    how: dict[str, Any] = {"links": policy.links, "external_roots": policy.external_roots, "storage_options": source_options}
    return scan(name, measure=True, isolated=limits is not None, **(limits or {}), **how)


def _ignore(nbytes: int) -> None:
    """Show nothing."""


def _coordinate(item: Slice, dim: str) -> str | None:
    """The array of the dimension's name along it, if its values have an order."""
    for path, names in item.dims.names.items():
        if path.rpartition("/")[2] == dim and names == (dim,) and path in item.schema:
            dtype = item.array(path).dtype
            return path if isinstance(dtype, str) and dtype[1] in "iuf" else None
    return None


def _unstaged(array: ArrayPlan) -> ArrayPlan:
    """An array that grows goes without a scratch, which is cut as the whole array is."""
    return replace(array, route="regrid", stage=None) if array.route == "staged" else array


def check_constants(made: Plan, source_options: dict[str, Any] | None, scheduler: Any, place: Target | None = None) -> None:
    """See that what does not lie along the dimension has the same values in every file, and in the target that is to grow.

    Raises
    ------
    PlanError
        If it has not; naming the first file that differs.
    """
    for item, array, whose in unlike(made, source_options, scheduler, place):
        what = f"expected the values that {whose} has, since it does not lie along {made.dim!r}; found others"
        raise PlanError(f"{item.file}: {array.source}: {what}")


def unlike(
    made: Plan, source_options: dict[str, Any] | None, scheduler: Any, place: Target | None = None
) -> Iterator[tuple[Part, ArrayPlan, str]]:
    """Files, and what in them has other values than in the first, or in the target that is to grow; and whose those are."""
    arrays = [array for array in made.arrays if array.axis is None]
    if not arrays or (place is None and len(made.parts) < 2):
        return
    jobs = ((_constants, (part.file, [of_file(made, a, part, source_options) for a in arrays], arrays), 0) for part in made.parts)
    found = dict(run(jobs, scheduler, made.workers, _ignore))
    whose = made.parts[0].file
    wanted = found[whose]
    if place is not None:
        handles = [TargetArray(place, replace(array, attributes={}), made.policy.zarr_format) for array in arrays]
        whose, wanted = _constants(place.name, handles, arrays)
    for item in made.parts:
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
