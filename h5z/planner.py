"""Tree + Policy -> Plan."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from h5z import limits
from h5z.attributes import decode, project
from h5z.chunking import (
    FEW_CHUNKS,
    LEAST_COPIED_NBYTES,
    LEAST_KEPT_NBYTES,
    SHARD_NBYTES,
    Join,
    auto_chunks,
    fit_memory,
    lighter,
    marks,
    widen,
    zip_own,
)
from h5z.codecs import PORTABLE, Chain, default, fit, from_filters
from h5z.dimensions import NON_COORDINATE, Dimensions, dimensions, is_netcdf, parent
from h5z.dtypes import Leaf, access, class_of, is_string, leaves, plain, raw_layout
from h5z.errors import PlanError, UnsupportedError, one_line
from h5z.grid import ChunkGrid
from h5z.hdf5.direct import is_plain
from h5z.hdf5.filters import decodable
from h5z.names import escape, unique
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Problem, Shape, Tree, TypeNode
from h5z.payload import mean_nbytes
from h5z.plan import ArrayPlan, Plan, describe_numpy, numpy_dtype
from h5z.policy import Policy
from h5z.records import array_record, attribute_record, clean, json_name, link_record

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
    arrays, count = fit_memory(planner.arrays, policy, workers or os.cpu_count() or 1)
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
        self.tree, self.policy, self.joins = tree, policy, joins
        self.netcdf = is_netcdf(tree)
        self.dims: Dimensions = dimensions(tree)
        self.groups: dict[str, dict[str, Json]] = {}
        self.arrays: list[ArrayPlan] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = list(tree.notes)
        self.paths: dict[str, str] = {"/": ""}
        self.taken: dict[str, set[str]] = {}
        self.records: dict[str, dict[str, Json]] = {}
        self.bare = {node.path for nodes in self.dims.bare.values() for node in nodes}
        self.left_out = 0
        self.joined: list[str] = []
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
                self._record(parent(path)).setdefault("types", {})[json_name(_name(path))] = self._typed(node)
            elif path in self.bare:
                bare = {key: value for key, value in node.to_dict().items() if key != "path"}
                self._record(parent(path)).setdefault("dimensions", {})[_name(path)] = clean(bare)
            else:
                self._array(node)
        self._name_readers()
        if self.joined:
            named = ", ".join(self.joined[:3]) + (f" and {len(self.joined) - 3} more" if len(self.joined) > 3 else "")
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
        return self.paths[path], ({} if found == name else {"name": json_name(name)})

    def _record(self, path: str) -> dict[str, Json]:
        """What goes under a group's ``h5z``."""
        if path not in self.paths:
            self._group(GroupNode(path))
        place = self.paths[path]
        return cast(dict[str, Json], self.groups[place].setdefault("h5z", {}))

    def _group(self, node: GroupNode) -> None:
        place, record = ("", {}) if node.path == "/" else self._place(node.path)
        seen, exact = project(node.attributes, netcdf=self.netcdf, zarr_format=self.policy.zarr_format)
        record |= attribute_record(node, exact)
        if node.links:
            record["links"] = {json_name(link.name): link_record(link) for link in node.links}
            self.problems += [
                Problem(f"{node.path.rstrip('/')}/{link.name}", f"a user-defined link of class {link.target}")
                for link in node.links
                if link.kind == "user"
            ]
        if node.path == "/" and self.tree.user_block:
            record["user_block"] = self.tree.user_block
        if node.path == "/" and self.tree.creation:
            record["creation"] = self.tree.creation
        if node.path == "/" and any(json_name(name) != name for name in self._names()):
            record["escaped"] = True
        if node.order:
            record["order"] = node.order
        if "links" in node.order:
            record["children"] = [json_name(name) for name in node.children]
        self.groups[place] = clean({**seen, **({"h5z": record} if record else {})})

    def _names(self) -> Iterator[str]:
        """Every name in the file that JSON may not hold as it is."""
        for node in self.tree.nodes.values():
            yield node.path
            yield from (item.name for item in node.attributes)
            if isinstance(node, GroupNode):
                yield from (text for link in node.links for text in (link.name, link.target, link.file or ""))
            elif isinstance(node.dtype, dict):
                yield json.dumps(node.dtype, ensure_ascii=False)

    def _typed(self, node: TypeNode) -> dict[str, Json]:
        return cast(dict[str, Json], clean({key: value for key, value in node.to_dict().items() if key != "path"}))

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
                    math.prod((node.shape or ()) + leaf.extra) * _itemsize(node, leaf),
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
        seen, exact = project(node.attributes, netcdf=self.netcdf, zarr_format=self.policy.zarr_format, array=node)
        record |= array_record(node) | attribute_record(node, exact)
        added = self._added(node)
        if added and not added.keys() & seen.keys():
            record["added"] = list(added)
            seen |= added
        shown = self.dims.shapes.get(node.path, node.shape or ())
        if node.shape is not None and shown != node.shape:
            record["shape"] = list(node.shape)
        attributes = clean({**seen, **({"h5z": record} if record else {})})
        names = self.dims.names.get(node.path, ()) + self._phony(len(leaf.extra))
        shape = (0,) if node.shape is None else shown + leaf.extra
        names = self._phony(1) if node.shape is None else names
        self.arrays.append(self._planned(node, leaf, place, shape, names, attributes))

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
            return {"missing_value": _first(masked)} if isinstance(_first(masked), str) else {}
        return {}

    def _several(self, node: ArrayNode, found: list[Leaf]) -> None:
        place, record = self._place(node.path)
        seen, exact = project(node.attributes, netcdf=self.netcdf, zarr_format=self.policy.zarr_format)
        shape = None if node.shape is None else list(node.shape)
        record |= {"dataset": {**array_record(node), "shape": shape}} | attribute_record(node, exact)
        self.groups[place] = clean({**seen, "h5z": record})
        names = self.dims.names.get(node.path, ())
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
                        self.groups[inner[steps]] = clean({"h5z": {"part": list(steps)}})
            own = (sum(node.counts.get("/".join(leaf.steps), ())),) if leaf.ragged else node.shape or ()
            axes = self._phony(1) if leaf.ragged else names[: len(own)]
            attributes = cast(dict[str, Json], clean({"h5z": {"part": list(leaf.steps)}}))
            full = (0,) if node.shape is None else own + leaf.extra
            axes = self._phony(1) if node.shape is None else axes + self._phony(len(leaf.extra))
            self.arrays.append(self._planned(node, leaf, inner[leaf.steps], full, axes, attributes))

    def _phony(self, count: int) -> tuple[str, ...]:
        self.spare += count
        return tuple(f"phony_dim_e{self.spare - count + i}" for i in range(count))

    def _planned(
        self, node: ArrayNode, leaf: Leaf, place: str, shape: Shape, names: tuple[str, ...], attributes: dict[str, Json]
    ) -> ArrayPlan:
        kind = cast(Any, describe_numpy(leaf.dtype) if isinstance(leaf.dtype, np.dtype) else leaf.dtype)
        text = kind == "string" and class_of(leaf.described) == "string"
        if text and (self.policy.strings == "bytes" or (self.policy.strings == "auto" and not node.utf8)):
            kind = "bytes"
        text = isinstance(leaf.dtype, str)
        itemsize = _itemsize(node, leaf)
        join = self.joins.get(node.path)
        kept = self._kept(node, leaf, itemsize, text) if join is None or join.alike else None
        chunks, shards = (
            self._chunks(node, leaf, shape, itemsize, kept) if join is None else self._joined(node, leaf, itemsize, kept)
        )
        fill, dense = self._fill(node, leaf, text)
        own = node.chunks + leaf.extra if node.chunks and not leaf.ragged else None
        codecs = tuple(self._codecs(node, itemsize, text, kept if chunks == own or self._keeps(node) else None))
        if join is not None and join.cut is not None:
            codecs = tuple(join.cut["/".join(leaf.steps)]["codecs"])
        route = _route(node, leaf, own == chunks and not shards and (join is None or join.aligned(own)))
        if route == "recode" and kept == list(codecs) and not dense and _same_bytes(node, leaf, kind):
            route = "copy"
        route = self._routed(node, route)
        step = (shards or chunks)[0] if leaf.ragged else 0
        counts = node.counts.get("/".join(leaf.steps), [])
        return ArrayPlan(
            path=place,
            source=node.path,
            described=leaf.described,
            dtype=kind,
            shape=shape,
            source_shape=node.shape or (),
            chunks=chunks,
            block=shards or chunks,
            route=route,
            shards=shards,
            steps=leaf.steps,
            extra=leaf.extra,
            ragged=leaf.ragged,
            codecs=codecs,
            fill=fill,
            dense=dense,
            names=names,
            attributes=attributes,
            marks=marks(counts, step) if leaf.ragged else (),
            source_chunks=node.chunks,
            source_nbytes=node.storage_nbytes,
            payload=node.payload,
            whole=node.dtype if node.dtype != leaf.described else None,
            axis=None if join is None else join.axis,
            kept=0 if join is None else join.start,
        )

    def _routed(self, node: ArrayNode, found: str) -> str:
        """The route that the policy names, where it can serve in place of the one found."""
        wanted = self.policy.pick("route", node.path)
        serves = {"copy": ("copy", "recode", "regrid"), "recode": ("recode", "regrid"), "regrid": ("regrid", "staged")}
        if wanted in ("auto", found) or (found == "regrid" and wanted == "staged"):
            return found
        if wanted == "library" or wanted in serves.get(found, ()):
            return str(wanted)
        if self.policy.named("route", node.path):
            raise PlanError(
                f"{self.tree.file}: {node.path} cannot take the route {wanted!r}: its chunks and codecs allow {found!r}"
            )
        return found

    def _keeps(self, node: ArrayNode) -> bool:
        return bool(self.policy.pick("codec", node.path) == "keep")

    def _keepable(self, node: ArrayNode, own: Shape, itemsize: int) -> bool:
        """Whether ``codec="keep"`` keeps chunks that are smaller than is good for a store: unless they are many, and tiny."""
        count, size = ChunkGrid(node.shape or (), own).size, math.prod(own) * itemsize
        tiny = size < LEAST_KEPT_NBYTES and count > FEW_CHUNKS
        if self._keeps(node) and tiny:
            self.joined.append(node.path)
        return self._keeps(node) and not tiny

    def _kept(self, node: ArrayNode, leaf: Leaf, itemsize: int, text: bool) -> Chain | None:
        """The source's own compression as Zarr codecs, where the policy wants it and Zarr has it.

        ``"keep"`` wants it always, ``"auto"`` where every Zarr v3 reader knows it.
        """
        wanted = self.policy.pick("codec", node.path)
        chain = from_filters(node.filters, itemsize) if wanted in ("keep", "auto") and not text and not leaf.ragged else None
        if chain and (leaf.steps or raw_layout(leaf.described).itemsize != itemsize):  # of other bytes than the file's
            chain = [_of_elements(codec, itemsize) for codec in chain]
        portable = chain and all(codec["name"] in PORTABLE for codec in chain)
        return chain if chain is not None and (wanted == "keep" or portable) else None

    def _codecs(self, node: ArrayNode, itemsize: int, text: bool, kept: Chain | None) -> Chain:
        if kept is not None:
            return kept
        codec = self.policy.pick("codec", node.path)
        return default(itemsize, text=text) if codec in ("keep", "auto") else fit(codec, itemsize)

    def _chunks(self, node: ArrayNode, leaf: Leaf, shape: Shape, itemsize: int, kept: Chain | None) -> tuple[Shape, Shape | None]:
        wanted = self.policy.pick("chunks", node.path)
        rank = len(node.shape or ())
        if isinstance(wanted, tuple) and len(wanted) != rank and not leaf.ragged:
            if self.policy.named("chunks", node.path):
                raise PlanError(f"{self.tree.file}: {node.path} has rank {rank}, found chunks {wanted} for it")
            wanted = "auto"
        own = node.chunks if node.chunks and not leaf.ragged else None
        if isinstance(wanted, tuple) and not leaf.ragged:
            chunks = wanted + leaf.extra
        elif own and (wanted == "source" or (kept is not None and (_served(node, own) or self._keepable(node, own, itemsize)))):
            chunks = own + leaf.extra
        else:
            chunks = auto_chunks(node, own + leaf.extra if own else None, shape, itemsize)
            if not leaf.ragged and node.payload:
                chunks = lighter(chunks, node)
        chunks = tuple(max(1, min(c, n)) if not own or c != o else c for c, n, o in zip_own(chunks, shape, own))
        return chunks, self._shards(node, leaf, chunks, shape, itemsize)

    def _joined(self, node: ArrayNode, leaf: Leaf, itemsize: int, kept: Chain | None) -> tuple[Shape, Shape | None]:
        """Chunks and shards of an array that is joined of several files, and of more that may come."""
        join = self.joins[node.path]
        if join.cut is not None:
            cut = join.cut["/".join(leaf.steps)]
            return tuple(cut["chunks"]), tuple(cut["shards"]) if cut["shards"] else None
        prospect = join.prospect(node)
        chunks, shards = self._chunks(prospect, leaf, (prospect.shape or ()) + leaf.extra, itemsize, kept)
        own = node.chunks + leaf.extra if node.chunks else None
        if self.policy.pick("chunks", node.path) == "auto" and shards is None and not (kept is not None and chunks == own):
            chunks = join.fit(chunks, own)
        return chunks, shards

    def _shards(self, node: ArrayNode, leaf: Leaf, chunks: Shape, shape: Shape, itemsize: int) -> Shape | None:
        wanted = self.policy.pick("shards", node.path) if self.policy.shards is not None else None
        if wanted is None or not shape:
            return None
        if not isinstance(leaf.dtype, str) and leaf.dtype.names:
            self.notes.append(f"{node.path}: a compound is not sharded: zarr-python cannot read shards of structured values")
            return None
        if wanted == "auto":
            found = widen(chunks, shape, SHARD_NBYTES // itemsize)
            return found if found != chunks else None
        if len(wanted) != len(chunks):
            if self.policy.named("shards", node.path):
                raise PlanError(f"{self.tree.file}: {node.path} has rank {len(shape)}, found shards {wanted} for it")
            return None
        if any(s % c for s, c in zip(wanted, chunks, strict=True)):
            if not self.policy.named("shards", node.path) and all(n <= s for n, s in zip(shape, wanted, strict=True)):
                return None  # the whole array is smaller than a shard
            raise PlanError(f"{self.tree.file}: {node.path}: shards {wanted} are no multiple of its chunks {chunks}")
        return cast(Shape, wanted)

    def _fill(self, node: ArrayNode, leaf: Leaf, text: bool) -> tuple[Json, bool]:
        """The target's fill value, and whether all chunks must be stored because it cannot stand for HDF5's."""
        value = node.fill.get("value") if isinstance(node.fill, dict) else None
        whole = not leaf.steps and not leaf.extra
        if text or not whole or (isinstance(value, list) and class_of(leaf.described) not in ("complex", "compound")):
            usable = whole and text and isinstance(value, str) and (value or self.policy.zarr_format == 3)
            return (value, False) if usable else (None, bool(value))
        if self.policy.zarr_format == 3:
            return value, False
        if (isinstance(value, str) and value.startswith("0x")) or cast("np.dtype[Any]", leaf.dtype).names:
            return None, True  # what format 2 has no fill value for, and zarr-python no zero
        shown = node.attribute("_FillValue")
        if shown is not None and _fits(shown, leaf.described):
            return _first(shown), _first(shown) != value
        return None, value is not None and _bits(decode(value, leaf.described)) != _bits(decode_zero(leaf.described))


def _itemsize(node: ArrayNode, leaf: Leaf) -> int:
    """Bytes of an element; where they vary, their mean."""
    return mean_nbytes(node.payload) if isinstance(leaf.dtype, str) else leaf.dtype.itemsize


def _of_elements(codec: dict[str, Any], itemsize: int) -> dict[str, Any]:
    """A codec for elements of another size: HDF5's shuffle counts the file's bytes of an element, padding included."""
    config = codec["configuration"]
    return {**codec, "configuration": {**config, "elementsize": itemsize}} if "elementsize" in config else codec


def _served(node: ArrayNode, own: Shape) -> bool:
    """Whether the source's own chunks make objects of a fair size, so that they may cross unchanged."""
    count = ChunkGrid(node.shape or (), own).size
    return count == 1 or node.storage_nbytes // max(count, 1) >= LEAST_COPIED_NBYTES


def _route(node: ArrayNode, leaf: Leaf, same_grid: bool) -> str:
    readable = is_plain(node.dtype) and decodable(node.filters) and node.layout in ("chunked", "contiguous", "compact")
    if not readable or leaf.ragged:
        return "library"
    return "recode" if same_grid else "regrid"


def _same_bytes(node: ArrayNode, leaf: Leaf, kind: Any) -> bool:
    """Whether an element's bytes in the file are those that Zarr stores."""
    if leaf.steps or class_of(leaf.described) == "bool" or kind in ("string", "bytes"):
        return False
    return raw_layout(leaf.described) == numpy_dtype(kind)


def _bits(value: Any) -> bytes:
    return np.asarray(value).tobytes()


def decode_zero(dtype: Datatype) -> Any:
    """The zero of a fixed-size datatype."""
    return np.zeros((), plain(dtype, raw=access(dtype) == "raw"))[()]


def _first(attribute: Attribute) -> Json:
    value = attribute.value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fits(attribute: Attribute, dtype: Datatype) -> bool:
    """Whether an attribute is one value of an array's own kind."""
    value, kinds = _first(attribute), {class_of(attribute.dtype), class_of(dtype)}
    if value is None or isinstance(value, list) or (len(kinds) > 1 and not kinds <= {"number", "bool", "enum"}):
        return False
    try:
        decode(value, dtype)
    except (ValueError, TypeError, KeyError, OverflowError):
        return False
    return True


def _name(path: str) -> str:
    return path.rpartition("/")[2]
