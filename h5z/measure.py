"""What no header says: whether data can be read at all, lengths of sequences, whether text is UTF-8."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from h5py import h5i

from h5z import nulls
from h5z.chunkindex import chunk_states
from h5z.dimensions import is_bare
from h5z.dtypes import access, class_of, is_string, leaves, parts, variable
from h5z.errors import UnsupportedError
from h5z.filters import BUILTIN, filter_available
from h5z.grid import ChunkGrid
from h5z.nodes import ArrayNode
from h5z.references import reference_text
from h5z.runs import encode_runs
from h5z.source import Dataset, split

LARGEST_CONTENT = 1 << 16


def measured(node: ArrayNode, handle: Dataset, did: Any) -> ArrayNode:
    """Refuse now what reading would fail on later, and count what no header counts.

    Parameters
    ----------
    did : h5py.h5d.DatasetID
        The open dataset.

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
    where = _stored_element(did, node)
    if node.layout in ("virtual", "external") or _unusual(node) or variable(node.dtype):
        handle.read_from(did, tuple(slice(i, i + 1) for i in where))
    if is_bare(node) and 0 < node.storage_nbytes <= LARGEST_CONTENT:
        values = handle.read_from(did, (slice(0, node.shape[0]),))
        content = base64.b64encode(values.tobytes()).decode() if values.any() else None
        return replace(node, content=content, allocated=_allocated(did, node))
    for part in parts(node.dtype):
        if class_of(part) == "reference":
            _check_references(node, handle, did)
            break
    ragged = any(leaf.ragged or leaf.steps[-1:] == ("lengths",) for leaf in found)
    strings = any(is_string(p) and cast(dict[str, Any], p)["size"] is None for p in parts(node.dtype))
    counted = _count(node, handle, did) if ragged or strings else node
    if nulls.pads_with_spaces(node.dtype):
        masks = [nulls.zero_padded(did, node.dtype, region) for region in handle.rows(node.shape)]
        runs = encode_runs(np.concatenate(masks))
        counted = replace(counted, nulls={"": runs} if runs is not None else None)
    return replace(counted, allocated=_allocated(did, node))


def _allocated(did: Any, node: ArrayNode) -> Any:
    if node.layout == "chunked" and node.shape and node.chunks:
        return encode_runs(chunk_states(did, ChunkGrid(node.shape, node.chunks)))
    return encode_runs([-1 if node.layout == "contiguous" and node.storage_nbytes == 0 else 0])


def _unusual(node: ArrayNode) -> bool:
    return any(f[0] not in BUILTIN for f in node.filters) or access(node.dtype) != "h5py"


def _stored_element(did: Any, node: ArrayNode) -> tuple[int, ...]:
    """An element of a stored chunk, after checking that each filter that was applied to it is at hand."""
    origin = (0,) * len(node.shape or ())
    if node.layout != "chunked" or not node.filters:
        return origin
    missing = [(i, f) for i, f in enumerate(node.filters) if not filter_available(f[0])]
    if did.get_num_chunks() == 0:
        return origin
    if missing:
        masks: set[int] = set()
        did.chunk_iter(lambda info: masks.add(info.filter_mask))
        for i, (number, name, _, _) in missing:
            if any(not mask >> i & 1 for mask in masks):
                raise UnsupportedError(f"HDF5 filter {number} ({name or 'unnamed'}) is not available here")
    first = did.get_chunk_info(0).chunk_offset
    return tuple(map(int, first)) if all(o < n for o, n in zip(first, node.shape or (), strict=True)) else origin


def _count(node: ArrayNode, handle: Dataset, did: Any) -> ArrayNode:
    """Pass over variable-length data in pieces: elements of each row per leaf, and whether all text is UTF-8."""
    shape = cast(tuple[int, ...], node.shape)
    counts: dict[str, list[int]] = {}
    flags: dict[str, list[Any]] = {}
    utf8 = True
    wanted = leaves(node.dtype)
    for region in handle.rows(shape):
        block = handle.read_from(did, region)
        read: dict[tuple[str, ...], int] = {}
        empty = False
        for leaf in wanted:
            for row in _rows(block) if leaf.ragged else [block]:
                values = split(row, leaf.steps)
                if leaf.dtype == "string" and class_of(leaf.described) == "string":
                    utf8 = utf8 and not _has_surrogates(values)
                    empty = empty or not all(np.ravel(values))
                    read[leaf.steps] = read.get(leaf.steps, 0) + np.size(values)
                if leaf.ragged:
                    counts.setdefault("/".join(leaf.steps), []).append(len(values))
        masks = nulls.in_dataset(did, node.dtype, region) if empty else {}
        for steps, count in read.items():
            flags.setdefault("/".join(steps), []).append(masks.get(steps, np.zeros(count, bool)))
    runs = {steps: found for steps, pieces in flags.items() if (found := encode_runs(np.concatenate(pieces))) is not None}
    return replace(node, counts=counts, utf8=utf8, nulls=runs or None)


def _check_references(node: ArrayNode, handle: Dataset, did: Any) -> None:
    """Refuse references that point to nothing: a path cannot say where they pointed."""
    fid = h5i.get_file_id(did)
    for region in handle.rows(cast(tuple[int, ...], node.shape)):
        block = handle.read_from(did, region)
        for leaf in leaves(node.dtype):
            if class_of(leaf.described) == "reference":
                for ref in np.asarray(split(block, leaf.steps), dtype=object).ravel():
                    reference_text(ref, fid)


def _rows(block: Any) -> Iterator[Any]:
    if block.ndim == 0:
        yield block
    for i in range(len(block) if block.ndim else 0):
        yield block[i : i + 1]


def _has_surrogates(values: Any) -> bool:
    for item in np.asarray(values, dtype=object).ravel():
        try:
            if isinstance(item, bytes):
                item.decode("utf-8")
            elif isinstance(item, str):
                item.encode("utf-8")
        except UnicodeError:
            return True
    return False
