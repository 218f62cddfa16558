"""Whole write units to and from one array of a target."""

from __future__ import annotations

import hashlib
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import zarr
from isal import isal_zlib
from numcodecs.vlen import VLenBytes, VLenUTF8
from zarr.storage import StorePath

from h5z.codecs import encoder
from h5z.documents import array_document
from h5z.grid import Region
from h5z.plan import ArrayPlan
from h5z.source import SourceArray
from h5z.target import Target, reaching


@dataclass(frozen=True)
class Stored:
    """Stored write units: how many, their bytes, and a checksum of those bytes that does not depend on order."""

    units: int = 0
    nbytes: int = 0
    checksum: int = 0

    def __add__(self, other: Stored) -> Stored:
        """Two disjoint sets of units together."""
        total = (self.checksum + other.checksum) % (1 << 64)
        return Stored(self.units + other.units, self.nbytes + other.nbytes, total)


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


_settings = threading.Lock()  # zarr's configuration and Python's warnings belong to all threads


@dataclass(frozen=True)
class TargetArray:
    """A picklable handle on one array of a target: reads regions, writes whole write units."""

    target: Target
    plan: ArrayPlan
    zarr_format: int

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """Zarr's own array, made of the planned metadata without reading the store."""
        document = array_document(self.plan, self.zarr_format)
        if self.zarr_format == 3:
            document["zarr_format"] = 3
        else:
            document.pop("node_type")
            document["zarr_format"] = 2
        with _settings, zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = (self.target.prefix + self.plan.path.lstrip("/")).rstrip("/")
            return zarr.Array.from_dict(StorePath(self.target.store, path), document)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {"target": self.target, "plan": self.plan, "zarr_format": self.zarr_format}

    def read(self, region: Region) -> Any:
        """Read a region, as zarr decodes it."""
        with reaching(f"{self.target.name}{self.plan.path}"):
            return np.asarray(self.array[region])

    def write(self, region: Region, block: Any) -> Stored:
        """Write a region of whole units; those of fill values alone are left out."""
        out = Stored()
        for index in self.plan.units.overlapping(region):
            unit = self.plan.units.region(index)
            inside = (slice(u.start - r.start, u.stop - r.start) for u, r in zip(unit, region, strict=True))
            values = block[(*inside, ...)]  # the ellipsis keeps a scalar an array, of its own dtype
            if not self.plan.dense and self._is_fill(values):
                continue
            if self._encode is not None:
                out += self._put(index, self._encode(self._whole(values)))
            else:
                with reaching(f"{self.target.name}{self.plan.path}"):
                    self.array[unit if unit else ...] = values
                out += self.stored(index)
        return out

    def regrid(self, source: Source, region: Region) -> Stored:
        """Write a region of whole units, read at once."""
        return self.write(region, source.read(region))

    def recode(self, source: Source, region: Region) -> Stored:
        """Write a region of whole units one at a time: each is a chunk of the source, so that none is decoded twice."""
        out = Stored()
        for index in self.plan.units.overlapping(region):
            unit = self.plan.units.region(index)
            out += self.write(unit, source.read(unit))
        return out

    def copy(self, source: SourceArray, region: Region) -> Stored:
        """Write a region of whole units from the source's encoded chunks, unchanged."""
        out = Stored()
        rank = len(source.source_shape)
        for index in self.plan.units.overlapping(region):
            data = source.dataset.stored(index[:rank])
            if data is None:
                unit = self.plan.units.region(index)
                out += self.write(unit, source.read(unit))
            elif data:
                out += self._put(index, data)
        return out

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
        return "/".join((place, "c", *map(str, index)))

    @cached_property
    def _encode(self) -> Any:
        """What encodes a unit without zarr's own pipeline, where codecs alone do it."""
        compress = None if self.plan.shards else encoder(self.plan.codecs)
        if compress is None or not self.plan.is_text:
            return compress
        pack = (VLenUTF8() if self.plan.dtype == "string" else VLenBytes()).encode
        return lambda values: compress(pack(values.reshape(-1)))

    def _whole(self, values: Any) -> Any:
        """A unit's values in a whole chunk, contiguous; past the array's end it holds fill values."""
        if values.shape != self.plan.unit:
            chunk = np.full(self.plan.unit, self._fill, values.dtype)
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
