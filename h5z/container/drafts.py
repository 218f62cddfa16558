"""Files that are being written to take another's place."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from contextlib import suppress

PARTIAL = ".partial"  # ends their names


def draft_of(path: str) -> str:
    """The name of a file, beside another, that is being written to take its place."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex}{PARTIAL}")


def remove_drafts(path: str, *, older_seconds: float = 3600) -> None:
    """Remove what killed writers have left of drafts; those of the last hour may be at work."""
    folder, name = os.path.split(path)
    with suppress(OSError), os.scandir(folder or ".") as found:
        for item in found:
            if item.name.startswith(f".{name}.") and item.name.endswith(PARTIAL):
                with suppress(OSError):
                    if item.stat().st_mtime < time.time() - older_seconds:
                        os.unlink(item.path)


def new_ident() -> int:
    """A number for a new container file."""
    return secrets.randbits(64)
