"""What h5py does not show of strings, and HDF5's own tools do.

Strings of variable length may be null pointers rather than empty; those of fixed length that are padded with spaces may, where
nobody wrote them, be padded with zeros.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from h5py import h5s

from h5z.dtypes import class_of, is_string
from h5z.grid import Region, region_shape
from h5z.hdf5 import libhdf5
from h5z.hdf5.typeids import SEQUENCE, InMemory, has_text, layout
from h5z.nodes import Datatype, Json

Steps = tuple[str, ...]


def in_dataset(did: Any, dtype: Datatype, region: Region) -> dict[Steps, Any]:
    """Which strings of a region of an open dataset are null, per leaf (`h5z.leaves.Leaf`), in its elements' order."""
    space = did.get_space()
    if region:
        space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
    found = InMemory.of(dtype)
    with libhdf5.read(did, found.tid, found.dtype, space) as values:
        return _masks(dtype, values)


def in_attribute(aid: Any, dtype: Datatype) -> dict[Steps, Any]:
    """Which strings of an open attribute are null, per leaf."""
    space = aid.get_space()
    count = 1 if space.get_simple_extent_type() == h5s.SCALAR else int(space.get_simple_extent_npoints())
    found = InMemory.of(dtype)
    with libhdf5.read_attribute(aid, found.tid, found.dtype, count) as values:
        return _masks(dtype, values[:count])


def _masks(dtype: Datatype, values: Any) -> dict[Steps, Any]:
    return dict(_walk(dtype, values, ()))


def _walk(dtype: Datatype, values: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    if not has_text(dtype):
        return
    kind, found = class_of(dtype), cast(dict[str, Any], dtype)
    if is_string(dtype):
        yield steps, (values == 0).ravel()
    elif kind == "array":
        yield from _walk(found["base"], values.reshape(-1), steps)
    elif kind == "compound":
        for i, (name, _, member) in enumerate(found["members"]):
            yield from _walk(member, values[f"f{i}"], (*steps, f".{name}"))
    elif kind == "vlen":
        yield from _walk(found["base"], _pointed_to(found["base"], values), (*steps, "values"))


def _pointed_to(base: Datatype, values: Any) -> Any:
    """The elements of sequences, one after the other."""
    inner, _ = layout(base, False)
    rows = np.ravel(values).view(SEQUENCE)
    pairs = zip(rows["at"].tolist(), rows["length"].tolist(), strict=True)
    pieces = [libhdf5.memory_at(at, count * inner.itemsize) for at, count in pairs if count]
    return np.frombuffer(b"".join(pieces), inner)


def marked(value: Json, dtype: Datatype, rank: int, masks: Mapping[Steps, Any]) -> Json:
    """An attribute's value with null in the place of each string that is one."""
    return _marked(value, dtype, rank, (), {steps: iter(mask) for steps, mask in masks.items()})


def _marked(value: Json, dtype: Datatype, rank: int, steps: Steps, flags: Mapping[Steps, Iterator[bool]]) -> Json:
    if not has_text(dtype):
        return value
    if rank:
        return [_marked(item, dtype, rank - 1, steps, flags) for item in value]
    kind, found = class_of(dtype), cast(dict[str, Any], dtype)
    if is_string(dtype):
        return None if next(flags[steps]) else value
    if kind == "array":
        return _marked(value, found["base"], len(found["shape"]), steps, flags)
    if kind == "vlen":
        return [_marked(item, found["base"], 0, (*steps, "values"), flags) for item in value]
    members = zip(value, found["members"], strict=True)
    return [_marked(item, member, 0, (*steps, f".{name}"), flags) for item, (name, _, member) in members]


def holds_empty(value: Json) -> bool:
    """Whether there is an empty string anywhere in a JSON value."""
    return any(map(holds_empty, value)) if isinstance(value, list) else value == ""


def pads_with_spaces(dtype: Datatype) -> bool:
    """Whether a datatype is a fixed-length string padded with spaces."""
    return is_string(dtype) and cast(dict[str, Any], dtype)["size"] and cast(dict[str, Any], dtype)["padding"] == "spacepad"


def zero_padded(did: Any, dtype: Datatype, region: Region) -> Any:
    """Which strings of a region, padded with spaces as they should be, are padded with zeros."""
    raw = np.empty(region_shape(region), f"V{cast(dict[str, Any], dtype)['size']}")
    space = did.get_space()
    if region:
        space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
    did.read(h5s.create_simple(raw.shape) if region else h5s.ALL, space if region else h5s.ALL, raw, did.get_type())
    return _ends_in_zero(raw)


def stored(aid: Any, dtype: Datatype, shape: tuple[int, ...]) -> Any:
    """The bytes of an attribute's strings as they are stored."""
    raw = np.empty(shape, f"V{cast(dict[str, Any], dtype)['size']}")
    aid.read(raw, aid.get_type())
    return raw


def with_zeros(value: Json, rank: int, raw: Any) -> Json:
    """An attribute's strings, as bytes where they are padded with zeros."""
    if rank:
        return [with_zeros(item, rank - 1, inner) for item, inner in zip(value, raw, strict=True)]
    found = raw.tobytes()
    return {"base64": base64.b64encode(found).decode()} if found[-1:] == b"\0" else value


def _ends_in_zero(raw: Any) -> Any:
    return np.ascontiguousarray(raw).reshape(-1).view(np.uint8).reshape(raw.size, -1)[:, -1] == 0
