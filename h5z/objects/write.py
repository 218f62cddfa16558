"""Leaves and branches -> metadata documents and chunks at a place where nothing is yet."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from h5z.arrayplan import BLOCK_NBYTES, ArrayPlan
from h5z.chunking import STORED_NBYTES, widen
from h5z.codecs import Chain, default, fit
from h5z.columns import MIB
from h5z.documents import array_document, dump
from h5z.errors import PlanError
from h5z.grid import Region, grow
from h5z.nodes import Json, Shape
from h5z.objects.elements import Stored
from h5z.objects.nodes import MARK, Leaf, Node
from h5z.plan import BATCH_PIECES
from h5z.policy import Policy
from h5z.scheduling import Job, run
from h5z.target import Target
from h5z.units import TargetArray

_SMALL_NBYTES = 1 << 10  # no codec makes anything of less
_LARGEST_CHUNK = 64 * MIB  # of a dask array, that is taken as it is

Documents = dict[str, dict[str, Json]]


@dataclass(frozen=True)
class Made:
    """What is to be written of one object tree: every node's document, and the arrays.

    Attributes
    ----------
    documents : dict
        By path below the object's own node, whose path is ``""``; parents before children.
    """

    documents: Documents
    arrays: list[tuple[ArrayPlan, Leaf]]


def make(nodes: Sequence[tuple[str, Node]], policy: Policy, key: dict[str, Json], *, consolidate: bool) -> Made:
    """Fix every document.

    Parameters
    ----------
    nodes : sequence of (path, Leaf or Branch)
        What `encode` found.
    key : dict
        What the mark of the object's own node says of its key.

    Raises
    ------
    PlanError
        If the policy does not fit: a chunk shape of another rank, a pattern that matches nothing.
    """
    _check(nodes, policy)
    documents: Documents = {}
    arrays = []
    number = uuid.uuid4().hex[:16]  # by which a reader tells this save's nodes from what was or will be in their places
    for path, node in nodes:
        own = {**node.mark, **(key if path == "" else {}), "save": number}
        attributes = {**node.attributes, "h5z": {MARK: own}}
        if isinstance(node, Leaf):
            plan = _planned(path, node, policy, attributes)
            documents[path] = {"zarr_format": 3, **array_document(plan, 3)}
            arrays.append((plan, node))
        else:
            documents[path] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    _consolidate(nodes, documents, consolidate)
    return Made(documents, arrays)


def _consolidate(nodes: Sequence[tuple[str, Node]], documents: Documents, whole: bool) -> None:
    """Copy the metadata of what lies below into the documents of tables and datasets, and of all where the user wishes it."""
    plain = dict(documents)
    order = list(documents)
    for i, (path, node) in enumerate(nodes):
        if isinstance(node, Leaf) or not (node.labelled or (whole and path == "")):
            continue
        inner = {}
        for other in order[i + 1 :]:
            if not other.startswith(path + "/"):
                break
            inner[other[len(path) + 1 :]] = plain[other]
        documents[path] = consolidated(documents[path], inner)


def consolidated(document: dict[str, Json], inner: Documents) -> dict[str, Json]:
    """A group's document with a copy of those below it."""
    return {**document, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": inner}}


def _check(nodes: Sequence[tuple[str, Node]], policy: Policy) -> None:
    for unmatched in policy.unmatched_patterns(path or "/" for path, _ in nodes):
        raise PlanError(unmatched)
    for name in ("chunks", "shards"):
        wanted = getattr(policy, name)
        ranks = {node.values.ndim for _, node in nodes if isinstance(node, Leaf)}
        if isinstance(wanted, tuple) and len(wanted) not in ranks:
            raise PlanError(f"{name}: {wanted} have rank {len(wanted)}, found only arrays of rank {sorted(ranks) or 'none'}")


def _planned(path: str, leaf: Leaf, policy: Policy, attributes: dict[str, Json]) -> ArrayPlan:
    name = path.rpartition("/")[2] or "values"
    rank, shape = leaf.values.ndim, leaf.shape
    names = leaf.dims if leaf.dims is not None else tuple(f"{name}_dim{i}" for i in range(rank))
    names += tuple(f"{name}%{i}" for i in range(len(leaf.stored.extra)))
    bare = ArrayPlan(path, "", "", leaf.stored.planned, shape, (), shape, shape, "regrid", names=names, attributes=attributes)
    chunks, shards = _cut(path or "/", leaf, policy, bare.itemsize)
    codecs = _codecs(policy.pick("codec", path or "/"), bare)
    block = grow(shards or chunks, shape, BLOCK_NBYTES // bare.itemsize)
    return replace(bare, chunks=chunks, shards=shards, block=block, codecs=tuple(codecs))


def _codecs(wanted: Any, array: ArrayPlan) -> Chain:
    if wanted in ("auto", "keep"):
        return [] if array.nbytes <= _SMALL_NBYTES else default(array.itemsize, text=array.is_text)
    return fit(wanted, 1 if array.is_text else array.itemsize)


def _cut(path: str, leaf: Leaf, policy: Policy, itemsize: int) -> tuple[Shape, Shape | None]:
    """Chunks, and shards where the policy wants them."""
    out: list[Any] = []
    for name in ("chunks", "shards"):
        wanted = policy.pick(name, path)
        if isinstance(wanted, tuple) and len(wanted) != leaf.values.ndim:
            if policy.named(name, path):
                raise PlanError(f"{name}: {path} has rank {leaf.values.ndim}, found {wanted} for it")
            wanted = "auto" if name == "chunks" else None
        out.append((*wanted, *(max(1, n) for n in leaf.stored.extra)) if isinstance(wanted, tuple) else wanted)
    chunks, shards = out
    cut = chunks if isinstance(chunks, tuple) else _auto(leaf, itemsize)
    if shards is None or not leaf.shape:
        return cut, None
    if not isinstance(shards, tuple):
        shards = grow(cut, leaf.shape, 64 * MIB // itemsize)
    if any(s % c for s, c in zip(shards, cut, strict=True)):
        raise PlanError(f"shards: expected a multiple of the chunks {cut} of {path}, found {shards}")
    return cut, shards


def _auto(leaf: Leaf, itemsize: int) -> Shape:
    """Whole where it is small; a dask array's own blocks where those are regular and of a good size; else of a few MiB."""
    shape = leaf.shape
    if 0 in shape or not shape:
        return tuple(1 if n == 0 else n for n in shape)
    limit = max(1, STORED_NBYTES // itemsize)
    blocks = getattr(leaf.values, "chunks", None)
    if blocks is None:
        return shape if math.prod(shape) <= limit else grow((1,) * len(shape), shape, limit)
    regular = all(len(set(axis[:-1])) <= 1 and axis[-1] <= axis[0] for axis in blocks)
    own = (*(axis[0] for axis in blocks), *leaf.stored.extra)
    if not regular or math.prod(own) * itemsize > _LARGEST_CHUNK:
        return grow((1,) * len(shape), shape, limit)
    return tuple(min(c, n) for c, n in zip(widen(own, shape, limit // 4), shape, strict=True))


def write_documents(target: Target, place: str, documents: Documents) -> None:
    """Write metadata documents below a place in a target, an object's own last: it does not open before all is there."""
    below = {f"{place}{path}/zarr.json".lstrip("/"): dump(document) for path, document in documents.items() if path}
    target.put(below)
    target.put({f"{place}/zarr.json".lstrip("/"): dump(documents[""])})


def write_arrays(target: Target, place: str, made: Made, *, workers: int | None = None, scheduler: Any = None) -> None:
    """Write every chunk: arrays in memory by threads here, dask arrays on dask's scheduler, block by block."""
    placed = [(replace(plan, path=place + plan.path), leaf) for plan, leaf in made.arrays]
    here = [pair for pair in placed if not _is_lazy(pair[1])]
    run(_jobs(target, here), "threads", workers or os.cpu_count() or 1, lambda nbytes: None)
    lazy = [pair for pair in placed if _is_lazy(pair[1])]
    if lazy:
        _store(target, lazy, scheduler)


def _is_lazy(leaf: Leaf) -> bool:
    return hasattr(leaf.values, "dask")


def _jobs(target: Target, arrays: Sequence[tuple[ArrayPlan, Leaf]]) -> Iterator[Job]:
    waiting: list[tuple[TargetArray, LeafSource, Region]] = []
    weight = 0
    for plan, leaf in arrays:
        written = TargetArray(target, replace(plan, attributes={}), 3)
        source = LeafSource(leaf)
        for index in plan.blocks.indices():
            region = plan.blocks.region(index)
            waiting.append((written, source, region))
            weight += math.prod(s.stop - s.start for s in region) * plan.itemsize
            if weight >= BLOCK_NBYTES or len(waiting) >= BATCH_PIECES:
                yield _write, (waiting,), weight
                waiting, weight = [], 0
    if waiting:
        yield _write, (waiting,), weight


def _write(pieces: list[tuple[TargetArray, LeafSource, Region]]) -> None:
    for written, source, region in pieces:
        written.regrid(source, region)


@dataclass(frozen=True)
class LeafSource:
    """An array in memory, read in the form in which it is stored."""

    leaf: Leaf

    def read(self, region: Region) -> Any:
        """Read a region of the stored array."""
        rank = self.leaf.values.ndim
        return self.leaf.stored.put(self.leaf.values[(*region[:rank], ...)])


@dataclass(frozen=True)
class Sink:
    """What the blocks of a dask array are assigned to."""

    written: TargetArray
    stored: Stored

    def __setitem__(self, region: tuple[slice, ...], block: Any) -> None:
        """Write a block of whole units."""
        if isinstance(block, np.ma.MaskedArray):
            raise PlanError(f"{self.written.plan.path}: expected a dask array of plain blocks, found masked ones")
        values = self.stored.put(np.asarray(block))
        self.written.write((*region, *(slice(0, n) for n in self.stored.extra)), values)


def _store(target: Target, arrays: Sequence[tuple[ArrayPlan, Leaf]], scheduler: Any) -> None:
    """Stream dask arrays, all in one graph, so that what they share is computed once."""
    import dask.array as da

    sources, sinks = [], []
    for plan, leaf in arrays:
        values = leaf.values
        unit = plan.unit[: values.ndim]
        if not _aligned(values.chunks, unit):
            values = values.rechunk(plan.block[: values.ndim])
        sources.append(values)
        sinks.append(Sink(TargetArray(target, replace(plan, attributes={}), 3), leaf.stored))
    keywords = {} if scheduler is None else {"scheduler": scheduler}
    da.store(sources, cast(Any, sinks), lock=False, **keywords)


def _aligned(blocks: tuple[tuple[int, ...], ...], unit: Shape) -> bool:
    """Whether each block is whole units: no two tasks then write into one.

    >>> _aligned(((4, 4, 1),), (2,)), _aligned(((3, 3),), (2,))
    (True, False)
    """
    return all(size % step == 0 for axis, step in zip(blocks, unit, strict=True) for size in axis[:-1])
