"""Values -> elements as libhdf5 takes them from memory (`h5z.hdf5.typeids.InMemory`): out of arrays, and out of JSON.

An image's pointers lead into buffers that it keeps: it must live until libhdf5 has taken it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from h5z.attributes import decode
from h5z.dtypes import class_of, is_string
from h5z.hdf5.typeids import POINTER, SEQUENCE, InMemory
from h5z.hdf5.typeids import layout as layout_of
from h5z.nodes import Datatype, Json
from h5z.records import hdf5_name

Steps = tuple[str, ...]
Refer = Callable[[str, str], bytes]  # a reference's text and kind -> its bytes
Layout = np.dtype[Any]


@dataclass
class Image:
    """Elements in memory.

    Attributes
    ----------
    values : numpy.ndarray
        Of one dimension, C-contiguous.
    tid : h5py.h5t.TypeID
        Their memory datatype.
    """

    values: Any
    tid: Any
    kept: list[Any] = field(default_factory=list, repr=False)


def image_of_arrays(
    dtype: Datatype, columns: Mapping[Steps, Any], count: int, refer: Refer, nulls: Mapping[Steps, Any] | None = None
) -> Image:
    """The image of `count` elements out of the arrays that carry a dataset.

    Parameters
    ----------
    columns : mapping
        Per leaf (`h5z.leaves.Leaf`), its values of those elements.
    nulls : mapping, optional
        Per leaf of strings, which of them are null pointers.
    """
    found = InMemory.of(dtype)
    maker = _Maker(found.exact, refer, columns, nulls or {})
    return Image(maker.packed(dtype, (), count), found.tid, maker.kept)


def image_of_json(dtype: Datatype, items: Sequence[Json], refer: Refer) -> Image:
    """The image of elements given as `h5z.attributes.encode` writes them; null is a null pointer, or reference."""
    found = InMemory.of(dtype)
    maker = _Maker(found.exact, refer, {}, {})
    return Image(maker.from_json(dtype, list(items)), found.tid, maker.kept)


@dataclass
class _Maker:
    exact: bool
    refer: Refer
    columns: Mapping[Steps, Any]
    nulls: Mapping[Steps, Any]
    kept: list[Any] = field(default_factory=list)

    def packed(self, dtype: Datatype, steps: Steps, count: int) -> Any:
        """Elements of a datatype that one array carries, or several do."""
        if steps in self.columns:
            return self.carried(dtype, self.columns[steps], count, self.nulls.get(steps))
        kind, found = class_of(dtype), cast(dict[str, Any], dtype)
        if kind == "array":
            return self._grouped(dtype, self.packed(found["base"], steps, count * _size(found)), count)
        if kind == "vlen":
            lengths = np.asarray(self.columns[*steps, "lengths"], "<u8").ravel()
            return self._sequences(lengths, self.packed(found["base"], (*steps, "values"), int(lengths.sum())))
        members = enumerate(found["members"])
        parts = {f"f{i}": self.packed(member, (*steps, f".{name}"), count) for i, (name, _, member) in members}
        return self._compound(dtype, count, parts)

    def carried(self, dtype: Datatype, values: Any, count: int, nulls: Any = None) -> Any:
        """Elements out of the one array that carries them."""
        kind, found = class_of(dtype), cast(dict[str, Any], dtype)
        if kind == "array":
            return self._grouped(dtype, self.carried(found["base"], values, count * _size(found), nulls), count)
        values = np.ascontiguousarray(values).reshape(count)
        if kind == "reference":
            return self._references(found, list(map(hdf5_name, values)))
        if _is_pointer(dtype):
            flags = np.zeros(count, bool) if nulls is None else nulls
            return self._text([None if null else _raw(text) for text, null in zip(values, flags, strict=True)])
        if kind == "compound":
            members = zip(values.dtype.names, found["members"], strict=True)
            parts = {f"f{i}": self.carried(member, values[name], count) for i, (name, (_, _, member)) in enumerate(members)}
            return self._compound(dtype, count, parts)
        return _fixed(dtype, self._layout(dtype), values, nulls)

    def from_json(self, dtype: Datatype, items: list[Json]) -> Any:
        """Elements out of JSON, one item each."""
        kind, found, count = class_of(dtype), cast(dict[str, Any], dtype), len(items)
        if kind == "array":
            for _ in found["shape"]:
                items = [item for row in items for item in row]
            return self._grouped(dtype, self.from_json(found["base"], items), count)
        if kind == "vlen":
            inner = [element for item in items for element in item]
            lengths = np.array([len(item) for item in items], "<u8")
            return self._sequences(lengths, self.from_json(found["base"], inner))
        if kind == "compound":
            members = enumerate(found["members"])
            parts = {f"f{i}": self.from_json(member, [item[i] for item in items]) for i, (_, _, member) in members}
            return self._compound(dtype, count, parts)
        if kind == "reference":
            return self._references(found, [item or "" for item in items])
        if _is_pointer(dtype):
            return self._text([None if item is None else _raw(item) for item in items])
        layout = self._layout(dtype)
        if isinstance(dtype, str) and all(isinstance(item, int | float) for item in items):
            return np.array(items, layout)
        if layout.kind == "V" and all(isinstance(item, dict) for item in items):
            return np.frombuffer(b"".join(_raw(item).ljust(layout.itemsize, b"\0") for item in items), layout)
        if is_string(dtype):
            values = np.array([_raw(item) for item in items], layout)
            return _fixed(dtype, layout, values, np.array([isinstance(item, dict) for item in items], bool))
        return _fixed(dtype, layout, np.array([decode(item, dtype) for item in items]) if items else np.zeros(0, layout))

    def _layout(self, dtype: Datatype) -> Layout:
        return layout_of(dtype, self.exact)[0]

    def _compound(self, dtype: Datatype, count: int, parts: Mapping[str, Any]) -> Any:
        out = np.zeros(count, self._layout(dtype))
        for name, values in parts.items():
            out[name] = values
        return out

    def _grouped(self, dtype: Datatype, inner: Any, count: int) -> Any:
        """Elements of an array datatype out of the elements of its base."""
        return np.ascontiguousarray(inner).reshape((count, *self._layout(dtype).shape))

    def _references(self, dtype: dict[str, Any], texts: Sequence[str]) -> Any:
        return np.frombuffer(b"".join(self.refer(text, dtype["kind"]) for text in texts), self._layout(dtype))

    def _sequences(self, lengths: Any, inner: Any) -> Any:
        """``hvl_t`` of each row, pointing into the rows' elements."""
        inner = np.ascontiguousarray(inner)
        self.kept.append(inner)
        out = np.zeros(len(lengths), SEQUENCE)
        out["length"] = lengths
        nbytes = np.uint64(inner.nbytes // max(1, int(lengths.sum())))
        out["at"] = np.where(lengths > 0, np.uint64(inner.ctypes.data) + _starts(lengths) * nbytes, np.uint64(0))
        return out

    def _text(self, items: Sequence[bytes | None]) -> Any:
        """``char *`` of each string, pointing into one buffer."""
        lengths = np.array([0 if item is None else len(item) + 1 for item in items], "u8")
        buffer = np.frombuffer(b"".join(item + b"\0" for item in items if item is not None) or b"\0", np.uint8)
        self.kept.append(buffer)
        return np.where(lengths > 0, np.uint64(buffer.ctypes.data) + _starts(lengths), np.uint64(0)).astype(POINTER)


def _starts(lengths: Any) -> Any:
    return np.concatenate((np.zeros(1, "u8"), np.cumsum(lengths, dtype="u8")))[: len(lengths)]


def _is_pointer(dtype: Datatype) -> bool:
    return is_string(dtype) and not cast(dict[str, Any], dtype)["size"]


def _size(dtype: dict[str, Any]) -> int:
    return int(np.prod(dtype["shape"], dtype=np.int64))


def _raw(item: Any) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["base64"])
    return item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item)


def _fixed(dtype: Datatype, layout: Layout, values: Any, zeros: Any = None) -> Any:
    """Numbers, fixed strings and bytes in their layout: the file's byte order, its padding, its bits."""
    if is_string(dtype):
        values = values.astype(layout)
        if cast(dict[str, Any], dtype)["padding"] != "spacepad" or not values.size:
            return values
        padded = np.char.ljust(values, layout.itemsize).astype(layout)
        return padded if zeros is None else np.where(zeros, values, padded).astype(layout)
    if values.dtype == layout:
        return values
    if layout.kind == "V" or values.dtype.kind in "bV":
        return np.ascontiguousarray(values).view(layout)
    return values.astype(layout)
