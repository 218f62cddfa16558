"""Arrays with named dimensions -> netCDF-4: dimension scales, as netCDF-C and h5netcdf write them.

A name is a dimension of the group of the array that has it, or of one above that has the name with the same size. Its scale is
the array of that name on that dimension alone; where there is none, a dataset that says it is no variable. An array that has a
dimension's name without lying on it gets netCDF's prefix ``_nc4_non_coord_``. Booleans, which netCDF-4 has not, become bytes
with xarray's attribute ``dtype``. Source: "NetCDF-4 file format" (netCDF-C documentation, file format specifications).
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from h5z.attributes import number
from h5z.dimensions import NON_COORDINATE, NOT_A_VARIABLE, parent
from h5z.dtypes import BOOL, STRING, is_string
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Node
from h5z.restore.headers import Headers

_TRACKED = "links indexed, attrs indexed"


def as_netcdf(headers: Headers, names: dict[str, tuple[str, ...]]) -> Headers:
    """Headers with dimension scales for the names of arrays' dimensions.

    Parameters
    ----------
    names : mapping
        Path of an array -> its dimension names, where it has one for each axis.
    """
    maker = _Maker(headers, names)
    return maker.made()


class _Maker:
    def __init__(self, headers: Headers, names: dict[str, tuple[str, ...]]) -> None:
        self.headers, self.names = headers, names
        self.arrays = {node.path: node for node in headers.tree.arrays}
        self.sizes: dict[str, dict[str, int]] = defaultdict(dict)  # of each group's own dimensions
        self.scales: dict[tuple[str, str], str] = {}  # group and dimension -> path of its scale
        self.at: dict[str, list[str]] = {}  # the group of each dimension of an array
        self.renamed: dict[str, str] = {}

    def made(self) -> Headers:
        for path in sorted(self.names, key=lambda path: path.count("/")):
            if self.names[path]:
                self._place(path)
        for group, sizes in self.sizes.items():
            for name in sizes:
                self._scale(group, name)
        nodes: dict[str, Node] = {}
        for path, node in self.headers.tree.nodes.items():
            if isinstance(node, GroupNode):
                nodes[path] = replace(node, order=_TRACKED, attributes=tuple(map(_plain_attribute, node.attributes)))
                nodes |= self._bare(path)
            elif isinstance(node, ArrayNode):
                made = self._variable(node)
                nodes[made.path] = made
        self.headers.parts = {self.renamed.get(path, path): parts for path, parts in self.headers.parts.items()}
        self.headers.tree = replace(self.headers.tree, nodes=_walked(nodes), creation={"superblock": 2})
        return self.headers

    def _place(self, path: str) -> None:
        """Find the groups that an array's dimensions belong to; an array whose names cannot be dimensions has none."""
        shape, group = self.arrays[path].shape or (), parent(path)
        found: dict[str, tuple[str, int]] = {}
        for name, length in zip(self.names[path], shape, strict=True):
            place = next((g for g in _upwards(group) if self.sizes[g].get(name) == length), group)
            known = self.sizes[place].get(name, length)
            if known != length or found.setdefault(name, (place, length)) != (place, length) or "/" in name:
                self.headers.notes.append(f"{path}: its dimension {name!r} has other lengths too: it has no dimension scales")
                return
        for name, (place, length) in found.items():
            self.sizes[place][name] = length
        self.at[path] = [found[name][0] for name in self.names[path]]

    def _scale(self, group: str, name: str) -> None:
        path = f"{group.rstrip('/')}/{name}"
        if path in self.arrays and self.at.get(path) == [group] and self.names[path] == (name,):
            self.scales[group, name] = path
            return
        if path in self.headers.tree.nodes:
            spare = f"{group.rstrip('/')}/{NON_COORDINATE}{name}"
            if not isinstance(self.headers.tree.nodes[path], ArrayNode) or spare in self.headers.tree.nodes:
                self.headers.notes.append(f"{path} stands where the dimension {name!r} should: it has no scale")
                return
            self.renamed[path] = spare
        self.scales[group, name] = path

    def _bare(self, group: str) -> dict[str, Node]:
        """A group's dimensions that are no variables."""
        out: dict[str, Node] = {}
        for (place, name), path in self.scales.items():
            if place == group and (path not in self.arrays or path in self.renamed):
                size = self.sizes[group][name]
                label = f"{NOT_A_VARIABLE}.{size:10d}"
                node = ArrayNode(path, ">f4", (size,), allocated=[[1, -1]] if size else None, order="attrs indexed")
                out[path] = replace(node, attributes=self._marks(place, name, label))
        return out

    def _marks(self, group: str, name: str, label: str) -> tuple[Attribute, ...]:
        number_of = list(self.scales).index((group, name))
        return (_text("CLASS", "DIMENSION_SCALE"), _text("NAME", label), Attribute("_Netcdf4Dimid", "<i4", (), number_of))

    def _variable(self, node: ArrayNode) -> ArrayNode:
        path, attributes = node.path, tuple(map(_plain_attribute, node.attributes))
        if node.dtype == BOOL:
            attributes = (*(item for item in attributes if item.name != "dtype"), Attribute("dtype", _fixed("bool"), (), "bool"))
            fill = {"value": int(node.fill["value"])} if node.fill else None
            node = replace(node, dtype="<i1", fill=fill)
        attributes = _with_fill(node, attributes, self.headers)
        groups, names = self.at.get(path, []), self.names.get(path, ())
        scales = tuple(self.scales.get(key, "") for key in zip(groups, names, strict=True)) if groups else ()
        if len(names) == 1 and scales == (path,):
            own = self._marks(groups[0], names[0], names[0])
            attributes = (*(item for item in attributes if item.name not in {mark.name for mark in own}), *own)
            scales = ()
        attached = tuple((scale,) if scale else () for scale in scales) if any(scales) else ()
        return replace(node, path=self.renamed.get(path, path), attributes=attributes, scales=attached, order="attrs indexed")


def _upwards(group: str) -> list[str]:
    out = [group]
    while out[-1] != "/":
        out.append(parent(out[-1]))
    return out


def _walked(nodes: dict[str, Node]) -> dict[str, Node]:
    """Nodes as a scan meets them where creation order is tracked: groups' members in the order given."""
    below: dict[str, list[str]] = defaultdict(list)
    for path in nodes:
        if path != "/":
            below[parent(path)].append(path)
    out: dict[str, Node] = {}
    stack = ["/"]
    while stack:
        path = stack.pop()
        node = nodes[path]
        out[path] = (
            replace(node, children=tuple(p.rpartition("/")[2] for p in below[path])) if isinstance(node, GroupNode) else node
        )
        stack += reversed(below[path])
    return out


def _fixed(text: str, size: int = 0) -> Datatype:
    return {"class": "string", "size": size or len(text) + 1, "charset": "ascii", "padding": "nullterm"}


def _text(name: str, text: str) -> Attribute:
    raw = text.encode()
    charset = "ascii" if text.isascii() else "utf-8"
    return Attribute(name, {"class": "string", "size": len(raw) + 1, "charset": charset, "padding": "nullterm"}, (), text)


def _plain_attribute(item: Attribute) -> Attribute:
    """An attribute in the types that netCDF-4's clients expect: booleans as bytes, ASCII text as characters."""
    if item.dtype == STRING and item.shape == () and item.value and item.value.isascii():
        return replace(item, dtype=_fixed(item.value, len(item.value)))
    return replace(item, dtype="<i1", value=_bytes(item.value)) if item.dtype == BOOL else item


def _bytes(value: Json) -> Json:
    return [_bytes(item) for item in value] if isinstance(value, list) else int(value)


def _with_fill(node: ArrayNode, attributes: tuple[Attribute, ...], headers: Headers) -> tuple[Attribute, ...]:
    """``_FillValue`` in the variable's own type: xarray writes it as base64, or as Zarr's fill value (format 2)."""
    found = next((item for item in attributes if item.name == "_FillValue"), None)
    stored = headers.parts[node.path][()]
    value = found.value if found is not None else None
    if found is None and stored.node.zarr_format == 2 and stored.array.metadata.fill_value is not None and not stored.text:
        value = (node.fill or {"value": 0})["value"]
    if value is None or is_string(node.dtype):
        return attributes
    rest = tuple(item for item in attributes if item is not found)
    decoded = _decoded(value, node.dtype)
    return attributes if decoded is None else (*rest, Attribute("_FillValue", node.dtype, (1,), [decoded]))


def _decoded(value: Json, dtype: Datatype) -> Json:
    """A fill value as xarray's `FillValueCoder` writes it, or as plain JSON; None where it is neither."""
    kind = dtype[1] if isinstance(dtype, str) else ""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if kind == "f" and isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        try:
            value = struct.unpack("<d", base64.standard_b64decode(value))[0]
        except (binascii.Error, struct.error, ValueError):
            return None
    if kind == "f":
        return number(np.asarray(_float(value)).astype(np.dtype(str(dtype)))[()])
    return int(value) if kind in "iu" and isinstance(value, int) else None


def _float(value: Any) -> float:
    return float(value) if not isinstance(value, str) else {"NaN": np.nan, "Infinity": np.inf}.get(value, -np.inf)
