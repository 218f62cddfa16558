"""Plain files of a shard store: read, written whole, listed, deleted."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from typing import Any

from h5z.container.drafts import PARTIAL
from h5z.errors import SourceError, TargetError, one_line


def scan(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing if there is none."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror or one_line(error)})") from None


def empty(folder: str) -> None:
    """Delete all that is in a folder."""
    with os.scandir(folder) as found:
        items = list(found)
    for item in items:
        if item.is_dir(follow_symlinks=False):
            shutil.rmtree(item.path)
        else:
            os.unlink(item.path)


def read_plain(path: str, start: int = 0, stop: int | None = None) -> bytes | None:
    """Read a plain file, or a slice of it; None if there is none."""
    try:
        with open(path, "rb") as file:
            if start == 0 and stop is None:
                return file.read()
            first, last, _ = slice(start, stop).indices(os.fstat(file.fileno()).st_size)
            file.seek(first)
            return file.read(max(0, last - first))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None


def write_plain(path: str, data: Any, *, replace: bool = True, sync: bool = False) -> None:
    """Write a plain file, whole or not at all.

    Raises
    ------
    TargetError
        If it cannot be written.
    """
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name[:100]}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        for attempt in range(100):
            try:
                with open(draft, "xb") as file:
                    file.write(data)
                    if sync:
                        os.fsync(file.fileno())
                break
            except FileNotFoundError:  # others may remove empty folders
                if attempt == 99:
                    raise
                os.makedirs(folder, exist_ok=True)
        if replace:
            os.replace(draft, path)
        else:
            with suppress(FileExistsError):
                os.link(draft, path)
    except OSError as error:
        raise TargetError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None
    finally:
        with suppress(OSError):
            os.unlink(draft)
