"""Arrays of a store by their documents: whole, or as dask arrays; hierarchies of Zarr format 2 as zarr-python opens them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numcodecs.vlen import VLenUTF8
from zarr.storage import StorePath

from h5z.errors import MissingKeyError, TargetError, one_line
from h5z.nodes import Json
from h5z.objects.elements import owned
from h5z.objects.folder import document
from h5z.objects.remote import remote_document
from h5z.target import Target, reaching

_NUMBERS = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"}
_NUMBERS |= {"complex64", "complex128"}


def read_array(target: Target, place: str, seen: dict[str, Json]) -> Any:
    """All of an array's values."""
    direct = _read_small(target, place, seen)
    if direct is not None:
        return direct
    with reaching(f"{target.name}/{place}"):
        array = zarr_array(target, place, seen)
        return np.asarray(array[...], dtype=array.dtype)  # a single element comes as a scalar, which says less than the dtype


def zarr_array(target: Target, place: str, seen: dict[str, Json]) -> zarr.Array[Any]:
    """Zarr's own array, of a document that is already read."""
    return zarr.Array.from_dict(StorePath(target.store, (target.prefix + place).rstrip("/")), dict(seen))


def _read_small(target: Target, place: str, seen: dict[str, Json]) -> Any:
    """An array of one chunk without codecs, as `save` stores single values, past zarr's machinery; None for any other."""
    shape, kind = seen["shape"], seen["data_type"]
    if not isinstance(kind, str) or seen["chunk_grid"]["configuration"]["chunk_shape"] != shape or len(seen["codecs"]) != 1:
        return None
    keys = seen["chunk_key_encoding"]
    if keys["name"] != "default" or seen.get("storage_transformers"):
        return None
    codec, fill = seen["codecs"][0], seen["fill_value"]
    is_text = kind == "string" and codec["name"] == "vlen-utf8" and fill == ""
    if not is_text and not (kind in _NUMBERS and codec["name"] == "bytes" and fill in (0, False, [0, 0])):
        return None
    separator = (keys.get("configuration") or {}).get("separator", "/")
    raw = target.get(f"{place}/{separator.join(('c', *('0' for _ in shape)))}".lstrip("/"))
    if is_text:
        texts = np.full(math.prod(shape), "", object) if raw is None else VLenUTF8().decode(raw)
        return texts.reshape(shape)
    order = ">" if (codec.get("configuration") or {}).get("endian") == "big" else "<"
    dtype = np.dtype(order + np.dtype(kind).str[1:])
    values = np.zeros(shape, dtype) if raw is None else np.frombuffer(bytearray(raw), dtype).reshape(shape)
    return values.astype(np.dtype(kind), copy=False)


@dataclass(frozen=True)
class Blocks:
    """An array of a store, read by regions as long as what another save would put in its place has not come; picklable."""

    target: Target
    place: str
    seen: dict[str, Json]

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """Zarr's own array."""
        return zarr_array(self.target, self.place, self.seen)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {"target": self.target, "place": self.place, "seen": self.seen}

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.seen["shape"])

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.seen["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, region: Any) -> Any:
        """Read a region.

        Raises
        ------
        TargetError
            If what was loaded has been replaced since.
        """
        with reaching(f"{self.target.name}/{self.place}"):
            values = np.asarray(self.array[region], dtype=self.array.dtype)
        path = self.target.path
        if (remote_document(self.target, self.place) if path is None else document(path / self.place)) != self.seen:
            raise TargetError(f"{self.target.name}/{self.place}: has been replaced since it was loaded")
        return owned(values)

    def lazy(self) -> Any:
        """The array as a dask array of its write units; nothing is read."""
        import dask.array as da

        unit = self.seen["chunk_grid"]["configuration"]["chunk_shape"]
        meta = np.empty((0,) * self.ndim, self.dtype)
        return da.from_array(self, chunks=tuple(unit), asarray=False, inline_array=True, meta=meta)


def _plain(array: zarr.Array[Any]) -> Any:
    """All of an array; a single element where it has no dimensions."""
    values = array[...]
    return owned(np.asarray(values)) if array.ndim else np.asarray(values, dtype=array.dtype)[()]


def read_old(target: Target, keys: Sequence[Any]) -> Any:
    """What a key names in a hierarchy of Zarr format 2: groups as dicts, arrays as numpy arrays, their elements where single."""
    path = "/".join(map(str, keys))
    with reaching(f"{target.name}/{path}"):
        try:
            root = zarr.open(target.store, path=path, mode="r")
            if isinstance(root, zarr.Array):
                return _plain(root)
            members = sorted(root.members(max_depth=None))
        except (KeyError, zarr.errors.NodeNotFoundError) as error:
            raise MissingKeyError(f"{target.name}: expected the key {path}, found none ({one_line(error)})") from None
        made: dict[str, Any] = {"": {}}
        for name, member in members:
            above, _, own = name.rpartition("/")
            made[name] = _plain(member) if isinstance(member, zarr.Array) else {}
            made[above][own] = made[name]
        return made[""]
