"""An HDF5 file that holds opaque bytes by key: indexed, checksummed, appended atomically, salvageable.

The file is a chain of frames (`h5z.container.frames`), only ever appended to. A member's bytes lie in a frame of their own,
with key and checksum; a later frame of the same key replaces it, a deletion takes it away. From time to time, and when a
process ends, an index is appended: h5z's own, and HDF5's metadata for the same members (`h5z.hdf5.symboltable`), to which the
superblock is then pointed. So the file is at every moment

* for h5z: the last index and every whole frame after it;
* for libhdf5, which passes over what lies beyond the end that its superblock states: a complete HDF5 file with the members
  as of the last index, each a dataset.

What a kill can leave behind is a part of a frame at the end. Nothing refers to it, readers stop before it, the next writer
removes it. The superblock is the one thing that is overwritten: 48 bytes in one write, with a checksum. Space of replaced
members is given back by writing a new file and renaming it, when it is more than half of the file.

libhdf5 may write to the file too, when all is indexed; it is then read through libhdf5, and rewritten by the next writer.
Readers take no lock and see whole members only. Writers hold the file's ``flock`` while they append (`h5z.container.locks`):
threads, processes and libhdf5 exclude each other, and a lock ends with its process. Files are not forced to the disk as they
grow; a loss of power is noticed by checksums and mended by `repair`, which finds frames without an index.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from h5z.container.drafts import draft_of, new_ident, remove_drafts
from h5z.container.file import ContainerFile
from h5z.container.frames import DELETION, LONGEST_KEY, MEMBER, Entry, encode_key
from h5z.container.index import write_new
from h5z.container.locks import exclusive
from h5z.container.openfiles import files
from h5z.errors import PlanError, TargetError, one_line
from h5z.hdf5.symboltable import View

LOCK_TIMEOUT = 60.0
_COMPACT_NBYTES = 1 << 20


class _GoneError(TargetError):
    """There is no file at a container's path."""


@dataclass(frozen=True)
class Container:
    """A container file by its path; picklable. Where there is no file there are no members, and the first `put` makes one.

    Parameters
    ----------
    path : str
        Absolute, if the working directory may change.
    lock_timeout : float
        Seconds to wait for another writer of the same file.
    indexing : bool
        Whether indices are appended from time to time; else when `seal` is called.
    view : View
        How members appear to those who read the file as HDF5.
    """

    path: str
    lock_timeout: float = LOCK_TIMEOUT
    indexing: bool = True
    view: View = field(default_factory=View, compare=False)

    def _current(self) -> ContainerFile | None:
        file = files().get(self.path)
        if file is not None:
            file.refresh()
        return file

    def exists(self) -> bool:
        """Whether there is a file, readable as a container.

        Raises
        ------
        SourceError
            If there is one that is damaged.
        """
        return self._current() is not None

    def entries(self) -> dict[str, Entry]:
        """All members by key, and where they are; a copy.

        Raises
        ------
        SourceError
            If the file is damaged, cut short, or no HDF5 file.
        """
        file = self._current()
        return {} if file is None else dict(file.entries)

    def entry(self, key: str) -> Entry | None:
        """Where a member is, or None."""
        file = self._current()
        return None if file is None else file.entries.get(key)

    def __contains__(self, key: str) -> bool:
        return self.entry(key) is not None

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Read a member's bytes, or those from `start` to `stop` as of a slice; None if there is no such member.

        Raises
        ------
        SourceError
            If the file is damaged or cut short; a whole member is compared with its checksum.
        """
        file = self._current()
        if file is None or key not in file.entries:
            return None
        return file.member(key, start, stop)

    def put(self, key: str, data: Any, *, replace: bool = True) -> bool:
        """Store a member, atomically.

        Parameters
        ----------
        data : bytes-like
        replace : bool
            Whether a member of that key is replaced.

        Returns
        -------
        bool
            Whether it was stored.

        Raises
        ------
        TargetError
            If the file cannot be written, or another writer holds it for longer than `lock_timeout`.
        """
        return self.put_many([(key, data)], replace=replace) == 1

    def put_many(self, items: Iterable[tuple[str, Any]], *, replace: bool = True, sync: bool = False) -> int:
        """Store members in one go, each atomically, in order; return how many.

        Parameters
        ----------
        sync : bool
            Whether to wait until they are on the disk.
        """
        wanted = list(items)
        for key, _ in wanted:
            _check_key(self.path, key)
        with self._writing(create=True) as file:
            if not replace:
                wanted = [(key, data) for key, data in wanted if key not in file.entries]
            if wanted:
                file.append(MEMBER, wanted)
                self._tidy(file)
            if sync:
                os.fdatasync(file.descriptor)
        return len(wanted)

    def delete(self, *keys: str) -> None:
        """Take members away, and with the last of them the file; those that are not there are passed over."""
        if not any(key in self for key in keys):
            return
        with suppress(_GoneError), self._writing() as file:
            gone = [(key, b"") for key in keys if key in file.entries]
            if gone and len(gone) == len(file.entries):
                os.unlink(self.path)
                files().forget(self.path)
            elif gone:
                file.append(DELETION, gone)
                self._tidy(file)

    def remove(self) -> None:
        """Delete the file, with all members, when no writer holds it."""
        removed = False
        with suppress(_GoneError):
            while not removed:
                with self._locked(create=False) as file:
                    if file is not None:
                        os.unlink(self.path)
                        removed = True
        files().forget(self.path)

    def seal(self, *, sync: bool = False, always: bool = False) -> None:
        """Have libhdf5 see all members: append an index, unless one is in force.

        Parameters
        ----------
        always : bool
            Also where one is in force, so that it shows this container's `view`.
        """
        with suppress(_GoneError), self._writing() as file:
            if file.unsealed or always:
                file.seal(self.view, sync=sync)
            elif sync:
                os.fsync(file.descriptor)
        files().unsealed.pop(self.path, None)

    def is_sealed(self) -> bool:
        """Whether libhdf5 sees all members."""
        file = self._current()
        return file is None or not file.unsealed

    def compact(self) -> None:
        """Write the file anew without what was replaced or deleted, and put it in the place of this one."""
        with self._writing() as file:
            self._rewrite(file)

    def _tidy(self, file: ContainerFile) -> None:
        if not self.indexing:
            return
        if file.is_wasteful(_COMPACT_NBYTES):
            self._rewrite(file)
        elif file.wants_sealing():
            file.seal(self.view, sync=False)
            files().unsealed.pop(self.path, None)
        else:
            files().unsealed[self.path] = self.seal

    def _rewrite(self, file: ContainerFile) -> None:
        """Put a file with the same members in the place of one; its lock is held. Damaged members stay damaged."""
        remove_drafts(self.path)
        members = ((key, file.raw(key), entry.crc) for key, entry in list(file.entries.items()))
        draft = draft_of(self.path)
        try:
            write_new(draft, new_ident(), members, self.view, sync=True)
            os.replace(draft, self.path)
        except OSError as error:
            raise TargetError(f"{self.path}: cannot be rewritten ({error.strerror or one_line(error)})") from None
        finally:
            with suppress(OSError):
                os.unlink(draft)
        files().forget(self.path)

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[ContainerFile]:
        """The file, up to date, with its lock held; one that another tool wrote is first rewritten."""
        while True:
            with self._locked(create=create) as file:
                if file is not None:
                    file.refresh()
                    if file.ident is not None:
                        yield file
                        return
                    self._rewrite(file)

    @contextmanager
    def _locked(self, *, create: bool) -> Iterator[ContainerFile | None]:
        """The file with its lock held; None where the path leads to another file by the time that the lock is ours."""
        file = files().get(self.path)
        if file is None:
            if not create:
                raise _GoneError(f"{self.path}: expected a container, found no such file")
            self._create()
            yield None
            return
        if not file.writable:
            raise TargetError(f"{self.path}: expected to write, found a file or file system that allows only reading")
        start = time.monotonic()
        if not file.writing.acquire(timeout=self.lock_timeout):
            raise TargetError(f"{self.path}: expected to write, found it locked by another thread for {self.lock_timeout:g} s")
        try:
            left = self.lock_timeout - (time.monotonic() - start)
            with exclusive(file.descriptor, self.path, left):
                yield file if files().get(self.path) is file else None
        finally:
            file.writing.release()

    def _create(self) -> None:
        """Make an empty container, whole from the start, unless another is faster."""
        draft = draft_of(self.path)
        try:
            for _ in range(100):  # others may remove empty folders
                os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                with suppress(FileNotFoundError):
                    write_new(draft, new_ident(), (), self.view, sync=False)
                    break
            with suppress(FileExistsError):
                os.link(draft, self.path)
        except OSError as error:
            raise TargetError(f"{self.path}: cannot be created ({error.strerror or one_line(error)})") from None
        finally:
            with suppress(OSError):
                os.unlink(draft)


def _check_key(path: str, key: str) -> None:
    raw = encode_key(key)
    if not raw or b"\0" in raw or len(raw) > LONGEST_KEY:
        raise PlanError(f"{path}: expected a key of 1 to {LONGEST_KEY} bytes without a zero, found {key!r}")
