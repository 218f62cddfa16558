"""Where a target keeps the leases of its runs: small objects, each created only where there is none, by the store's own means."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class Claims(Protocol):
    """The claims to one target, by name."""

    def names(self) -> list[str]:
        """Names of the claims that there are."""

    def read(self, name: str) -> bytes | None:
        """A claim's text, or None."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a claim unless there is one of that name; whether it holds this text now."""

    def renew(self, name: str, data: bytes) -> None:
        """Show that the claim that this process created is still held; where it is gone it stays gone."""

    def retire(self, name: str, data: bytes) -> None:
        """Let go of a claim; its name stays taken."""

    def remove(self, name: str) -> None:
        """Remove a claim."""

    def sign(self, name: str) -> Any:
        """What changes with each renewal; None if the claim is gone."""

    def age(self, name: str) -> float | None:
        """Seconds since a claim was renewed, by the store's own clock; None where there is no telling."""


class FolderClaims:
    """Claims to a folder: files that are linked to their names, renewed by their time.

    Parameters
    ----------
    seat : callable
        Tells in which folder they are now: that of the target, or the one that is about to take its place.
    """

    def __init__(self, seat: Callable[[], Path]) -> None:
        self._seat = seat

    @property
    def folder(self) -> Path:
        """The folder that holds the claims."""
        return self._seat() / ".h5z" / "lease"

    def names(self) -> list[str]:
        """Names of the claims that there are."""
        try:
            return [name for name in os.listdir(self.folder) if name.isdigit()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes | None:
        """A claim's text, or None."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, name: str, data: bytes) -> bool:
        """Create a claim unless there is one of that name; whether it holds this text now."""
        folder = self.folder
        try:
            with self._draft(folder, data) as draft:
                try:
                    os.link(draft, folder / name)
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    with open(folder / name, "xb") as file:
                        file.write(data)
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    def renew(self, name: str, data: bytes) -> None:
        """Set its time to the file system's now."""
        with suppress(FileNotFoundError):
            os.utime(self.folder / name)

    def retire(self, name: str, data: bytes) -> None:
        """Set its time to one long past, which needs no room on a full disk."""
        with suppress(FileNotFoundError):
            os.utime(self.folder / name, (0, 0))

    def remove(self, name: str) -> None:
        """Remove a claim."""
        with suppress(FileNotFoundError):
            (self.folder / name).unlink()

    def sign(self, name: str) -> Any:
        """Its time."""
        try:
            return os.stat(self.folder / name).st_mtime_ns
        except FileNotFoundError:
            return None

    def age(self, name: str) -> float | None:
        """Seconds between its time and that of a file written now."""
        folder = self.folder
        try:
            renewed = os.stat(folder / name).st_mtime
            with self._draft(folder, b"") as draft:
                return os.stat(draft).st_mtime - renewed
        except OSError:
            return None

    @staticmethod
    @contextmanager
    def _draft(folder: Path, data: bytes) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{uuid.uuid4().hex}.draft"
        try:
            with open(draft, "xb") as file:
                file.write(data)
            yield draft
        finally:
            with suppress(OSError):
                draft.unlink()
