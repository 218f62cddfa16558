"""One open container file: its index in memory, brought up to date by what others have appended; reading and appending frames."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any

from h5z.container.foreign import members, read_member
from h5z.container.frames import (
    DELETION,
    HEAD_NBYTES,
    INDEX,
    LONGEST_KEY,
    MEMBER,
    Entry,
    Frame,
    Scan,
    begins_frame,
    checked,
    crc32,
    find,
    head,
    padded,
    parse,
    payload,
)
from h5z.container.index import LOCATOR, LOCATOR_MAGIC, index_payload, unpacked, write_all
from h5z.errors import SourceError, TargetError, one_line
from h5z.hdf5.symboltable import SUPERBLOCK_NBYTES, View, parse_superblock, superblock

_METADATA_NBYTES = 170  # about what an index takes for a member
SEAL_FRACTION = 64  # an index is written when it takes no more than this part of what it indexes
SEAL_COUNT = 16


class ContainerFile:
    """An open file; threads share it.

    Attributes
    ----------
    identity : tuple of int
        Device and inode: a path may lead to another file later, by compaction or deletion.
    entries : dict
        Members by key.
    end : int
        The first byte past the last whole frame.
    ident : int or None
        The number in this file's frames; None where another tool wrote the file.
    writing : threading.Lock
        Held by the thread that appends, together with the file's lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor, self.writable = _open(path)
        status = os.fstat(self.descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.entries: dict[str, Entry] = {}
        self.end = 0
        self.ident: int | None = None
        self.unsealed = self.unsealed_nbytes = self.sealed = self.index_nbytes = self.live_nbytes = 0
        self.writing = threading.Lock()
        self._lock = threading.RLock()
        self._stamp: tuple[int, int] | None = None  # of a file that others wrote

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close the file when nobody reads it any more, if only because Python ends, which has let go of `os` by then."""
        descriptor = getattr(self, "descriptor", None)
        if descriptor is not None:
            close(descriptor)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Read bytes of the file, or fewer at its end."""
        try:
            data = os.pread(self.descriptor, nbytes, offset)
            while len(data) < nbytes:  # one call reads no more than 2 GiB
                more = os.pread(self.descriptor, nbytes - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read ({error.strerror or one_line(error)})") from None
        return data

    def refresh(self) -> None:
        """Bring the index up to date with the file.

        Raises
        ------
        SourceError
            If the file is cut short or damaged.
        """
        with self._lock:
            status = os.fstat(self.descriptor)
            if self.ident is None:
                stamp = (status.st_size, status.st_mtime_ns)
                if stamp != self._stamp:
                    self._load()
                    self._stamp = stamp
            elif status.st_size < self.end:
                self._load()
            elif status.st_size > self.end:
                self._scan(status.st_size)

    def _load(self) -> None:
        """Read the index that the superblock leads to, then what was appended since."""
        frame = self._index_frame()
        if frame is None:
            self.ident, self.end = None, 0
            self.entries = members(self.path)
            return
        data = payload(self, self.path, frame)
        self.entries = unpacked(data)
        self.ident, self.end = frame.ident, frame.end
        self.sealed, self.index_nbytes = len(self.entries), frame.end - frame.start
        self.unsealed = self.unsealed_nbytes = 0
        self.live_nbytes = sum(map(_taken, self.entries.values()))
        self._scan(os.fstat(self.descriptor).st_size)

    def _index_frame(self) -> Frame | None:
        """The index in force; None in a file that another tool wrote, or has written to."""
        for _ in range(3):
            found = parse_superblock(self.read(0, SUPERBLOCK_NBYTES))
            if found is not None:
                break
        else:
            return None  # not ours, for none of ours was ever seen half written thrice
        end, _ = found
        size = os.fstat(self.descriptor).st_size  # after the superblock was read, which others may change
        if end > size:
            raise SourceError(f"{self.path}: expected {end} bytes or more, found {size}: the file is cut short")
        locator = self.read(end - LOCATOR.size, LOCATOR.size)
        if len(locator) < LOCATOR.size or not locator.startswith(LOCATOR_MAGIC):
            if any(frame.kind == INDEX and frame.end == end for frame in Scan(self, SUPERBLOCK_NBYTES, size, None)):
                raise SourceError(f"{self.path}: expected an index's last bytes before byte {end}: the file is damaged")
            return None
        start = LOCATOR.unpack(locator)[1]
        frame = parse(self.read(start, HEAD_NBYTES), 0, start, None)
        if frame is None or frame.kind != INDEX or frame.end != end:
            raise SourceError(f"{self.path}: expected an index at byte {start}, found none: the file is damaged")
        return frame

    def _scan(self, size: int) -> None:
        scan = Scan(self, self.end, size, self.ident)
        for frame in scan:
            self._apply(frame)
        self.end = scan.end
        if scan.end < size and self._is_changed():
            self._load()
        elif scan.end < size and not self.is_unfinished(scan.end, size):
            lost = find(self, scan.end + 1, size, self.ident)
            if lost is not None or any(self.read(scan.end, HEAD_NBYTES)):  # zeros: power was lost before they were written
                found = f"one at {lost.start}" if lost is not None else "other bytes"
                raise SourceError(f"{self.path}: expected a frame at byte {scan.end}, found {found}: the file is damaged")

    def _is_changed(self) -> bool:
        """Whether libhdf5 has written to the file: it ends, says the superblock, behind the last frame."""
        found = parse_superblock(self.read(0, SUPERBLOCK_NBYTES))
        return found is not None and found[0] > self.end

    def is_unfinished(self, end: int, size: int) -> bool:
        """Whether what follows the last whole frame is one that is being written, or was when its writer was killed."""
        return begins_frame(self.read(end, min(size - end, HEAD_NBYTES + LONGEST_KEY)), self.ident)

    def _apply(self, frame: Frame) -> None:
        if frame.kind in (MEMBER, DELETION):
            before = self.entries.pop(frame.key, None)
            self.live_nbytes -= _taken(before) if before else 0
        if frame.kind == MEMBER:
            self.entries[frame.key] = entry = Entry(frame.address, frame.nbytes, frame.crc)
            self.live_nbytes += _taken(entry)
        elif frame.kind == INDEX:
            self.sealed, self.unsealed, self.unsealed_nbytes = len(self.entries), 0, 0
            self.index_nbytes = frame.end - frame.start
            return
        self.unsealed += 1
        self.unsealed_nbytes += frame.nbytes

    def member(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read a member's bytes, or some of them; all of them are checked.

        Raises
        ------
        KeyError
            If there is no such member.
        SourceError
            If its bytes are not those written.
        """
        entry = self.entries[key]
        if entry.address < 0:
            return read_member(self.path, key)[start:stop]
        first, last, _ = slice(start, stop).indices(entry.nbytes)
        whole = first == 0 and last == entry.nbytes
        nbytes = max(0, last - first)
        data = self.read(entry.address + first, nbytes) if nbytes else b""
        return checked(data, f"{self.path}: {key}", nbytes, entry.crc if whole else None)

    def raw(self, key: str) -> bytes:
        """Read a member's bytes without comparing them with their checksum.

        Raises
        ------
        SourceError
            If the file is cut short.
        """
        entry = self.entries[key]
        if entry.address < 0:
            return read_member(self.path, key)
        return checked(self.read(entry.address, entry.nbytes), f"{self.path}: {key}", entry.nbytes, None)

    # What follows is for the holder of the file's lock.

    def append(self, kind: int, items: Sequence[tuple[str, Any]]) -> None:
        """Append frames (key, payload), one after the other; a kill leaves the first of them whole, the others not there.

        Raises
        ------
        TargetError
            If the file system refuses, or is full; the file is then as it was.
        """
        self._cut()
        ident = self.ident or 0
        frames, buffers = [], []
        at = self.end
        for key, data in items:
            view = memoryview(data).cast("B")
            crc = crc32(view)
            before = head(kind, ident, key, view.nbytes, crc)
            frames.append(Frame(kind, key, at, at + len(before), view.nbytes, crc, ident))
            buffers += [before, view, bytes(padded(view.nbytes) - view.nbytes)]
            at = frames[-1].end
        try:
            write_all(self.descriptor, buffers, self.end)
        except OSError as error:
            self._cut()
            raise TargetError(f"{self.path}: cannot be written ({error.strerror or one_line(error)})") from None
        with self._lock:
            for frame in frames:
                if frame.start >= self.end:  # else a reader was faster
                    self._apply(frame)
            self.end = at

    def _cut(self) -> None:
        """Remove what a killed writer has left after the last whole frame."""
        if os.fstat(self.descriptor).st_size > self.end:
            os.ftruncate(self.descriptor, self.end)

    def wants_sealing(self) -> bool:
        """Whether an index costs little beside what it would index."""
        if self.unsealed > max(SEAL_COUNT, self.sealed):
            return True
        cost = _METADATA_NBYTES * len(self.entries) + 1000
        return self.unsealed > 0 and self.unsealed_nbytes >= SEAL_FRACTION * cost

    def seal(self, view: View, *, sync: bool) -> None:
        """Append an index, as h5z reads it and as HDF5 does, and have the superblock lead to it."""
        start = self.end
        data, root = index_payload(self.entries, start, view)
        self.append(INDEX, [("", data)])
        if sync:
            os.fdatasync(self.descriptor)
        try:
            os.pwrite(self.descriptor, superblock(self.end, root), 0)
        except OSError as error:
            raise TargetError(f"{self.path}: cannot be written ({error.strerror or one_line(error)})") from None
        if sync:
            os.fsync(self.descriptor)

    def is_wasteful(self, spare_nbytes: int) -> bool:
        """Whether more than half of the file, `spare_nbytes` apart, is what was replaced, deleted or indexed before."""
        return self.end > 2 * (self.live_nbytes + self.index_nbytes) + spare_nbytes


def _taken(entry: Entry) -> int:
    """About what a member takes of its file."""
    return HEAD_NBYTES + 24 + padded(entry.nbytes)


def _open(path: str) -> tuple[int, bool]:
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            descriptor, writable = os.open(path, os.O_RDWR | flags), True
        except PermissionError:
            descriptor, writable = os.open(path, os.O_RDONLY | flags), False
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            descriptor, writable = os.open(path, os.O_RDONLY | flags), False
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror or one_line(error)})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{path}: expected a file, found something else")
    return descriptor, writable
