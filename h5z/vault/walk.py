"""The files of a folder, in an order, as names, kinds and times; nothing is opened but folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from h5z.errors import one_line
from h5z.vault.catalog import FILE, FOLDER, LINK

LINKS = ("keep", "follow", "skip")


class Found(NamedTuple):
    """A file, folder or link: its name below the source (as the file system has it), and its status when it was found."""

    name: bytes
    kind: int
    mode: int
    nbytes: int
    mtime: int
    inode: int


class Refused(NamedTuple):
    """Something that is not stored, and why."""

    name: bytes
    reason: str


class Unit(NamedTuple):
    """What one task stores of a file, folder or link: all of it, or a part."""

    found: Found
    part: int = 0
    parts: int = 1
    start: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class Walk:
    """Everything below a folder, each folder before what is in it, names in their bytes' order.

    Parameters
    ----------
    root : bytes
        The folder.
    links : str
        ``keep`` symbolic links as links; ``follow`` them, as if what they lead to were there; ``skip`` and name them.
    leave_out : collection of bytes
        Paths that are not looked at: the vault's own.
    """

    root: bytes
    links: str = "keep"
    leave_out: Collection[bytes] = ()

    def __iter__(self) -> Iterator[Found | Refused]:
        try:
            status = os.stat(self.root)
        except OSError as error:
            yield Refused(b".", f"the folder cannot be read ({error.strerror or one_line(error)})")
            return
        yield from self._folder(b"", ((status.st_dev, status.st_ino),))

    def _folder(self, name: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[Found | Refused]:
        try:
            with os.scandir(os.path.join(self.root, name)) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            yield Refused(name or b".", f"the folder cannot be read ({error.strerror or one_line(error)})")
            return
        for item in items:
            if item.path not in self.leave_out:
                yield from self._item(item, name + b"/" + item.name if name else item.name, above)

    def _item(self, item: os.DirEntry[bytes], name: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[Found | Refused]:
        try:
            status = item.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if self.links == "skip":
                    yield Refused(name, "a symbolic link, skipped by policy")
                    return
                if self.links == "follow":
                    status = item.stat()
        except OSError as error:
            yield Refused(name, f"cannot be looked at ({error.strerror or one_line(error)})")
            return
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            here = (status.st_dev, status.st_ino)
            if here in above:
                yield Refused(name, "a symbolic link that leads back to a folder above it")
                return
            yield _found(name, FOLDER, status)
            yield from self._folder(name, (*above, here))
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield _found(name, FILE if stat.S_ISREG(mode) else LINK, status)
        else:
            yield Refused(name, f"expected a file, a folder or a link, found {_KINDS.get(stat.S_IFMT(mode), 'something else')}")


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def _found(name: bytes, kind: int, status: os.stat_result) -> Found:
    nbytes = 0 if kind == FOLDER else status.st_size
    return Found(name, kind, stat.S_IMODE(status.st_mode), nbytes, status.st_mtime_ns, status.st_ino)


def units(found: Iterable[Found], split_nbytes: int) -> Iterator[Unit]:
    """Cut what is larger than `split_nbytes` into parts."""
    for item in found:
        parts = -(-item.nbytes // split_nbytes) if item.kind == FILE else 1
        if parts < 2:
            yield Unit(item, nbytes=item.nbytes)
            continue
        for part in range(parts):
            start = part * split_nbytes
            yield Unit(item, part, parts, start, min(split_nbytes, item.nbytes - start))


def batches(cut: Iterable[Unit], nbytes: int, count: int) -> Iterator[Sequence[Unit]]:
    """Group units, in order, into tasks of about `nbytes` and at most `count`."""
    batch: list[Unit] = []
    total = 0
    for unit in cut:
        if batch and (total + unit.nbytes > nbytes or len(batch) == count):
            yield tuple(batch)
            batch, total = [], 0
        batch.append(unit)
        total += unit.nbytes
    if batch:
        yield tuple(batch)
