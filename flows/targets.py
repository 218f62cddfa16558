"""The Zarr stores below a target root, found without looking into them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import Any

from h5z.errors import SourceError, TransientError, one_line

_ROOTS = frozenset({"zarr.json", ".zgroup"})
_BEGUN = ".h5z"  # what a migration keeps in a target until its end


def find_targets(target_root: str, *, storage_options: dict[str, Any] | None = None) -> Iterator[str]:
    """Every committed store below a folder or URL, in order; a store's own folders are not looked into.

    Raises
    ------
    SourceError, TransientError
        If a folder cannot be listed.
    """
    if "://" in target_root:
        yield from _remote(target_root, storage_options or {})
        return
    try:
        with os.scandir(target_root) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise SourceError(f"{target_root}: cannot be listed ({error.strerror})") from None
    if _ROOTS & {name for name, _ in names}:
        yield target_root
        return
    if _BEGUN in {name for name, _ in names}:
        return
    for name, is_folder in names:
        if is_folder:
            yield from find_targets(os.path.join(target_root, name))


def _remote(url: str, options: dict[str, Any]) -> Iterator[str]:
    from fsspec.core import url_to_fs

    try:
        system, start = url_to_fs(url, **options)
        folders = [start]
        while folders:
            folder = folders.pop()
            entries = system.ls(folder, detail=True, refresh=True)
            if _ROOTS & {posixpath.basename(entry["name"]) for entry in entries if entry["type"] == "file"}:
                yield system.unstrip_protocol(folder)
                continue
            if _BEGUN in {posixpath.basename(entry["name"].rstrip("/")) for entry in entries}:
                continue
            below = (entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory")
            folders += sorted((name for name in below if name != folder), reverse=True)
    except (ConnectionError, TimeoutError) as error:
        raise TransientError(f"{url}: the store did not answer ({one_line(error)})") from None
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{url}: cannot be listed ({one_line(error)})") from None
