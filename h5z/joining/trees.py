"""Several files' hierarchies as one, joined along a dimension; refused, with the odd one named, where they do not fit. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from h5z.attributes import DIMENSION_ATTRIBUTES, SCALE_ATTRIBUTES
from h5z.chunking import Join
from h5z.dimensions import Dimensions, dimensions
from h5z.errors import PlanError, UnsupportedError
from h5z.joining.epochs import between
from h5z.leaves import leaves
from h5z.nodes import ArrayNode, GroupNode, Json, Shape, Tree
from h5z.payload import summed
from h5z.plan import Part
from h5z.records import json_name

# Attributes that say what stored numbers mean: where they differ, numbers side by side would not mean the same.
ENCODING = ("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
_HIDDEN = {*DIMENSION_ATTRIBUTES, *SCALE_ATTRIBUTES, "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"}
_MANY = 10
Schema = dict[str, dict[str, Json]]


@dataclass(frozen=True)
class Slice:
    """One file as a slice: its hierarchy, its schema, and how much of the dimension it holds."""

    tree: Tree
    dims: Dimensions
    schema: Schema
    length: int

    @classmethod
    def of(cls, tree: Tree, dim: str) -> Slice:
        """Look at a file's hierarchy.

        Raises
        ------
        PlanError
            If nothing in it lies along the dimension, or arrays do not agree on its length.
        """
        dims = dimensions(tree)
        lengths = {path: shape[dims.names[path].index(dim)] for path, shape in _shown(tree, dims) if dim in dims.names[path]}
        if not lengths:
            found = ", ".join(sorted({name for names in dims.names.values() for name in names})) or "none"
            what = f"expected arrays along the dimension {dim!r}, found the dimensions {found}"
            raise PlanError(f"{tree.file}: {what} (new_dim makes each file one step along it)")
        first = next(iter(lengths))
        for path, length in lengths.items():
            if length != lengths[first]:
                what = f"expected a length of {lengths[first]} along {dim!r} as {first} has, found {length}"
                raise PlanError(f"{tree.file}: {path}: {what}")
        return cls(tree, dims, schema(tree, dims, dim), lengths[first])

    def array(self, path: str) -> ArrayNode:
        """The array at a path."""
        return cast(ArrayNode, self.tree.nodes[path])

    def axis(self, path: str, dim: str) -> int | None:
        """Where the dimension is among an array's; None where it is not."""
        names = self.dims.names.get(path, ())
        return names.index(dim) if dim in names else None


def _shown(tree: Tree, dims: Dimensions) -> Iterator[tuple[str, Shape]]:
    for array in tree.arrays:
        if array.path in dims.names:
            yield array.path, dims.shapes.get(array.path, array.shape or ())


def schema(tree: Tree, dims: Dimensions, dim: str) -> Schema:
    """What files that are joined must have in common, by path: kinds, data types, dimensions, shapes, what numbers mean."""
    out: Schema = {}
    bare = {node.path for nodes in dims.bare.values() for node in nodes}
    shown = dict(_shown(tree, dims))
    for path, node in tree.nodes.items():
        if isinstance(node, ArrayNode) and path not in bare:
            names = dims.names.get(path, ())
            own: dict[str, Json] = {
                "kind": "array",
                "dtype": node.dtype,
                "dimensions": [n for n in names if "phony_dim_" not in n],
            }
            shape = shown.get(path, node.shape)
            own["shape"] = None if shape is None else [n if d != dim else dim for n, d in zip(shape, names or shape, strict=True)]
            own |= {name: found.value for name in ENCODING if (found := node.attribute(name)) is not None}
            if node.fill is not None:
                own["fill value"] = node.fill
            if dim not in names and node.counts:
                own["lengths"] = node.counts
            out[path] = own
        elif isinstance(node, GroupNode):
            out[path] = {"kind": "group"}
    return cast(Schema, json.loads(json.dumps(out)))


def odd_ones(slices: Sequence[Slice], wanted: Schema | None, *, rebase: bool) -> Schema:
    """The schema that files have in common: the target's, or else most files'.

    Raises
    ------
    PlanError
        If any has another: each is named, with the first thing that differs.
    """
    texts = [json.dumps(_compared(item.schema, rebase=rebase), sort_keys=True) for item in slices]
    common = slices[texts.index(Counter(texts).most_common(1)[0][0])].schema if wanted is None else wanted
    text = json.dumps(_compared(common, rebase=rebase), sort_keys=True)
    odd = [item for item, found in zip(slices, texts, strict=True) if found != text]
    if odd:
        others = "the target has" if wanted is not None else f"{len(slices) - len(odd)} of {len(slices)} files have"
        named = "; ".join(f"{item.tree.file}: {_unlike(common, item.schema, others, rebase=rebase)}" for item in odd[:_MANY])
        more = f"; and {len(odd) - _MANY} more files" if len(odd) > _MANY else ""
        raise PlanError(f"{named}{more}")
    return common


def _compared(found: Schema, *, rebase: bool) -> Schema:
    if not rebase:
        return found
    return {path: {k: v for k, v in own.items() if k != "units" or not is_time(own)} for path, own in found.items()}


def is_time(own: Mapping[str, Json]) -> bool:
    """Whether an array's schema says that it holds times."""
    return isinstance(own.get("units"), str) and " since " in own["units"]


def _unlike(common: Schema, found: Schema, others: str, *, rebase: bool) -> str:
    """The first thing in which one file's schema differs."""
    common, found = _compared(common, rebase=rebase), _compared(found, rebase=rebase)
    for path in {**common, **found}:
        if path not in found:
            return f"expected {common[path]['kind']} {path}, as {others}, found none"
        if path not in common:
            return f"expected no {found[path]['kind']} {path}, as {others}, found one"
        for name in {**common[path], **found[path]}:
            wanted, got = common[path].get(name), found[path].get(name)
            if wanted != got:
                hint = (
                    " (times='first' counts them from the first file's date)" if name == "units" and is_time(common[path]) else ""
                )
                return f"{path}: {name}: expected {json.dumps(wanted)}, as {others}, found {json.dumps(got)}{hint}"
    return "differs"


def shifts(item: Slice, common: Schema) -> dict[str, list[Any]]:
    """What brings a file's times to the units that the common schema has, by path.

    Raises
    ------
    PlanError
        If integers would not stay integers.
    """
    out: dict[str, list[Any]] = {}
    for path, own in item.schema.items():
        wanted = common[path].get("units")
        if not is_time(own) or own["units"] == wanted or not is_time(common[path]):
            continue
        missing = tuple(
            value for name in ("_FillValue", "missing_value") if isinstance(value := _bare(own.get(name)), int | float)
        )
        try:
            found = between(own["units"], str(wanted), str(own.get("calendar", "standard")), missing=missing)
        except PlanError as error:
            raise PlanError(f"{item.tree.file}: {path}: {error}") from None
        dtype = own["dtype"]
        if not isinstance(dtype, str) or ((found.times % found.over or found.plus % found.over) and dtype[1] in "iu"):
            what = f"expected times that {wanted!r} has whole numbers for, found {own['units']!r}"
            raise PlanError(f"{item.tree.file}: {path}: {what} as {dtype}")
        bounds = item.array(path).attribute("bounds")
        place = f"{path.rpartition('/')[0]}/{bounds.value}" if bounds is not None else None
        for each in (path, place):
            if each in item.schema and (each == path or "units" not in item.schema[each]):
                out[each] = found.to_list()
    return out


def _bare(value: Json) -> Json:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def part(item: Slice, dim: str, common: Schema) -> Part:
    """A file as a plan names it."""
    stored = {}
    for path, shape in item.dims.shapes.items():
        if item.axis(path, dim) is not None and item.array(path).shape != shape:
            stored[path] = list(item.array(path).shape or ())
    tree = item.tree
    return Part(tree.file, tree.size, tree.mtime_ns, tree.digest, item.length, stored, shifts(item, common))


def joined(
    slices: Sequence[Slice], dim: str, *, start: int = 0, cut: Mapping[str, Any] | None = None
) -> tuple[Tree, dict[str, Join]]:
    """One hierarchy for all files, in order: the first's, with arrays along the dimension as long as all together.

    Parameters
    ----------
    start : int
        How much of the dimension the target has already.
    cut : mapping, optional
        How the target has cut its arrays, by path.

    Raises
    ------
    UnsupportedError
        If an array along the dimension holds sequences of variable length.
    """
    first = slices[0]
    nodes = dict(first.tree.nodes)
    joins = {}
    for path in first.schema:
        axis = first.axis(path, dim) if isinstance(nodes[path], ArrayNode) else None
        if axis is None:
            continue
        if any(leaf.ragged for leaf in leaves(first.array(path).dtype)):
            raise UnsupportedError(f"{first.tree.file}: {path}: sequences of variable length cannot be joined along {dim!r}")
        arrays = [item.array(path) for item in slices]
        nodes[path] = _one(arrays, axis, start + sum(item.length for item in slices))
        alike = len({json.dumps([a.chunks, a.filters, a.layout, a.edges]) for a in arrays}) == 1
        lengths = tuple(item.length for item in slices)
        joins[path] = Join(axis, lengths, start, alike, None if cut is None else cut[path])
    for bare in (node for nodes in first.dims.bare.values() for node in nodes):
        if bare.path.rpartition("/")[2] == dim:
            nodes[bare.path] = replace(bare, shape=(start + sum(item.length for item in slices),), content=None)
    problems = tuple(problem for item in slices for problem in item.tree.problems)
    notes = tuple(dict.fromkeys([*(note for item in slices for note in item.tree.notes), *_attribute_notes(slices)]))
    return replace(first.tree, nodes=nodes, problems=problems, notes=notes), joins


def _one(arrays: Sequence[ArrayNode], axis: int, length: int) -> ArrayNode:
    """One array for all files'; where they are cut otherwise, with the largest chunks, for the memory that reading takes."""
    node = arrays[0]
    shape = tuple(length if a == axis else n for a, n in enumerate(node.shape or ()))
    most = None if node.maxshape is None else tuple(None if n is None else m for n, m in zip(node.maxshape, shape, strict=True))
    cuts = [array.chunks for array in arrays if array.chunks]
    runs = [run for array in arrays for run in array.payload]
    return replace(
        node,
        shape=shape,
        maxshape=most,
        chunks=tuple(map(max, *cuts)) if len(cuts) > 1 else cuts[0] if cuts else None,
        layout=next((array.layout for array in arrays if array.chunks), node.layout),
        storage_nbytes=sum(array.storage_nbytes for array in arrays),
        payload=tuple(runs) if axis == 0 else summed(runs),
        counts={},
        allocated=None,
        nulls=None,
    )


def _attribute_notes(slices: Sequence[Slice]) -> Iterator[str]:
    """Attributes that differ from the first file's, whose are kept."""
    first = slices[0]
    for path in first.schema:
        own = _seen(first, path)
        counts: Counter[str] = Counter()
        for item in slices[1:]:
            theirs = _seen(item, path)
            counts.update(name for name in {**own, **theirs} if own.get(name) != theirs.get(name))
        for name, count in counts.items():
            yield f"{path}: attribute {json_name(name)}: the first file's is kept; {count} other files have another"


def _seen(item: Slice, path: str) -> dict[str, Json]:
    node = item.tree.nodes[path]
    return {a.name: a.value for a in node.attributes if a.name not in _HIDDEN and a.name not in ENCODING}
