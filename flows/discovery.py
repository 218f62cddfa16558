"""Find the files of an archive: files, folders, globs, listings, and URLs of any of the first three."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h5z.credentials import shown
from h5z.errors import H5zError, PlanError, SourceError, TargetError, one_line
from h5z.hdf5.listing import identity_of, modified

SUFFIXES = frozenset(
    {".h5", ".hdf5", ".hdf", ".he5", ".h5ad", ".h5mu", ".h5m", ".loom", ".nc", ".nc4", ".nwb", ".nxs", ".cxi"}
    | {".snirf", ".uvh5", ".cool", ".mcool", ".scool"}
)
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class SourceFile:
    """A file to migrate, and its path below what was named as its source, with forward slashes.

    Attributes
    ----------
    mtime_ns : int
        With its size, what tells one state of it from another: see `h5z.hdf5.listing`.
    modified : float, optional
        When it was modified, in seconds since 1970, where that is known.
    """

    path: str
    relative: str
    nbytes: int
    mtime_ns: int = 0
    modified: float | None = None


@dataclass(frozen=True)
class Found:
    """The files of an archive, and those in its folders that are not HDF5."""

    files: tuple[SourceFile, ...]
    passed_over: tuple[str, ...] = ()


def discover(sources: Iterable[str], *, leave_out: str = "", storage_options: dict[str, Any] | None = None) -> Found:
    """Find the files that sources name; one named twice is taken once, as it was named first.

    Parameters
    ----------
    sources : iterable of str
        Each a file, a folder (its HDF5 files by suffix or signature, at any depth), a glob, a URL of one of these,
        or ``@listing``: a text file of one path a line, each from the listing's own folder where it is relative.
    leave_out : str
        A folder not to look into: the target root.
    storage_options : dict, optional
        For URLs: what fsspec takes.

    Raises
    ------
    PlanError
        If a folder or glob holds nothing to migrate.
    SourceError
        If a source does not exist.
    """
    files: dict[str, SourceFile] = {}
    others: dict[str, None] = {}
    for source in sources:
        count = 0
        for file, is_hdf5 in _expand(source, leave_out, storage_options or {}):
            if is_hdf5:
                files.setdefault(file.path, file)
                count += 1
            else:
                others[file.path] = None
        if not count:
            raise PlanError(f"{source}: expected HDF5 files, found {'none' if not others else 'only other files'}")
    return Found(tuple(files.values()), tuple(path for path in others if path not in files))


def missing(sources: Iterable[str]) -> None:
    """Refuse sources that are plainly not there, before anything is started.

    Raises
    ------
    SourceError
        Naming the first that does not exist.
    """
    for source in sources:
        path = source.removeprefix("@")
        if "://" not in source and not os.path.lexists(path) and (path != source or not glob.has_magic(path)):
            raise SourceError(f"{path}: expected a file, a folder or a glob, found nothing there")


def check_root(target_root: str) -> None:
    """Refuse a target root that cannot be written; nothing is created.

    Raises
    ------
    TargetError
        If it, or the folder that it would be made in, is no folder or not writable.
    """
    if "://" in target_root:
        return
    place = Path(target_root).absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise TargetError(f"{place}: expected a folder for the targets, found a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise TargetError(f"{place}: the targets' folder cannot be written")


def _expand(source: str, leave_out: str, options: dict[str, Any]) -> Iterator[tuple[SourceFile, bool]]:
    missing([source])
    if source.startswith("@"):
        yield from _listing(Path(source[1:]), options)
    elif "://" in source:
        yield from _remote(source, options)
    elif os.path.isdir(source):
        yield from _folder(Path(source), leave_out)
    elif os.path.lexists(source):
        yield _local(Path(source), Path(source).name), True
    else:
        start = Path(*_fixed(Path(source).parts))
        for path in sorted(glob.glob(source, recursive=True)):
            if os.path.isfile(path):
                yield _local(Path(path), Path(path).relative_to(start).as_posix()), True


def _fixed(parts: Iterable[str]) -> Iterator[str]:
    """The leading parts of a glob that hold no wildcard."""
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _local(path: Path, relative: str) -> SourceFile:
    try:
        stat = path.stat()
    except OSError:
        return SourceFile(os.path.abspath(path), relative, 0)  # its conversion will say what is wrong with it
    return SourceFile(os.path.abspath(path), relative, stat.st_size, stat.st_mtime_ns, stat.st_mtime)


def _folder(folder: Path, leave_out: str) -> Iterator[tuple[SourceFile, bool]]:
    avoid = os.path.abspath(leave_out) if leave_out else None

    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be listed ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=fail):
        inside = (name for name in folders if not name.endswith(".zarr"))
        folders[:] = sorted(name for name in inside if os.path.abspath(os.path.join(parent, name)) != avoid)
        for name in sorted(names):
            path = Path(parent, name)
            file = _local(path, path.relative_to(folder).as_posix())
            yield file, path.suffix.lower() in SUFFIXES or _has_signature(path, file.nbytes)


def _has_signature(path: Path, nbytes: int) -> bool:
    """Whether a file holds HDF5's signature at 0, 512, 1024, 2048, … (HDF5 file format specification 4.0, II.A)."""
    try:
        with path.open("rb") as file:
            offset = 0
            while offset + len(SIGNATURE) <= nbytes:
                file.seek(offset)
                if file.read(len(SIGNATURE)) == SIGNATURE:
                    return True
                offset = max(512, offset * 2)
    except OSError:
        return False
    return False


def _listing(listing: Path, options: dict[str, Any]) -> Iterator[tuple[SourceFile, bool]]:
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{listing}: expected a text file of one path a line ({one_line(error)})") from None
    home = os.path.abspath(listing.parent)
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        if "://" in line:
            yield from _remote(line, options)
            continue
        path = os.path.normpath(os.path.join(home, line))
        below = os.path.relpath(path, home)
        outside = below == os.pardir or below.startswith(os.pardir + os.sep)
        yield _local(Path(path), (path.lstrip(os.sep) if outside else below).replace(os.sep, "/")), True


def _remote(url: str, options: dict[str, Any]) -> Iterator[tuple[SourceFile, bool]]:
    import fsspec

    if shown(url) != url:
        raise PlanError(f"{shown(url)}: was given with credentials, which belong in the environment: names are recorded")
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
        if glob.has_magic(path):
            start = "/".join(_fixed(path.split("/")))
            found = system.glob(path, detail=True)
        elif system.isfile(path):
            start, found = posixpath.dirname(path), {path: system.info(path)}
        else:
            start, found = path, system.find(path, detail=True)
            if not found and not system.exists(path):
                raise SourceError(f"{url}: expected a file, a folder or a glob, found nothing there")
    except H5zError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{url}: cannot be listed ({one_line(error)})") from None
    for name, info in sorted(found.items()):
        if info.get("type") == "file" and ".zarr/" not in name:
            relative = name.removeprefix(start).lstrip("/")
            file = SourceFile(system.unstrip_protocol(name), relative, *identity_of(info), modified(info))
            yield file, name == path or posixpath.splitext(name)[1].lower() in SUFFIXES
