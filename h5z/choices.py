"""How an array is stored: its chunks, shards, codecs, fill value and route, as policy and source have it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from h5z.arrayplan import ArrayPlan, describe_numpy, numpy_dtype
from h5z.attributes import decode
from h5z.chunking import (
    FEW_CHUNKS,
    LEAST_COPIED_NBYTES,
    LEAST_KEPT_NBYTES,
    SHARD_NBYTES,
    Join,
    auto_chunks,
    column_chunks,
    lighter,
    marks,
    widen,
    zip_own,
)
from h5z.codecs import PORTABLE, Chain, default, fit, from_filters
from h5z.dtypes import access, class_of, plain, raw_layout
from h5z.errors import PlanError
from h5z.grid import ChunkGrid
from h5z.hdf5.direct import is_plain
from h5z.hdf5.filters import decodable
from h5z.leaves import Leaf
from h5z.nodes import ArrayNode, Attribute, Datatype, Json, Shape
from h5z.payload import mean_nbytes
from h5z.policy import Policy


@dataclass
class Choices:
    """What a policy chooses for a file's arrays.

    Attributes
    ----------
    joins : dict
        Of arrays that are joined of several files, how, by path.
    notes : list of str
        What the plan tells of the choices.
    joined : list of str
        Arrays whose own chunks are too small to be kept.
    tables : dict
        The automatic chunks of datasets that several arrays carry, by path.
    readable : dict
        Whether a dataset's chunks can be read past libhdf5, by path.
    """

    file: str
    policy: Policy
    joins: Mapping[str, Join]
    notes: list[str]
    joined: list[str] = field(default_factory=list)
    tables: dict[str, Shape] = field(default_factory=dict)
    readable: dict[str, bool] = field(default_factory=dict)

    def table(self, node: ArrayNode, columns: Sequence[Leaf]) -> None:
        """Choose the rows that the chunks of a table's columns hold, so that they are the same."""
        sizes = [element_nbytes(node, leaf) * math.prod(leaf.extra) for leaf in columns if not leaf.ragged]
        if sizes and node.path not in self.joins:
            self.tables[node.path] = column_chunks(node, sizes)

    def planned(
        self, node: ArrayNode, leaf: Leaf, place: str, shape: Shape, names: tuple[str, ...], attributes: dict[str, Json]
    ) -> ArrayPlan:
        """What an array of a leaf becomes, at its place, with the names of its axes and its attributes."""
        kind = cast(Any, describe_numpy(leaf.dtype) if isinstance(leaf.dtype, np.dtype) else leaf.dtype)
        text = kind == "string" and class_of(leaf.described) == "string"
        if text and (self.policy.strings == "bytes" or (self.policy.strings == "auto" and not node.utf8)):
            kind = "bytes"
        text = isinstance(leaf.dtype, str)
        itemsize = element_nbytes(node, leaf)
        join = self.joins.get(node.path)
        kept = self._kept(node, leaf, itemsize, text) if join is None or join.alike else None
        chunks, shards = (
            self._chunks(node, leaf, shape, itemsize, kept) if join is None else self._joined(node, leaf, itemsize, kept)
        )
        fill, dense = self._fill(node, leaf, text)
        own = node.chunks + leaf.extra if node.chunks and not leaf.ragged else None
        codecs = tuple(self._codecs(node, itemsize, text, kept if chunks == own or self._keeps(node) else None))
        if join is not None and join.cut is not None:
            codecs = tuple(join.cut["/".join(leaf.steps)]["codecs"])
        route = self._route(node, leaf, own == chunks and not shards and (join is None or join.aligned(own)))
        if route == "recode" and kept == list(codecs) and not dense and _same_bytes(node, leaf, kind):
            route = "copy"
        route = self._routed(node, route)
        step = (shards or chunks)[0] if leaf.ragged else 0
        counts = node.counts.get("/".join(leaf.steps), [])
        return ArrayPlan(
            path=place,
            source=node.path,
            described=leaf.described,
            dtype=kind,
            shape=shape,
            source_shape=node.shape or (),
            chunks=chunks,
            block=shards or chunks,
            route=route,
            shards=shards,
            steps=leaf.steps,
            extra=leaf.extra,
            ragged=leaf.ragged,
            codecs=codecs,
            fill=fill,
            dense=dense,
            names=names,
            attributes=attributes,
            marks=marks(counts, step) if leaf.ragged else (),
            source_chunks=node.chunks,
            source_nbytes=node.storage_nbytes,
            payload=node.payload,
            whole=node.dtype if node.dtype != leaf.described else None,
            offset=node.offset if join is None and is_plain(node.dtype) and not node.filters else None,
            axis=None if join is None else join.axis,
            kept=0 if join is None else join.start,
        )

    def _route(self, node: ArrayNode, leaf: Leaf, same_grid: bool) -> str:
        if node.path not in self.readable:  # once for all columns of a table
            readable = is_plain(node.dtype) and decodable(node.filters)
            self.readable[node.path] = readable and node.layout in ("chunked", "contiguous", "compact")
        if not self.readable[node.path] or leaf.ragged:
            return "library"
        return "recode" if same_grid else "regrid"

    def _routed(self, node: ArrayNode, found: str) -> str:
        """The route that the policy names, where it can serve in place of the one found."""
        wanted = self.policy.pick("route", node.path)
        serves = {"copy": ("copy", "recode", "regrid"), "recode": ("recode", "regrid"), "regrid": ("regrid", "staged")}
        if wanted in ("auto", found) or (found == "regrid" and wanted == "staged"):
            return found
        if wanted == "library" or wanted in serves.get(found, ()):
            return str(wanted)
        if self.policy.named("route", node.path):
            raise PlanError(f"{self.file}: {node.path} cannot take the route {wanted!r}: its chunks and codecs allow {found!r}")
        return found

    def _keeps(self, node: ArrayNode) -> bool:
        return bool(self.policy.pick("codec", node.path) == "keep")

    def _keepable(self, node: ArrayNode, own: Shape, itemsize: int) -> bool:
        """Whether ``codec="keep"`` keeps chunks that are smaller than is good for a store: unless they are many, and tiny."""
        count, size = ChunkGrid(node.shape or (), own).size, math.prod(own) * itemsize
        tiny = size < LEAST_KEPT_NBYTES and count > FEW_CHUNKS
        if self._keeps(node) and tiny:
            self.joined.append(node.path)
        return self._keeps(node) and not tiny

    def _kept(self, node: ArrayNode, leaf: Leaf, itemsize: int, text: bool) -> Chain | None:
        """The source's own compression as Zarr codecs, where the policy wants it and Zarr has it.

        ``"keep"`` wants it always, ``"auto"`` where every Zarr v3 reader knows it.
        """
        wanted = self.policy.pick("codec", node.path)
        chain = from_filters(node.filters, itemsize) if wanted in ("keep", "auto") and not text and not leaf.ragged else None
        if chain and (leaf.steps or raw_layout(leaf.described).itemsize != itemsize):  # of other bytes than the file's
            chain = [_of_elements(codec, itemsize) for codec in chain]
        portable = chain and all(codec["name"] in PORTABLE for codec in chain)
        return chain if chain is not None and (wanted == "keep" or portable) else None

    def _codecs(self, node: ArrayNode, itemsize: int, text: bool, kept: Chain | None) -> Chain:
        if kept is not None:
            return kept
        codec = self.policy.pick("codec", node.path)
        return default(itemsize, text=text) if codec in ("keep", "auto") else fit(codec, itemsize)

    def _chunks(self, node: ArrayNode, leaf: Leaf, shape: Shape, itemsize: int, kept: Chain | None) -> tuple[Shape, Shape | None]:
        wanted = self.policy.pick("chunks", node.path)
        rank = len(node.shape or ())
        if isinstance(wanted, tuple) and len(wanted) != rank and not leaf.ragged:
            if self.policy.named("chunks", node.path):
                raise PlanError(f"{self.file}: {node.path} has rank {rank}, found chunks {wanted} for it")
            wanted = "auto"
        own = node.chunks if node.chunks and not leaf.ragged else None
        if isinstance(wanted, tuple) and not leaf.ragged:
            chunks = wanted + leaf.extra
        elif own and (wanted == "source" or (kept is not None and (_served(node, own) or self._keepable(node, own, itemsize)))):
            chunks = own + leaf.extra
        else:
            table = None if leaf.ragged or not leaf.steps else self.tables.get(node.path)
            chunks = table + leaf.extra if table else auto_chunks(node, own + leaf.extra if own else None, shape, itemsize)
            if not leaf.ragged and node.payload:
                chunks = lighter(chunks, node)
        chunks = tuple(max(1, min(c, n)) if not own or c != o else c for c, n, o in zip_own(chunks, shape, own))
        return chunks, self._shards(node, leaf, chunks, shape, itemsize)

    def _joined(self, node: ArrayNode, leaf: Leaf, itemsize: int, kept: Chain | None) -> tuple[Shape, Shape | None]:
        """Chunks and shards of an array that is joined of several files, and of more that may come."""
        join = self.joins[node.path]
        if join.cut is not None:
            cut = join.cut["/".join(leaf.steps)]
            return tuple(cut["chunks"]), tuple(cut["shards"]) if cut["shards"] else None
        prospect = join.prospect(node)
        chunks, shards = self._chunks(prospect, leaf, (prospect.shape or ()) + leaf.extra, itemsize, kept)
        own = node.chunks + leaf.extra if node.chunks else None
        if self.policy.pick("chunks", node.path) == "auto" and shards is None and not (kept is not None and chunks == own):
            chunks = join.fit(chunks, own)
        return chunks, shards

    def _shards(self, node: ArrayNode, leaf: Leaf, chunks: Shape, shape: Shape, itemsize: int) -> Shape | None:
        wanted = self.policy.pick("shards", node.path) if self.policy.shards is not None else None
        if wanted is None or not shape:
            return None
        if not isinstance(leaf.dtype, str) and leaf.dtype.names:
            self.notes.append(f"{node.path}: a compound is not sharded: zarr-python cannot read shards of structured values")
            return None
        if wanted == "auto":
            found = widen(chunks, shape, SHARD_NBYTES // itemsize)
            return found if found != chunks else None
        if len(wanted) != len(chunks):
            if self.policy.named("shards", node.path):
                raise PlanError(f"{self.file}: {node.path} has rank {len(shape)}, found shards {wanted} for it")
            return None
        if any(s % c for s, c in zip(wanted, chunks, strict=True)):
            if not self.policy.named("shards", node.path) and all(n <= s for n, s in zip(shape, wanted, strict=True)):
                return None  # the whole array is smaller than a shard
            raise PlanError(f"{self.file}: {node.path}: shards {wanted} are no multiple of its chunks {chunks}")
        return cast(Shape, wanted)

    def _fill(self, node: ArrayNode, leaf: Leaf, text: bool) -> tuple[Json, bool]:
        """The target's fill value, and whether all chunks must be stored because it cannot stand for HDF5's."""
        value = node.fill.get("value") if isinstance(node.fill, dict) else None
        whole = not leaf.steps and not leaf.extra
        if text or not whole or (isinstance(value, list) and class_of(leaf.described) not in ("complex", "compound")):
            usable = whole and text and isinstance(value, str) and (value or self.policy.zarr_format == 3)
            return (value, False) if usable else (None, bool(value))
        if self.policy.zarr_format == 3:
            return value, False
        if (isinstance(value, str) and value.startswith("0x")) or cast("np.dtype[Any]", leaf.dtype).names:
            masked = node.attribute("_FillValue") is not None and cast("np.dtype[Any]", leaf.dtype).kind == "f"
            return ("NaN" if masked else None), True  # what format 2 has no fill value for, and zarr-python no zero
        shown = node.attribute("_FillValue")
        if shown is not None and _fits(shown, leaf.described):
            return only_value(shown), only_value(shown) != value
        return None, value is not None and _bits(decode(value, leaf.described)) != _bits(_zero(leaf.described))


def element_nbytes(node: ArrayNode, leaf: Leaf) -> int:
    """Bytes of an element; where they vary, their mean."""
    return mean_nbytes(node.payload) if isinstance(leaf.dtype, str) else leaf.dtype.itemsize


def _of_elements(codec: dict[str, Any], itemsize: int) -> dict[str, Any]:
    """A codec for elements of another size: HDF5's shuffle counts the file's bytes of an element, padding included."""
    config = codec["configuration"]
    return {**codec, "configuration": {**config, "elementsize": itemsize}} if "elementsize" in config else codec


def _served(node: ArrayNode, own: Shape) -> bool:
    """Whether the source's own chunks make objects of a fair size, so that they may cross unchanged."""
    count = ChunkGrid(node.shape or (), own).size
    return count == 1 or node.storage_nbytes // max(count, 1) >= LEAST_COPIED_NBYTES


def _same_bytes(node: ArrayNode, leaf: Leaf, kind: Any) -> bool:
    """Whether an element's bytes in the file are those that Zarr stores."""
    if leaf.steps or class_of(leaf.described) == "bool" or kind in ("string", "bytes"):
        return False
    return raw_layout(leaf.described) == numpy_dtype(kind)


def _bits(value: Any) -> bytes:
    return np.asarray(value).tobytes()


def _zero(dtype: Datatype) -> Any:
    """The zero of a fixed-size datatype."""
    return np.zeros((), plain(dtype, raw=access(dtype) == "raw"))[()]


def only_value(attribute: Attribute) -> Json:
    """An attribute's value; of an array of one, that one."""
    value = attribute.value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fits(attribute: Attribute, dtype: Datatype) -> bool:
    """Whether an attribute is one value of an array's own kind."""
    value, kinds = only_value(attribute), {class_of(attribute.dtype), class_of(dtype)}
    if value is None or isinstance(value, list) or (len(kinds) > 1 and not kinds <= {"number", "bool", "enum"}):
        return False
    try:
        decode(value, dtype)
    except (ValueError, TypeError, KeyError, OverflowError):
        return False
    return True
