"""The commit of a migration: its root's metadata in one atomic write, last; then, of a successor, the swap for the old target.

What a reader sees while a target is overwritten:

- In a folder: the old target until the commit, from then on the new one. The two folders exchange their names at once
  (Linux's renameat2, macOS's renamex_np). Where a file system cannot do that (NFS, some FUSE), two renames do it, between which
  a reader finds no target for an instant. Who has opened the old one reads by path, and must open anew after the swap.
- In an object store, and in a folder whose parent cannot be written to: the old target until the commit; then nothing that
  opens, while its objects are deleted and the new ones put in their place, key by key; then, when its root's document is
  written, the new one. Who opened the old one before sees its chunks missing from then on, which Zarr reads as fill values.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from h5z.digest import Digest
from h5z.documents import Documents, Outcome, consolidated, dump, plan_documents
from h5z.errors import H5zError, TargetError, UnfinishedTargetError
from h5z.joining.growth import grown
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.stores.disk import exchange, flush, flush_tree, remove
from h5z.target import MARK, NEW, ROOT_DOCUMENTS, Target, reaching, successor_beside

_SWAP = f"{MARK}/swap"  # in a successor on its way: what has none beside its target is an old one on its way out
_COPIES = 8


def finalize(where: Any, *, storage_options: dict[str, Any] | None = None) -> None:
    """Commit a target whose tasks have all ended: write its root's metadata, consolidated, in one atomic write.

    Parameters
    ----------
    where : path, URL or zarr Store
        The target; finalizing it a second time does nothing.

    Raises
    ------
    UnfinishedTargetError
        If tasks are still to do; naming how many.
    TargetHeldError
        If another run holds it.
    TargetError
        If there is no migration at that place.
    """
    target = Target.of(where, storage_options)
    if target.lease is not None:
        _finalize(target)
        return
    begun = _begun(target)
    if begun is not None:
        place, plan = begun
        _all_done(place, plan)  # before the lease of a graph is taken that is still at work
        target = replace(target, durable=plan.policy.durable, attempts=plan.policy.attempts)
    elif not swapping(target):
        if target.root() is None:
            raise TargetError(f"{target.name}: expected a migration to finalize, found none")
        if MARK not in target.names():
            return
    with holding(target, adopt=True) as held:
        end_swap(held)
        _finalize(held)


@contextmanager
def holding(target: Target, *, tidy: bool = True, **how: bool) -> Iterator[Target]:
    """Hold a finished target, or one that is to be (`Target.hold`); at the end let go of it (`Target.release`)."""
    held = target.hold(**how)
    try:
        yield held
    except BaseException:
        with suppress(H5zError):
            held.release()
        raise
    held.release(tidy=tidy)


def _begun(target: Target) -> tuple[Target, Plan] | None:
    """What a run has begun and not committed, the target's successor or itself; and its plan."""
    new = target if target.prefix else replace(target, prefix=NEW)
    plan = new.pending()
    if plan is not None:
        return new, plan
    plan = None if target.prefix else target.pending()
    return (target, plan) if plan is not None and target.root() is None else None


def _finalize(target: Target) -> None:
    begun = _begun(target)
    if begun is not None:
        commit(*begun)


def commit(place: Target, plan: Plan) -> None:
    """Commit a target that is held, or the successor of one, whose plan is known and whose tasks have all ended.

    Raises
    ------
    UnfinishedTargetError
        If tasks are still to do; naming how many.
    """
    _commit(place, plan)
    if place.prefix:
        swap(replace(place, prefix=""), place)


def _all_done(target: Target, plan: Plan) -> dict[int, dict[str, Json]]:
    """What the tasks of a run recorded, once all have ended."""
    done = target.done()
    left = [task.number for task in plan.tasks() if task.number not in done]
    if left:
        raise UnfinishedTargetError(f"{target.name}: {len(left)} of {len(left) + len(done)} tasks are still to do")
    return done


def describe(target: Target, plan: Plan) -> Documents:
    """Write all metadata of a plan but the root's, once every task has ended: only then are the arrays' digests known.

    Returns
    -------
    dict
        All documents by key, the root's among them.

    Raises
    ------
    UnfinishedTargetError
        If tasks are still to do; naming how many.
    """
    done = _all_done(target, plan)
    verified = json.loads(target.get(f"{MARK}/verified") or b"{}")
    digests = {path: Digest.parse(text) for path, text in verified.get("digests", {}).items()}
    empty = {array.path: Digest() for array in plan.arrays if not array.units.size}
    outcome = Outcome(checksums(done), {**empty, **recorded_digests(done), **digests}, verified.get("level", ""))
    documents = grown(replace(target, prefix=""), plan, outcome) if plan.grows else plan_documents(plan, outcome)
    objects = {key: dump(value) for key, value in documents.items() if "/" in key}
    mark = hashlib.blake2b(b"".join(objects.values())).hexdigest().encode()
    if target.get(f"{MARK}/described") != mark:
        target.put(objects)
        target.put({f"{MARK}/described": mark})
    return documents | (consolidated(plan, documents) if plan.policy.consolidate and not plan.grows else {})


def _commit(target: Target, plan: Plan) -> None:
    root = {key: value for key, value in describe(target, plan).items() if "/" not in key}
    folder = target.path
    if folder is not None and target.durable == "commit":
        with reaching(target.name):
            flush_tree(folder / target.prefix, leave_out=[MARK])
            for array in plan.arrays if plan.grows else ():
                flush_tree(folder / array.path.lstrip("/"), leave_out=[])
    durably = replace(target, durable="none" if target.durable == "none" else "always")
    for key in sorted(root, key=("zarr.json", ".zgroup", ".zmetadata", ".zattrs").index, reverse=True):
        durably.put({key: dump(root[key])})


def checksums(done: Mapping[int, dict[str, Json]]) -> dict[str, str]:
    """Each array's checksum of its stored bytes (`h5z.units.checksum`), from what the tasks recorded."""
    sums: dict[str, int] = {}
    for record in done.values():
        for path, value in record.get("checksums", {}).items():
            sums[path] = (sums.get(path, 0) + value) % (1 << 64)
    return {path: f"{value:016x}" for path, value in sorted(sums.items())}


def recorded_digests(done: Mapping[int, dict[str, Json]]) -> dict[str, Digest]:
    """Each array's digest, from what the tasks recorded; none of arrays whose bytes crossed unread."""
    found: dict[str, Digest] = {}
    for record in done.values():
        for path, text in record.get("digests", {}).items():
            found[path] = found.get(path, Digest()) + Digest.parse(text)
    return dict(sorted(found.items()))


def swapping(target: Target) -> bool:
    """Whether a committed successor has left its place below its target, or is about to."""
    folder = target.path
    beside = folder is not None and not target.prefix and (successor_beside(folder) / _SWAP).exists()
    return beside or (not target.prefix and replace(target, prefix=NEW).root() is not None)


def end_swap(target: Target) -> None:
    """End what a kill broke off: a committed successor is put in its target's place."""
    folder = target.path
    if target.prefix:
        return
    if folder is not None:
        with reaching(target.name):
            _end_renames(target, folder)
    new = replace(target, prefix=NEW)
    if new.root() is not None:
        swap(target, new)


def _end_renames(target: Target, folder: Path) -> None:
    beside = successor_beside(folder)
    if (beside / _SWAP).exists():
        _take_place(target, beside, folder)
    for left in (beside, _aside(folder)):
        remove(left)


def _aside(folder: Path) -> Path:
    """Where an old target goes while its successor takes its place, where they cannot exchange their names."""
    real = Path(os.path.realpath(folder))
    return real.with_name(f".{real.name}.h5z-old")


def swap(target: Target, new: Target) -> None:
    """Put a committed successor in its target's place; of one that grows, its documents."""
    plan = new.pending()
    if plan is not None and plan.grows:
        _take_documents(target, new)
        return
    folder = target.path
    if folder is not None:
        with reaching(target.name):
            if _swap_folders(target, new, folder):
                return
    _swap_keys(target, new)


def _take_documents(target: Target, new: Target) -> None:
    """Put the documents of a target that has grown in their places, the root's last; its units are there."""
    target.check(now=True)
    durably = replace(target, durable="none" if target.durable == "none" else "always")
    keys = [key for key in new.listing() if not key.startswith(f"{MARK}/")]
    for key in sorted(keys, key=lambda key: (key in ROOT_DOCUMENTS, key)):
        durably.put({key: cast(bytes, new.get(key))})
    new.delete([key for key in keys if key in ROOT_DOCUMENTS])


def _swap_folders(target: Target, new: Target, folder: Path) -> bool:
    """Swap by renaming; False where the folder above cannot be written to, or the target is where a file system is mounted."""
    beside = successor_beside(folder)
    new.put({_SWAP: b""})
    target.check(now=True)
    try:
        os.rename(folder / NEW.rstrip("/"), beside)
    except OSError:
        return False
    _take_place(target, beside, folder)
    for left in (beside, _aside(folder)):
        remove(left)
    return True


def _take_place(target: Target, beside: Path, folder: Path) -> None:
    """Exchange a target and the successor beside it; the lease goes with both."""
    real = Path(os.path.realpath(folder))
    if target.lease is not None and real.exists():
        claim = Path(MARK, "lease", target.lease.name)
        (beside / claim).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            try:
                os.link(real / claim, beside / claim)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                shutil.copy2(real / claim, beside / claim)
    target.check(now=True)
    if not real.exists():
        beside.rename(real)
    elif not exchange(beside, real):
        real.rename(_aside(folder))
        beside.rename(real)
    if target.durable != "none":
        flush(real.parent)
    (real / _SWAP).unlink(missing_ok=True)


def _swap_keys(target: Target, new: Target) -> None:
    """Swap key by key: the old root's documents go first, the new root's come last."""
    target.check(now=True)
    target.delete([key for key in ROOT_DOCUMENTS if target.get(key) is not None])
    folder = target.path
    if folder is not None:
        with reaching(target.name):
            for entry in list(folder.iterdir()):
                if entry.name != MARK:
                    remove(entry)
    else:
        target.delete([key for key in target.listing() if not key.startswith(f"{MARK}/")])
    keys = sorted((key for key in new.listing() if not key.startswith(f"{MARK}/")), key=lambda key: key in ROOT_DOCUMENTS)
    last = [key for key in keys if key in ROOT_DOCUMENTS]
    rest = keys[: len(keys) - len(last)]
    for start in range(0, len(rest), _COPIES):
        target.put(new.get_all(rest[start : start + _COPIES]))
    for key in last:
        target.put({key: cast(bytes, new.get(key))})
    new.delete(last)  # before the rest: what has no root is no successor
