"""Datasets' data out of a store into an HDF5 file: read, decoded and encoded on threads, written in order by one."""

from __future__ import annotations

import base64
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s

from h5z.dtypes import plain
from h5z.errors import one_line
from h5z.grid import ChunkGrid, Region, intersect, region_shape, within
from h5z.hdf5 import libhdf5
from h5z.hdf5.filters import BUILTIN, load_plugins
from h5z.hdf5.typeids import InMemory, raw_name
from h5z.nodes import Problem
from h5z.restore.chunks import Chosen, Chunk, ChunkMaker
from h5z.restore.columns import Columns, Slab, count_of
from h5z.restore.image import Image, Refer, image_of_arrays
from h5z.restore.routes import Move

_BATCH_NBYTES = 8 << 20
_CACHE_NBYTES = 64 << 20  # of chunks that are written row by row


@dataclass(frozen=True)
class Job:
    """A piece of work: `work` runs on any thread, `write` takes its result on one, in order.

    Attributes
    ----------
    held_nbytes, nbytes : int
        What it holds at most until it is written; decoded bytes, for telling how far a run is.
    """

    path: str
    work: Callable[[], Any]
    write: Callable[[Any], None]
    held_nbytes: int
    nbytes: int


def pump(jobs: Iterable[Job], workers: int, budget: int, advance: Callable[[int], None]) -> list[Problem]:
    """Run jobs on threads and write their results in order; no more at once than a budget of bytes has room for.

    Returns
    -------
    list of Problem
        Datasets that libhdf5 would not write; the others go on.

    Raises
    ------
    H5zError
        If the store cannot be read.
    """
    waiting: deque[tuple[Job, Future[Any]]] = deque()
    problems: dict[str, Problem] = {}
    held = 0

    def take() -> None:
        nonlocal held
        job, future = waiting.popleft()
        if job.path not in problems:
            try:
                job.write(future.result())
            except (RuntimeError, ValueError, TypeError, KeyError, OverflowError) as error:
                problems[job.path] = Problem(job.path, f"its data cannot be written ({one_line(error)})")
        held -= job.held_nbytes
        advance(job.nbytes)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                while waiting and (held + job.held_nbytes > budget or len(waiting) >= 4 * workers):
                    take()
                waiting.append((job, pool.submit(job.work)))
                held += job.held_nbytes
            while waiting:
                take()
        finally:
            pool.shutdown(cancel_futures=True)
    return list(problems.values())


class Mover:
    """Writes the data of a file's datasets, one after the other.

    Attributes
    ----------
    unencoded : mapping
        Path of a dataset -> number of chunks that were written without filters, since those would have changed values.
    """

    def __init__(self, file: h5py.File, refer: Refer, folder: Path) -> None:
        self.file, self.refer, self.folder = file, refer, folder
        self.unencoded: dict[str, int] = {}
        self._open: tuple[str, Any] | None = None

    def jobs(self, moves: Iterable[Move]) -> Iterator[Job]:
        """The work of all moves, in pieces."""
        routes = {"copy": self._copy, "encode": self._encode, "library": self._library, "content": self._content}
        for move in moves:
            if any(item[0] not in BUILTIN for item in move.node.filters):
                load_plugins()
            if move.route in routes:
                yield from routes[move.route](move)

    def close(self) -> None:
        """Close what is open of the file."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _dataset(self, move: Move) -> Any:
        """The open dataset; where its chunks are to be checked, they are encoded as soon as they are written."""
        path = move.node.path
        if self._open is None or self._open[0] != path:
            self.close()
            access = h5p.create(h5p.DATASET_ACCESS)
            if move.route == "library" and move.node.chunks:
                access.set_chunk_cache(521, 0 if move.checked else _CACHE_NBYTES, 0.75)
            if move.node.layout == "external":
                access.set_efile_prefix(os.fsencode(self.folder))
            self._open = path, h5d.open(self.file.id, raw_name(path), access)
        return self._open[1]

    def _copy(self, move: Move) -> Iterator[Job]:
        """Stored objects as they are, many small ones at once."""
        maker = ChunkMaker(move, self.refer)
        nbytes = int(np.prod(move.grid.chunks, dtype=np.int64)) * move.itemsize
        step = max(1, min(256, _BATCH_NBYTES // max(1, nbytes)))
        numbers = np.flatnonzero(move.states >= 0).tolist()
        for start in range(0, len(numbers), step):
            chosen: list[Chosen] = [(move.grid.index(n), int(move.states[n])) for n in numbers[start : start + step]]
            size = nbytes * len(chosen)
            yield Job(move.node.path, partial(maker.copied, chosen), partial(self._put, move), size, size)

    def _encode(self, move: Move) -> Iterator[Job]:
        """Blocks of whole chunks, each encoded here."""
        maker = ChunkMaker(move, self.refer)
        for region in _blocks(move):
            chosen = list(maker.allocated(region))
            if chosen:
                work, size = partial(maker.encoded, region, chosen), count_of(region) * move.itemsize
                yield Job(move.node.path, work, partial(self._put, move), move.peak_nbytes, size)

    def _put(self, move: Move, chunks: list[Chunk]) -> None:
        did = self._dataset(move)
        for offset, mask, data in chunks:
            did.write_direct_chunk(offset, data, mask)

    def _library(self, move: Move) -> Iterator[Job]:
        """Blocks, or rows where there are sequences, as libhdf5 takes them from memory."""
        columns = Columns(move.node, move.parts)
        step = move.node.chunks[0] if move.node.chunks else 1
        if columns.ragged:
            for slab in columns.walk(step):
                yield self._write(move, slab[0], partial(self._image, move, slab))
        elif move.checked:
            maker = ChunkMaker(move, self.refer)
            for index, _ in maker.allocated(tuple(slice(0, n) for n in move.grid.shape)):
                size = count_of(move.grid.region(index)) * move.itemsize
                yield Job(move.node.path, partial(maker.plain, index), partial(self._check, move, maker, index), 4 * size, size)
        else:
            for region in _blocks(move) if move.block or not move.grid.shape else columns.slabs(step):
                yield self._write(move, region, partial(self._read, move, columns, region))

    def _write(self, move: Move, region: Region, work: Callable[[], Image]) -> Job:
        held = max(move.peak_nbytes, 4 * count_of(region) * move.itemsize)
        return Job(move.node.path, work, partial(self._put_image, move, region), held, count_of(region) * move.itemsize)

    def _read(self, move: Move, columns: Columns, region: Region) -> Image:
        return self._image(move, columns.read(region))

    def _image(self, move: Move, slab: Slab) -> Image:
        region, values, nulls = slab
        return image_of_arrays(move.node.dtype, values, count_of(region), self.refer, nulls)

    def _put_image(self, move: Move, region: Region, image: Image) -> None:
        """Write a region, but for what lies in chunks that stay unallocated."""
        did = self._dataset(move)
        if not region:
            libhdf5.write(did, image.tid, image.values)
            return
        space, values = did.get_space(), np.ascontiguousarray(image.values)
        space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
        if not move.whole:
            space.select_none()
            inside = np.zeros(region_shape(region), bool)
            for index, _ in ChunkMaker(move, self.refer).allocated(region):
                cell = intersect(move.grid.region(index), region)
                inside[within(cell, region)] = True
                space.select_hyperslab(tuple(s.start for s in cell), region_shape(cell), op=h5s.SELECT_OR)
            values = np.ascontiguousarray(values[inside.ravel()])
        if len(values):
            libhdf5.write(did, image.tid, values, space)

    def _check(self, move: Move, maker: ChunkMaker, index: tuple[int, ...], values: Any) -> None:
        """Write a chunk through filters that may change it; without them where they do."""
        did, region = self._dataset(move), move.grid.region(index)
        found = InMemory.of(move.node.dtype)
        space = did.get_space()
        space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
        memory = h5s.create_simple(region_shape(region))
        again = np.empty_like(values)
        try:
            did.write(memory, space, np.ascontiguousarray(values), found.tid)
            did.read(memory, space, again, found.tid)
            same = again.tobytes() == values.tobytes()
        except (OSError, RuntimeError, ValueError):
            same = False
        if not same:
            self._put(move, [maker.unencoded(index)])
            self.unencoded[move.node.path] = self.unencoded.get(move.node.path, 0) + 1

    def _content(self, move: Move) -> Iterator[Job]:
        """The bytes of a dimension that is no variable, as its record has them; zeros where it has none."""
        node = move.node
        raw = base64.b64decode(node.content) if node.content else bytes(move.nbytes)
        values = np.frombuffer(raw, plain(node.dtype))
        region = tuple(slice(0, n) for n in node.shape or ())
        yield self._write(move, region, partial(self._image, move, (region, {(): values}, {})))


def _blocks(move: Move) -> Iterator[Region]:
    shape = move.node.shape or ()
    grid = ChunkGrid(shape, move.block)
    return map(grid.region, grid.indices())
