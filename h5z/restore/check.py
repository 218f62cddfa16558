"""A restored file against the store that it came from: its headers by a scan, its values through libhdf5."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5r

from h5z.dtypes import class_of, relabelled, variable
from h5z.errors import SourceError, one_line
from h5z.grid import ChunkGrid, Region
from h5z.hdf5.files import files, forget
from h5z.hdf5.references import address, reference_text
from h5z.leaves import Leaf
from h5z.nodes import ArrayNode, GroupNode, Node, Tree
from h5z.records import hdf5_name
from h5z.report import Difference
from h5z.restore.columns import Columns, Slab, count_of
from h5z.restore.routes import Move
from h5z.runs import decode_runs, encode_runs
from h5z.scan import scan
from h5z.source import Dataset, split
from h5z.verify.differences import first_difference

_NOT_COMPARED = frozenset({"storage_nbytes", "offset", "payload", "counts", "utf8", "content", "files", "path"})
_SAMPLES = 4


def check_headers(path: Path, tree: Tree, left_out: set[str], unfiltered: set[str]) -> Iterator[Difference]:
    """Every header that a scan of the file finds otherwise than the store has it.

    Parameters
    ----------
    left_out : set of str
        Paths, and ``path@attribute``, that the report names as not restored.
    unfiltered : set of str
        Datasets whose chunks skip filters that they did not skip.
    """
    found = scan(path, measure=True)
    forget(str(path))
    if found.user_block != tree.user_block:
        yield Difference("/", "user block", f"{len(tree.user_block)} letters", f"{len(found.user_block)} letters")
    for problem in found.problems:
        if problem.path not in left_out:
            yield Difference(problem.path, "readable", "yes", problem.reason)
    for name in dict.fromkeys([*tree.nodes, *found.nodes]):
        if name in left_out or any(name.startswith(f"{item}/") for item in left_out):
            continue
        if name not in tree.nodes or name not in found.nodes:
            yield Difference(name, "object", "one" if name in tree.nodes else "none", "one" if name in found.nodes else "none")
            continue
        wanted, got = _plain(tree.nodes[name], left_out), _plain(found.nodes[name], left_out)
        for key in sorted({*wanted, *got}):
            if wanted.get(key) != got.get(key) and not (key == "allocated" and name in unfiltered):
                yield Difference(name, key, _short(wanted.get(key)), _short(got.get(key)))


def _plain(node: Node, left_out: set[str]) -> dict[str, str]:
    """A node's fields as JSON text, in an order that means something where it does."""
    kept = tuple(item for item in node.attributes if f"{node.path}@{item.name}" not in left_out)
    if "attrs" not in node.order:
        kept = tuple(sorted(kept, key=lambda item: item.name))
    node = replace(node, attributes=kept)
    if isinstance(node, GroupNode):
        prefix = node.path.rstrip("/")
        links = sorted((link for link in node.links if f"{prefix}/{link.name}" not in left_out), key=lambda link: link.name)
        node = replace(node, links=tuple(links))
    if isinstance(node, ArrayNode) and node.chunks and node.allocated and variable(node.dtype):
        # Such chunks hold addresses in their file, on which it depends whether an optional filter made them smaller.
        states = decode_runs(node.allocated, ChunkGrid(node.shape or (), node.chunks).size)
        node = replace(node, allocated=encode_runs(np.minimum(states, 0)))
    return {key: json.dumps(value) for key, value in node.to_dict().items() if key not in _NOT_COMPARED}


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 120 else text[:117] + "..."


def check_values(path: Path, moves: list[Move], level: str, advance: Callable[[int], None]) -> tuple[list[Difference], int]:
    """The first difference of each dataset's values, read through libhdf5, and the decoded bytes compared.

    Parameters
    ----------
    level : {"sample", "full"}
        Regions at the edges and at random, or everything.
    """
    out, checked = [], 0
    try:
        for move in moves:
            if not move.parts:
                continue
            columns = Columns(move.node, move.parts)
            handle = Dataset(str(path), move.node.path, move.node.dtype, direct=False)
            for slab in _slabs(move, columns, level):
                difference = _compare(handle, columns.leaves, slab)
                nbytes = count_of(slab[0]) * move.itemsize
                checked += nbytes
                advance(nbytes)
                if difference is not None:
                    out.append(difference)
                    break
    finally:
        forget(str(path))
    return out, checked


def _slabs(move: Move, columns: Columns, level: str) -> Iterator[Slab]:
    shape = move.node.shape
    if shape is None or 0 in shape:
        return
    if columns.ragged:
        yield from columns.walk()
        return
    grid = ChunkGrid(shape, move.block) if move.block else None
    regions = list(columns.slabs()) if grid is None else None
    count = grid.size if grid is not None else len(regions or ())
    chosen: Any = range(count)
    if level == "sample":
        chosen = sorted({0, count - 1, *(random.randrange(count) for _ in range(_SAMPLES))})
    for number in chosen:
        yield columns.read(regions[number] if regions is not None else grid.region(grid.index(number)))  # type: ignore[union-attr]


def _compare(handle: Dataset, parts: list[Leaf], slab: Slab) -> Difference | None:
    region, stored, _ = slab
    try:
        block = handle.read(region)
    except SourceError as error:
        return Difference(handle.path, f"region {_where(region)}", "readable", one_line(error))
    for leaf in parts:
        wanted = stored[leaf.steps]
        place = _differs(handle, leaf, wanted, split(block, leaf.steps))
        if place is not None:
            what = "/".join((f"value in {_where(region)}", *leaf.steps))
            return Difference(handle.path, what, repr(np.ravel(wanted)[place])[:120], "another value")
    return None


def _where(region: Region) -> str:
    return "[" + ",".join(f"{s.start}:{s.stop}" for s in region) + "]"


def _differs(handle: Dataset, leaf: Leaf, wanted: Any, found: Any) -> int | None:
    """Number, in C order, of the first element that differs."""
    if not isinstance(leaf.dtype, str):
        values = np.asarray(relabelled(found, leaf.described))
        if values.dtype != wanted.dtype:
            values = _as(values, wanted.dtype)
        place = first_difference(np.ravel(wanted), values.reshape(-1)[: np.size(wanted)])
        return None if place is None and np.size(values) == np.size(wanted) else (place or (0,))[0]
    items = np.ravel(np.asarray(found, dtype=object))
    if class_of(leaf.described) == "reference":
        same = [_same_reference(handle, text, ref) for text, ref in zip(np.ravel(wanted), items, strict=True)]
    else:
        same = [_bytes(a) == _bytes(b) for a, b in zip(np.ravel(wanted), items, strict=True)]
    return None if all(same) else same.index(False)


def _as(values: Any, dtype: np.dtype[Any]) -> Any:
    """The same values in the dtype that the store has."""
    if dtype.kind == "V" and not dtype.names:
        return np.ascontiguousarray(values).view(dtype)
    if dtype.names and values.dtype.names:
        out = np.empty(values.shape, dtype)
        for theirs, ours in zip(values.dtype.names, dtype.names, strict=True):
            out[ours] = _as(values[theirs], dtype[ours])
        return out
    return values.astype(dtype)


def _bytes(item: Any) -> bytes:
    return item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item or b"")


def _same_reference(handle: Dataset, text: str, ref: Any) -> bool:
    """Whether a reference points to what a text names, by whatever path."""
    file = files.get(handle.file, handle.storage_options).file
    found, text = reference_text(ref, file.id), hdf5_name(text)
    if found == text or not (found and text):
        return found == text
    there, _, region = found.partition("[")
    path, _, wanted = text.partition("[")
    if region != wanted or path not in file:
        return False
    return address(file[path].id) == address(h5r.dereference(ref, file.id)) and bool(there)
