"""Members out of a vault into a folder, as they were; never out of that folder, and never over what is there unless asked."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from h5z.container.drafts import PARTIAL
from h5z.errors import H5zError, PlanError, TargetError, one_line
from h5z.scheduling import Job, run, watching
from h5z.vault.archive import Vault
from h5z.vault.catalog import FILE, FOLDER, LINK, UNKNOWN, Row
from h5z.vault.report import Flaw, VaultReport, shown
from h5z.vault.tasks import groups, nbytes_of, opened

EXISTING = ("refuse", "skip", "overwrite")
LINKS = ("inside", "all", "skip")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _RefusedError(Exception):
    """A member that is not extracted; the message says why."""


def extract(
    vault: str | os.PathLike[str] | Vault,
    destination: str | os.PathLike[str],
    patterns: Sequence[str] = (),
    *,
    existing: str = "refuse",
    links: str = "inside",
    scheduler: Any = None,
    workers: int | None = None,
    progress: Any = False,
) -> VaultReport:
    """Write members into a folder, with their modes and times.

    Each file is compared with its checksums, written under another name and renamed when it is whole. No name and no link
    leads out of the folder: names with ``..`` and absolute ones are refused, links that are in the way are not followed, and
    those of the vault are made when all files are there.

    Parameters
    ----------
    destination : path
        The folder; made if needed.
    patterns : sequence of str
        Names, folders, or patterns in which ``*`` also matches slashes; all members if none is given.
    existing : {"refuse", "skip", "overwrite"}
        What becomes of members whose names are there already.
    links : {"inside", "all", "skip"}
        Which symbolic links are made: those that lead to somewhere inside the folder, all, or none.

    Returns
    -------
    VaultReport
        Its ``flaws`` name each member that is not there now, and why.

    Raises
    ------
    PlanError
        If a parameter is wrong, or a pattern matches nothing.
    SourceError, TargetError
        If the vault cannot be read, or the folder not be made.
    """
    start = time.perf_counter()
    if existing not in EXISTING:
        raise PlanError(f"existing: expected one of {', '.join(EXISTING)}, found {existing!r}")
    if links not in LINKS:
        raise PlanError(f"links: expected one of {', '.join(LINKS)}, found {links!r}")
    source = vault if isinstance(vault, Vault) else Vault(vault)
    for pattern in patterns:
        if not any(True for _ in source.catalog.names([pattern])):
            raise PlanError(f"{source.path}: expected members that match {pattern!r}, found none")
    root = os.path.abspath(os.fsencode(destination))
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{shown(root)}: cannot be made ({error.strerror or one_line(error)})") from None
    chosen = groups(source, patterns)
    jobs: list[Job] = [(_extract_some, (source.path, root, group, existing), nbytes_of(source, group)) for group in chosen]
    with watching(progress, sum(nbytes for _, _, nbytes in jobs)) as advance:
        done = run(jobs, scheduler, workers or os.cpu_count() or 1, advance)
    count, nbytes = sum(item[0] for item in done), sum(item[1] for item in done)
    flaws = [flaw for item in done for flaw in item[2]]
    late_count, late = _finish(source, root, chosen, existing, links)
    taken = round(time.perf_counter() - start, 3)
    flaws = sorted([*flaws, *late], key=lambda flaw: flaw.name)
    where = f"{source.files[0]} to {shown(root)}"
    return VaultReport("extracted", where, count + late_count, nbytes, 0, taken, flaws=tuple(flaws), notes=source.notes)


def _extract_some(path: str, root: bytes, group: Sequence[int], existing: str) -> tuple[int, int, list[Flaw]]:
    """Write some members' files; return how many, their bytes, and those that are not there."""
    source = opened(path)
    count = nbytes = 0
    flaws = []
    for first in group:
        parts = source.catalog.parts_at(first)
        if parts[0].kind != FILE:
            continue
        try:
            written = _write(source, root, parts, existing)
            count, nbytes = count + (written is not None), nbytes + (written or 0)
        except _RefusedError as refused:
            flaws.append(Flaw(shown(parts[0].name), str(refused)))
        except H5zError as error:
            flaws.append(Flaw(shown(parts[0].name), one_line(error)))
        except OSError as error:
            flaws.append(Flaw(shown(parts[0].name), f"cannot be written ({error.strerror or one_line(error)})"))
    return count, nbytes, flaws


def _components(name: bytes) -> list[bytes]:
    """The components of a name that leads to somewhere below a folder.

    Raises
    ------
    _RefusedError
        If it does not.
    """
    parts = name.split(b"/")
    if not name or any(part in (b"", b".", b"..") for part in parts) or b"\0" in name:
        raise _RefusedError("refused: its name leads out of the destination")
    return parts


@contextmanager
def _parent(root: bytes, parts: Sequence[bytes]) -> Iterator[int]:
    """The folder that a member goes into, made if needed, opened without following any link."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except (NotADirectoryError, OSError) as error:
                raise _RefusedError(f"refused: {shown(part)}, a folder in its name, is there as something else") from error
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _write(source: Vault, root: bytes, parts: Sequence[Row], existing: str) -> int | None:
    """Write a file; return its bytes, or None where one is there and is left."""
    components = _components(parts[0].name)
    with _parent(root, components) as folder:
        name = components[-1]
        if existing != "overwrite" and _is_there(name, folder):
            if existing == "skip":
                return None
            raise _RefusedError("there already, and not overwritten")
        draft = b".h5z-" + uuid.uuid4().hex.encode() + PARTIAL.encode()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            nbytes = 0
            with open(descriptor, "wb", buffering=0) as file:
                for row in parts:
                    data = source.read_part(row)
                    nbytes += file.write(data) if data else 0
                if parts[0].size not in (UNKNOWN, nbytes):
                    raise _RefusedError(f"expected {parts[0].size} bytes, found {nbytes}")
                _dress(file.fileno(), parts[0])
            _place(draft, name, folder, existing)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
        return nbytes


def _is_there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _dress(file: int, row: Row) -> None:
    """Give a file or folder its mode (without what would give rights of its owner) and time."""
    if row.mode != UNKNOWN:
        os.fchmod(file, row.mode & 0o777)
    if row.mtime != UNKNOWN:
        os.utime(file, ns=(row.mtime, row.mtime))


def _place(draft: bytes, name: bytes, folder: int, existing: str) -> None:
    if existing == "overwrite":
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise _RefusedError("there already, and not overwritten") from None


def _finish(source: Vault, root: bytes, chosen: Sequence[Sequence[int]], existing: str, links: str) -> tuple[int, list[Flaw]]:
    """Make links and folders, and give folders their modes and times, the innermost first, now that all files are in."""
    others = [parts[0] for group in chosen for parts in map(source.catalog.parts_at, group) if parts[0].kind != FILE]
    count, flaws = 0, []
    for row in sorted(others, key=lambda row: (row.kind == LINK, row.name), reverse=True):  # links, then folders from within
        try:
            components = _components(row.name)
            with _parent(root, components) as folder:
                if row.kind == FOLDER:
                    _folder(components[-1], folder, row)
                elif links != "skip":
                    _link(source, row, components, folder, existing, links)
                count += 1
        except _RefusedError as refused:
            flaws.append(Flaw(shown(row.name), str(refused)))
        except H5zError as error:
            flaws.append(Flaw(shown(row.name), one_line(error)))
        except OSError as error:
            flaws.append(Flaw(shown(row.name), f"cannot be made ({error.strerror or one_line(error)})"))
    return count, flaws


def _folder(name: bytes, folder: int, row: Row) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        raise _RefusedError("there already, and no folder") from None
    try:
        _dress(inner, row)
    finally:
        os.close(inner)


def _link(source: Vault, row: Row, components: Sequence[bytes], folder: int, existing: str, links: str) -> None:
    target = source.read_part(row)
    if links == "inside" and not _stays_inside(components, target):
        raise _RefusedError(f"a link to {shown(target)}, out of the destination: not made")
    if _is_there(components[-1], folder):
        if existing == "skip":
            return
        there = os.stat(components[-1], dir_fd=folder, follow_symlinks=False)
        if existing == "refuse" or stat.S_ISDIR(there.st_mode):
            raise _RefusedError("there already, and not overwritten")
        os.unlink(components[-1], dir_fd=folder)
    os.symlink(target, components[-1], dir_fd=folder)
    if row.mtime != UNKNOWN:
        os.utime(components[-1], ns=(row.mtime, row.mtime), dir_fd=folder, follow_symlinks=False)


def _stays_inside(components: Sequence[bytes], target: bytes) -> bool:
    """Whether a link's target, taken from where the link is, never leaves the folder.

    >>> _stays_inside([b"a", b"link"], b"../b"), _stays_inside([b"a", b"link"], b"../../b"), _stays_inside([b"l"], b"/etc")
    (True, False, False)
    """
    if target.startswith(b"/") or not target:
        return False
    depth = len(components) - 1
    for part in target.split(b"/"):
        depth += -1 if part == b".." else part not in (b"", b".")
        if depth < 0:
            return False
    return True
