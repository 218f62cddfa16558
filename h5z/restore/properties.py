"""A dataset's header -> HDF5's property lists and dataspaces."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from h5py import h5d, h5f, h5p, h5s

from h5z.hdf5 import libhdf5
from h5z.hdf5.typeids import build, raw_name
from h5z.nodes import ArrayNode, Json, Shape
from h5z.restore.image import Refer, image_of_json
from h5z.restore.selections import selection

_LAYOUTS = {"compact": h5d.COMPACT, "contiguous": h5d.CONTIGUOUS, "external": h5d.CONTIGUOUS}
_FILL_TIMES = {"alloc": h5d.FILL_TIME_ALLOC, "never": h5d.FILL_TIME_NEVER, "ifset": h5d.FILL_TIME_IFSET}
_ALLOC_TIMES = {"early": h5d.ALLOC_TIME_EARLY, "late": h5d.ALLOC_TIME_LATE, "incr": h5d.ALLOC_TIME_INCR}
_STRATEGIES = {"fsm_aggr": 0, "page": 1, "aggr": 2, "none": 3}
_CHUNK_NBYTES = 1 << 20  # of a materialised dataset that can grow
_EXTERNAL_UNLIMITED = (1 << 64) - 1
BUILTIN_OPTIONS = frozenset({*range(1, 256), 32000})  # filters whose options every version computes alike


def order_flags(plist: Any, order: str) -> None:
    """Track the creation order of links and attributes as ``"links indexed, attrs"`` says."""
    for item in filter(None, order.split(", ")):
        flags = h5p.CRT_ORDER_TRACKED | (h5p.CRT_ORDER_INDEXED if item.endswith(" indexed") else 0)
        if item.startswith("links"):
            plist.set_link_creation_order(flags)
        else:
            plist.set_attr_creation_order(flags)


def file_creation(creation: Json, order: str, userblock_nbytes: int) -> Any:
    """A file's creation properties."""
    creation = creation or {}
    plist = h5p.create(h5p.FILE_CREATE)
    plist.set_userblock(userblock_nbytes)
    order_flags(plist, order)
    if "space" in creation:
        strategy, persist, threshold = creation["space"]
        plist.set_file_space_strategy(_STRATEGIES[strategy], persist, threshold)
    if "page" in creation:
        plist.set_file_space_page_size(creation["page"])
    if "sizes" in creation:
        plist.set_sizes(*creation["sizes"])
    return plist


def file_access(creation: Json) -> Any:
    """A file's access properties: its objects are written in the oldest format that its superblock was of."""
    oldest = (h5f.LIBVER_EARLIEST, h5f.LIBVER_EARLIEST, h5f.LIBVER_V18, h5f.LIBVER_V110)
    plist = h5p.create(h5p.FILE_ACCESS)
    plist.set_fclose_degree(h5f.CLOSE_STRONG)
    plist.set_libver_bounds(oldest[min((creation or {}).get("superblock", 0), 3)], h5f.LIBVER_LATEST)
    return plist


def dataspace(node: ArrayNode) -> Any:
    """A dataset's dataspace."""
    return h5s.create(h5s.NULL) if node.shape is None else simple(node.shape, node.maxshape)


def simple(shape: Shape, maxshape: tuple[int | None, ...] | None) -> Any:
    """A simple dataspace, or a scalar one."""
    if not shape:
        return h5s.create(h5s.SCALAR)
    return h5s.create_simple(shape, None if maxshape is None else tuple(h5s.UNLIMITED if n is None else n for n in maxshape))


def dataset_creation(node: ArrayNode, refer: Refer) -> Any:
    """A dataset's creation properties."""
    plist = h5p.create(h5p.DATASET_CREATE)
    if node.layout in _LAYOUTS:
        plist.set_layout(_LAYOUTS[node.layout])
    if node.chunks is not None:
        plist.set_chunk(node.chunks)
        if node.edges:
            libhdf5.set_chunk_options(plist, libhdf5.DONT_FILTER_PARTIAL_CHUNKS)
    for number, _, flags, options in node.filters:
        plist.set_filter(number, flags, options)
    _fill(plist, node, refer)
    plist.set_fill_time(_FILL_TIMES[node.fill_time])
    plist.set_obj_track_times(False)
    order_flags(plist, node.order)
    if node.layout == "external":
        for name, offset, nbytes in node.sources:
            plist.set_external(raw_name(name), offset, nbytes if nbytes >= 0 else _EXTERNAL_UNLIMITED)
    if node.layout == "virtual":
        _map(plist, node)
    plist.set_alloc_time(_ALLOC_TIMES[node.alloc_time])
    return plist


def _fill(plist: Any, node: ArrayNode, refer: Refer) -> None:
    if node.fill is None:
        return
    if "value" not in node.fill:
        libhdf5.set_fill_value(plist, build(node.dtype), None)
        return
    image = image_of_json(node.dtype, [node.fill["value"]], refer)
    libhdf5.set_fill_value(plist, image.tid, image.values)


def _map(plist: Any, node: ArrayNode) -> None:
    for file, dataset, here, there, extent in node.sources:
        mapped = selection(here, node.shape or ())
        if there == "all" and not extent:  # HDF5 forgets the extent of what is taken whole
            extent = [_block_size(here) if "inf" in here else mapped.get_select_npoints()]
        plist.set_virtual(mapped, raw_name(file), raw_name(dataset), selection(there, tuple(extent)))


def _block_size(text: str) -> int:
    """Elements of one block of an unlimited selection, which one source of many fills."""
    return math.prod(int(axis.rpartition(":")[2]) for axis in text.split(","))


def materialised(node: ArrayNode) -> ArrayNode:
    """A virtual dataset, or one of external storage, with data of its own: in one piece, or in chunks where it can grow."""
    chunks = None
    if node.maxshape is not None:
        chunks = _chunks(node.shape or (), node.maxshape)
    layout = "contiguous" if chunks is None else "chunked"
    return replace(node, layout=layout, chunks=chunks, sources=(), files=(), alloc_time="late" if chunks is None else "incr")


def _chunks(shape: tuple[int, ...], limits: Iterable[int | None]) -> tuple[int, ...]:
    """Halved along the longest axis until a chunk is of a fair size."""
    chunks = [min(max(1, n), limit) if limit else max(1, n) for n, limit in zip(shape, limits, strict=True)]
    while math.prod(chunks) * 8 > _CHUNK_NBYTES:
        axis = chunks.index(max(chunks))
        chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)
