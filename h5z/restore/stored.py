"""A Zarr hierarchy as restore reads it: all metadata at once, arrays by region or by stored object."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numcodecs
import numpy as np
import zarr
from zarr.storage import StorePath

from h5z.codecs import Chain, decoder, from_v2
from h5z.errors import H5zError, SourceError, TransientError, UnfinishedTargetError, one_line
from h5z.grid import ChunkGrid, Region, intersect, region_shape, within
from h5z.nodes import Json, Shape
from h5z.target import Target
from h5z.units import checksum

_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_REQUESTS = 16
_making = threading.Lock()  # Python's warnings belong to all threads


@dataclass(frozen=True)
class StoredNode:
    """A group or an array of a store: its attributes, and the rest of its metadata."""

    path: str
    is_array: bool
    attributes: dict[str, Json]
    document: dict[str, Json]
    zarr_format: int


@contextmanager
def source_of(name: str) -> Iterator[None]:
    """Turn what reading a store raises into a `SourceError`: here the store is the source."""
    try:
        yield
    except (SourceError, TransientError):
        raise
    except (H5zError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = one_line(error)
        raise SourceError(text if name in text else f"{name}: {text}") from None


def read_nodes(target: Target) -> dict[str, StoredNode]:
    """Every node of a finished hierarchy by path, the root's the empty one; from the root's copy of all where it has one.

    Raises
    ------
    SourceError
        If no hierarchy opens there.
    UnfinishedTargetError
        If a migration to that place has not ended.
    """
    with source_of(target.name):
        for key in ("zarr.json", ".zgroup", ".zarray"):
            raw = target.get(key)
            if raw is not None:
                found = _read_v3(target, json.loads(raw)) if key == "zarr.json" else _read_v2(target)
                return dict(sorted(_with_parents(found).items()))
        if target.exists() and target.pending() is not None:
            raise UnfinishedTargetError(f"{target.name}: expected a finished Zarr hierarchy, found an unfinished migration")
    raise SourceError(f"{target.name}: expected a Zarr hierarchy, found {'other data' if target.exists() else 'nothing'}")


def _with_parents(nodes: dict[str, StoredNode]) -> dict[str, StoredNode]:
    """The nodes with those groups that only their members tell of (Zarr v3)."""
    for path in list(nodes):
        while path and (path := path.rpartition("/")[0]) not in nodes:
            nodes[path] = StoredNode(path, False, {}, {}, 3)
    return nodes


def _read_v3(target: Target, root: dict[str, Json]) -> dict[str, StoredNode]:
    documents = {"": root}
    whole = root.get("consolidated_metadata")
    if isinstance(whole, dict):
        documents |= {f"/{path}": document for path, document in whole["metadata"].items()}
    elif root.get("node_type") == "group":
        documents |= {f"/{key.rpartition('/')[0]}": found for key, found in _documents(target).items() if "/" in key}
    return {path: _node_v3(path, dict(document)) for path, document in documents.items()}


def _node_v3(path: str, document: dict[str, Json]) -> StoredNode:
    document.pop("consolidated_metadata", None)
    attributes = document.pop("attributes", None) or {}
    return StoredNode(path, document.get("node_type") == "array", attributes, document, 3)


def _read_v2(target: Target) -> dict[str, StoredNode]:
    whole = target.get(".zmetadata")
    documents = json.loads(whole)["metadata"] if whole is not None else _documents(target)
    nodes = {}
    for key, document in documents.items():
        place, _, name = key.rpartition("/")
        path = f"/{place}" if place else ""
        if name in (".zarray", ".zgroup"):
            attributes = documents.get(f"{place}/.zattrs" if place else ".zattrs", {})
            nodes[path] = StoredNode(path, name == ".zarray", dict(attributes), dict(document), 2)
    return nodes


def _documents(target: Target) -> dict[str, dict[str, Json]]:
    """Every metadata document of a store, found by listing it."""
    keys = [key for key in target.listing() if key.rpartition("/")[2] in _DOCUMENTS and not key.startswith(".h5z/")]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return {key: json.loads(raw) for key, raw in zip(keys, pool.map(target.get, keys), strict=True) if raw is not None}


class StoredArray:
    """One array of a store. Reads regions, and remembers a checksum of each object that it has read.

    Attributes
    ----------
    shape, chunks, unit : tuple of int
        Of the array; of what a codec encodes; of what an object holds: a shard, or a chunk.
    dtype : numpy.dtype
        Of what is read; text is objects.
    """

    def __init__(self, target: Target, node: StoredNode) -> None:
        self.target, self.node, self.path = target, node, node.path
        self.name = f"{target.name}{node.path}"
        self._lock = threading.Lock()
        self._sum = 0

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """Zarr's own array."""
        document = {**self.node.document, "attributes": {}, "zarr_format": self.node.zarr_format}
        with source_of(self.name), _making, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = (self.target.prefix + self.path.lstrip("/")).rstrip("/")
            return zarr.Array.from_dict(StorePath(self.target.store, path), document)

    @cached_property
    def shape(self) -> Shape:
        """The array's shape."""
        return tuple(self.array.shape)

    @cached_property
    def chunks(self) -> Shape:
        """The shape of what a codec encodes."""
        return tuple(self.array.chunks)

    @cached_property
    def unit(self) -> Shape:
        """The shape of what an object holds."""
        return tuple(self.array.shards or self.array.chunks)

    @cached_property
    def grid(self) -> ChunkGrid:
        """The grid of stored objects."""
        return ChunkGrid(self.shape, self.unit)

    @cached_property
    def text(self) -> str:
        """``utf8`` or ``bytes`` where elements are of variable length, else nothing."""
        name = type(self.array.metadata.dtype).__name__
        return "utf8" if name == "VariableLengthUTF8" else "bytes" if name == "VariableLengthBytes" else ""

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's dtype, in the byte order of the stored bytes."""
        if self.text:
            return np.dtype(object)
        found = np.dtype(self.array.dtype)
        first = self.node.document["codecs"][0] if self.node.zarr_format == 3 else {}
        endian = (first.get("configuration") or {}).get("endian") if first.get("name") == "bytes" else None
        return found if endian is None or found.names else found.newbyteorder(">" if endian == "big" else "<")

    @cached_property
    def chain(self) -> Chain | None:
        """The codecs from an element's bytes to the stored object's; None where there is more to it than such codecs."""
        document = self.node.document
        if self.node.zarr_format == 2:
            filters = document.get("filters") or []
            if document.get("order", "C") != "C" and len(self.shape) > 1:
                return None
            return from_v2(filters[1:] if self.text else filters, document.get("compressor"))
        first, *rest = document["codecs"]
        wanted = {"utf8": "vlen-utf8", "bytes": "vlen-bytes"}.get(self.text, "bytes")
        if first["name"] != wanted or document["chunk_grid"]["name"] != "regular":
            return None
        return [{"name": codec["name"], "configuration": codec.get("configuration") or {}} for codec in rest]

    @cached_property
    def fill(self) -> Any:
        """The value of chunks that are not stored."""
        found = self.array.fill_value
        if self.text:
            return ("" if self.text == "utf8" else b"") if found is None else found
        return np.zeros((), self.dtype)[()] if found is None else np.asarray(found, self.dtype)[()]

    @cached_property
    def _decode(self) -> Any:
        if self.chain is None or (self.dtype.hasobject and not self.text):
            return None
        return decoder(self.chain)

    def key(self, index: tuple[int, ...]) -> str:
        """The key of a stored object."""
        return f"{self.path.lstrip('/')}/{self.array.metadata.encode_chunk_key(index)}".lstrip("/")

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A stored object's bytes, None where there is none."""
        with source_of(self.name):
            data = self.target.get(self.key(index))
        found = 0 if data is None else checksum(index, data).checksum
        number = int(np.ravel_multi_index(index, self.grid.counts)) if index else 0
        with self._lock:
            if not self._seen[number]:
                self._seen[number] = True
                self._sum = (self._sum + found) % (1 << 64)
        return data

    @cached_property
    def _seen(self) -> Any:
        return np.zeros(self.grid.size, bool)

    def checksum(self, *, complete: bool) -> str | None:
        """The checksum of all stored objects, as `h5z.target.checksums` writes it.

        Of objects that were not read yet: they are read now, or, unless that is wanted, nothing is told.
        """
        for number in np.flatnonzero(~self._seen).tolist():
            if not complete:
                return None
            self.stored(self.grid.index(number))
        return f"{self._sum:016x}"

    def read(self, region: Region) -> Any:
        """Read a region.

        Returns
        -------
        numpy.ndarray
            Of the region's shape, C-contiguous; text as objects (str, or bytes).

        Raises
        ------
        SourceError
            If a stored object cannot be decoded; it is named.
        """
        if self._decode is None:
            with source_of(self.name):
                found = np.asarray(self.array[region if region else ...])
                return np.ascontiguousarray(found.astype(object) if self.text else found).reshape(region_shape(region))
        touched = list(self.grid.overlapping(region)) if region else [()]
        if len(touched) == 1 and region_shape(region) == self.unit:
            cell = self._chunk(touched[0])
            if cell is not None:
                return cell
        out = np.full(region_shape(region), self.fill, self.dtype)
        for index in touched:
            cell = self._chunk(index)
            if cell is not None:
                place = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, self.unit, strict=True))
                shared = intersect(place, region)
                out[within(shared, region)] = cell[within(shared, place)]
            del cell  # before the next is decoded
        return out

    def _chunk(self, index: tuple[int, ...]) -> Any:
        """A whole chunk's values, past the array's end too; None where it is not stored."""
        data = self.stored(index)
        if data is None:
            return None
        try:
            plain = self._decode(data)
            if self.text:
                codec = numcodecs.VLenUTF8() if self.text == "utf8" else numcodecs.VLenBytes()
                return np.asarray(codec.decode(plain), object).reshape(self.unit)
            return np.frombuffer(cast(Any, plain), self.dtype).reshape(self.unit)
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise SourceError(f"{self.target.name}/{self.key(index)}: cannot be decoded ({one_line(error)})") from None
