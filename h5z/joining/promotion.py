"""A file that lacks a dimension as one step along it: its hierarchy as if it had that dimension, of length 1. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import cast

from h5z.dimensions import NOT_A_VARIABLE, dimensions, is_scale, parent
from h5z.errors import PlanError
from h5z.nodes import ArrayNode, Attribute, GroupNode, Tree

# Attributes that tell an array's dimensions, which are others then; `ArrayNode.scales` tells those.
_TOLD = ("DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")


def promoted(tree: Tree, dim: str, varying: Collection[str] = ()) -> Tree:
    """A file's hierarchy with one more dimension, the first of each array but the coordinates.

    As `xarray.open_mfdataset(combine="nested", concat_dim=dim, coords="different")` has it: coordinates are arrays of a
    dimension's name, and those that a ``coordinates`` attribute names. A scalar of the new dimension's name becomes its own.

    Parameters
    ----------
    varying : collection of str
        Paths of coordinates that are others in other files: they get the dimension too, where none of theirs has their name.

    Raises
    ------
    PlanError
        If arrays lie along the dimension already.
    """
    dims = dimensions(tree)
    along = next((path for path, names in dims.names.items() if dim in names), None)
    if along is not None:
        what = f"expected files without the dimension {dim!r}, each to be one step along it; found {along} along it"
        raise PlanError(f"{tree.file}: {what} (new_dim is for files that lack it)")
    scales = {path for path, node in tree.nodes.items() if isinstance(node, ArrayNode) and _is_value(node, dim)}
    stay = {path for path, names in dims.names.items() if path.rpartition("/")[2] in names} | (
        set(_coordinates(tree)) - set(varying)
    )
    stay |= {node.path for nodes in dims.bare.values() for node in nodes}
    nodes, numbers = dict(tree.nodes), _free_numbers(tree)
    for array in tree.arrays:
        if array.path in scales:
            nodes[array.path] = replace(array, shape=(1,), attributes=_of_scale(array, dim, numbers), scales=())
        elif array.path not in stay and array.shape is not None:
            scale = _above(array.path, scales, dim)
            if scale not in nodes:
                nodes[scale] = ArrayNode(scale, ">f4", (1,), attributes=_marks(f"{NOT_A_VARIABLE}.{1:10d}", numbers))
                group = cast(GroupNode, nodes[parent(scale)])
                nodes[group.path] = replace(group, children=(*group.children, dim) if group.children else ())
            nodes[array.path] = _one_step(array, scale)
    return replace(tree, nodes=nodes)


def _free_numbers(tree: Tree) -> Iterator[int]:
    """Numbers for new dimensions, where the file numbers those that it has (netCDF-4's ``_Netcdf4Dimid``); none where not."""
    found = [item.value for array in tree.arrays if (item := array.attribute("_Netcdf4Dimid")) is not None]
    used = [number for number in found if isinstance(number, int)]
    return count(max(used) + 1) if used else iter(())


def _is_value(array: ArrayNode, dim: str) -> bool:
    """Whether an array is where a file says at which step of the dimension it is."""
    return array.path.rpartition("/")[2] == dim and array.shape == ()


def _coordinates(tree: Tree) -> Iterator[str]:
    """Arrays that others in their group, or it itself, name as their coordinates."""
    for node in tree.nodes.values():
        found = node.attribute("coordinates") if isinstance(node, ArrayNode) else _of_group(node)
        group = node.path if isinstance(node, GroupNode) else parent(node.path)
        if found is not None and isinstance(found.value, str):
            named = [f"{group.rstrip('/')}/{name}" for name in found.value.split()]
            if all(path in tree.nodes for path in named):
                yield from named


def _of_group(node: object) -> Attribute | None:
    attributes = node.attributes if isinstance(node, GroupNode) else ()
    return next((item for item in attributes if item.name == "coordinates"), None)


def _above(path: str, scales: set[str], dim: str) -> str:
    """The scale of an array's new dimension: in its group, or the next one above that has one, or else the root's."""
    group = parent(path)
    while group != "/" and f"{group}/{dim}" not in scales:
        group = parent(group)
    return f"{group.rstrip('/')}/{dim}"


def _one_step(array: ArrayNode, scale: str) -> ArrayNode:
    shape = cast(tuple[int, ...], array.shape)
    others = array.scales or tuple(() for _ in shape)
    return replace(
        array,
        shape=(1, *shape),
        maxshape=None if array.maxshape is None else (1, *array.maxshape),
        chunks=None if array.chunks is None else (1, *array.chunks),
        scales=((scale,), *others),
        attributes=tuple(item for item in array.attributes if item.name not in _TOLD),
    )


def _of_scale(array: ArrayNode, dim: str, numbers: Iterator[int]) -> tuple[Attribute, ...]:
    return array.attributes if is_scale(array) else (*array.attributes, *_marks(dim, numbers))


def _marks(name: str, numbers: Iterator[int]) -> tuple[Attribute, ...]:
    """What makes a dimension scale, a variable or (by its name) not."""
    numbered = [Attribute("_Netcdf4Dimid", "<i4", (), number) for number in islice(numbers, 1)]
    return (_text("CLASS", "DIMENSION_SCALE"), _text("NAME", name), *numbered)


def _text(name: str, value: str) -> Attribute:
    size = len(value.encode()) + 1
    return Attribute(name, {"class": "string", "size": size, "charset": "ascii", "padding": "nullterm"}, (), value)
