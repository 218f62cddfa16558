"""Check a container's every byte; get out of a damaged one what is whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from h5z.container import LOCK_TIMEOUT
from h5z.container.drafts import draft_of, new_ident
from h5z.container.file import ContainerFile
from h5z.container.foreign import members
from h5z.container.frames import DELETION, MEMBER, Frame, Scan, find, payload
from h5z.container.index import write_new
from h5z.container.locks import exclusive
from h5z.errors import SourceError, TargetError, one_line
from h5z.hdf5.symboltable import SUPERBLOCK_NBYTES, View

DAMAGED = ".damaged"
Mend: TypeAlias = Callable[[str, bytes, bool], bytes | None]


@dataclass(frozen=True)
class Salvaged:
    """What was got out of a damaged container.

    Attributes
    ----------
    members : int
        How many members are whole.
    lost : tuple of str
        Keys of those that are not.
    gaps : tuple of (int, int)
        Bytes from, to, of the file that hold no frame: what was there is unknown.
    aside : str
        Where the damaged file was left; empty where nothing was lost.
    """

    members: int
    lost: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]
    aside: str = ""


def check(path: str) -> Iterator[tuple[str, str]]:
    """Compare every byte with its checksum, and the index with what libhdf5 reads; yield (key, what is wrong).

    Also bytes that nobody reads any more are compared, those of members that were replaced and of indices that others
    followed: their key is empty. What a killed writer has left at the end is nothing wrong.
    """
    try:
        file = ContainerFile(path)
        file.refresh()
        shown = members(path)
    except (FileNotFoundError, NotADirectoryError):
        yield "", "no such file"
        return
    except SourceError as error:
        yield "", str(error).removeprefix(f"{path}: ")
        return
    yield from _foreign(file) if file.ident is None else _damaged(file)
    for key, entry in file.entries.items():
        # A member that was replaced since the last index lies further on than libhdf5 knows.
        if entry.nbytes and key in shown and shown[key].address > entry.address:
            yield key, f"expected HDF5's metadata to lead to byte {entry.address}, found {shown[key].address}"


def _foreign(file: ContainerFile) -> Iterator[tuple[str, str]]:
    """What is wrong with a file that another tool wrote: members that cannot be read."""
    for key in file.entries:
        try:
            file.member(key)
        except SourceError as error:
            yield key, str(error).removeprefix(f"{file.path}: {key}: ")


def _damaged(file: ContainerFile) -> Iterator[tuple[str, str]]:
    """What is wrong with one of ours, frame by frame."""
    size, at = os.fstat(file.descriptor).st_size, SUPERBLOCK_NBYTES
    missing = {(key, entry.address) for key, entry in file.entries.items()}
    for frame in _frames(file, size, file.ident):
        if frame.start > at:
            yield "", f"expected a frame at byte {at}, found one at {frame.start}"
        at = frame.end
        current = (frame.key, frame.address) in missing
        missing.discard((frame.key, frame.address))
        try:
            payload(file, file.path, frame)
            for first, last in frame.padding:
                if any(file.read(first, last - first)):
                    raise SourceError(f"{file.path}: {frame.key}: expected zeros from byte {first} to {last}, found others")
        except SourceError as error:
            reason = str(error).removeprefix(f"{file.path}: {frame.key}: ")
            yield (frame.key, reason) if current else ("", f"at byte {frame.start}: {reason}")
    for key, address in missing:
        yield key, f"expected a frame whose content begins at byte {address}, found none"
    if at < size and not file.is_unfinished(at, size):
        yield "", f"expected a frame at byte {at}, found other bytes"


def salvage(path: str, view: View | None = None, *, mend: Mend | None = None) -> Salvaged:
    """Write a damaged container anew from its whole frames, without its index, and put it in its place.

    Where anything is lost, the damaged file is left beside it.

    Parameters
    ----------
    mend : callable, optional
        Called with the key and the bytes of a member that is damaged, and whether an older one of that key is whole: what can be
        kept of it; empty for the older one; or None.

    Raises
    ------
    SourceError
        If the file holds no frame: another tool wrote it, or nothing is left of it.
    TargetError
        If the file cannot be written anew.
    """
    try:
        file = ContainerFile(path)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"{path}: no such file") from None
    with exclusive(file.descriptor, path, LOCK_TIMEOUT):
        return _salvage(file, path, view or View(), mend)


def _salvage(file: ContainerFile, path: str, view: View, mend: Mend | None) -> Salvaged:
    size = os.fstat(file.descriptor).st_size
    frames = list(_frames(file, size, None))
    owners = Counter(frame.ident for frame in frames)
    if not owners:
        raise SourceError(f"{path}: expected frames of a container, found none")
    ident = owners.most_common(1)[0][0]
    whole: dict[str, Frame | bytes] = {}
    lost: dict[str, None] = {}
    gaps = []
    at = SUPERBLOCK_NBYTES
    for frame in _frames(file, size, ident):
        if frame.start > at:
            gaps.append((at, frame.start))
        at = frame.end
        _take(file, path, frame, whole, lost, mend)
    if at < size:
        gaps.append((at, size))
    aside = _replace(file, path, whole, view, keep=bool(lost or gaps))
    return Salvaged(len(whole), tuple(lost), tuple(gaps), aside)


def _take(
    file: ContainerFile, path: str, frame: Frame, whole: dict[str, Frame | bytes], lost: dict[str, None], mend: Mend | None
) -> None:
    if frame.kind not in (MEMBER, DELETION):
        return
    before = whole.pop(frame.key, None)
    lost.pop(frame.key, None)
    if frame.kind == DELETION:
        return
    try:
        payload(file, path, frame)
        whole[frame.key] = frame
    except SourceError:
        lost[frame.key] = None
        kept = mend(frame.key, file.read(frame.address, frame.nbytes), before is not None) if mend else None
        if kept is not None:
            whole[frame.key] = kept if kept else before or b""


def _frames(file: ContainerFile, size: int, ident: int | None) -> Iterator[Frame]:
    """Every frame of a file, passing over what is none."""
    at = SUPERBLOCK_NBYTES
    while at < size:
        scan = Scan(file, at, size, ident)
        yield from scan
        if scan.end >= size:
            return
        following = find(file, scan.end + 1, size, ident)
        if following is None:
            return
        at = following.start


def _replace(file: ContainerFile, path: str, whole: dict[str, Frame | bytes], view: View, *, keep: bool) -> str:
    draft, aside = draft_of(path), ""
    try:
        kept = (
            (key, payload(file, path, found), found.crc) if isinstance(found, Frame) else (key, found, None)
            for key, found in whole.items()
        )
        write_new(draft, new_ident(), kept, view, sync=True)
        if keep:
            aside = _free_name(path + DAMAGED)
            os.link(path, aside)
        os.replace(draft, path)
    except OSError as error:
        raise TargetError(f"{path}: cannot be rewritten ({error.strerror or one_line(error)})") from None
    finally:
        if os.path.exists(draft):
            os.unlink(draft)
    return aside


def _free_name(wanted: str) -> str:
    name, number = wanted, 1
    while os.path.lexists(name):
        number += 1
        name = f"{wanted}{number}"
    return name
