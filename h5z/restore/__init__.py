"""Zarr -> HDF5, the way back: from the store alone to a file in which the HDF Group's tools find no difference."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from h5z.bars import Progress
from h5z.errors import H5zError, PlanError, SourceError, TargetError, one_line
from h5z.nodes import Problem
from h5z.policy import Policy
from h5z.report import Report

if TYPE_CHECKING:
    from h5z.restore.headers import Headers
    from h5z.restore.routes import Move

LEVELS = ("structure", "sample", "full")
_DEFAULT_MEMORY = 1 << 30


def restore(
    source: Any,
    path: str | os.PathLike[str],
    *,
    verify: str | None = None,
    overwrite: bool = False,
    layouts: str = "auto",
    memory: int | str | None = None,
    workers: int | None = None,
    progress: Progress = False,
    storage_options: dict[str, Any] | None = None,
) -> Report:
    """Build an HDF5 file from a Zarr store.

    From a store that h5z made, the file comes back as it was: datatypes, dataspaces, chunking, filters, fill values,
    attributes, links, references, dimension scales. What the migration could not carry over is named again.

    A store that h5z did not make becomes an HDF5 file by plain rules: `h5z.restore.foreign` says which.

    Parameters
    ----------
    source : path, URL or zarr Store
        The Zarr hierarchy, of format 2 or 3.
    path : path
        The HDF5 file to be: a local one. It is there whole or not at all.
    verify : {"structure", "sample", "full"}, optional
        Compare the file with the store before it takes its place: the headers; also regions at random and at the edges of
        each array; or every value, and the checksums of the stored objects.
    overwrite : bool
        Replace a file that is there.
    layouts : {"auto", "rebuild", "materialise"}
        What becomes of virtual datasets and external storage. ``auto`` rebuilds the layout where that shows the values that
        the store has, and gives the dataset data of its own elsewhere; a note says so.
    memory : int or str, optional
        Peak memory beside the interpreter's base, such as ``"512MiB"``.
    workers : int, optional
        Threads that read, decode and encode; the machine's cores by default.
    progress : bool or callable
        Show a progress bar, or be called with bytes done and bytes in all.
    storage_options : dict, optional
        For a store by URL: what fsspec takes.

    Returns
    -------
    Report
        ``ok`` tells whether the file holds all that the HDF5 file held from which the store was made.

    Raises
    ------
    PlanError
        If an option is not one of those above, or the memory is too little.
    SourceError, UnfinishedTargetError
        If no finished hierarchy opens, or a stored object is damaged.
    TargetError, TargetExistsError
        If the file cannot be written, or is there already. Nothing is left behind.
    """
    from h5z.restore.draft import check_place, draft
    from h5z.restore.layouts import LAYOUTS, settle
    from h5z.restore.scales import with_scales

    start = time.perf_counter()
    _check_choice("verify", verify, (None, *LEVELS))
    _check_choice("layouts", layouts, LAYOUTS)
    limit = cast("int | None", Policy.of(None, {"memory": memory}).memory)
    if workers is not None and workers < 1:
        raise PlanError(f"workers: expected a positive number, found {workers}")
    file = _local(path)
    check_place(file, overwrite=overwrite)
    headers = _headers(source, storage_options)
    _check_apart(headers.tree.file, file)
    count = max(1, workers or os.cpu_count() or 1)
    kept = settle(headers, file, layouts)
    headers.tree = with_scales(headers.tree, headers.notes)
    moves = _plan(headers, kept, limit or _DEFAULT_MEMORY, count, limit)
    with draft(file, overwrite=overwrite) as drafted:
        return _Restoration(headers, moves, drafted, file).run(verify, count, limit or _DEFAULT_MEMORY, progress, start)


def _check_choice(name: str, found: Any, known: tuple[Any, ...]) -> None:
    if found not in known:
        raise PlanError(f"{name}: expected one of {', '.join(repr(item) for item in known if item)}, found {found!r}")


def _local(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path).removeprefix("file://")
    if "://" in name or not name:
        raise PlanError(f"path: expected a local path for the HDF5 file, found {os.fspath(path)!r}")
    return Path(name)


def _check_apart(store: str, place: Path) -> None:
    if "://" not in store and Path(store).absolute() in place.absolute().parents:
        raise PlanError(f"{place}: the file would lie inside the store {store} that it is made from")


def _headers(source: Any, storage_options: dict[str, Any] | None) -> Headers:
    from h5z.restore.headers import is_ours, recorded_headers
    from h5z.restore.stored import read_nodes
    from h5z.target import Target

    target = Target.of(source, storage_options)
    nodes = read_nodes(target)
    if is_ours(nodes):
        return recorded_headers(target, nodes)
    from h5z.restore.foreign import plain_headers

    return plain_headers(target, nodes)


def _plan(headers: Headers, kept: set[str], memory: int, workers: int, limit: int | None) -> list[Move]:
    from h5z.restore.routes import BLOCK_NBYTES, check_memory, plan_move

    room = min(BLOCK_NBYTES * 4, memory // (workers + 1))
    arrays = [node for node in headers.tree.arrays if node.path not in kept]
    moves = [plan_move(node, headers.parts.get(node.path, {}), room, memory) for node in arrays]
    check_memory(moves, limit)
    return moves


class _Restoration:
    """One run: a draft of the file is made, filled, checked."""

    def __init__(self, headers: Headers, moves: list[Move], draft: Path, path: Path) -> None:
        self.headers, self.moves, self.draft, self.path = headers, moves, draft, path
        self.problems: list[Problem] = []
        self.notes = list(headers.notes)
        self.unfiltered: set[str] = set()

    def run(self, verify: str | None, workers: int, memory: int, progress: Progress, start: float) -> Report:
        from h5z.scheduling import watching

        nbytes = sum(move.nbytes for move in self.moves)
        with watching(progress, nbytes * (1 + (verify == "full"))) as advance:
            self._write(workers, memory, advance)
            self._check_sums(complete=verify == "full")
            differences, checked = self._verify(verify, advance) if verify else ((), 0)
        size = self.draft.stat().st_size
        if differences:
            self.draft.unlink()
        tree = self.headers.tree
        return Report(
            tree.file,
            str(self.path),
            "differs" if differences else "restored",
            arrays=sum(1 for _ in tree.arrays),
            groups=sum(1 for _ in tree.groups),
            nbytes=nbytes,
            stored_nbytes=size,
            units=sum(move.grid.size for move in self.moves if move.route != "none"),
            seconds=time.perf_counter() - start,
            not_carried=(*self.headers.not_carried, *self.problems),
            notes=tuple(self.notes),
            differences=differences,
            level=verify or "",
            checked_nbytes=checked,
        )

    def _write(self, workers: int, memory: int, advance: Callable[[int], None]) -> None:
        from h5z.restore.hierarchy import Hierarchy, open_new
        from h5z.restore.moving import Mover, pump

        tree = self.headers.tree
        try:
            with open_new(self.draft, tree) as file:
                hierarchy = Hierarchy(file, tree)
                hierarchy.create()
                hierarchy.attributes()
                mover = Mover(file, hierarchy.refer, self.path.parent)
                written = pump(mover.jobs(m for m in self.moves if m.node.path in hierarchy.made), workers, memory, advance)
                mover.close()
        except H5zError:
            raise
        except (OSError, RuntimeError) as error:
            raise TargetError(f"{self.path}: cannot be written ({one_line(error)})") from None
        self.problems += [*hierarchy.problems, *written]
        self.unfiltered = {*mover.unencoded, *(move.node.path for move in self.moves if move.skipped)}
        for node in tree.arrays:
            for number, name, *_ in node.filters:
                if number in hierarchy.in_use:
                    reason = "may have computed its options anew: another open dataset of this process uses it"
                    self.notes.append(f"{node.path}: its filter {number} ({name}) {reason}")
        for path, count in mover.unencoded.items():
            self.notes.append(f"{path}: {count} chunks are stored unfiltered: its filters would change their values again")
        for move in self.moves:
            if move.skipped:
                names = ", ".join(f"{f[0]} ({f[1]})" for i, f in enumerate(move.node.filters) if move.skipped >> i & 1)
                self.notes.append(f"{move.node.path}: its chunks skip the filter {names}, which cannot encode here")
        if tree.user_block:
            with self.draft.open("r+b") as raw:
                raw.write(base64.b64decode(tree.user_block))

    def _check_sums(self, *, complete: bool) -> None:
        """Compare what was read of the store with the checksums that were taken when it was written."""
        for move in self.moves:
            for array in move.parts.values():
                wanted = self.headers.checksums.get(array.path)
                found = array.checksum(complete=complete) if wanted and move.route != "none" else None
                if found is not None and found != wanted:
                    raise SourceError(f"{array.name}: expected stored objects of checksum {wanted}, found {found}: some changed")

    def _verify(self, level: str, advance: Callable[[int], None]) -> tuple[tuple[Any, ...], int]:
        from h5z.restore.check import check_headers, check_values

        left_out = {problem.path for problem in (*self.headers.not_carried, *self.problems)}
        found = list(check_headers(self.draft, self.headers.tree, left_out, self.unfiltered))
        if level == "structure":
            return tuple(found), 0
        broken = {difference.path for difference in found} | left_out
        values, checked = check_values(self.draft, [m for m in self.moves if m.node.path not in broken], level, advance)
        return (*found, *values), checked
