"""What tells one state of a source file from another without opening it: its size, and a number that changes with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from h5z.credentials import joined

# What file systems of fsspec say of a file that changes with its contents, the surest first; listings say it as well.
_KEYS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


def identify(name: str, storage_options: dict[str, Any] | None = None) -> tuple[int, int]:
    """A file's size in bytes, and its time of modification in ns; for a URL, a number in that time's place.

    Raises
    ------
    OSError
        If there is no such file.
    """
    if "://" not in name:
        stat = os.stat(name)
        return stat.st_size, stat.st_mtime_ns
    from fsspec.core import url_to_fs

    url, options = joined(name, storage_options)
    filesystem, path = url_to_fs(url, **options)
    filesystem.invalidate_cache(os.path.dirname(path))  # what was listed before may have changed
    return identity_of(filesystem.info(path))


def identity_of(info: Mapping[str, Any]) -> tuple[int, int]:
    """The identity of a remote file from what its file system's listing says of it.

    >>> identity_of({"size": 3, "ETag": '"a1"'}) == identity_of({"size": 3, "ETag": "a1", "ContentType": "x"})
    True
    """
    nbytes = int(info.get("size") or 0)
    found = next(((key.lower(), _text(info[key])) for key in _KEYS if info.get(key)), ("size", str(nbytes)))
    return nbytes, int.from_bytes(hashlib.sha256(repr(found).encode()).digest()[:6], "big")


def modified(info: Mapping[str, Any]) -> float | None:
    """When a remote file was modified, in seconds since 1970, if its file system's listing says so."""
    for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(key)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _text(value: Any) -> str:
    return str(value.timestamp()) if isinstance(value, datetime) else str(value).strip('"')
