"""What no header says: whether data can be read at all, lengths of sequences, whether text is UTF-8."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from h5py import h5i

from h5z.dimensions import is_bare
from h5z.dtypes import access, class_of, is_string, parts, variable
from h5z.errors import UnsupportedError
from h5z.grid import ChunkGrid, region_shape
from h5z.hdf5 import nulls
from h5z.hdf5.chunkindex import chunk_states
from h5z.hdf5.fetch import Fetch
from h5z.hdf5.filters import BUILTIN, filter_available
from h5z.hdf5.references import reference_text
from h5z.leaves import Leaf, leaves
from h5z.nodes import ArrayNode
from h5z.pacing import pieces
from h5z.payload import Run, joined
from h5z.runs import encode_runs
from h5z.source import Dataset, split

LARGEST_CONTENT = 1 << 16
MOST_RUNS = 4096


Paths = Callable[[], dict[tuple[int, int], str]]


def measured(node: ArrayNode, handle: Dataset, did: Any, fetch: Fetch | None = None, paths: Paths = dict) -> ArrayNode:
    """Refuse now what reading would fail on later, and count what no header counts.

    Parameters
    ----------
    did : h5py.h5d.DatasetID
        The open dataset.
    fetch : callable, optional
        Reads bytes of the file in which it lies.
    paths : callable, optional
        Gives paths of objects that are known, by address.

    Raises
    ------
    UnsupportedError
        If a filter is missing here, or a datatype cannot be read.
    OSError, RuntimeError, ValueError, TypeError, KeyError
        What h5py raises on data that cannot be read.
    """
    found = leaves(node.dtype)
    if node.shape is None or 0 in node.shape:
        return node
    element = tuple(slice(i, i + 1) for i in _stored_element(did, node, handle))
    if not all(filter_available(f[0]) for f in node.filters):
        handle.read(element)
    elif node.layout in ("virtual", "external") or _unusual(node) or variable(node.dtype):
        handle.read_from(did, element)
    if is_bare(node) and 0 < node.storage_nbytes <= LARGEST_CONTENT:
        values = handle.read_from(did, (slice(0, node.shape[0]),))
        content = base64.b64encode(values.tobytes()).decode() if values.any() else None
        return replace(node, content=content, allocated=_allocated(did, node))
    for part in parts(node.dtype):
        if class_of(part) == "reference":
            _check_references(node, handle, did, paths())
            break
    ragged = any(leaf.ragged or leaf.steps[-1:] == ("lengths",) for leaf in found)
    strings = any(is_string(p) and cast(dict[str, Any], p)["size"] is None for p in parts(node.dtype))
    counted = _count(node, handle, did, fetch) if ragged or strings else node
    if nulls.pads_with_spaces(node.dtype):
        masks = [nulls.zero_padded(did, node.dtype, region) for region in handle.rows(node.shape)]
        runs = encode_runs(np.concatenate(masks))
        counted = replace(counted, nulls={"": runs} if runs is not None else None)
    allocated = _allocated(did, node)
    return counted if allocated is None else replace(counted, allocated=allocated)


def _allocated(did: Any, node: ArrayNode) -> Any:
    if node.layout == "chunked" and node.shape and node.chunks:
        return encode_runs(chunk_states(did, ChunkGrid(node.shape, node.chunks)))
    return encode_runs([-1 if node.layout == "contiguous" and node.storage_nbytes == 0 else 0])


def _unusual(node: ArrayNode) -> bool:
    return any(f[0] not in BUILTIN for f in node.filters) or access(node.dtype) != "h5py"


def _stored_element(did: Any, node: ArrayNode, handle: Dataset) -> tuple[int, ...]:
    """An element of a stored chunk, after checking that each filter that was applied to it is at hand."""
    origin = (0,) * len(node.shape or ())
    if node.layout != "chunked" or not node.filters:
        return origin
    missing = [(i, f) for i, f in enumerate(node.filters) if not filter_available(f[0])]
    if did.get_num_chunks() == 0:
        return origin
    if missing and handle.reader() is None:
        masks: set[int] = set()
        did.chunk_iter(lambda info: masks.add(info.filter_mask))
        for i, (number, name, _, _) in missing:
            if any(not mask >> i & 1 for mask in masks):
                raise UnsupportedError(f"HDF5 filter {number} ({name or 'unnamed'}) is not available here")
    first = did.get_chunk_info(0).chunk_offset
    return tuple(map(int, first)) if all(o < n for o, n in zip(first, node.shape or (), strict=True)) else origin


def _count(node: ArrayNode, handle: Dataset, did: Any, fetch: Fetch | None) -> ArrayNode:
    """Pass over variable-length data in pieces: elements of each row per leaf, bytes, and whether all text is UTF-8."""
    counts: dict[str, list[int]] = {}
    runs: list[Run] = []
    flags: dict[str, list[Any]] = {}
    utf8 = True
    wanted = leaves(node.dtype)
    by_row = any(leaf.ragged for leaf in wanted)
    for region in pieces(node, did, fetch, runs, by_row=by_row):
        block = handle.read_from(did, region)
        total = largest = 0
        read: dict[tuple[str, ...], int] = {}
        empty = False
        for leaf in wanted:
            most = 0
            for row in _rows(block) if leaf.ragged else [block]:
                values = split(row, leaf.steps)
                if leaf.dtype == "string" and class_of(leaf.described) == "string":
                    empty = empty or not all(np.ravel(values))
                    read[leaf.steps] = read.get(leaf.steps, 0) + np.size(values)
                if leaf.ragged:
                    counts.setdefault("/".join(leaf.steps), []).append(len(values))
                nbytes, heaviest, clean = _weigh(values, leaf)
                utf8 = utf8 and clean
                total += nbytes
                most = max(most, nbytes if leaf.ragged else heaviest * math.prod(leaf.extra))
            largest += most
        runs.append((math.prod(region_shape(region)), total, min(largest, total)))
        masks = nulls.in_dataset(did, node.dtype, region) if empty else {}
        for steps, count in read.items():
            flags.setdefault("/".join(steps), []).append(masks.get(steps, np.zeros(count, bool)))
    null = {steps: found for steps, pieces_ in flags.items() if (found := encode_runs(np.concatenate(pieces_))) is not None}
    return replace(node, counts=counts, utf8=utf8, payload=tuple(joined(runs, MOST_RUNS)), nulls=null or None)


def _weigh(values: Any, leaf: Leaf) -> tuple[int, int, bool]:
    """Bytes in memory of a leaf's variable-length values, those of the largest, and whether they are UTF-8."""
    if not isinstance(leaf.dtype, str):
        return (int(values.nbytes) if leaf.ragged else 0), 0, True
    if class_of(leaf.described) == "reference":
        return 0, 0, True
    total = largest = 0
    utf8 = True
    for item in np.asarray(values, dtype=object).ravel():
        size = len(item) if item else 0
        try:
            if isinstance(item, bytes):
                size = max(size, sys.getsizeof(item.decode("utf-8")))
            elif isinstance(item, str):
                size = max(sys.getsizeof(item), len(item.encode("utf-8")))
        except UnicodeError:
            utf8 = leaf.dtype != "string"
        total += size
        largest = max(largest, size)
    return total, largest, utf8


def _check_references(node: ArrayNode, handle: Dataset, did: Any, paths: dict[tuple[int, int], str]) -> None:
    """Refuse references that point to nothing: a path cannot say where they pointed."""
    fid = h5i.get_file_id(did)
    for region in handle.rows(cast(tuple[int, ...], node.shape)):
        block = handle.read_from(did, region)
        for leaf in leaves(node.dtype):
            if class_of(leaf.described) == "reference":
                for ref in np.asarray(split(block, leaf.steps), dtype=object).ravel():
                    reference_text(ref, fid, paths)


def _rows(block: Any) -> Iterator[Any]:
    if block.ndim == 0:
        yield block
    for i in range(len(block) if block.ndim else 0):
        yield block[i : i + 1]
