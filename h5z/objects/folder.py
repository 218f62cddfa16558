"""Putting a prepared object in its place in a store on a local disk: one rename, whatever was there or was not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from h5z.documents import dump
from h5z.errors import PlanError, TargetError, TargetExistsError, one_line
from h5z.nodes import Json
from h5z.objects.keys import key_mark, name_of
from h5z.objects.nodes import MARK
from h5z.objects.stage import base_of, listed, staging, swap
from h5z.objects.write import Documents, consolidated

_ATTEMPTS = 100
_CONTENT = (".zgroup", ".zarray")


def save_in_folder(
    folder: Path,
    keys: Sequence[Any],
    write: Callable[[Path], None],
    *,
    overwrite: bool = False,
    consolidate: bool | None = None,
) -> None:
    """Have an object written beside a store, then put it in its place.

    Parameters
    ----------
    folder : Path
        The store.
    keys : sequence
        Where in it, from the root down; none for the store itself.
    write : callable
        Writes the object's node as the folder ``node`` of the stage that it is given.
    consolidate : bool, optional
        Whether the root's metadata shall carry a copy of all others'; None keeps what is there.

    Raises
    ------
    PlanError, TargetExistsError
        If the place is inside something that is not a dict, or holds what h5z did not save.
    """
    folder = Path(os.path.realpath(folder))
    names = tuple(map(name_of, keys))
    check_place(folder, names, overwrite)
    try:
        with staging(folder) as stage:
            write(stage)
            with _consolidating(folder, names, stage, consolidate):
                _commit(folder, keys, names, stage, overwrite)
    except OSError as error:
        if isinstance(error, TargetError | PlanError):
            raise
        raise TargetError(f"{folder}: cannot be written ({one_line(error)})") from None


def document(folder: Path) -> dict[str, Json] | None:
    """A node's metadata document; None where there is no node of Zarr format 3."""
    try:
        found = json.loads((folder / "zarr.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise TargetError(f"{folder}: its zarr.json is damaged ({one_line(error)})") from None
    if not isinstance(found, dict):
        raise TargetError(f"{folder}: its zarr.json is damaged (expected an object, found {found!r})")
    return found


def mark_of(document: dict[str, Json]) -> dict[str, Json]:
    """What `save` noted of the object in a node; empty for a node that it did not write."""
    attributes = document.get("attributes")
    record = attributes.get("h5z") if isinstance(attributes, dict) else None
    mark = record.get(MARK) if isinstance(record, dict) else None
    return mark if isinstance(mark, dict) else {}


def check_parent(name: str, found: dict[str, Json]) -> None:
    """Refuse to save below what is no dict.

    Raises
    ------
    PlanError
    """
    kind = mark_of(found).get("type", "dict" if found.get("node_type") == "group" else "array")
    if kind not in ("dict", "OrderedDict"):
        raise PlanError(f"{name}: expected a dict to save into, found what holds one {kind}, which is saved whole")


def check_place(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuse a place where saving would destroy, or be lost."""
    place = folder
    for name in names:
        found = document(place)
        if found is None:
            _refuse_others(place)
            return
        check_parent(str(place), found)
        place = place / name
    found = document(place)
    if found is None:
        _refuse_others(place, zarr_too=not (overwrite and not names))
    elif not names and not mark_of(found) and not overwrite:
        raise TargetExistsError(
            f"{folder}: expected nothing, or what h5z.save wrote; found another Zarr hierarchy "
            "(a key saves beside it, overwrite=True replaces it)"
        )


def _refuse_others(place: Path, *, zarr_too: bool = True) -> None:
    if place.is_dir():
        entries = [entry.name for entry in place.iterdir()]
        is_old = any(name in _CONTENT for name in entries)
        if is_old and zarr_too:
            raise TargetExistsError(f"{place}: expected a Zarr hierarchy of format 3, found one of format 2")
        if (place / ".h5z" / "plan.json").exists():
            raise TargetExistsError(f"{place}: expected nothing, found an unfinished migration")
        if not is_old and set(entries) - {".h5z"}:
            raise TargetExistsError(
                f"{place}: expected nothing, or a Zarr hierarchy; found other data, which is never overwritten"
            )
    elif os.path.lexists(place):
        raise TargetExistsError(f"{place}: expected nothing, or a folder; found a file")


def _commit(folder: Path, keys: Sequence[Any], names: Sequence[str], stage: Path, overwrite: bool) -> None:
    """Rename the node into its place; with it, the groups above that are not there yet."""
    for _ in range(_ATTEMPTS):
        check_place(folder, names, overwrite)
        above = [folder.joinpath(*names[:i]) for i in range(len(names))]
        missing = next((i for i, place in enumerate(above) if document(place) is None), len(names))
        source, destination = stage / "node", folder.joinpath(*names[:missing])
        if missing < len(names):
            source = _wrapped(stage, keys, names, missing)
        try:
            if missing == len(names) and os.path.lexists(destination):
                swap(source, destination, stage)
            else:
                destination.parent.mkdir(parents=True, exist_ok=True)
                os.rename(source, destination)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
        if missing < len(names):  # another save came first: unwrap, and look again
            os.rename(source.joinpath(*names[missing:]), stage / "node")
    raise TargetError(f"{folder}: other saves kept changing {'/'.join(names) or 'it'}; try again")


def _wrapped(stage: Path, keys: Sequence[Any], names: Sequence[str], first: int) -> Path:
    """The node inside new groups, from the topmost that is missing down."""
    top = Path(os.path.join(stage, os.urandom(8).hex()))
    for i in range(first, len(names)):
        group = top.joinpath(*names[first:i])
        group.mkdir()
        (group / "zarr.json").write_bytes(dump(group_document(keys[i - 1] if i else None, i)))
    os.rename(stage / "node", top.joinpath(*names[first:]))
    return top


def group_document(key: Any, depth: int) -> dict[str, Json]:
    """The document of a group that is there because something was saved below it."""
    mark = {"type": "dict", **(key_mark(key, name_of(key)) if depth else {})}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"h5z": {MARK: mark}}}


@contextmanager
def _consolidating(folder: Path, names: Sequence[str], stage: Path, wanted: bool | None) -> Iterator[None]:
    """Take copies of metadata that will be stale out of the groups above before a change; make them anew after it.

    Between the two other tools read each node's own document, and are right.
    """
    with _exclusive(folder):
        above = [folder.joinpath(*names[:i]) for i in range(len(names))]
        stale = [place for place in above if "consolidated_metadata" in (document(place) or {})]
        for place in stale:
            plain = document(place) or {}
            plain.pop("consolidated_metadata", None)
            _replace(place, plain, stage)
        yield
        for place in {folder} if wanted and names else stale if wanted is None else ():
            _replace(place, with_copies(dict(documents_below(folder, str(place.relative_to(folder))))), stage)


def with_copies(documents: Documents) -> dict[str, Json]:
    """A group's document with a copy of those below it, from all of them by path."""
    inner = {path: {k: v for k, v in found.items() if k != "consolidated_metadata"} for path, found in documents.items() if path}
    return consolidated(documents[""], inner)


def documents_below(folder: Path, place: str = "") -> Iterator[tuple[str, dict[str, Json]]]:
    """Every node's document at and below a place in a store, by its path from there, parents before children.

    Chunks are not listed.
    """
    base = base_of(Path(os.path.realpath(folder)))
    waiting = [("", folder / place)]
    while waiting:
        path, here = waiting.pop()
        found = document(here)
        if found is None:
            continue
        yield path, found
        if found.get("node_type") == "group":
            below = sorted(set(listed(here, base)) - {".h5z"}, reverse=True)
            waiting += [(f"{path}/{name}".lstrip("/"), here / name) for name in below]


def _replace(place: Path, found: dict[str, Json], stage: Path) -> None:
    draft = stage / os.urandom(8).hex()
    draft.write_bytes(dump(found))
    os.replace(draft, place / "zarr.json")


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold a store's folder locked against other saves that renew its consolidated metadata."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
