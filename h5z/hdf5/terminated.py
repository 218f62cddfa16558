"""Strings that end at their first zero byte, read past libhdf5: what lies after it in the file is no part of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from h5z.dtypes import access, class_of, parts
from h5z.nodes import Datatype


def as_padded(dtype: Datatype) -> Datatype:
    """A datatype with strings padded with zeros in the place of terminated ones.

    >>> as_padded({"class": "string", "size": 4, "charset": "ascii", "padding": "nullterm"})["padding"]
    'nullpad'
    """
    if not isinstance(dtype, dict):
        return dtype
    if class_of(dtype) == "string":
        return {**dtype, "padding": "nullpad"} if dtype["size"] and dtype["padding"] == "nullterm" else dtype
    if dtype["class"] == "array":
        return {**dtype, "base": as_padded(dtype["base"])}
    if dtype["class"] == "compound":
        return {**dtype, "members": [[name, offset, as_padded(member)] for name, offset, member in dtype["members"]]}
    return dtype


def cut(values: Any, dtype: Datatype) -> Any:
    """Values as they lie in the file, their terminated strings as libhdf5 converts them: zeros after the first zero byte.

    Where the whole datatype is read unconverted, nothing is cut.
    """
    if access(dtype) == "raw" or not any(_is_terminated(part) for part in parts(dtype)):
        return values
    out = np.array(values)
    _cut(out, dtype)
    return out


def _is_terminated(dtype: Datatype) -> bool:
    return isinstance(dtype, dict) and class_of(dtype) == "string" and dtype["padding"] == "nullterm"


def _cut(values: Any, dtype: Datatype) -> None:
    while isinstance(dtype, dict) and dtype["class"] == "array":
        dtype = dtype["base"]
    if isinstance(dtype, dict) and dtype["class"] == "compound" and values.dtype.names:
        for name, _, member in dtype["members"]:
            _cut(values[name], member)
    elif _is_terminated(dtype):
        letters = np.ascontiguousarray(values).reshape(-1, 1).view(np.uint8)
        letters = np.where(np.logical_or.accumulate(letters == 0, axis=1), 0, letters).astype(np.uint8)
        values[...] = letters.view(values.dtype).reshape(values.shape)
