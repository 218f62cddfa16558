"""Containers that other tools wrote with libhdf5: their datasets as members, and where in the file their bytes are."""

from __future__ import annotations

from typing import Any

import h5py
from h5py import h5d

from h5z.container.frames import Entry
from h5z.errors import SourceError, one_line


def open_foreign(path: str) -> h5py.File:
    """Open a file for reading, without HDF5's file lock: whoever holds that, perhaps we, appends only.

    Raises
    ------
    SourceError
        If libhdf5 cannot open it.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{path}: expected a container, found no readable HDF5 file ({one_line(error)})") from None


def members(path: str) -> dict[str, Entry]:
    """Every dataset by its path: where its bytes are; at -1 where only libhdf5 can gather them.

    Raises
    ------
    SourceError
        If the file cannot be read.
    """
    found: dict[str, Entry] = {}

    def visit(name: Any, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            key = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
            found[key] = _entry(item.id)

    with open_foreign(path) as file:
        try:
            file.visititems(visit)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise SourceError(f"{path}: cannot be read ({one_line(error)})") from None
    return found


def _entry(did: Any) -> Entry:
    plist = did.get_create_plist()
    space = did.get_space()
    nbytes = did.get_type().get_size() * space.get_simple_extent_npoints()
    offset = did.get_offset() if plist.get_layout() == h5d.CONTIGUOUS and not plist.get_external_count() else None
    return Entry(-1 if offset is None and nbytes else offset or 0, nbytes, None)


def read_member(path: str, key: str) -> bytes:
    """A dataset's bytes, through libhdf5.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    with open_foreign(path) as file:
        try:
            values: bytes = h5py.Dataset(h5d.open(file.id, key.encode("utf-8", "surrogateescape")))[()].tobytes()
            return values
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path}: {key} cannot be read ({one_line(error)})") from None
