"""TIFFs of a vault, or of a folder, as OME-Zarr: an image or a plate, with pyramids, written by h5z's engine."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from h5z.arrayplan import ArrayPlan
from h5z.codecs import default, fit, parse
from h5z.commit import finalize
from h5z.errors import PlanError, SourceError, TargetError
from h5z.grid import ChunkGrid, Region, region_shape
from h5z.nodes import Json
from h5z.plan import Plan, Task
from h5z.policy import Policy
from h5z.prepare import prepared
from h5z.report import Report
from h5z.scheduling import Job, run, watching
from h5z.target import Target
from h5z.tasks import run_task
from h5z.units import TargetArray
from h5z.vault.archive import Vault
from h5z.vault.images import Form, Image, Pattern, Planes, find_images, form_of
from h5z.vault.ngff import (
    AXIS_NAMES,
    image_attributes,
    plate_attributes,
    series_attributes,
    split_well,
    well_attributes,
)
from h5z.vault.tiffs import Archive, Folder, source_of

if TYPE_CHECKING:
    import dask.array as da

CHUNK, SHARD_NBYTES = 1024, 32 << 20
SMALLEST = 256  # along y or x: below, no further level
METHODS = ("mean", "nearest")


@dataclass(frozen=True)
class Place:
    """An image, and its group in the target."""

    path: str
    image: Image
    form: Form


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

    place = source_of(source)
    found, _ = find_images(place, Pattern(pattern))
    out = {}
    for item in _places(place, found, Pattern(pattern), "sync", 1):
        planes = Planes(place, item.image, item.form)
        name = f"h5z-image-{abs(hash((place, item.path, pattern))):x}"
        out[item.path] = da.from_array(planes, chunks=(1, 1, 1, *item.form.shape), name=name, meta=_meta(planes))
    return out


def _meta(planes: Planes) -> Any:
    import numpy as np

    return np.empty((0,) * 5, planes.dtype)


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
    progress: Any = False,
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
    if method not in METHODS:
        raise PlanError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    for what, value in (("levels", levels), ("chunk", chunk), ("shard_nbytes", shard_nbytes)):
        if value is not None and value < 1:
            raise PlanError(f"{what}: expected 1 or more, found {value}")
    wanted = dict(scale or {})
    if not wanted.keys() <= {"t", "z", "y", "x"}:
        raise PlanError(f"scale: expected steps along t, z, y and x, found {', '.join(sorted(wanted))}")
    origin = source_of(source)
    parsed = Pattern(pattern)
    found, others = find_images(origin, parsed)
    count = workers or os.cpu_count() or 1
    places = _places(origin, found, parsed, scheduler, count)
    title = name or found[0].values["plate"] or _stem(target)
    settings = _Settings(title, levels, method, chunk, shard_nbytes, codec, wanted)
    made = _plan(origin, places, settings, target, parsed, others)
    place = Target.of(target, storage_options)
    fresh = not place.exists()
    with prepared(place, made, overwrite=overwrite) as (place, finished):
        stored = 0
        if not finished:
            made = cast(Plan, place.pending())
            done = place.done()
            sources = _sources(origin, places, made, method)
            with watching(progress, made.nbytes * (1 + verify)) as advance, _leaving(place if fresh else None):
                advance(sum(record.get("decoded", 0) for record in done.values()))
                tasks = [task for task in made.tasks() if task.number not in done]
                run(_jobs(place, made, tasks, sources), scheduler, count, advance)
                if verify:
                    run(_checks(place, made, sources), scheduler, count, advance)
            stored = sum(record["nbytes"] for record in place.done().values())
            finalize(place)
    status = "unchanged" if finished else "converted"
    taken = time.perf_counter() - start
    return Report(
        made.source,
        place.name,
        status,
        arrays=len(made.arrays),
        groups=len(made.groups),
        nbytes=made.nbytes,
        source_nbytes=made.size,
        stored_nbytes=stored,
        units=sum(array.units.size for array in made.arrays),
        seconds=taken,
        notes=made.notes,
        level="full" if verify and not finished else "",
    )


@contextmanager
def _leaving(begun: Target | None) -> Iterator[None]:
    """Take away a target that this call began if a file cannot be read: no rerun could end it."""
    try:
        yield
    except SourceError:
        if begun is not None:
            begun.clear()
        raise


@dataclass(frozen=True)
class _Settings:
    name: str
    levels: int | None
    method: str
    chunk: int
    shard_nbytes: int
    codec: Any
    scale: Mapping[str, float]


def _places(origin: Folder | Archive, found: Sequence[Image], pattern: Pattern, scheduler: Any, workers: int) -> list[Place]:
    """Images by the groups that they go to, each with what its first file tells."""
    plates = sorted({image.values["plate"] for image in found})
    if len(plates) > 1:
        raise PlanError(f"pattern: expected one plate, found {len(plates)} ({', '.join(plates[:3])}, …): name it in the pattern")
    jobs: list[Job] = [(_numbered_form, (i, origin, image, pattern), 0) for i, image in enumerate(found)]
    forms = [form for _, form in sorted(run(jobs, scheduler, workers, lambda nbytes: None), key=lambda item: item[0])]
    if "well" not in pattern.names:
        paths = ["" if len(found) == 1 and "field" not in pattern.names else str(i) for i in range(len(found))]
        return [Place(*item) for item in zip(paths, found, forms, strict=True)]
    fields: Counter[str] = Counter()
    out = []
    for image, form in zip(found, forms, strict=True):
        well = "/".join(split_well(image.values["well"]))
        out.append(Place(f"{well}/{fields[well]}", image, form))
        fields[well] += 1
    return out


def _numbered_form(number: int, origin: Folder | Archive, image: Image, pattern: Pattern) -> tuple[int, Form]:
    return number, form_of(origin, image, pattern)  # a cluster returns results as they end


def _stem(target: Any) -> str:
    text = os.fspath(target) if isinstance(target, str | os.PathLike) else str(target)
    return text.rstrip("/").rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")


def _plan(
    origin: Folder | Archive, places: Sequence[Place], settings: _Settings, target: Any, pattern: Pattern, others: int
) -> Plan:
    chain = parse(settings.codec)
    if chain == "keep":
        raise PlanError("codec: expected a codec, found 'keep': TIFF's encodings are not Zarr's")
    groups: dict[str, dict[str, Json]] = {"": {}}
    arrays: list[ArrayPlan] = []
    for place in places:
        planes = Planes(origin, place.image, place.form)
        levels = settings.levels or _levels(place.form)
        scale = {**dict(zip("yx", place.form.pixel or (), strict=False)), **settings.scale}
        label = settings.name if not place.path else f"{settings.name}/{place.path}"
        attributes = image_attributes(label, place.image, planes.dtype, planes.shape[1], levels, scale, settings.method)
        group = f"/{place.path}" if place.path else ""
        groups[group] = attributes
        codecs = default(planes.dtype.itemsize, text=False) if chain == "auto" else fit(chain, planes.dtype.itemsize)
        arrays += [_array(replace(planes, level=level), f"{group}/{level}", codecs, settings) for level in range(levels)]
    _outer_groups(groups, places, settings.name, pattern)
    names = sorted({name for place in places for name in place.image.planes.values()})
    size, mtime = origin.identity(names)
    root = os.fspath(target) if isinstance(target, str | os.PathLike) else str(target)
    policy = Policy(codec=settings.codec)
    return Plan(
        f"{origin.path}",
        root,
        size,
        mtime,
        policy,
        dict(sorted(groups.items())),
        tuple(arrays),
        notes=_notes(places, pattern, others),
        workers=1,
        place=None if isinstance(target, str | os.PathLike) else target,
    )


def _notes(places: Sequence[Place], pattern: Pattern, others: int) -> tuple[str, ...]:
    notes = []
    for place in places:
        if place.image.missing:
            notes.append(f"/{place.path}: {place.image.missing} planes have no file, and read as zeros")
    if others:
        notes.append(f"{others} TIFFs do not match {pattern.text!r}, and are left out")
    return tuple(notes)


def _outer_groups(groups: dict[str, dict[str, Json]], places: Sequence[Place], name: str, pattern: Pattern) -> None:
    """The groups around images: a plate's, rows' and wells', or that of several images."""
    if places[0].path == "":
        return
    if "well" not in pattern.names:
        groups[""] = series_attributes()
        return
    fields = Counter(place.path.rpartition("/")[0] for place in places)
    wells = list(dict.fromkeys(place.image.values["well"] for place in places))
    groups[""] = plate_attributes(name, wells, max(fields.values()))
    for well, count in fields.items():
        groups.setdefault(f"/{well.partition('/')[0]}", {})
        groups[f"/{well}"] = well_attributes(count)


def _levels(form: Form) -> int:
    return 1 + max(0, math.ceil(math.log2(max(1, *form.shape) / SMALLEST)))


def _array(planes: Planes, path: str, codecs: Sequence[dict[str, Any]], settings: _Settings) -> ArrayPlan:
    """A level's array: chunks of one plane, a shard of as many as come near to the size wanted."""
    shape = planes.shape
    chunks = (1, 1, 1, min(settings.chunk, max(1, shape[3])), min(settings.chunk, max(1, shape[4])))
    shards = list(chunks)
    nbytes = math.prod(chunks) * planes.dtype.itemsize
    for axis in (4, 3, 2, 1, 0):
        whole = max(1, -(-shape[axis] // chunks[axis]))
        times = max(1, min(whole, settings.shard_nbytes // nbytes))
        shards[axis] = chunks[axis] * times
        nbytes *= times
        if times < whole:
            break
    described = planes.dtype.str
    return ArrayPlan(
        path,
        path,
        described,
        described,
        shape,
        shape,
        chunks,
        tuple(shards),
        "regrid",
        shards=tuple(shards),
        codecs=tuple(codecs),
        names=AXIS_NAMES,
        source_nbytes=math.prod(shape) * planes.dtype.itemsize,
    )


def _sources(origin: Folder | Archive, places: Sequence[Place], made: Plan, method: str) -> dict[str, Planes]:
    by_group = {f"/{place.path}" if place.path else "": place for place in places}
    out = {}
    for array in made.arrays:
        group, _, level = array.path.rpartition("/")
        place = by_group[group]
        out[array.path] = Planes(origin, place.image, place.form, int(level), method == "nearest")
    return out


def _jobs(place: Target, made: Plan, tasks: Sequence[Task], sources: Mapping[str, Planes]) -> Iterator[Job]:
    for task in tasks:
        work = tuple(
            (sources[made.arrays[piece.array].path], TargetArray(place, made.arrays[piece.array], 3), piece.region)
            for piece in task.pieces
        )
        nbytes = sum(math.prod(region_shape(region)) * written.plan.itemsize for _, written, region in work)
        yield run_task, (place, task.number, work), nbytes


def _checks(place: Target, made: Plan, sources: Mapping[str, Planes]) -> Iterator[Job]:
    for array in made.arrays:
        grid = ChunkGrid(array.shape, array.block)
        for index in grid.indices():
            region = grid.region(index)
            nbytes = math.prod(region_shape(region)) * array.itemsize
            yield _compare, (sources[array.path], TargetArray(place, array, 3), region), nbytes


def _compare(source: Planes, written: TargetArray, region: Region) -> None:
    import numpy as np

    if not np.array_equal(source.read(region), written.read(region), equal_nan=source.dtype.kind in "fc"):
        where = ",".join(f"{s.start}:{s.stop}" for s in region)
        raise TargetError(f"{written.target.name}{written.plan.path}[{where}]: expected the files' pixels, read others back")
