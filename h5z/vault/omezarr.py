"""TIFFs of a vault, or of a folder, as OME-Zarr: an image or a plate, with pyramids, written by h5z's engine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from h5z.bars import Progress
from h5z.commit import commit
from h5z.errors import SourceError, TargetError
from h5z.grid import ChunkGrid, Region, region_shape
from h5z.plan import Plan, Task
from h5z.prepare import prepared
from h5z.report import Report
from h5z.scheduling import Job, run, watching
from h5z.target import Target
from h5z.tasks import account, run_task
from h5z.units import TargetArray
from h5z.vault.archive import Vault
from h5z.vault.images import Pattern, Planes, find_images
from h5z.vault.pyramids import Pyramid, place_images, plan_pyramids, sources_of
from h5z.vault.tiffs import source_of

if TYPE_CHECKING:
    import dask.array as da

CHUNK, SHARD_NBYTES = 1024, 32 << 20


def lazy_images(source: str | os.PathLike[str] | Vault, pattern: str) -> dict[str, da.Array]:
    """Images of TIFFs in a vault or a folder as lazy dask arrays of (t, c, z, y, x), a block a plane.

    Parameters
    ----------
    source : path or Vault
    pattern : str
        As for `to_zarr`.

    Returns
    -------
    dict
        By the path that each would have in OME-Zarr.

    Raises
    ------
    PlanError, SourceError
        As `to_zarr`.
    """
    import dask.array as da

    origin = source_of(source)
    images, _ = find_images(origin, Pattern(pattern))
    out = {}
    for placed in place_images(origin, images, Pattern(pattern), "sync", 1):
        planes = Planes(origin, placed.image, placed.form)
        name = f"h5z-image-{abs(hash((origin, placed.path, pattern))):x}"
        meta = np.empty((0,) * 5, planes.dtype)
        out[placed.path] = da.from_array(planes, chunks=(1, 1, 1, *placed.form.shape), name=name, meta=meta)
    return out


def to_zarr(
    source: str | os.PathLike[str] | Vault,
    target: Any,
    pattern: str,
    *,
    name: str | None = None,
    levels: int | None = None,
    method: str = "mean",
    chunk: int = CHUNK,
    shard_nbytes: int = SHARD_NBYTES,
    codec: Any = "auto",
    scale: Mapping[str, float] | None = None,
    verify: bool = False,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: Progress = False,
) -> Report:
    """Write the TIFFs of a vault, or of a folder, as an OME-Zarr image or plate (NGFF 0.5, Zarr v3, shards).

    Nothing is unpacked: a task decodes the planes of its write units, reduces them to their level, and writes the units whole.
    The store opens once all is written; after a kill, the same call goes on.

    Parameters
    ----------
    source : path or Vault
        A vault, an archive of HDF5Vault, or a folder.
    target : path, URL or zarr Store
        Where the OME-Zarr shall be.
    pattern : str
        Which files are which planes: ``{plate}/{well}/T{time}F{field}Z{z}C{channel}.tif``; see `h5z.vault.images.Pattern`.
        With wells the target is a plate, of one plate; with fields alone, several images by number; else one image.
    levels : int, optional
        Of the pyramid; by default until y and x are at most `SMALLEST`.
    method : {"mean", "nearest"}
        How levels are made.
    chunk, shard_nbytes : int
        Length of a chunk along y and x; about how many bytes a shard has, decoded.
    codec : as for `h5z.Policy`
    scale : mapping, optional
        The step along ``t`` (s), ``z``, ``y`` and ``x`` (µm); y and x are else those that the files tell.
    verify : bool
        Whether every region is read back and compared with its files before the store opens.

    Returns
    -------
    Report
        Its notes name planes that no file is of (they read as zeros), and how many files do not match.

    Raises
    ------
    PlanError
        If the call or the pattern is wrong, no file matches, or two are the same plane.
    SourceError
        If the source is not there, or a file is no image, or not of the shape of the others.
    TargetError
        If there is something else at the target, or it cannot be written.
    """
    start = time.perf_counter()
    pyramid = Pyramid(
        name=name or "",
        levels=levels,
        method=method,
        chunk=chunk,
        shard_nbytes=shard_nbytes,
        codec=codec,
        scale=dict(scale or {}),
    )
    origin, parsed = source_of(source), Pattern(pattern)
    images, others = find_images(origin, parsed)
    count = workers or os.cpu_count() or 1
    placed = place_images(origin, images, parsed, scheduler, count)
    pyramid = replace(pyramid, name=name or images[0].values["plate"] or _stem(target))
    plan = plan_pyramids(origin, placed, pyramid, target, parsed, others)
    opened = Target.of(target, storage_options)
    fresh = not opened.exists()
    stored = 0
    with prepared(opened, plan, overwrite=overwrite) as (held, begun):
        if begun is not None:
            plan = begun
            sources = sources_of(origin, placed, plan, method)
            with watching(progress, plan.nbytes * (1 + verify)) as advance, _leaving(held if fresh else None):
                _write(held, plan, sources, verify=verify, scheduler=scheduler, workers=count, advance=advance)
            stored = sum(record["nbytes"] for record in held.done().values())
            commit(held, plan)
    level = "full" if verify and begun is not None else ""
    return account(plan, opened, "unchanged" if begun is None else "converted", start, stored_nbytes=stored, level=level)


def _write(
    target: Target,
    plan: Plan,
    sources: Mapping[str, Planes],
    *,
    verify: bool,
    scheduler: Any,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    """Run what is left of a plan's tasks, and compare what is written with its files."""
    done = target.done()
    advance(sum(record.get("decoded", 0) for record in done.values()))
    tasks = [task for task in plan.tasks() if task.number not in done]
    run(_jobs(target, plan, tasks, sources), scheduler, workers, advance)
    if verify:
        run(_checks(target, plan, sources), scheduler, workers, advance)


@contextmanager
def _leaving(begun: Target | None) -> Iterator[None]:
    """Take away a target that this call began if a file cannot be read: no rerun could end it."""
    try:
        yield
    except SourceError:
        if begun is not None:
            begun.clear()
        raise


def _stem(target: Any) -> str:
    text = os.fspath(target) if isinstance(target, str | os.PathLike) else str(target)
    return text.rstrip("/").rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")


def _jobs(target: Target, plan: Plan, tasks: Sequence[Task], sources: Mapping[str, Planes]) -> Iterator[Job]:
    for task in tasks:
        work = tuple(
            (sources[plan.arrays[piece.array].path], TargetArray(target, plan.arrays[piece.array], 3), piece.region)
            for piece in task.pieces
        )
        nbytes = sum(math.prod(region_shape(region)) * written.plan.itemsize for _, written, region in work)
        yield run_task, (target, task.number, work), nbytes


def _checks(target: Target, plan: Plan, sources: Mapping[str, Planes]) -> Iterator[Job]:
    for array in plan.arrays:
        grid = ChunkGrid(array.shape, array.block)
        for index in grid.indices():
            region = grid.region(index)
            nbytes = math.prod(region_shape(region)) * array.itemsize
            yield _compare, (sources[array.path], TargetArray(target, array, 3), region), nbytes


def _compare(source: Planes, written: TargetArray, region: Region) -> None:
    if not np.array_equal(source.read(region), written.read(region), equal_nan=source.dtype.kind in "fc"):
        where = ",".join(f"{s.start}:{s.stop}" for s in region)
        raise TargetError(f"{written.target.name}{written.plan.path}[{where}]: expected the files' pixels, read others back")
