"""Files that are slices along a dimension -> the Plan that joins them, in a new target or behind what one holds."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from h5z.arrayplan import ArrayPlan
from h5z.combining.constants import check_constants, unlike
from h5z.credentials import shown
from h5z.errors import PlanError, TargetExistsError
from h5z.execution import Execution
from h5z.joining.epochs import Shift, shifted
from h5z.joining.growth import base, recorded
from h5z.joining.promotion import promoted
from h5z.joining.trees import Schema, Slice, joined, odd_ones, part
from h5z.nodes import Json, Tree
from h5z.plan import Plan
from h5z.planner import make_plan
from h5z.policy import Policy
from h5z.scan import scan
from h5z.scheduling import run
from h5z.source import Dataset
from h5z.target import Target
from h5z.tasks import source_array

TIMES = ("same", "first")
ORDERS = ("coordinate", "given")


@dataclass(frozen=True, kw_only=True)
class Joiner:
    """What joins files, and to which target; each as for `h5z.combine`."""

    target: Target
    dim: str
    new_dim: bool
    times: str
    order: str
    policy: Policy
    workers: int | None
    execution: Execution

    def plan_new(self, names: list[str]) -> Plan:
        """The plan that joins files to a new target."""
        trees = self._trees(names)
        plan = self._joined(self._slices(trees))
        if self.new_dim:
            varying = {array.source for _, array, _ in unlike(plan, self.execution.source_options, self.execution.scheduler)}
            plan = self._joined(self._slices(trees, varying)) if varying else plan
        check_constants(plan, self.execution.source_options, self.execution.scheduler)
        return plan

    def plan_growth(self, names: list[str], root: dict[str, Json]) -> Plan:
        """The plan that adds files to a finished target: of those arrays alone that grow."""
        record = recorded(root)
        along = {path for path, own in record["schema"].items() if self.dim in own.get("dimensions", ())}
        slices = self._slices(self._trees(names), along)
        odd_ones(slices, record["schema"], rebase=self.times == "first")
        slices = self._ordered(slices, record["schema"])
        start = sum(item[4] for item in record["parts"])
        plan = replace(self._planned(slices, record["schema"], start, record["cut"]), before=tuple(record["parts"]))
        check_constants(plan, self.execution.source_options, self.execution.scheduler, self.target)
        arrays = tuple(_unstaged(array) for array in plan.arrays if array.axis is not None)
        plan = replace(plan, arrays=arrays, groups={})
        self._check_behind(plan)
        return replace(plan, base=base(self.target, plan, self.execution.scheduler))

    def _joined(self, slices: list[Slice]) -> Plan:
        slices = self._ordered(slices, odd_ones(slices, None, rebase=self.times == "first"))
        return self._planned(slices, slices[0].schema)  # whose times the others' are counted as

    def _planned(self, slices: list[Slice], common: Schema, start: int = 0, cut: dict[str, Any] | None = None) -> Plan:
        tree, joins = joined(slices, self.dim, start=start, cut=cut)
        plan = make_plan(tree, self.target.name, self.policy, workers=self.workers, joins=joins)
        parts = tuple(part(item, self.dim, common) for item in slices)
        return replace(plan, dim=self.dim, parts=parts, schema=common, adds_dim=self.new_dim)

    def _trees(self, names: list[str]) -> list[Tree]:
        """The files' hierarchies, read here or on workers."""
        scanned = partial(
            scan,
            measure=True,
            links=self.policy.links,
            external_roots=[os.fspath(root) for root in self.policy.external_roots],
            storage_options=self.execution.source_options,
            isolated=self.execution.isolated,
            timeout=self.execution.timeout,
            memory_limit=self.execution.memory_limit,
        )
        jobs = ((scanned, (name,), 0) for name in names)
        workers = self.workers or os.cpu_count() or 1
        trees = {tree.file: tree for tree in run(jobs, self.execution.scheduler, workers, lambda nbytes: None)}
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
        dataset = Dataset(own.file, path, item.array(path).dtype, self.execution.source_options, stamp=(own.size, own.mtime_ns))
        regions = [() if self.new_dim else (slice(n, n + 1),) for n in (0, item.length - 1)]
        ends = [np.asarray(dataset.read(region)).reshape(1) for region in regions]
        if path in own.shifts:
            ends = [shifted(value, Shift.from_list(own.shifts[path]), own.file) for value in ends]
        return ends[0][0], ends[1][0]

    def _check_behind(self, plan: Plan) -> None:
        """See that the coordinate goes on where the target's ends.

        Raises
        ------
        TargetExistsError
            If the new files lie before, or within, what the target holds.
        """
        array = next((a for a in plan.arrays if a.path.rpartition("/")[2] == self.dim and a.names == (self.dim,)), None)
        if self.order == "given" or array is None or array.is_text or not array.kept:
            return
        source = source_array(plan, array, self.execution.source_options, place=self.target)
        first = max(0, array.kept - 2)
        values = source.read((slice(first, array.kept + 1),))
        if (len(values) > 2 and (values[1] < values[0]) != (values[2] < values[1])) or values[-1] == values[-2]:
            what = f"expected {array.path} to go on behind {values[-2]}, where {self.target.name} ends, found {values[-1]}"
            raise TargetExistsError(f"{plan.source}: {what} (overwrite joins all files anew)")


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
