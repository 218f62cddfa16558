"""Plan: every chunk, shard, codec and route, fixed before the first byte is read; pure data, JSON."""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from h5z.attributes import decode
from h5z.dtypes import Leaf
from h5z.grid import ChunkGrid, Region, grow, intersect, region_shape
from h5z.nodes import Datatype, Json, Problem, Record, Shape
from h5z.payload import block_nbytes, heaviest, mean_nbytes
from h5z.pictures import Layout, Passage, route_map
from h5z.policy import RUNNING, Policy
from h5z.records import json_name
from h5z.report import size, table_html, table_text

FORMAT = 1
MIB = 1 << 20
BLOCK_NBYTES = 32 * MIB  # what a task reads and writes, where memory allows
PICTURES = 6  # of the largest arrays, in a notebook
BATCH_PIECES = 256  # of small arrays in one task
HEAP_NBYTES = 16  # of a variable-length element where the dataset itself lies, and of what points to it in memory


@dataclass(frozen=True)
class ArrayPlan(Record):
    """What becomes of one array: where it comes from, its Zarr metadata, and how its units are written.

    Attributes
    ----------
    path, source : str
        Its path in the target, and its dataset's in the source.
    steps, described, extra, ragged :
        The leaf of the dataset that it carries (`h5z.dtypes.Leaf`); `whole` is the dataset's own datatype, where another.
    dtype : str or list
        numpy's type string, or field list; ``string`` or ``bytes`` for variable-length elements.
    source_shape : tuple of int
        The dataset's own shape.
    fill : JSON
        The fill value, encoded as `h5z.attributes` encodes it; None for the type's zero.
    dense : bool
        Whether chunks that hold only fill values are written too.
    block : tuple of int
        Shape of what one task writes: a multiple of the write unit.
    stage : tuple of int, optional
        On the staged route, the shape of what one task reads: a multiple of the source's chunks.
    reads : float
        How often the route decodes each of the source's chunks, on average.
    marks : tuple
        Of a ragged array: per write unit, the row that holds its first element and that row's first element.
    payload : tuple
        Of variable-length data, as `ArrayNode.payload`: how many elements of the dataset, their bytes, those of the largest.
    axis : int, optional
        Of an array that is joined of several files: the axis along which they follow each other.
    kept : int
        How much of that axis the target has already.
    """

    path: str
    source: str
    described: Datatype
    dtype: Any
    shape: Shape
    source_shape: Shape
    chunks: Shape
    block: Shape
    route: str
    shards: Shape | None = None
    steps: tuple[str, ...] = ()
    extra: Shape = ()
    ragged: bool = False
    codecs: tuple[dict[str, Any], ...] = ()
    fill: Json = None
    dense: bool = False
    names: tuple[str, ...] = ()
    attributes: dict[str, Json] = field(default_factory=dict)
    marks: tuple[tuple[int, int], ...] = ()
    source_chunks: Shape | None = None
    source_nbytes: int = 0
    whole: Datatype | None = None
    stage: Shape | None = None
    reads: float = 1.0
    payload: tuple[tuple[int, int, int], ...] = ()
    axis: int | None = None
    kept: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArrayPlan:
        """Build the array plan that `to_dict` described."""
        out = dict(data)
        for name in ("shape", "source_shape", "chunks", "block", "shards", "extra", "source_chunks", "stage"):
            if out.get(name) is not None:
                out[name] = tuple(out[name])
        for name in ("steps", "codecs", "names"):
            out[name] = tuple(out.get(name, ()))
        for name in ("marks", "payload"):
            out[name] = tuple(tuple(item) for item in out.get(name, ()))
        return cls(**out)

    @property
    def unit(self) -> Shape:
        """The write unit: the shard, or the chunk where there is none."""
        return self.shards or self.chunks

    @property
    def units(self) -> ChunkGrid:
        """The grid of write units."""
        return ChunkGrid(self.shape, self.unit)

    @property
    def separator(self) -> str:
        """What stands between the numbers of a unit's key in Zarr format 3: no folders for an array of one unit, for good."""
        return "/" if self.units.size > 1 or self.axis is not None else "."

    @property
    def blocks(self) -> ChunkGrid:
        """The grid of blocks, each the work of one task."""
        return ChunkGrid(self.shape, self.block)

    def cells(self, cell: Shape) -> Iterator[Region]:
        """The regions that a grid of cells cuts of what is to be written: of an array that grows, from its last whole unit on."""
        grid = ChunkGrid(self.shape, cell)
        if self.axis is None or not self.kept:
            return map(grid.region, grid.indices())
        first = self.kept // self.unit[self.axis] * self.unit[self.axis]
        new = tuple(slice(first if axis == self.axis else 0, n) for axis, n in enumerate(self.shape))
        return (intersect(grid.region(index), new) for index in grid.overlapping(new))

    @property
    def own(self) -> Shape | None:
        """The source's chunk as a cell of this array; None where it is not cut by those."""
        if not self.source_chunks or not self.source_shape or self.ragged:
            return None
        return self.source_chunks + self.extra

    @cached_property
    def witness(self) -> Shape:
        """What verification reads of the source at once: whole chunks of it, about as much as a task writes at once."""
        at_once = self.unit if self.streamed else self.block
        return grow(self.own, self.shape, math.prod(at_once)) if self.own and not self.payload else at_once

    @property
    def streamed(self) -> bool:
        """Whether a task holds one write unit at a time, however large its block."""
        return self.route in ("copy", "recode") and not self.steps

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory; where they vary, their mean as it was measured, or what is assumed."""
        return mean_nbytes(self.payload) if self.is_text else numpy_dtype(self.dtype).itemsize

    @property
    def is_text(self) -> bool:
        """Whether elements are of variable length: text or bytes."""
        return self.dtype in ("string", "bytes")

    @property
    def kind(self) -> str:
        """The data type in a word."""
        return self.dtype if isinstance(self.dtype, str) else "struct"

    @property
    def codec_names(self) -> str:
        """The codecs in a word."""
        return "+".join(str(codec["name"]) for codec in self.codecs) or "none"

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the array, but for what its target has already."""
        shape = (n - self.kept if axis == self.axis else n for axis, n in enumerate(self.shape))
        return math.prod(shape) * self.itemsize

    def leaf(self) -> Leaf:
        """The leaf of the dataset that this array carries."""
        dtype = self.dtype if self.is_text else numpy_dtype(self.dtype)
        return Leaf(self.steps, dtype, self.extra, self.ragged, self.described)

    def fill_scalar(self) -> Any:
        """The fill value as the dtype's scalar, or None for its zero."""
        if self.fill is None or self.is_text:
            return self.fill
        return decode(self.fill, self.described).astype(numpy_dtype(self.dtype))


def numpy_dtype(description: Any) -> np.dtype[Any]:
    """Numpy's dtype of a plan's JSON.

    >>> numpy_dtype([["a", "<i4"], ["b", [["c", "<f8"]]]])
    dtype([('a', '<i4'), ('b', [('c', '<f8')])])
    """
    if isinstance(description, str):
        return np.dtype(description)
    return np.dtype([(name, numpy_dtype(inner)) for name, inner in description])


def describe_numpy(dtype: np.dtype[Any]) -> Any:
    """A numpy dtype as a plan's JSON."""
    if dtype.names:  # Zarr v3 says no byte order for members
        return [[json_name(name), describe_numpy(dtype[name].newbyteorder("<"))] for name in dtype.names]
    return dtype.str


@dataclass(frozen=True)
class Piece:
    """A region of an array, whole write units; the array by its number in the plan."""

    array: int
    region: Region


@dataclass(frozen=True)
class Task:
    """What one task does: one block of a large array, or many small arrays; or, staging, one block of the source."""

    number: int
    pieces: tuple[Piece, ...]
    staging: bool = False


def located(file: str) -> str:
    """A file's name from wherever one looks: its absolute path, or its URL."""
    return file if "://" in file else os.path.abspath(file)


@dataclass(frozen=True)
class Part(Record):
    """A file of several that are joined along a dimension.

    Attributes
    ----------
    length : int
        How much of the dimension it holds.
    shapes : dict
        Of arrays that hold less of it than netCDF-4 shows: what is stored, by path.
    shifts : dict
        Of times counted from another date, or in other units, than in the first file: `h5z.epochs.Shift`, by path.
    """

    file: str
    size: int
    mtime_ns: int
    digest: str
    length: int
    shapes: dict[str, list[int]] = field(default_factory=dict)
    shifts: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Part:
        """Build the part that `to_dict` described."""
        return cls(**data)

    @property
    def name(self) -> str:
        """What tells it from others, which may have the same name in another folder."""
        return located(self.file)

    def identity(self) -> list[Any]:
        """What a target records of it."""
        return [json_name(self.name), self.size, self.mtime_ns, self.digest, self.length]


@dataclass(frozen=True)
class Plan(Record):
    """What a migration will do. Prints as a table, shows as HTML in a notebook, travels as JSON.

    Attributes
    ----------
    place : zarr Store or Target, optional
        The target itself, where its name does not say all; it stays behind when the plan becomes JSON.
    access : dict, optional
        Credentials that the source's URL carried, as storage options; neither shown nor written.
    digest : str
        Of the source's header and of where its data lie (`h5z.hdf5.identity`).
    dim, parts : str, tuple of Part
        Of a target that is joined of several files: the dimension along which, and those that this run adds, in order.
    schema : dict
        What those files have in common (`h5z.join`).
    adds_dim : bool
        Whether those files lack the dimension: each is one step along it (`h5z.promotion`).
    before : tuple
        What the target that grows records of the files that it holds (`Part.identity`).
    base : dict
        Of an array that grows, by path: checksum and digest of the units that stay as they are (`h5z.growth`).
    """

    source: str
    target: str
    size: int
    mtime_ns: int
    policy: Policy
    groups: dict[str, dict[str, Json]]
    arrays: tuple[ArrayPlan, ...]
    not_carried: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    workers: int = 1
    place: Any = field(default=None, repr=False)
    access: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    digest: str = ""
    dim: str = ""
    parts: tuple[Part, ...] = ()
    schema: dict[str, dict[str, Json]] = field(default_factory=dict)
    adds_dim: bool = False
    before: tuple[list[Any], ...] = ()
    base: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Build the plan that `to_dict` described."""
        arrays = tuple(map(ArrayPlan.from_dict, data["arrays"]))
        problems = tuple(map(Problem.from_dict, data.get("not_carried", ())))
        known = {item.name for item in fields(cls)}
        rest = {key: value for key, value in data.items() if key in known}
        notes = tuple(data.get("notes", ()))
        policy = Policy.from_dict(data["policy"])
        parts, before = tuple(map(Part.from_dict, data.get("parts", ()))), tuple(data.get("before", ()))
        told = {"policy": policy, "arrays": arrays, "not_carried": problems, "notes": notes, "parts": parts, "before": before}
        return cls(**{**rest, **told})

    @cached_property
    def fingerprint(self) -> str:
        """What tells whether a target is of this same migration: a hash of source identity, policy and metadata."""
        what = self.to_dict()
        for name in ("target", "workers", "base"):
            what.pop(name, None)
        for part in what.get("parts", ()):
            part["file"] = os.path.basename(part["file"])
        for name in RUNNING:
            what["policy"].pop(name, None)
        what["source"] = os.path.basename(self.source)
        for array in what["arrays"]:
            for name in ("block", "stage", "reads", "route", "payload"):
                array.pop(name, None)
        text = json.dumps({"format": FORMAT, **what}, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def nbytes(self) -> int:
        """Decoded bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def grows(self) -> bool:
        """Whether it adds to a finished target, in place."""
        return bool(self.before)

    @property
    def subject(self) -> str:
        """The source, for messages; of several files the first."""
        return self.source if len(self.parts) < 2 else f"{self.source} and {len(self.parts) - 1} more"

    @property
    def identities(self) -> list[tuple[str, int, int, str]]:
        """Name, size, time and digest of every source."""
        if not self.parts:
            return [(self.source, self.size, self.mtime_ns, self.digest)]
        return [(part.file, part.size, part.mtime_ns, part.digest) for part in self.parts]

    @property
    def objects(self) -> int:
        """Stored objects at most: write units, and a metadata document for each node."""
        return sum(array.units.size for array in self.arrays) + len(self.arrays) + len(self.groups)

    @property
    def peak_nbytes(self) -> int:
        """Bytes that the run takes at most, beside the interpreter's base: the largest task of each worker."""
        blocks = ((array, block) for array in self.arrays for block in (array.block, array.stage or array.block, array.witness))
        return self.workers * max((task_nbytes(array, block) for array, block in blocks), default=0)

    def tasks(self) -> Iterator[Task]:
        """The plan's work in tasks, the same for the same plan: staging first; large arrays by block, small ones together."""
        waiting: list[Piece] = []
        number = weight = 0
        for i, array in enumerate(self.arrays):
            if array.stage is not None:
                for region in array.cells(array.stage):
                    yield Task(number, (Piece(i, region),), staging=True)
                    number += 1
        for i, array in enumerate(self.arrays):
            for region in array.cells(array.block):
                size = math.prod(region_shape(region)) * array.itemsize
                if waiting and (weight + size > BLOCK_NBYTES or len(waiting) >= BATCH_PIECES):
                    yield Task(number, tuple(waiting))
                    number, waiting, weight = number + 1, [], 0
                waiting.append(Piece(i, region))
                weight += size
        if waiting:
            yield Task(number, tuple(waiting))

    def rows(self) -> list[tuple[str, ...]]:
        """The plan as a table, the first row its head."""
        rows: list[tuple[str, ...]] = [
            ("array", "shape", "dtype", "chunks", "shards", "codecs", "route", "reads", "units", "size")
        ]
        for array in self.arrays:
            cut = [_times(array.chunks), _times(array.shards) if array.shards else ""]
            amounts = [f"{array.reads:.3g}", str(array.units.size), size(array.nbytes)]
            rows.append((array.path, _times(array.shape), array.kind, *cut, array.codec_names, array.route, *amounts))
        return rows

    def summary(self) -> str:
        """The plan in one line."""
        what = f"{len(self.arrays)} arrays, {len(self.groups)} groups, {size(self.nbytes)} decoded"
        reads = size(int(sum(array.source_nbytes * array.reads for array in self.arrays)))
        cost = f"reads {reads}, at most {self.objects} objects, {self.workers} workers, peak {size(self.peak_nbytes)}"
        return f"{self.source} -> {self.target}: {what}, {cost} beside the interpreter's base"

    def __str__(self) -> str:
        """The plan as a table, with what is not carried over and a summary."""
        left = [f"not carried over: {problem.path}: {problem.reason}" for problem in self.not_carried]
        return "\n".join([table_text(self.rows()), *left, *self.notes, self.summary()])

    def layouts(self) -> list[Layout]:
        """How each array is cut, in its file and in Zarr, the largest first."""
        found = (Layout(a.path, a.shape, a.kind, a.own, a.chunks, a.shards, a.codec_names, a.nbytes) for a in self.arrays)
        return sorted(found, key=lambda layout: (-layout.nbytes, layout.path))

    def route_map(self) -> str:
        """The way of each array's bytes as SVG: from arrays by their routes to codecs."""
        return route_map(Passage(a.path, a.route, a.codec_names, a.nbytes) for a in self.arrays)

    def _repr_html_(self) -> str:
        left = "".join(f"<li>{html.escape(f'{p.path}: {p.reason}')}</li>" for p in self.not_carried)
        named = f"<p>Not carried over:</p><ul>{left}</ul>" if left else ""
        cut = [layout for layout in self.layouts() if layout.is_cut][:PICTURES]
        pictures = "".join(layout.figure() for layout in cut)
        key = "<p>Dashed red: the source's chunks. Blue: the target's, the first of them filled.</p>" if pictures else ""
        routes = self.route_map() if len(self.arrays) > 1 else ""
        return f"<p>{html.escape(self.summary())}</p>{table_html(self.rows())}{named}{routes}{pictures}{key}"


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def task_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes that a task holds for a block at most: what it reads, what it writes, and one unit encoded.

    HDF5 decodes whole source chunks, so that those at the block's edges count too.
    """
    unit = _held_nbytes(array, array.unit)
    inside = unit if array.streamed else _held_nbytes(array, block)
    rank = len(array.source_shape)
    held = 3  # of a source chunk at once while it is decoded: stored, inflated, unshuffled
    itemsize = HEAP_NBYTES if array.payload else array.itemsize
    chunk = held * math.prod(array.source_chunks) * itemsize if array.source_chunks and rank else 0
    factor = 4 if array.is_text or array.steps else 2
    if array.is_text and array.payload:
        factor = 10  # as libhdf5 has it, as bytes, as text, encoded; and verified, as zarr has it
    return factor * inside + 2 * unit + chunk


def _held_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes of a block's values in memory at most, with what must be read to have them."""
    pointers = array.is_text and array.payload  # numpy's to objects, and zarr's to text
    return math.prod(block) * (HEAP_NBYTES if pointers else array.itemsize) + payload_nbytes(array, block)


def payload_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes of the variable-length data at most that are read for a block of an array, wherever it lies."""
    if not array.payload or not array.ragged or 0 in block:
        return block_nbytes(array.payload, array.source_shape, block)
    row = math.prod(array.source_shape[1:])
    step = block[0] // array.unit[0]
    rows = [mark[0] for mark in array.marks]
    starts = [first * row for first in rows[::step]]
    stops = [(first + 1) * row for first in rows[step::step]] + [math.prod(array.source_shape)]
    return heaviest(array.payload, starts, stops)
