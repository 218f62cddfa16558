"""A Zarr store that h5z did not make -> Tree, by plain rules.

- A group becomes a group, an array a dataset of its shape. A root that is an array becomes the dataset ``/data``.
- Datatypes: numbers keep size and byte order; booleans are h5py's enumeration; complex numbers h5py's compound of ``r`` and
  ``i``; text is of variable length and UTF-8; fixed-length bytes are fixed-length strings; raw bytes opaque; structured types
  compounds; datetimes h5py's tagged opaque.
- An array of one uncompressed chunk lies in one piece; others are chunked as Zarr's codecs see them (a shard's inner chunks).
  Chunks that are not stored stay unallocated.
- Compression becomes shuffle and deflate, of the same level where it was gzip or zlib, so that every HDF5 reader can read it.
- The fill value is Zarr's.
- Attributes: text, numbers, booleans and lists of them (of equal lengths in every dimension) are scalars and arrays; null is a
  null dataspace; anything else is its JSON as text.
- Dimension names make it a netCDF-4 file: `h5z.restore.netcdf`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

import numpy as np

from h5z.attributes import number
from h5z.dtypes import BOOL, STRING, is_string
from h5z.errors import UnsupportedError
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Node, Problem, Tree
from h5z.restore.headers import Headers, Parts
from h5z.restore.netcdf import as_netcdf
from h5z.restore.stored import StoredArray, StoredNode
from h5z.runs import encode_runs
from h5z.target import Target

_LEVEL = 4
_HIDDEN = frozenset({"h5z", "_ARRAY_DIMENSIONS"})


def plain_headers(target: Target, nodes: dict[str, StoredNode]) -> Headers:
    """The headers of the HDF5 file that a store becomes."""
    found: dict[str, Node] = {}
    parts: dict[str, Parts] = {}
    names: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    if nodes[""].is_array:
        nodes = {"": StoredNode("", False, {}, {}, nodes[""].zarr_format), "/data": nodes[""]}
    objects = _objects(target)
    for path, stored in _walk(nodes):
        attributes = _attributes(stored.attributes)
        if not stored.is_array:
            found[path] = GroupNode(path, attributes)
            continue
        array = StoredArray(target, stored)
        try:
            found[path] = _dataset(path, array, attributes, objects)
        except UnsupportedError as error:
            problems.append(Problem(path, str(error)))
            continue
        parts[path] = {(): array}
        names[path] = dimension_names(stored)
    tree = Tree(target.name, 0, 0, found, creation={"superblock": 2})  # the oldest format with room for large attributes
    headers = Headers(tree, parts, not_carried=problems)
    return as_netcdf(headers, names) if any(names.values()) else headers


def _walk(nodes: dict[str, StoredNode]) -> list[tuple[str, StoredNode]]:
    """Nodes as a scan meets them: each group's members by name."""
    below: dict[str, list[str]] = defaultdict(list)
    for path in nodes:
        if path:
            below[path.rpartition("/")[0]].append(path)
    out, stack = [], [""]
    while stack:
        path = stack.pop()
        out.append((path or "/", nodes[path]))
        stack += sorted(below[path], key=lambda item: item.encode("utf-8", "surrogateescape"), reverse=True)
    return out


def _objects(target: Target) -> set[str]:
    return set(target.listing())


def dimension_names(stored: StoredNode) -> tuple[str, ...]:
    """An array's dimension names; none where not every axis has one."""
    found = stored.document.get("dimension_names") if stored.zarr_format == 3 else stored.attributes.get("_ARRAY_DIMENSIONS")
    rank = len(stored.document["shape"])
    usable = isinstance(found, list) and len(found) == rank and all(isinstance(item, str) and item for item in found)
    return tuple(found) if usable and isinstance(found, list) else ()


def _dataset(path: str, array: StoredArray, attributes: tuple[Attribute, ...], objects: set[str]) -> ArrayNode:
    dtype = datatype(array)
    filters = _filters(array, array.dtype.itemsize)
    cut = array.shape != () and (
        filters or math.prod(array.grid.counts) > 1 or any(n < c for n, c in zip(*_cells(array), strict=True))
    )
    fill = _fill(array, dtype)
    written = "alloc" if dtype == STRING else "ifset"  # as libhdf5 has it for data of variable length
    if not cut or 0 in array.shape:
        return ArrayNode(path, dtype, array.shape, fill=fill, fill_time=written, attributes=attributes)
    states = [0 if array.key(index) in objects else -1 for index in array.grid.indices()]
    repeats = tuple(u // c for u, c in zip(array.unit, array.chunks, strict=True))
    allocated = np.asarray(states).reshape(array.grid.counts)
    for axis, count in enumerate(repeats):
        allocated = np.repeat(allocated, count, axis)
    counts = tuple(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
    allocated = allocated[tuple(slice(0, n) for n in counts)]
    return ArrayNode(
        path,
        dtype,
        array.shape,
        layout="chunked",
        chunks=array.chunks,
        filters=filters,
        fill=fill,
        fill_time=written,
        alloc_time="incr",
        attributes=attributes,
        allocated=encode_runs(allocated.ravel()),
    )


def _cells(array: StoredArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return array.shape, array.chunks


def datatype(array: StoredArray) -> Datatype:
    """The HDF5 datatype of an array.

    Raises
    ------
    UnsupportedError
        If HDF5 has none.
    """
    return STRING if array.text else _datatype(array.dtype)


def _datatype(dtype: np.dtype[Any]) -> Datatype:
    if dtype.names:
        members = [(name, dtype.fields[name][1], dtype[name]) for name in dtype.names]  # type: ignore[index]
        return {"class": "compound", "size": dtype.itemsize, "members": [[n, o, _datatype(inner)] for n, o, inner in members]}
    order = ">" if dtype.str[0] == ">" else "<"
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return f"{order}{dtype.kind}{dtype.itemsize}"
    if dtype.kind == "b":
        return BOOL
    if dtype.kind == "c" and dtype.itemsize <= 16:
        size = dtype.itemsize // 2
        base = f"{order}f{size}"
        return {"class": "compound", "size": 2 * size, "members": [["r", 0, base], ["i", size, base]]}
    if dtype.kind in "UT" or dtype.hasobject:
        return STRING
    if dtype.kind == "S" and dtype.itemsize:
        return {"class": "string", "size": dtype.itemsize, "charset": "ascii", "padding": "nullpad"}
    if dtype.kind in "mM":
        return {"class": "opaque", "size": 8, "tag": f"NUMPY:{dtype.str}"}
    if dtype.kind == "V" and dtype.itemsize:
        return {"class": "opaque", "size": dtype.itemsize, "tag": ""}
    raise UnsupportedError(f"HDF5 has no datatype for Zarr's {dtype}")


def _filters(array: StoredArray, itemsize: int) -> tuple[tuple[int, str, int, tuple[int, ...]], ...]:
    """Shuffle and deflate where the array is compressed."""
    chain = array.chain if array.chain is not None else _inner_codecs(array)
    names = [str(item["name"]).removeprefix("numcodecs.") for item in chain]
    if not set(names) - {"shuffle", "crc32c", "fletcher32", "crc32", "adler32"}:
        return ()
    levels = [item["configuration"].get("level") for item, name in zip(chain, names, strict=True) if name in ("gzip", "zlib")]
    level = next((found for found in levels if isinstance(found, int) and 0 < found <= 9), _LEVEL)
    deflate = (1, "deflate", 1, (level,))
    return ((2, "shuffle", 1, (itemsize,)), deflate) if itemsize > 1 and not array.text else (deflate,)


def _inner_codecs(array: StoredArray) -> list[dict[str, Any]]:
    """The codecs of bytes of an array that has others too: of shards, the inner ones."""
    document = array.node.document
    found = list(document.get("codecs") or [*(document.get("filters") or ()), document.get("compressor") or {}])
    for item in list(found):
        found += (item.get("configuration") or {}).get("codecs", []) if item.get("name") == "sharding_indexed" else []
    known = {"bytes", "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes", ""}
    named = [
        {"name": str(item.get("name", item.get("id", ""))), "configuration": item.get("configuration") or item} for item in found
    ]
    return [item for item in named if item["name"] not in known]


def _fill(array: StoredArray, dtype: Datatype) -> Json:
    fill = array.fill
    if is_string(dtype) or array.dtype.names or array.dtype.kind in "VmMS":
        return {"value": fill} if isinstance(fill, str) and fill else None
    value = fill_json(fill)
    return None if not np.any(fill) and not (isinstance(value, float) and math.copysign(1, value) < 0) else {"value": value}


def fill_json(value: Any) -> Json:
    """A number as `h5z.attributes` writes it."""
    kind = np.asarray(value).dtype.kind
    if kind == "c":
        return [number(value.real), number(value.imag)]
    return bool(value) if kind == "b" else int(value) if kind in "iu" else number(value)


def _attributes(plain: dict[str, Json]) -> tuple[Attribute, ...]:
    names = sorted(set(plain) - _HIDDEN, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return tuple(attribute(name, plain[name]) for name in names if name)


def attribute(name: str, value: Json) -> Attribute:
    """An attribute of plain JSON.

    >>> attribute("a", [[1, 2.5], [3, 4]]).shape, attribute("b", {"c": 1}).value, attribute("d", None).shape
    ((2, 2), '{"c": 1}', None)
    """
    if value is None:
        return Attribute(name, STRING, None, None)
    shape, items = _flat(value)
    kinds = {type(item) for item in items}
    if kinds <= {str} and items:
        return Attribute(name, STRING, shape, value)
    if kinds == {bool}:
        return Attribute(name, BOOL, shape, value)
    if kinds == {int}:
        dtype = "<i8" if all(-(1 << 63) <= item < 1 << 63 for item in items) else "<u8"
        if dtype == "<i8" or all(0 <= item < 1 << 64 for item in items):
            return Attribute(name, dtype, shape, value)
    if kinds in ({float}, {int, float}) or (not items and isinstance(value, list)):
        return Attribute(name, "<f8", shape, _floats(value))
    return Attribute(name, STRING, (), json.dumps(value, ensure_ascii=False))


def _floats(value: Json) -> Json:
    return [_floats(item) for item in value] if isinstance(value, list) else number(np.float64(value))


def _flat(value: Json) -> tuple[tuple[int, ...], list[Json]]:
    """Shape and items of nested lists; a list that is not of equal lengths is an item itself."""
    if not isinstance(value, list):
        return (), [value]
    inner = [_flat(item) for item in value]
    if not inner:
        return (0,), []
    if len({shape for shape, _ in inner}) != 1:
        return (), [value]
    return (len(value), *inner[0][0]), [item for _, items in inner for item in items]
