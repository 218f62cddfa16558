"""Putting an object in its place in a store that can rename nothing: its own metadata document is written last.

Where another object was, the new one first lies complete under ``.h5z/save/``, with a note of where it belongs; then it is
copied. Until its document is there again, other tools find nothing at the place, and `load` reads the complete copy.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync

from h5z.documents import dump
from h5z.errors import TargetError, TargetExistsError
from h5z.nodes import Json
from h5z.objects.folder import check_parent, group_document, mark_of, with_copies
from h5z.objects.keys import name_of
from h5z.objects.write import Documents
from h5z.target import Target, reaching

_SAVES = ".h5z/save/"
_WINDOW = 64  # objects held while copying
_ATTEMPTS = 20


def save_remotely(
    target: Target,
    keys: Sequence[Any],
    write: Callable[[Target, str], None],
    *,
    overwrite: bool = False,
    consolidate: bool | None = None,
) -> None:
    """Have an object written, and put in its place.

    Parameters
    ----------
    keys : sequence
        Where in the store, from the root down.
    write : callable
        Writes the object's node at the place of the target that it is given, its document last.
    """
    if isinstance(target.where, Store) and target.where.read_only:
        raise TargetError(f"{target.name}: expected a store that can be written, found one that is read-only")
    names = tuple(map(name_of, keys))
    place = "/".join(names)
    found = _check(target, names, overwrite)
    stale = _unconsolidate(target, names)
    own = f"{_SAVES}{uuid.uuid4().hex}"
    earlier = [save for save, where in notes(target).items() if where == place]
    target.put({f"{own}/place": json.dumps(place).encode()})
    if found is None:
        _refuse_others(target, place, bool(earlier))
        target.delete(_below(target, place))
        write(target, place)
        _parents(target, keys)
    else:
        write(target, f"{own}/node")
        target.put({f"{own}/commit": b""})
        _parents(target, keys)
        _swap(target, f"{own}/node", place)
    for save in (own, *earlier):
        target.delete([f"{save}/commit"])
        target.delete([key for key in _listing(target, f"{save}/") if key != f"{save}/place"])
        target.delete([f"{save}/place"])  # last: it tells the next save what there is to clear away
    for group in {""} if consolidate and names else stale if consolidate is None else ():
        _consolidate(target, group)


def notes(target: Target) -> dict[str, str]:
    """Saves that have not ended, by where they lie: the place that each is for."""
    out = {}
    for key in _listing(target, _SAVES):
        raw = target.get(key) if key.endswith("/place") else None
        if raw is not None:
            out[key.removesuffix("/place")] = str(json.loads(raw))
    return out


def complete_copy(target: Target, place: str) -> str | None:
    """Where a complete copy of what belongs at a place lies while it is being put there, or was when that was broken off."""
    for save, where in notes(target).items():
        if (place == where or place.startswith(where + "/") or not where) and target.get(f"{save}/commit") is not None:
            return f"{save}/node{'/' if where and place != where else ''}{place[len(where) :].lstrip('/')}".rstrip("/")
    return None


def remote_document(target: Target, place: str) -> dict[str, Json] | None:
    """A node's metadata document; None where there is no node of Zarr format 3."""
    raw = target.get(f"{place}/zarr.json".lstrip("/"))
    return None if raw is None else _parsed(target, place, raw)


def _parsed(target: Target, place: str, raw: bytes) -> dict[str, Json]:
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TargetError(f"{target.name}/{place}: its zarr.json is damaged")
    return found


def _check(target: Target, names: Sequence[str], overwrite: bool) -> dict[str, Json] | None:
    """The document at the place, after checking that saving there is no mistake."""
    for i in range(len(names)):
        above = remote_document(target, "/".join(names[:i]))
        if above is not None:
            check_parent(f"{target.name}/{'/'.join(names[:i])}", above)
    if target.get(".zgroup") is not None or target.get(".zarray") is not None:
        raise TargetExistsError(f"{target.name}: expected a Zarr hierarchy of format 3, found one of format 2")
    if target.get(".h5z/plan.json") is not None:
        raise TargetExistsError(f"{target.name}: expected nothing, found an unfinished migration")
    found = remote_document(target, "/".join(names))
    if not names and found is not None and not mark_of(found) and not overwrite:
        raise TargetExistsError(
            f"{target.name}: expected nothing, or what h5z.save wrote; found another Zarr hierarchy "
            "(a key saves beside it, overwrite=True replaces it)"
        )
    return found


def _refuse_others(target: Target, place: str, begun: bool) -> None:
    if not begun and _below(target, place):
        where = f"{target.name}/{place}".rstrip("/")
        raise TargetExistsError(f"{where}: expected nothing, or a Zarr hierarchy; found other data, which is never overwritten")


def _below(target: Target, place: str) -> list[str]:
    return [key for key in _listing(target, f"{place}/" if place else "") if not key.startswith(".h5z/")]


def _listing(target: Target, below: str) -> list[str]:
    """Keys below a prefix, as they are now: clients keep what they listed before, others' writes apart."""
    files = getattr(target.store, "fs", None)
    if files is not None:
        files.invalidate_cache()
    return target.listing(below)


def _parents(target: Target, keys: Sequence[Any]) -> None:
    names = tuple(map(name_of, keys))
    for i in reversed(range(len(names))):
        key = "/".join((*names[:i], "zarr.json"))
        if target.get(key) is None:
            target.put({key: dump(group_document(keys[i - 1] if i else None, i))})


def _swap(target: Target, source: str, place: str) -> None:
    prefix = f"{place}/" if place else ""
    top = f"{prefix}zarr.json"
    target.delete([top])
    target.delete([key for key in _below(target, place) if key != top])
    keys = [key.removeprefix(f"{source}/") for key in target.listing(f"{source}/")]
    for window in _windows([key for key in keys if key != "zarr.json"]):
        target.put({prefix + key: cast(bytes, target.get(f"{source}/{key}")) for key in window})
    target.put({top: cast(bytes, target.get(f"{source}/zarr.json"))})


def _windows(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[i : i + _WINDOW] for i in range(0, len(keys), _WINDOW))


def _unconsolidate(target: Target, names: Sequence[str]) -> list[str]:
    """Take copies of metadata that will be stale out of the groups above; which those are."""
    stale = []
    for i in range(len(names)):
        group = "/".join(names[:i])
        found = remote_document(target, group)
        if found is not None and "consolidated_metadata" in found:
            found.pop("consolidated_metadata")
            target.put({f"{group}/zarr.json".lstrip("/"): dump(found)})
            stale.append(group)
    return stale


def _consolidate(target: Target, group: str) -> None:
    """Copy the metadata of all below into a group's document, again until nothing has changed meanwhile."""
    before: Documents = {}
    for _ in range(_ATTEMPTS):
        found = {path: document for path, _, document in _documents(target, group)}
        if {k: v for k, v in found.items() if k} == before or "" not in found:
            return
        before = {k: v for k, v in found.items() if k}
        target.put({f"{group}/zarr.json".lstrip("/"): dump(with_copies(found))})


def remote_documents(target: Target, place: str) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """Every node at and below a place: its path from there, where it lies, its document; parents before children.

    What is just being put in its place, or was when that was broken off, is read from its complete copy.
    """
    copied = [
        (where[len(place) :].lstrip("/"), f"{save}/node")
        for save, where in notes(target).items()
        if where.startswith(f"{place}/" if place else "") and where != place and target.get(f"{save}/commit") is not None
    ]
    found = [node for node in _documents(target, place) if not any(f"{node[0]}/".startswith(f"{path}/") for path, _ in copied)]
    for path, source in copied:
        found += [(f"{path}/{below}".rstrip("/"), here, document) for below, here, document in _documents(target, source)]
    yield from sorted(found, key=lambda node: node[0].split("/") if node[0] else [])


def _documents(target: Target, place: str) -> Iterator[tuple[str, str, dict[str, Json]]]:
    prefix = f"{place}/" if place else ""
    keys = [key for key in _listing(target, prefix) if key.endswith("zarr.json") and not key[len(prefix) :].startswith(".h5z/")]
    places = sorted((key.removesuffix("zarr.json").rstrip("/") for key in keys), key=lambda place: place.split("/"))
    known = {""}
    for here, document in get_documents(target, places).items():
        path = here[len(prefix) :]
        if path.rpartition("/")[0] in known:  # else it is part of what is not complete
            known.add(path)
            yield path, here, document


def get_documents(target: Target, places: Sequence[str]) -> Documents:
    """The documents of many nodes, read at once; without those that are not there."""
    make = default_buffer_prototype()

    async def collect() -> list[bytes | None]:
        gate = asyncio.Semaphore(_WINDOW)

        async def one(place: str) -> bytes | None:
            async with gate:
                found = await target.store.get(target.prefix + f"{place}/zarr.json".lstrip("/"), make)
                return None if found is None else found.to_bytes()

        return list(await asyncio.gather(*map(one, places)))

    with reaching(target.name):
        found = sync(collect())
    return {place: _parsed(target, place, raw) for place, raw in zip(places, found, strict=True) if raw is not None}
