"""Whole write units to and from one array of a target."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from isal import isal_zlib

from h5z.arrayplan import ArrayPlan
from h5z.codecs import encoder
from h5z.digest import Digest, constant_digest, digest
from h5z.documents import array_document
from h5z.grid import ChunkGrid, Region
from h5z.stores.sharding import shard
from h5z.target import Target, reaching

if TYPE_CHECKING:
    import zarr
    from zarr.abc.buffer import Buffer
    from zarr.storage import StorePath


@dataclass(frozen=True)
class Stored:
    """Stored write units: how many, their bytes, a checksum of those that does not depend on order, and their values' digest."""

    units: int = 0
    nbytes: int = 0
    checksum: int = 0
    digest: Digest = field(default_factory=Digest)

    def __add__(self, other: Stored) -> Stored:
        """Two disjoint sets of units together."""
        total = (self.checksum + other.checksum) % (1 << 64)
        return Stored(self.units + other.units, self.nbytes + other.nbytes, total, self.digest + other.digest)


def checksum(index: tuple[int, ...], data: Any) -> Stored:
    """The checksum of one unit: 64 bits of BLAKE2b over its place, length and CRC-32; of several, their sum modulo 2⁶⁴."""
    view = memoryview(data)
    text = f"{','.join(map(str, index))}:{view.nbytes}:{isal_zlib.crc32(view)}"
    found = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return Stored(1, view.nbytes, int.from_bytes(found, "little"))


class Source(Protocol):
    """What units are read from: a dataset, or a scratch."""

    def read(self, region: Region) -> Any:
        """Read a region's values."""


def constant(source: Source, region: Region) -> Any | None:
    """The value of every element of a region of which nothing is stored, as an array without axes; None of any other.

    Only what knows where nothing is stored can tell: it has a method of this name.
    """
    told: Callable[[Region], Any | None] | None = getattr(source, "constant", None)
    return None if told is None else told(region)


class Encoded(Source, Protocol):
    """What also gives chunks as they are stored."""

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes; None where it must be decoded and encoded instead."""


_settings = threading.Lock()  # zarr's configuration and Python's warnings belong to all threads


def array_of(place: StorePath, document: dict[str, Any], zarr_format: int) -> zarr.Array[Any]:
    """Zarr's own array, made of its metadata document without reading the store."""
    import zarr

    known = {key: value for key, value in document.items() if zarr_format == 3 or key != "node_type"}
    with _settings, zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.Array.from_dict(place, {**known, "zarr_format": zarr_format})


class UnitReader:
    """Reads whole units of a stored array: each object once, for its checksum and, as zarr decodes it, its values."""

    def __init__(self, target: Target, path: str, document: dict[str, Any], zarr_format: int) -> None:
        self.target, self.place = target, path.strip("/")
        from zarr.storage import MemoryStore, StorePath

        self.held: dict[str, Buffer] = {}
        self.array = array_of(StorePath(MemoryStore(self.held), ""), document, zarr_format)
        self.grid = ChunkGrid(self.array.shape, self.array.shards or self.array.chunks)

    def read(self, index: tuple[int, ...]) -> Stored:
        """What is stored of a unit, with the digest of its values, cut at the array's end."""
        from zarr.buffer import default_buffer_prototype

        key, region = self.array.metadata.encode_chunk_key(index), self.grid.region(index)
        data = self.target.get(f"{self.place}/{key}")
        if data is None:
            return Stored(digest=constant_digest(self._missing, region))
        self.held[key] = default_buffer_prototype().buffer.from_bytes(data)
        values = _whole_array(self.array[region], self.array.dtype)
        self.held.clear()
        return replace(checksum(index, data), digest=digest(values, region))

    @cached_property
    def _missing(self) -> Any:
        """The value of units that are not stored, as zarr reads it."""
        self.held.clear()
        value = _whole_array(self.array[(slice(0, 1),) * self.array.ndim], self.array.dtype)
        return value.reshape(())


def _whole_array(values: Any, dtype: Any) -> Any:
    """What zarr reads, as an array: of a scalar it gives text bare, and bytes as an array of fixed length, or bare."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "S" and dtype.kind == "O":
        values = values.tobytes()
    elif isinstance(values, np.ndarray) or dtype.kind not in "OT":
        return np.asarray(values)
    out = np.empty((), object)
    out[()] = values
    return out


@dataclass(frozen=True)
class TargetArray:
    """A picklable handle on one array of a target: reads regions, writes whole write units."""

    target: Target
    plan: ArrayPlan
    zarr_format: int

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """Zarr's own array, made of the planned metadata without reading the store."""
        from zarr.storage import StorePath

        path = (self.target.prefix + self.plan.path.lstrip("/")).rstrip("/")
        return array_of(StorePath(self.target.store, path), array_document(self.plan, self.zarr_format), self.zarr_format)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {"target": self.target, "plan": self.plan, "zarr_format": self.zarr_format}

    def read(self, region: Region) -> Any:
        """Read a region, as zarr decodes it."""
        with reaching(f"{self.target.name}{self.plan.path}"):
            return _whole_array(self.array[region], self.array.dtype)

    def reader(self) -> UnitReader:
        """What reads whole units."""
        return UnitReader(self.target, self.plan.path, array_document(self.plan, self.zarr_format), self.zarr_format)

    def write(self, region: Region, block: Any) -> Stored:
        """Write a region of whole units; those of fill values alone are left out."""
        out = Stored(digest=digest(block, region))
        for index in self.plan.units.overlapping(region):
            unit = self.plan.units.region(index)
            inside = (slice(u.start - r.start, u.stop - r.start) for u, r in zip(unit, region, strict=True))
            values = block[(*inside, ...)]  # the ellipsis keeps a scalar an array, of its own dtype
            if not self.plan.dense and self._is_fill(values):
                continue
            out += self._put(index, self._encoded(values))
        return out

    def regrid(self, source: Source, region: Region) -> Stored:
        """Write a region of whole units, read at once."""
        return self._left_out(source, region) or self.write(region, source.read(region))

    def recode(self, source: Source, region: Region) -> Stored:
        """Write a region of whole units one at a time: each is a chunk of the source, so that none is decoded twice."""
        out = self._left_out(source, region)
        if out is not None:
            return out
        out = Stored()
        for index in self.plan.units.overlapping(region):
            out += self.regrid(source, self.plan.units.region(index))
        return out

    def copy(self, source: Encoded, region: Region) -> Stored:
        """Write a region of whole units from the source's encoded chunks, unchanged."""
        out = self._left_out(source, region)
        if out is not None:
            return out
        out = Stored()
        for index in self.plan.units.overlapping(region):
            data = source.stored(index)
            if data is None:
                unit = self.plan.units.region(index)
                out += self.write(unit, source.read(unit))
            elif data:
                out += self._put(index, data)
        return out

    def _left_out(self, source: Source, region: Region) -> Stored | None:
        """A region's digest, where the source stores nothing of it and nothing need be written; None where units are to be."""
        value = None if self.plan.dense else constant(source, region)
        if value is None or not self._is_fill(value):
            return None
        return Stored(digest=constant_digest(value, region))

    def _put(self, index: tuple[int, ...], data: Any) -> Stored:
        self.target.put({self.key(index): data})
        return checksum(index, data)

    def stored(self, index: tuple[int, ...]) -> Stored:
        """What a write unit's object holds now; nothing if there is none."""
        data = self.target.get(self.key(index))
        return Stored() if data is None else checksum(index, data)

    def key(self, index: tuple[int, ...]) -> str:
        """The key of a write unit's object."""
        place = self.plan.path.lstrip("/")
        if self.zarr_format == 2:
            return f"{place}/{'.'.join(map(str, index)) or '0'}"
        return f"{place}/{self.plan.separator.join(('c', *map(str, index)))}"

    def _encoded(self, values: Any) -> Any:
        """A unit's object."""
        if self._encode is None:
            return self._encoded_by_zarr(values)
        if self.plan.shards is None:
            return self._chunk(values)
        skip = (lambda _: False) if self.plan.dense else self._is_fill
        return shard(values, self.plan.shards, self.plan.chunks, self._chunk, skip)

    def _chunk(self, values: Any) -> Any:
        """A chunk, encoded."""
        return self._encode(self._whole(values))

    def _encoded_by_zarr(self, values: Any) -> Any:
        """A unit's object, as zarr writes it into memory: of codecs that only zarr knows."""
        from zarr.storage import MemoryStore

        alone = replace(self, target=Target(MemoryStore()))
        region = tuple(slice(0, n) for n in values.shape)
        alone.array[region or ...] = values
        return alone.target.get(alone.key((0,) * len(region)))

    @cached_property
    def _encode(self) -> Any:
        """What encodes a chunk's bytes without zarr's own pipeline, which has codecs that store the time of day; or None."""
        text = {"string": "vlen-utf8", "bytes": "vlen-bytes"}.get(self.plan.dtype) if self.plan.is_text else None
        return encoder(self.plan.codecs, text)

    def _whole(self, values: Any) -> Any:
        """A chunk's values, whole and contiguous; past the array's end it holds fill values."""
        if values.shape != self.plan.chunks:
            chunk = np.full(self.plan.chunks, self._fill, values.dtype)
            chunk[tuple(slice(0, n) for n in values.shape)] = values
            values = chunk
        values = np.ascontiguousarray(values)
        return values.reshape(-1).view(np.uint8) if values.dtype.kind in "VSmMb" else values

    @cached_property
    def _fill(self) -> Any:
        fill = self.plan.fill_scalar()
        if self.plan.is_text:
            return ("" if self.plan.dtype == "string" else b"") if fill is None else fill
        dtype = cast("np.dtype[Any]", self.plan.leaf().dtype)
        return np.zeros((), dtype)[()] if fill is None else np.asarray(fill, dtype)[()]

    def _is_fill(self, values: Any) -> bool:
        """Whether every element has exactly the fill value's bits."""
        if self.plan.is_text:
            return all(item == self._fill for item in values.flat)
        fill = np.asarray(self._fill, values.dtype)
        if values.size and values[(slice(0, 1),) * values.ndim].tobytes() != fill.tobytes():
            return False
        flat = np.ravel(values)
        kind = np.dtype(f"u{flat.dtype.itemsize}") if flat.dtype.itemsize in (1, 2, 4, 8) else None
        if kind is None:
            return flat.tobytes() == fill.tobytes() * flat.size
        return bool((np.ascontiguousarray(flat).view(kind) == fill.view(kind)).all())
