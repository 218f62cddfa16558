"""What lies in folders and stores, to be compared byte for byte."""

from __future__ import annotations

from pathlib import Path

from zarr.storage import MemoryStore


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its bytes; folders are there with None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def stored(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {key: value for key, value in listing(folder).items() if value is not None}


def stored_in(store: MemoryStore) -> dict[str, bytes]:
    """All objects of a store."""
    return {key: value.to_bytes() for key, value in store._store_dict.items()}
