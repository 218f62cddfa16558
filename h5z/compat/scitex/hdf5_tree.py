"""Nested dicts of arrays, numbers and text -> an HDF5 file, replaced whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from h5z.errors import PlanError, TargetError, one_line


def save_hdf5(obj: Any, path: Path, key: str | None = None) -> None:
    """Save an object as an HDF5 file, or below a key of one.

    Raises
    ------
    PlanError
        For anything but nested dicts, arrays, numbers, text and bytes; with its place.
    TargetError
        If the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if key and path.exists():
            shutil.copyfile(path, draft)
        with h5py.File(draft, "a") as file:
            place = (key or "").strip("/")
            if place and place in file:
                del file[place]
            _put(file, place, obj if isinstance(obj, dict) or place else {"data": obj})
        os.replace(draft, path)
    except PlanError:
        raise
    except (OSError, TypeError, ValueError, RuntimeError, KeyError) as error:
        raise TargetError(f"{path}: cannot be written ({one_line(error)})") from None
    finally:
        draft.unlink(missing_ok=True)


def _put(file: h5py.File, place: str, obj: Any) -> None:
    waiting = [(place, obj)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict):
            file.require_group(path or "/")
            for name, inner in item.items():
                if not isinstance(name, str) or not name or "/" in name or "\0" in name:
                    raise PlanError(f"{path or '/'}: expected names without slashes for HDF5, found {name!r}")
                waiting.append((f"{path}/{name}".lstrip("/"), inner))
        else:
            file[path] = _value(path, item)


def _value(path: str, item: Any) -> Any:
    if isinstance(item, str | bytes | bool | int | float | complex):
        return item
    array = np.asarray(item)
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and array.size and all(isinstance(text, str) for text in array.flat)):
        return array.astype(object)
    if array.dtype.kind in "OMmT":
        raise PlanError(
            f"{path}: expected arrays, numbers or text for an HDF5 file, found {type(item).__name__!r} (a .zarr takes it)"
        )
    return array
