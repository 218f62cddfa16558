"""Tree + Policy -> Plan."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from h5z import limits
from h5z.arrayplan import ArrayPlan
from h5z.attributes import project
from h5z.choices import Choices, element_nbytes, only_value
from h5z.chunking import (
    FEW_CHUNKS,
    LEAST_KEPT_NBYTES,
    Join,
    fit_memory,
    headers_nbytes,
)
from h5z.codecs import PORTABLE
from h5z.dimensions import NON_COORDINATE, Dimensions, dimensions, is_netcdf, parent
from h5z.dtypes import class_of, is_string, plain, refers
from h5z.errors import PlanError, UnsupportedError, one_line
from h5z.grid import ChunkGrid
from h5z.leaves import Leaf, leaves
from h5z.names import escape, unique
from h5z.nodes import ArrayNode, GroupNode, Json, Problem, Tree, TypeNode
from h5z.plan import Plan
from h5z.policy import Policy
from h5z.records import array_record, attribute_record, clean, json_name, link_record, shown

_KEY_NBYTES = 120  # of a chunk's key below its array, and what a run puts before a path


def make_plan(
    tree: Tree, target: str, policy: Policy, *, workers: int | None = None, joins: Mapping[str, Join] | None = None
) -> Plan:
    """Fix what a migration will do.

    Parameters
    ----------
    tree : Tree
        The source's headers, measured (`scan(measure=True)`).
    target : str
        Where the Zarr store goes, for the record.
    workers : int, optional
        How many tasks run at once; the machine's cores by default.
    joins : mapping, optional
        Of a tree that stands for several files: the arrays that are joined of theirs, by path.

    Raises
    ------
    PlanError
        If the policy does not fit the source: a chunk shape of another rank, a pattern that matches nothing, too little memory.
    UnsupportedError
        If something cannot be carried over and the policy says ``unsupported="error"``.
    """
    unmatched = [*policy.unmatched_patterns(node.path for node in tree.nodes.values()), *_unmatched_rank(tree, policy)]
    if unmatched and policy.unmatched == "error":
        raise PlanError(f"{tree.file}: {unmatched[0]}")
    planner = _Planner(tree, policy, joins or {})
    planner.notes += unmatched
    planner.run()
    problems = tuple(tree.problems) + tuple(planner.problems)
    if problems and policy.unsupported == "error":
        named = "; ".join(f"{_short(problem.path)}: {problem.reason}" for problem in problems[:10])
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UnsupportedError(f"{tree.file}: cannot be carried over (unsupported='report' goes on without): {named}{more}")
    if workers is not None and workers < 1:
        raise PlanError(f"workers: expected a positive number, found {workers}")
    headers = headers_nbytes(tree)
    arrays, count = fit_memory(planner.arrays, policy, workers or os.cpu_count() or 1, headers)
    _check_size(tree.file, target, arrays, planner.groups)
    return Plan(
        tree.file,
        target,
        tree.size,
        tree.mtime_ns,
        policy,
        planner.groups,
        tuple(arrays),
        problems,
        tuple(planner.notes),
        count,
        headers_nbytes=headers,
        digest=tree.digest,
    )


def _unmatched_rank(tree: Tree, policy: Policy) -> Iterator[str]:
    """Name a chunk or shard shape of a rank that no array has."""
    for name in ("chunks", "shards"):
        wanted = getattr(policy, name)
        ranks = {len(array.shape or ()) for array in tree.arrays}
        if isinstance(wanted, tuple) and len(wanted) not in ranks:
            found = ", ".join(map(str, sorted(ranks)))
            yield f"{name} {wanted} have rank {len(wanted)}, found only arrays of rank {found or 'none'}"


def _check_size(source: str, target: str, arrays: list[ArrayPlan], groups: Iterable[str]) -> None:
    """Refuse what would never end, and paths that the target cannot have."""
    tasks = sum(array.blocks.size for array in arrays)
    if tasks > limits.MOST_TASKS + len(arrays):
        worst = max(arrays, key=lambda array: array.blocks.size)
        raise PlanError(
            f"{source}: expected at most {limits.MOST_TASKS:,} tasks, found {tasks:,}, of which {worst.path} needs"
            f" {worst.blocks.size:,}; more memory makes them larger"
        )
    place, most = (
        (target.partition("://")[2], limits.LONGEST_KEY_NBYTES)
        if "://" in target
        else (os.path.abspath(target), limits.LONGEST_PATH_NBYTES)
    )
    for path in (*groups, *(array.path for array in arrays)):
        length = len(os.fsencode(place)) + len(path.encode("utf-8", "surrogateescape")) + _KEY_NBYTES
        if length > most:
            raise PlanError(f"{source}: expected paths of at most {most} bytes in {target}, found {length} for {_short(path)}")


def _short(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}…{path[-100:]}"


class _Planner:
    """One pass over a tree, parents before children."""

    def __init__(self, tree: Tree, policy: Policy, joins: Mapping[str, Join]) -> None:
        self.tree, self.policy = tree, policy
        self.netcdf = is_netcdf(tree)
        self.dims: Dimensions = dimensions(tree)
        self.groups: dict[str, dict[str, Json]] = {}
        self.arrays: list[ArrayPlan] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = list(tree.notes)
        self.choices = Choices(tree.file, policy, joins, self.notes)
        self.paths: dict[str, str] = {"/": ""}
        self.taken: dict[str, set[str]] = {}
        self.records: dict[str, dict[str, Json]] = {}
        self.bare = {node.path for nodes in self.dims.bare.values() for node in nodes}
        self.left_out = 0
        self.escaped = False
        self.spare = 0

    def run(self) -> None:
        """Plan every node that the policy selects."""
        for path, node in self.tree.nodes.items():
            if path != "/" and not isinstance(node, GroupNode) and not self.policy.selects(path):
                self.left_out += 1
                continue
            if isinstance(node, GroupNode):
                if path == "/" or self._wanted(path):
                    self._group(node)
            elif isinstance(node, TypeNode):
                self._record(parent(path)).setdefault("types", {})[self._text(_name(path))] = self._typed(node)
            elif path in self.bare:
                bare = {key: value for key, value in node.to_dict().items() if key not in ("path", "offset")}
                self._record(parent(path)).setdefault("dimensions", {})[self._text(_name(path))] = clean(bare, self._text)
            else:
                self._array(node)
        self._name_readers()
        if self.escaped:
            self._record("/")["escaped"] = True
        joined = self.choices.joined
        if joined:
            named = ", ".join(joined[:3]) + (f" and {len(joined) - 3} more" if len(joined) > 3 else "")
            few = f"more than {FEW_CHUNKS:,} chunks of less than {LEAST_KEPT_NBYTES:,} bytes"
            self.notes.append(f"{named}: {few} are joined and encoded anew, not copied; chunks='source' copies them")
        if self.left_out:
            self.notes.append(f"{self.left_out} objects left out by include and exclude")

    def _name_readers(self) -> None:
        """Say which readers the codecs shut out."""
        found = {str(c["name"]) for array in self.arrays for c in array.codecs} - PORTABLE
        if found and self.policy.zarr_format == 3:
            names = ", ".join(sorted(found))
            self.notes.append(
                f"{names}: read by zarr-python and zarrs, not by Zarr v3 readers that know only the specification's codecs"
            )

    def _wanted(self, path: str) -> bool:
        if self.policy.selects(path):
            return True
        below = path + "/"
        return bool(self.policy.include) and any(
            other.startswith(below) and self.policy.selects(other) for other in self.tree.nodes
        )

    def _place(self, path: str) -> tuple[str, dict[str, Json]]:
        """A node's path in the target, and the original name where it had to be escaped."""
        above = parent(path)
        if above not in self.paths:
            self._group(GroupNode(above))
        name = _name(path)
        shown = name.removeprefix(NON_COORDINATE) if self.netcdf else name
        taken = self.taken.setdefault(above, set())
        if shown != name and (f"{above.rstrip('/')}/{shown}" in self.dims.names or shown in taken):
            shown = name
        found = unique(escape(shown), taken)
        taken.add(found)
        self.paths[path] = f"{self.paths[above]}/{found}"
        return self.paths[path], ({} if found == name else {"name": name})

    def _record(self, path: str) -> dict[str, Json]:
        """What goes under a group's ``h5z``."""
        if path not in self.paths:
            self._group(GroupNode(path))
        place = self.paths[path]
        return cast(dict[str, Json], self.groups[place].setdefault("h5z", {}))

    def _group(self, node: GroupNode) -> None:
        place, record = ("", {}) if node.path == "/" else self._place(node.path)
        seen, exact = self._projected(node)
        record |= attribute_record(node, exact)
        if node.links:
            record["links"] = {link.name: link_record(link) for link in node.links}
            self.problems += [
                Problem(f"{node.path.rstrip('/')}/{link.name}", f"a user-defined link of class {link.target}")
                for link in node.links
                if link.kind == "user"
            ]
        if node.path == "/" and self.tree.user_block:
            record["user_block"] = self.tree.user_block
        if node.path == "/" and self.tree.creation:
            record["creation"] = self.tree.creation
        if node.order:
            record["order"] = node.order
        if "links" in node.order:
            record["children"] = list(node.children)
        self.groups[place] = self._attributes(seen, record)

    def _projected(self, node: GroupNode | ArrayNode, array: ArrayNode | None = None) -> tuple[dict[str, Json], dict[str, Json]]:
        """A node's attributes as readers see them, and what is recorded of them; references are names."""
        found = tuple(
            replace(item, value=clean(item.value, self._text)) if refers(item.dtype) else item for item in node.attributes
        )
        return project(found, netcdf=self.netcdf, zarr_format=self.policy.zarr_format, array=array)

    def _text(self, name: str) -> str:
        """A name as JSON can hold it; the root says whether any is not as it was."""
        found = json_name(name)
        self.escaped |= found != name
        return found

    def _attributes(self, seen: dict[str, Json], record: dict[str, Json]) -> dict[str, Json]:
        """A node's attributes as JSON: values as readers shall see them, names and what h5z records so that they come back."""
        out = {self._text(name): clean(value, shown) for name, value in seen.items()}
        if not record:
            return out
        exact = record.get("attributes", {})
        own = clean({name: value for name, value in record.items() if name != "attributes"}, self._text)
        if exact:
            own["attributes"] = {}
        for name, entry in exact.items():
            bare = clean({key: value for key, value in entry.items() if key != "value"}, self._text)
            own["attributes"][self._text(name)] = bare | ({"value": clean(entry["value"], shown)} if "value" in entry else {})
        return {**out, "h5z": own}

    def _typed(self, node: TypeNode) -> dict[str, Json]:
        return cast(dict[str, Json], clean({key: value for key, value in node.to_dict().items() if key != "path"}, self._text))

    def _array(self, node: ArrayNode) -> None:
        try:
            if node.chunks and len(node.chunks) != len(node.shape or ()):
                raise UnsupportedError(f"its chunks have rank {len(node.chunks)}, it has rank {len(node.shape or ())}")
            if node.chunks:
                limits.at_most(limits.MOST_CHUNKS, ChunkGrid(node.shape or (), node.chunks).size, "chunks")
            found = leaves(node.dtype, nested=self.policy.zarr_format == 3)
            for leaf in found:
                limits.at_most(
                    limits.LARGEST_ARRAY_NBYTES,
                    math.prod((node.shape or ()) + leaf.extra) * element_nbytes(node, leaf),
                    "bytes of an array",
                )
            if any(problem.path == node.path for problem in self.tree.problems):
                return
            if any(leaf.ragged for leaf in found) and node.shape is not None and 0 not in node.shape and not node.counts:
                raise UnsupportedError("its variable-length data were not measured")
        except UnsupportedError as error:
            if not any(problem.path == node.path for problem in self.tree.problems):
                self.problems.append(Problem(node.path, one_line(error)))
            return
        if len(found) == 1 and not found[0].steps:
            self._single(node, found[0])
        else:
            self._several(node, found)

    def _single(self, node: ArrayNode, leaf: Leaf) -> None:
        place, record = self._place(node.path)
        seen, exact = self._projected(node, array=node)
        record |= array_record(node) | attribute_record(node, exact)
        added = self._added(node)
        if added and not added.keys() & seen.keys():
            record["added"] = list(added)
            seen |= added
        shown = self.dims.shapes.get(node.path, node.shape or ())
        if node.shape is not None and shown != node.shape:
            record["shape"] = list(node.shape)
        attributes = self._attributes(seen, record)
        names = self._dimension_names(node) + self._phony(len(leaf.extra))
        shape = (0,) if node.shape is None else shown + leaf.extra
        names = self._phony(1) if node.shape is None else names
        self.arrays.append(self.choices.planned(node, leaf, place, shape, names, attributes))

    def _added(self, node: ArrayNode) -> dict[str, Json]:
        """Attributes in the words of those who read Zarr, for what the file says in HDF5's or netCDF's."""
        if class_of(node.dtype) == "enum" and not self.netcdf:
            members = cast(dict[str, Any], node.dtype)["members"]
            return {
                "flag_values": list(members.values()),
                "flag_meanings": " ".join(m.replace(" ", "_") for m in members),
            }
        masked = node.attribute("_FillValue")
        if masked is not None and is_string(node.dtype) and plain(node.dtype) is None and self.policy.zarr_format == 3:
            # xarray decodes no array of text that has a `_FillValue`; its other word for it does the same.
            return {"missing_value": only_value(masked)} if isinstance(only_value(masked), str) else {}
        return {}

    def _several(self, node: ArrayNode, found: list[Leaf]) -> None:
        place, record = self._place(node.path)
        seen, exact = self._projected(node)
        shape = None if node.shape is None else list(node.shape)
        record |= {"dataset": {**array_record(node), "shape": shape}} | attribute_record(node, exact)
        self.groups[place] = self._attributes(seen, record)
        names = self._dimension_names(node)
        self.choices.table(node, found)
        taken: dict[str, set[str]] = {}
        inner: dict[tuple[str, ...], str] = {(): place}
        for leaf in found:
            for depth in range(1, len(leaf.steps) + 1):
                steps = leaf.steps[:depth]
                if steps not in inner:
                    above = inner[steps[:-1]]
                    name = unique(escape(steps[-1].removeprefix(".")), taken.setdefault(above, set()))
                    taken[above].add(name)
                    inner[steps] = f"{above}/{name}"
                    if depth < len(leaf.steps):
                        self.groups[inner[steps]] = self._attributes({}, {"part": list(steps)})
            own = (sum(node.counts.get("/".join(leaf.steps), ())),) if leaf.ragged else node.shape or ()
            axes = self._phony(1) if leaf.ragged else names[: len(own)]
            attributes = self._attributes({}, {"part": list(leaf.steps)})
            full = (0,) if node.shape is None else own + leaf.extra
            axes = self._phony(1) if node.shape is None else axes + self._phony(len(leaf.extra))
            self.arrays.append(self.choices.planned(node, leaf, inner[leaf.steps], full, axes, attributes))

    def _dimension_names(self, node: ArrayNode) -> tuple[str, ...]:
        return tuple(map(self._text, self.dims.names.get(node.path, ())))

    def _phony(self, count: int) -> tuple[str, ...]:
        self.spare += count
        return tuple(f"phony_dim_e{self.spare - count + i}" for i in range(count))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
