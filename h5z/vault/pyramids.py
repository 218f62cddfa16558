"""Images of TIFFs -> the Plan of an OME-Zarr: a group an image, an array a level of its pyramid, and the groups around them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from h5z.arrayplan import ArrayPlan
from h5z.codecs import default, fit, parse
from h5z.errors import PlanError
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.policy import Policy
from h5z.scheduling import Job, run
from h5z.vault.images import Form, Image, Pattern, Planes, form_of
from h5z.vault.ngff import AXIS_NAMES, image_attributes, plate_attributes, series_attributes, split_well, well_attributes
from h5z.vault.tiffs import Archive, Folder

SMALLEST = 256  # along y or x: below, no further level
METHODS = ("mean", "nearest")


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """How images are stored; each as for `h5z.vault.to_zarr`.

    Raises
    ------
    PlanError
        If it cannot be so.
    """

    name: str
    levels: int | None
    method: str
    chunk: int
    shard_nbytes: int
    codec: Any
    scale: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.method not in METHODS:
            raise PlanError(f"method: expected one of {', '.join(METHODS)}, found {self.method!r}")
        for name, value in (("levels", self.levels), ("chunk", self.chunk), ("shard_nbytes", self.shard_nbytes)):
            if value is not None and value < 1:
                raise PlanError(f"{name}: expected 1 or more, found {value}")
        if not self.scale.keys() <= {"t", "z", "y", "x"}:
            raise PlanError(f"scale: expected steps along t, z, y and x, found {', '.join(sorted(self.scale))}")
        for axis, step in self.scale.items():
            if not 0 < step < math.inf:
                raise PlanError(f"scale: expected a positive step along {axis}, found {step:g}")


@dataclass(frozen=True)
class PlacedImage:
    """An image, and its group in the target."""

    path: str
    image: Image
    form: Form

    @property
    def group(self) -> str:
        """The group's path in a plan; empty for the root."""
        return f"/{self.path}" if self.path else ""


def place_images(
    origin: Folder | Archive, images: Sequence[Image], pattern: Pattern, scheduler: Any, workers: int
) -> list[PlacedImage]:
    """Images by the groups that they go to, each with what its first file tells."""
    plates = sorted({image.values["plate"] for image in images})
    if len(plates) > 1:
        raise PlanError(f"pattern: expected one plate, found {len(plates)} ({', '.join(plates[:3])}, …): name it in the pattern")
    jobs: list[Job] = [(_numbered_form, (i, origin, image, pattern), 0) for i, image in enumerate(images)]
    forms = [form for _, form in sorted(run(jobs, scheduler, workers, lambda nbytes: None), key=lambda item: item[0])]
    if "well" not in pattern.names:
        paths = ["" if len(images) == 1 and "field" not in pattern.names else str(i) for i in range(len(images))]
        return [PlacedImage(*item) for item in zip(paths, images, forms, strict=True)]
    fields: Counter[str] = Counter()
    out = []
    for image, form in zip(images, forms, strict=True):
        well = "/".join(split_well(image.values["well"]))
        out.append(PlacedImage(f"{well}/{fields[well]}", image, form))
        fields[well] += 1
    return out


def _numbered_form(number: int, origin: Folder | Archive, image: Image, pattern: Pattern) -> tuple[int, Form]:
    return number, form_of(origin, image, pattern)  # a cluster returns results as they end


def plan_pyramids(
    origin: Folder | Archive, images: Sequence[PlacedImage], pyramid: Pyramid, target: Any, pattern: Pattern, others: int
) -> Plan:
    """Plan the arrays and groups of images' pyramids; `others` is how many TIFFs do not match the pattern."""
    chain = parse(pyramid.codec)
    if chain == "keep":
        raise PlanError("codec: expected a codec, found 'keep': TIFF's encodings are not Zarr's")
    groups: dict[str, dict[str, Json]] = {"": {}}
    arrays: list[ArrayPlan] = []
    for placed in images:
        planes = Planes(origin, placed.image, placed.form)
        levels = pyramid.levels or _levels(placed.form)
        scale = {**dict(zip("yx", placed.form.pixel or (), strict=False)), **pyramid.scale}
        label = pyramid.name if not placed.path else f"{pyramid.name}/{placed.path}"
        attributes = image_attributes(label, placed.image, planes.dtype, planes.shape[1], levels, scale, pyramid.method)
        groups[placed.group] = attributes
        codecs = default(planes.dtype.itemsize, text=False) if chain == "auto" else fit(chain, planes.dtype.itemsize)
        arrays += [_array(replace(planes, level=level), f"{placed.group}/{level}", codecs, pyramid) for level in range(levels)]
    _outer_groups(groups, images, pyramid.name, pattern)
    names = sorted({name for placed in images for name in placed.image.planes.values()})
    size, mtime = origin.identity(names)
    named = isinstance(target, str | os.PathLike)
    return Plan(
        str(origin.path),
        os.fspath(target) if named else str(target),
        size,
        mtime,
        Policy(codec=pyramid.codec),
        dict(sorted(groups.items())),
        tuple(arrays),
        notes=_notes(images, pattern, others),
        workers=1,
        place=None if named else target,
    )


def _notes(images: Sequence[PlacedImage], pattern: Pattern, others: int) -> tuple[str, ...]:
    notes = []
    for placed in images:
        if placed.image.missing:
            notes.append(f"/{placed.path}: {placed.image.missing} planes have no file, and read as zeros")
    if others:
        notes.append(f"{others} TIFFs do not match {pattern.text!r}, and are left out")
    return tuple(notes)


def _outer_groups(groups: dict[str, dict[str, Json]], images: Sequence[PlacedImage], name: str, pattern: Pattern) -> None:
    """The groups around images: a plate's, rows' and wells', or that of several images."""
    if images[0].path == "":
        return
    if "well" not in pattern.names:
        groups[""] = series_attributes()
        return
    fields = Counter(placed.path.rpartition("/")[0] for placed in images)
    wells = list(dict.fromkeys(placed.image.values["well"] for placed in images))
    groups[""] = plate_attributes(name, wells, max(fields.values()))
    for well, count in fields.items():
        groups.setdefault(f"/{well.partition('/')[0]}", {})
        groups[f"/{well}"] = well_attributes(count)


def _levels(form: Form) -> int:
    return 1 + max(0, math.ceil(math.log2(max(1, *form.shape) / SMALLEST)))


def _array(planes: Planes, path: str, codecs: Sequence[dict[str, Any]], pyramid: Pyramid) -> ArrayPlan:
    """A level's array: chunks of one plane, a shard of as many as come near to the size wanted."""
    shape = planes.shape
    chunks = (1, 1, 1, min(pyramid.chunk, max(1, shape[3])), min(pyramid.chunk, max(1, shape[4])))
    shards = list(chunks)
    nbytes = math.prod(chunks) * planes.dtype.itemsize
    for axis in (4, 3, 2, 1, 0):
        whole = max(1, -(-shape[axis] // chunks[axis]))
        times = max(1, min(whole, pyramid.shard_nbytes // nbytes))
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


def sources_of(origin: Folder | Archive, images: Sequence[PlacedImage], plan: Plan, method: str) -> dict[str, Planes]:
    """What each array of a plan is read from, by path."""
    by_group = {placed.group: placed for placed in images}
    out = {}
    for array in plan.arrays:
        group, _, level = array.path.rpartition("/")
        placed = by_group[group]
        out[array.path] = Planes(origin, placed.image, placed.form, int(level), method == "nearest")
    return out
