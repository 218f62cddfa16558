"""A Zarr store in one ZIP file: written beside, replaced whole."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5z
from h5z.errors import TargetError, one_line


def save_zip(path: Path, save: Callable[[str], None]) -> None:
    """Have a store written to a folder, with what the file held before, and put it in the file's place.

    Raises
    ------
    TargetError
        If the file there is none, or it cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        store = Path(folder) / "store"
        if path.exists():
            _extract(path, store)
        save(str(store))
        draft = Path(folder) / "draft.zip"
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as file:
            for found in sorted(store.rglob("*")):
                if found.is_file():
                    file.write(found, str(found.relative_to(store)))
        os.replace(draft, path)


def _extract(path: Path, store: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            file.extractall(store)  # which keeps inside the folder, whatever the names say
    except (OSError, zipfile.BadZipFile) as error:
        raise TargetError(f"{path}: expected a ZIP file, found none that opens ({one_line(error)})") from None


def load_zip(name: str, key: str | None, allow_pickle: bool) -> Any:
    """Load from a zipped store."""
    from zarr.core.sync import sync
    from zarr.storage import ZipStore

    try:
        store = sync(ZipStore.open(name, mode="r"))
    except (FileNotFoundError, zipfile.BadZipFile) as error:
        raise TargetError(f"{name}: expected a zipped Zarr store, found none that opens ({one_line(error)})") from None
    return h5z.load(store, key, allow_pickle=allow_pickle)  # left open: dask arrays go on reading it
