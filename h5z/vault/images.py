"""Images out of many TIFFs: which file is which plane, by a pattern of names; and lazily, their pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from h5z.errors import PlanError, SourceError
from h5z.grid import Region, region_shape
from h5z.vault.report import shown
from h5z.vault.tiffs import Archive, Folder, cache, decoded

AXES = ("time", "channel", "z")  # of an image, before y and x
NAMES = ("plate", "well", "field", *AXES)
_LETTERS = {"t": "time", "c": "channel", "s": "channel", "z": "z", "i": "z", "q": "z"}  # tifffile's axes
_PLACE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}|(\*\*)|(\*)")
_IMAGES = (".tif", ".tiff")

Plane: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Pattern:
    r"""A pattern of names: ``{plate}/{well}/T{time}F{field}Z{z}C{channel}.tif``.

    ``{well}``, ``{plate}`` and ``{channel}`` stand for characters other than slashes, ``{field}``, ``{z}`` and ``{time}`` for
    digits; ``{channel:\w\d}`` for what the regular expression says. ``*`` is anything without slashes, ``**`` anything.

    Raises
    ------
    PlanError
        If it names anything else, or is no pattern.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        names = [match[1] for match in _PLACE.finditer(self.text) if match[1]]
        unknown = [name for name in names if name not in NAMES]
        if unknown or not names or len(set(names)) < len(names):
            known = ", ".join(f"{{{name}}}" for name in NAMES)
            raise PlanError(f"pattern: expected each of {known} once at most, and one of them, found {self.text!r}")
        try:
            self.compiled()
        except re.error as error:
            raise PlanError(f"pattern: {self.text!r} is no pattern ({error})") from None

    def compiled(self) -> re.Pattern[str]:
        """The regular expression that it stands for."""
        out, at = [], 0
        for match in _PLACE.finditer(self.text):
            out.append(re.escape(self.text[at : match.start()]))
            at = match.end()
            name, wanted, anything = match[1], match[2], match[3]
            if name:
                out.append(f"(?P<{name}>{wanted or (r'[0-9]+' if name in ('field', 'z', 'time') else '[^/]+?')})")
            else:
                out.append(".*" if anything else "[^/]*")
        return re.compile("".join([*out, re.escape(self.text[at:])]), re.DOTALL)

    @property
    def names(self) -> tuple[str, ...]:
        """What it names."""
        return tuple(match[1] for match in _PLACE.finditer(self.text) if match[1])


@dataclass(frozen=True)
class Image:
    """The planes of one image: of a field of a well of a plate, as far as there are such.

    Attributes
    ----------
    values : mapping
        The values of plate, well and field.
    axes : mapping
        The values along time, channel and z, in order.
    planes : mapping
        The name of the file of each (time, channel, z); planes without one read as zeros.
    """

    values: Mapping[str, str]
    axes: Mapping[str, tuple[str, ...]]
    planes: Mapping[Plane, str]

    @property
    def missing(self) -> int:
        """How many planes have no file."""
        return int(np.prod([len(self.axes[name]) for name in AXES])) - len(self.planes)


def find_images(source: Folder | Archive, pattern: Pattern) -> tuple[list[Image], int]:
    """Sort files into images by their names; return those, and how many TIFFs do not match.

    Raises
    ------
    PlanError
        If no file matches, or two are the same plane.
    """
    compiled = pattern.compiled()
    groups: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
    others = 0
    for name in source.names():
        match = compiled.fullmatch(name)
        if match is None:
            others += name.lower().endswith(_IMAGES)
            continue
        found = match.groupdict()
        outer = tuple(found.get(key, "") for key in ("plate", "well", "field"))
        inner = tuple(found.get(key, "") for key in AXES)
        before = groups.setdefault(outer, {}).setdefault(inner, name)
        if before != name:
            raise PlanError(f"pattern: {name} and {before} are the same plane by {pattern.text!r}")
    if not groups:
        raise PlanError(f"pattern: expected files that match {pattern.text!r}, found none")
    axes = {name: _values(groups.values(), i) for i, name in enumerate(AXES)}
    return [_image(outer, groups[outer], axes) for outer in sorted(groups, key=lambda key: tuple(map(natural, key)))], others


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers within text by their values; equal ones by how they are written.

    >>> sorted(["B10", "B9", "A2"], key=natural)
    ['A2', 'B9', 'B10']
    """
    parts = re.split(r"([0-9]+)", text)
    numbers = tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)
    return (*numbers, (2, 0, text))


def _values(groups: Iterable[Mapping[tuple[str, ...], str]], axis: int) -> tuple[str, ...]:
    """The values along an axis of any image: readers of plates want all fields to be of one shape."""
    return tuple(sorted({key[axis] for planes in groups for key in planes}, key=natural))


def _image(outer: tuple[str, ...], planes: Mapping[tuple[str, ...], str], axes: Mapping[str, tuple[str, ...]]) -> Image:
    places = {name: {value: i for i, value in enumerate(values)} for name, values in axes.items()}
    indexed = {(places["time"][t], places["channel"][c], places["z"][z]): name for (t, c, z), name in planes.items()}
    return Image(dict(zip(("plate", "well", "field"), outer, strict=True)), axes, indexed)


@dataclass(frozen=True)
class Form:
    """What an image's first file tells of all of them.

    Attributes
    ----------
    shape : tuple of int
        Of a plane: y, x.
    inner : tuple of int
        How many times, channels and z a file holds; 1 along the axes that its name tells.
    """

    shape: tuple[int, int]
    dtype: str
    inner: tuple[int, int, int]
    axes: str
    pixel: tuple[float, float] | None = None


def form_of(source: Folder | Archive, image: Image, pattern: Pattern) -> Form:
    """Read what an image's first file tells.

    Raises
    ------
    SourceError
        If it is no image, or has an axis that its name has too.
    """
    name = image.planes[min(image.planes)]
    values, axes, pixel = decoded(source, name)
    inner = dict.fromkeys(AXES, 1)
    for letter, length in zip(axes, values.shape, strict=True):
        if letter in "yx":
            continue
        axis = _LETTERS.get(letter)
        if axis is None or (axis in pattern.names and length > 1) or inner[axis] > 1:
            what = f"axes {axes.upper()} of {values.shape}"
            raise SourceError(f"{source.path}: {shown(name)}: expected only axes that its name does not tell, found {what}")
        inner[axis] = length
    if "y" not in axes or "x" not in axes:
        raise SourceError(f"{source.path}: {shown(name)}: expected an image of y and x, found axes {axes.upper()}")
    shape = values.shape[axes.index("y")], values.shape[axes.index("x")]
    return Form(shape, values.dtype.newbyteorder("<").str, (inner["time"], inner["channel"], inner["z"]), axes, pixel)


@dataclass(frozen=True)
class Planes:
    """An image as an array of (time, channel, z, y, x); reads regions, a plane's file at a time. Picklable.

    Attributes
    ----------
    level : int
        Of the pyramid: y and x are halved that often, by the mean or by every second pixel (`nearest`).
    """

    source: Folder | Archive
    image: Image
    form: Form
    level: int = 0
    nearest: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        outer = (len(self.image.axes[name]) * n for name, n in zip(AXES, self.form.inner, strict=True))
        return (*outer, *(-(-n // 2**self.level) for n in self.form.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a pixel."""
        return np.dtype(self.form.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 5

    def __getitem__(self, key: Any) -> Any:
        """Read by integers and slices, as numpy does."""
        given = key if isinstance(key, tuple) else (key,)
        if Ellipsis in given:
            at = given.index(Ellipsis)
            given = (*given[:at], *(slice(None),) * (6 - len(given)), *given[at + 1 :])
        given = (*given, *(slice(None),) * (5 - len(given)))
        region, steps = [], []
        for item, n in zip(given, self.shape, strict=True):
            span = range(n)[item] if isinstance(item, slice) else (range(n)[item],)
            region.append(slice(min(span), max(span) + 1) if len(span) else slice(0, 0))
            steps.append(slice(None, None, item.step) if isinstance(item, slice) else 0)
        return self.read(tuple(region))[tuple(steps)]

    def read(self, region: Region) -> Any:
        """Read a region of this level.

        Raises
        ------
        SourceError
            If a file cannot be read, or is of another shape or type than the image's first.
        """
        out = np.zeros(region_shape(region), self.dtype)
        outer, inside = region[:3], region[3:]
        for place in np.ndindex(*region_shape(outer)):
            index = tuple(s.start + i for s, i in zip(outer, place, strict=True))
            plane = self._plane(index)
            if plane is not None:
                out[place] = self._reduced(plane, inside)
        return out

    def _plane(self, index: tuple[int, ...]) -> Any:
        """A whole plane at full size; None where no file is."""
        files = tuple(i // n for i, n in zip(index, self.form.inner, strict=True))
        name = self.image.planes.get((files[0], files[1], files[2]))
        if name is None:
            return None
        values = cache.get(self.source, name)
        letters = self.form.axes
        place: list[Any] = []
        for letter, length in zip(letters, values.shape if values.ndim == len(letters) else (), strict=False):
            axis = AXES.index(_LETTERS[letter]) if letter in _LETTERS else None
            place.append(slice(None) if axis is None else index[axis] % self.form.inner[axis] if length > 1 else 0)
        plane = values[tuple(place)] if place else values
        if plane.shape != self.form.shape or plane.dtype.newbyteorder("<").str != self.form.dtype:
            expected, found = f"{self.form.shape} of {self.form.dtype}", f"{plane.shape} of {plane.dtype}"
            raise SourceError(f"{self.source.path}: {shown(name)}: expected an image of {expected} as the others, found {found}")
        return plane if letters.index("y") < letters.index("x") else plane.T

    def _reduced(self, plane: Any, inside: Region) -> Any:
        factor = 2**self.level
        part = plane[tuple(slice(s.start * factor, s.stop * factor) for s in inside)]
        if self.nearest:
            return part[::factor, ::factor]
        for _ in range(self.level):
            part = halved(part)
        return part


def halved(values: Any) -> Any:
    """Half the size along y and x: means of two by two; what is left over at the end, of what there is.

    >>> halved(np.array([[1, 3, 9], [5, 7, 11]], "u1"))
    array([[ 4, 10]], dtype=uint8)
    """
    wide = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge") if any(n % 2 for n in values.shape) else values
    kind: Any = np.float64 if values.dtype.itemsize > 2 and values.dtype != np.float32 else np.float32
    if values.dtype.kind == "c":
        kind = values.dtype
    corners: list[Any] = [wide[i::2, j::2].astype(kind) for i in range(2) for j in range(2)]
    mean = (corners[0] + corners[1] + corners[2] + corners[3]) / 4
    return np.rint(mean).astype(values.dtype) if values.dtype.kind in "iub" else mean.astype(values.dtype)
