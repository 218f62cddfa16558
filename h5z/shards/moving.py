"""A folder's chunks into containers and back, in place; out to a plain v3 store of shards; and checked: a task a container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from h5z.bars import Progress
from h5z.container import LOCK_TIMEOUT, Container
from h5z.container.frames import crc32
from h5z.container.salvage import check as check_container
from h5z.container.salvage import salvage
from h5z.errors import PlanError, SourceError, TargetError, one_line
from h5z.scheduling import Job, run, watching
from h5z.shards.arrays import RECORD, Array
from h5z.shards.folder import ShardFolder
from h5z.shards.places import Coordinates
from h5z.shards.plain import write_plain
from h5z.shards.report import Problem, ShardReport

BATCH_NBYTES, BATCH_CHUNKS = 16 << 20, 64


def folder_of(store: Any, *, consolidate_depth: int = 3, container_ext: str = "h5") -> ShardFolder:
    """The folder of a shard store, or at a path.

    Raises
    ------
    PlanError, SourceError
        If the store is not local, or the folder is not there.
    """
    root = store.root if hasattr(store, "consolidate_depth") else store
    if not isinstance(root, str | os.PathLike) or "://" in os.fspath(root):
        raise PlanError(f"store: expected a local folder or an H5ShardStore, found {store!r}")
    depth = getattr(store, "consolidate_depth", consolidate_depth)
    container_ext = getattr(store, "container_ext", container_ext)
    if not os.fspath(root):
        raise PlanError("store: expected a local folder or an H5ShardStore, found ''")
    path = os.path.abspath(root)
    if not os.path.isdir(path):
        raise SourceError(f"{path}: expected a folder, found {'a file' if os.path.exists(path) else 'nothing'}")
    return ShardFolder(path, depth=depth, suffix=f".{container_ext.lstrip('.')}", lock_timeout=LOCK_TIMEOUT)


def _arrays(folder: ShardFolder) -> list[Array]:
    found = list(folder.arrays())
    if not found and not any(os.path.exists(os.path.join(folder.root, name)) for name in ("zarr.json", ".zgroup")):
        raise SourceError(f"{folder.root}: expected a Zarr hierarchy, found none")
    return found


def consolidate(
    store: Any,
    *,
    consolidate_depth: int = 3,
    container_ext: str = "h5",
    scheduler: Any = None,
    workers: int | None = None,
    progress: Progress = False,
) -> ShardReport:
    """Move the loose chunks of a Zarr folder (v2 or v3) into containers, in place.

    Each chunk is stored, forced to the disk, read back and compared before its file is deleted, so that at any moment each
    is there once at least, and the disk holds no more than `BATCH_NBYTES` a task beside what it held. After a kill, call it
    again. The store can be read meanwhile.

    Parameters
    ----------
    store : path or H5ShardStore
    consolidate_depth : int
        As for `H5ShardStore`; arrays that have containers keep their depth.
    scheduler, workers
        As for `h5z.convert`.
    progress : bool or callable
        Show a bar, or be called with bytes done and bytes in all.

    Raises
    ------
    PlanError, SourceError, TargetError
        If the store is not there, or is none, or a file cannot be read or written.
    """
    folder = folder_of(store, consolidate_depth=consolidate_depth, container_ext=container_ext)
    arrays = [folder.settle(array) for array in _arrays(folder)]
    shards = [(array, stem, *found) for array in arrays for stem, found in _loose_shards(folder, array).items()]
    jobs: list[Job] = [(_pack, (folder, array, stem, names), nbytes) for array, stem, names, nbytes in shards]
    chunks, nbytes = total(run_jobs(jobs, scheduler, workers, progress))
    return ShardReport("consolidated", folder.root, len(arrays), len(jobs), chunks, nbytes)


def unconsolidate(
    store: Any,
    *,
    container_ext: str = "h5",
    scheduler: Any = None,
    workers: int | None = None,
    progress: Progress = False,
) -> ShardReport:
    """Move chunks out of containers into files of their own, as plain Zarr stores have them, in place.

    A container is deleted when each of its chunks has a file that was read back and compared. After a kill, call it again.

    Raises
    ------
    PlanError, SourceError, TargetError
        If the store is not there, or is none, a container is damaged, or a file cannot be written; no chunk is then lost.
    """
    folder = folder_of(store, container_ext=container_ext)
    arrays = [folder.settle(array) for array in _arrays(folder)]
    jobs: list[Job] = []
    for array in arrays:
        for stem, outer in _containers(folder, array):
            jobs.append((_unpack, (folder, array, stem, outer), os.path.getsize(os.path.join(folder.root, stem) + folder.suffix)))
    chunks, nbytes = total(run_jobs(jobs, scheduler, workers, progress))
    for array in arrays:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder.root, array.layout.path, RECORD))
    return ShardReport("unconsolidated", folder.root, len(arrays), len(jobs), chunks, nbytes)


def check(
    store: Any,
    *,
    container_ext: str = "h5",
    repair: bool = False,
    scheduler: Any = None,
    workers: int | None = None,
    progress: Progress = False,
) -> ShardReport:
    """Compare every chunk in containers with its checksum.

    Parameters
    ----------
    repair : bool
        Write damaged containers anew, of what is whole in them; what is lost is named, and the damaged file is left beside.

    Raises
    ------
    PlanError, SourceError
        If the store is not there, or is none.
    """
    folder = folder_of(store, container_ext=container_ext)
    arrays = _arrays(folder)
    found = [stem for array in arrays for stem, _ in _containers(folder, array)]
    paths = [os.path.join(folder.root, stem) + folder.suffix for stem in found]
    jobs: list[Job] = [(_check, (path, repair), os.path.getsize(path)) for path in paths]
    done = run_jobs(jobs, scheduler, workers, progress)
    problems = tuple(Problem(path, key, reason) for path, (_, _, wrong) in zip(paths, done, strict=True) for key, reason in wrong)
    chunks, nbytes = total(done)
    return ShardReport("checked", folder.root, len(arrays), len(jobs), chunks, nbytes, problems)


def run_jobs(jobs: Sequence[Job], scheduler: Any, workers: int | None, progress: Progress) -> list[Any]:
    """Run tasks on a scheduler, and tell how far they are."""
    with watching(progress, sum(nbytes for _, _, nbytes in jobs)) as advance:
        return run(jobs, scheduler, workers or os.cpu_count() or 1, advance)


def total(done: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Chunks and bytes of tasks together."""
    return sum(item[0] for item in done), sum(item[1] for item in done)


def _loose_shards(folder: ShardFolder, array: Array) -> dict[str, tuple[list[str], int]]:
    """The loose chunks of an array by the container that they go to: their names in the array's folder, their bytes in all."""
    layout = array.layout
    found: dict[str, tuple[list[str], int]] = {}
    for name, nbytes in _files_below(os.path.join(folder.root, layout.path)):
        coordinates = layout.coordinates(name)
        if coordinates is not None:
            stem, _ = layout.place(coordinates, array.depth)
            names, total = found.get(stem, ([], 0))
            names.append(name)
            found[stem] = names, total + nbytes
    return found


def _files_below(folder: str, below: str = "") -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror or one_line(error)})") from None
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from _files_below(item.path, f"{below}{item.name}/")
        else:
            yield f"{below}{item.name}", item.stat(follow_symlinks=False).st_size


def _pack(folder: ShardFolder, array: Array, stem: str, names: Sequence[str]) -> tuple[int, int]:
    """Move loose chunks into their container; return how many, and their bytes."""
    container = folder.container(stem)
    count = moved = 0
    for batch in _batches(folder, array, names):
        have = container.entries()
        new = [(member, data) for _, member, data, _ in batch if not _is_stored(have.get(member), data)]
        container.put_many(new, sync=True)
        for path, member, data, stamp in batch:
            if container.get(member) != data and _stamp(path) == stamp:
                raise TargetError(f"{container.path}: {member}: expected the {len(data)} bytes of {path}, read others back")
            if _stamp(path) == stamp:  # else it was written again meanwhile, and wins
                os.unlink(path)
            count, moved = count + 1, moved + len(data)
    container.seal(sync=True)
    _remove_empty(folder, array, names)
    return count, moved


def _is_stored(entry: Any, data: bytes) -> bool:
    return entry is not None and entry.nbytes == len(data) and entry.crc == crc32(data)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _batches(folder: ShardFolder, array: Array, names: Sequence[str]) -> Iterator[list[tuple[str, str, bytes, Any]]]:
    """Loose chunks, some at a time: path, member, bytes, and what tells whether the file is still the one that was read."""
    batch: list[tuple[str, str, bytes, Any]] = []
    nbytes = 0
    for name in names:
        path = os.path.join(folder.root, array.layout.path, name)
        coordinates = array.layout.coordinates(name)
        stamp = _stamp(path)
        if stamp is None or coordinates is None:
            continue
        if batch and (nbytes + stamp[1] > BATCH_NBYTES or len(batch) == BATCH_CHUNKS):
            yield batch
            batch, nbytes = [], 0
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
        batch.append((path, array.layout.place(coordinates, array.depth)[1], data, stamp))
        nbytes += len(data)
    if batch:
        yield batch


def _remove_empty(folder: ShardFolder, array: Array, names: Sequence[str]) -> None:
    """Remove the folders that chunks have left empty, up to the array's."""
    root = os.path.join(folder.root, array.layout.path)
    parents = {os.path.dirname(name) for name in names}
    parents |= {parent for name in parents for parent in _above(name)}
    for name in sorted(parents - {""}, key=len, reverse=True):
        with suppress(OSError):
            os.rmdir(os.path.join(root, name))


def _above(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name


def _containers(folder: ShardFolder, array: Array) -> Iterator[tuple[str, Coordinates]]:
    """The containers of an array: path without suffix, and the indices that it stands for."""
    layout = array.layout
    for name, _ in _files_below(os.path.join(folder.root, layout.path)):
        stem = f"{layout.below}{name.removesuffix(folder.suffix)}"
        outer = layout.outer_coordinates(stem) if name.endswith(folder.suffix) else None
        if outer is not None:
            yield stem, outer


def _unpack(folder: ShardFolder, array: Array, stem: str, outer: Coordinates) -> tuple[int, int]:
    """Move a container's chunks out; return how many, and their bytes."""
    container = folder.container(stem)
    count = moved = 0
    for member in container.entries():
        coordinates = array.layout.inner_coordinates(outer, member)
        data = container.get(member)
        if coordinates is None or data is None:
            raise SourceError(f"{container.path}: expected chunks of {array.layout.path or '/'}, found {member}")
        path = folder.path(array.layout.key(coordinates))
        if not os.path.exists(path):
            write_plain(path, data, replace=False, sync=True)
            with open(path, "rb") as file:
                if file.read() != data:
                    raise TargetError(f"{path}: expected the {len(data)} bytes of {container.path}: {member}, read others back")
            count, moved = count + 1, moved + len(data)
    container.remove()
    _remove_empty(folder, array, [stem[len(array.layout.below) :]])
    return count, moved


def _check(path: str, repair: bool) -> tuple[int, int, list[tuple[str, str]]]:
    wrong = list(check_container(path))
    if wrong and repair:
        found = salvage(path)
        lost = f"{len(found.lost)} lost, the damaged file is {os.path.basename(found.aside)}" if found.aside else "nothing lost"
        wrong.append(("", f"written anew with {found.members} chunks; {lost}"))
    try:
        entries = Container(path).entries()
    except SourceError:
        entries = {}
    return len(entries), sum(entry.nbytes for entry in entries.values()), wrong
