"""Plan: every chunk, shard, codec and route, fixed before the first byte is read; pure data, JSON."""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, cast

from h5z.arrayplan import BLOCK_NBYTES, DEFAULT_MEMORY, ArrayPlan, column_nbytes, in_order, task_nbytes
from h5z.grid import Region, region_shape
from h5z.nodes import Datatype, Json, Problem, Record, Shape
from h5z.pictures import Layout, Passage, route_map
from h5z.policy import RUNNING, Policy
from h5z.records import json_name
from h5z.report import size, table_html, table_text

FORMAT = 1
PICTURES = 6  # of the largest arrays, in a notebook
BATCH_PIECES = 256  # of small arrays in one task


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


def _with_wholes(arrays: Iterable[ArrayPlan]) -> Iterator[ArrayPlan]:
    """Arrays, each column of a table with its table's datatype."""
    known: dict[str, Datatype] = {}
    for array in arrays:
        if array.whole is not None:
            known[array.source] = array.whole
        yield replace(array, whole=known.get(array.source)) if array.steps and array.whole is None else array


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
        Of times counted from another date, or in other units, than in the first file: `h5z.joining.epochs.Shift`, by path.
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
    headers_nbytes : int
        Bytes of memory that the source's headers take at most (`h5z.chunking.headers_nbytes`).
    digest : str
        Of the source's header and of where its data lie (`h5z.hdf5.identity`).
    dim, parts : str, tuple of Part
        Of a target that is joined of several files: the dimension along which, and those that this run adds, in order.
    schema : dict
        What those files have in common (`h5z.joining.trees`).
    adds_dim : bool
        Whether those files lack the dimension: each is one step along it (`h5z.joining.promotion`).
    before : tuple
        What the target that grows records of the files that it holds (`Part.identity`).
    base : dict
        Of an array that grows, by path: checksum and digest of the units that stay as they are (`h5z.joining.growth`).
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
    headers_nbytes: int = 0
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
        arrays = tuple(_with_wholes(map(ArrayPlan.from_dict, data["arrays"])))
        problems = tuple(map(Problem.from_dict, data.get("not_carried", ())))
        known = {item.name for item in fields(cls)}
        rest = {key: value for key, value in data.items() if key in known}
        notes = tuple(data.get("notes", ()))
        policy = Policy.from_dict(data["policy"])
        parts, before = tuple(map(Part.from_dict, data.get("parts", ()))), tuple(data.get("before", ()))
        told = {"policy": policy, "arrays": arrays, "not_carried": problems, "notes": notes, "parts": parts, "before": before}
        return cls(**{**rest, **told})

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON's own types: a table's datatype with the first of its columns alone."""
        seen: set[str] = set()
        arrays = []
        for array in self.arrays:
            arrays.append(replace(array, whole=None) if array.source in seen else array)
            seen |= {array.source} if array.steps else set()
        return Record.to_dict(replace(self, arrays=tuple(arrays)))

    @cached_property
    def fingerprint(self) -> str:
        """What tells whether a target is of this same migration: a hash of source identity, policy and metadata."""
        what = self.to_dict()
        for name in ("target", "workers", "headers_nbytes", "base"):
            what.pop(name, None)
        for part in what.get("parts", ()):
            part["file"] = os.path.basename(part["file"])
        for name in RUNNING:
            what["policy"].pop(name, None)
        what["source"] = os.path.basename(self.source)
        for array in what["arrays"]:
            for name in ("block", "stage", "reads", "route", "payload", "offset"):
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
    def largest_task_nbytes(self) -> int:
        """Bytes that the largest of the plan's tasks takes at most."""
        blocks = ((array, block) for array in self.arrays for block in (array.block, array.stage or array.block, array.witness))
        return max(
            (task_nbytes(array, block) + (self.together_nbytes if array.is_column else 0) for array, block in blocks), default=0
        )

    @property
    def peak_nbytes(self) -> int:
        """Bytes that the run takes at most, beside the interpreter's base: the headers, and the largest task of each worker."""
        return self.headers_nbytes + self.workers * self.largest_task_nbytes

    @cached_property
    def together_nbytes(self) -> int:
        """Bytes of a table's columns at most that a task holds, so that their rows are read once: what a worker has left."""
        columns = [array for array in self.arrays if array.is_column]
        share = (cast(int, self.policy.memory or DEFAULT_MEMORY) - self.headers_nbytes) // self.workers
        least = max((task_nbytes(array, block) for array in columns for block in (array.block, array.witness)), default=share)
        return max(0, min(BLOCK_NBYTES, share - least, max(map(sum, self._tables.values()), default=0)))

    @cached_property
    def _tables(self) -> dict[str, list[int]]:
        """Bytes that a task holds of each column, by the table's path."""
        out: dict[str, list[int]] = {}
        for array in self.arrays:
            if array.is_column:
                out.setdefault(array.source, []).append(column_nbytes(array, array.block))
        return out

    @property
    def read_nbytes(self) -> int:
        """Stored bytes of the source that are read: more than it has where its chunks are decoded more than once."""
        total = 0.0
        for array in self.arrays:
            nbytes = array.source_nbytes * array.reads
            if array.is_column:  # with as many of its table's columns as a task holds
                held = self._tables[array.source]
                nbytes *= min(1, -(-sum(held) // max(self.together_nbytes, *held, 1)) / len(held))
            total += nbytes
        return round(total)

    def tasks(self) -> Iterator[Task]:
        """The plan's work in tasks, the same for the same plan: staging first; large arrays by block, small ones together."""
        waiting: list[Piece] = []
        number = weight = 0
        for i, array in enumerate(self.arrays):
            if array.stage is not None:
                for region in array.cells(array.stage):
                    yield Task(number, (Piece(i, region),), staging=True)
                    number += 1
        together, columns = 0, {i: column_nbytes(array, array.block) for i, array in enumerate(self.arrays) if array.is_column}
        for i, region, beside in in_order(self.arrays, lambda array: array.block):
            array = self.arrays[i]
            size = math.prod(region_shape(region)) * array.itemsize
            held = columns.get(i, 0)
            together = together + held if beside else held
            full = beside and together > self.together_nbytes
            if waiting and (full or weight + size > BLOCK_NBYTES or len(waiting) >= BATCH_PIECES):
                yield Task(number, tuple(waiting))
                number, waiting, weight, together = number + 1, [], 0, held
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
        read = f"reads {size(self.read_nbytes)}, at most {self.objects} objects"
        cost = f"{read}, {self.workers} workers, peak {size(self.peak_nbytes)}"
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
