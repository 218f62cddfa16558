"""Dimension names of a tree's arrays, as netCDF-4 gives them; pure.

A dimension is named after the scale attached to it; the axes of arrays without scales become ``phony_dim_N``, shared within a
group by arrays of the same length (netCDF-C's rule, as h5netcdf's ``phony_dims="sort"`` has it).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from h5z.nodes import ArrayNode, GroupNode, Shape, Tree

NOT_A_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
NON_COORDINATE = "_nc4_non_coord_"
_MARKS = ("_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict", "_NCProperties")


@dataclass
class Dimensions:
    """What a tree's dimension scales say.

    Attributes
    ----------
    names : mapping
        Path of an array -> a name per axis.
    shapes : mapping
        Path of an array -> its shape as netCDF-4 shows it, where that is longer than what is stored: along an unlimited
        dimension that other variables have filled further.
    bare : mapping
        Path of a group -> its dimensions that are no variables; nothing is stored in them.
    """

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    bare: dict[str, list[ArrayNode]] = field(default_factory=dict)


def parent(path: str) -> str:
    """Path of the group that holds an object.

    >>> parent("/a/b"), parent("/a")
    ('/a', '/')
    """
    return path.rpartition("/")[0] or "/"


def is_scale(node: ArrayNode) -> bool:
    """Whether an array is a dimension scale."""
    mark = node.attribute("CLASS")
    return mark is not None and mark.value in ("DIMENSION_SCALE", ["DIMENSION_SCALE"])


def is_bare(node: ArrayNode) -> bool:
    """Whether an array says of itself that it is a netCDF-4 dimension and no variable."""
    name = node.attribute("NAME")
    text = name.value if name is not None else ""
    return is_scale(node) and isinstance(text, str) and text.startswith(NOT_A_VARIABLE) and len(node.shape or ()) == 1


def is_netcdf(tree: Tree) -> bool:
    """Whether a file follows netCDF-4's conventions: its marks, or dimension scales."""
    marked = any(a.name in _MARKS for node in tree.nodes.values() for a in node.attributes)
    return marked or any(is_scale(node) for node in tree.arrays)


def dimensions(tree: Tree) -> Dimensions:
    """Name every axis of every array of a tree, so that arrays of one group agree on each name's size."""
    out = Dimensions()
    members: dict[str, list[ArrayNode]] = defaultdict(list)
    for array in tree.arrays:
        members[parent(array.path)].append(array)
    numbers = _numbers(tree)
    sizes = _scale_sizes(tree)
    for group in (node.path for node in tree.nodes.values() if isinstance(node, GroupNode)):
        _name_group(tree, members[group], sizes, numbers, out)
    return out


def _numbers(tree: Tree) -> Iterator[int]:
    used = [a.value for node in tree.arrays for a in node.attributes if a.name == "_Netcdf4Dimid"]
    flat = [value[0] if isinstance(value, list) and value else value for value in used]
    start = max((int(n) for n in flat if isinstance(n, int)), default=-1) + 1
    while True:
        yield start
        start += 1


def _scale_sizes(tree: Tree) -> dict[str, int]:
    """Current length of each scale: of an unlimited one, as far as any array attached to it goes."""
    sizes = {n.path: n.shape[0] for n in tree.arrays if is_scale(n) and n.shape}
    for array in tree.arrays:
        for attached, length in zip(array.scales, array.shape or (), strict=False):
            for scale in attached[-1:]:
                node = tree.nodes.get(scale)
                if isinstance(node, ArrayNode) and node.maxshape and node.maxshape[0] is None and scale in sizes:
                    sizes[scale] = max(sizes[scale], length)
    return sizes


def _name_group(tree: Tree, arrays: list[ArrayNode], sizes: dict[str, int], numbers: Iterator[int], out: Dimensions) -> None:
    local = {_dimension(a.path): sizes[a.path] for a in arrays if is_scale(a) and a.path in sizes}
    wanted: Counter[int] = Counter()
    for array in arrays:
        if not _labelled(array) and not is_scale(array):
            wanted |= Counter(array.shape or ())
    phony = dict(local)
    have = Counter(local.values())
    for size, count in wanted.items():
        for _ in range(have[size], count):
            phony[f"phony_dim_{next(numbers)}"] = size
    known: dict[str, int] = {_dimension(a.path): -1 for a in arrays if a.shape == ()}  # a scalar's name is no dimension's
    for array in sorted(arrays, key=lambda node: not is_scale(node)):
        if is_bare(array):
            out.bare.setdefault(parent(array.path), []).append(array)
            continue
        names, shape = _name_array(tree, array, sizes, phony)
        for axis, (name, length) in enumerate(zip(names, shape, strict=True)):
            repeated = name in names[:axis] and not _labelled(array)
            if not name or repeated or known.setdefault(name, length) != length:
                names[axis] = _spare(known, length, names, numbers)
                shape[axis] = (array.shape or ())[axis]
                known[names[axis]] = shape[axis]
        out.names[array.path] = tuple(names)
        if tuple(shape) != array.shape:
            out.shapes[array.path] = tuple(shape)


def _labelled(array: ArrayNode) -> bool:
    return bool(array.scales) and all(array.scales)


def _dimension(path: str) -> str:
    return path.rpartition("/")[2]


def _spare(known: dict[str, int], length: int, names: list[str], numbers: Iterator[int]) -> str:
    for name, size in known.items():
        if size == length and name.startswith("phony_dim_") and name not in names:
            return name
    return f"phony_dim_{next(numbers)}"


def _name_array(tree: Tree, array: ArrayNode, sizes: dict[str, int], phony: dict[str, int]) -> tuple[list[str], list[int]]:
    shape = list(array.shape or ())
    coordinates = array.attribute("_Netcdf4Coordinates")
    if is_scale(array) and coordinates is not None and isinstance(coordinates.value, list):
        ids = _by_id(tree, parent(array.path))
        names = [ids.get(number, "") for number in coordinates.value]
        if len(names) == len(shape):
            return names, shape
    if _labelled(array) and len(array.scales) == len(shape):
        names = [_dimension(attached[-1]) for attached in array.scales]
        for axis, attached in enumerate(array.scales):
            length = sizes.get(attached[-1], shape[axis])
            grows = array.maxshape is not None and array.maxshape[axis] is None
            if grows and length > shape[axis] and array.layout == "chunked":
                shape[axis] = length
        return names, shape
    if is_scale(array) and len(shape) == 1:
        return [_dimension(array.path)], shape
    taken: Counter[int] = Counter()
    names = []
    for axis, length in enumerate(shape):
        if axis < len(array.scales) and array.scales[axis]:
            names.append(_dimension(array.scales[axis][0]))
            continue
        choices = [name for name, size in phony.items() if size == length]
        names.append(choices[taken[length]] if taken[length] < len(choices) else "")
        taken[length] += 1
    return names, shape


def _by_id(tree: Tree, group: str) -> dict[int, str]:
    """netCDF-4's dimension numbers in a group and those above it."""
    found: dict[int, str] = {}
    for array in filter(is_scale, sorted(tree.arrays, key=lambda node: -len(node.shape or ()))):
        number = array.attribute("_Netcdf4Dimid")
        above = parent(array.path)
        if number is not None and isinstance(number.value, int) and (group + "/").startswith(above.rstrip("/") + "/"):
            found[number.value] = _dimension(array.path)
    return found
