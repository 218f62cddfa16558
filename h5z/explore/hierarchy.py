"""A Zarr hierarchy's metadata (format 2 or 3, local or remote, consolidated or not) -> Tree, with what each array takes.

Documents are read as JSON, so that a codec or a data type that no library here knows is shown all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from h5z.errors import TargetError
from h5z.explore.metadata import is_array, node_of
from h5z.nodes import Json, Node, Problem, Tree
from h5z.target import Target, reaching

_V3, _V2 = "zarr.json", (".zgroup", ".zarray", ".zattrs")
_CONCURRENCY = 64
_MARK = ".h5z"
Documents = dict[str, dict[str, Json]]


def scan_hierarchy(where: Any, *, storage_options: dict[str, Any] | None = None, sizes: bool = True) -> Tree:
    """Read the metadata of a Zarr hierarchy.

    Parameters
    ----------
    where : path, URL or zarr Store
    sizes : bool
        Whether to list what is stored, for the bytes that each array takes. Where metadata are consolidated, a remote store is
        not listed at all without it.

    Returns
    -------
    Tree
        Parents before children. What consolidated metadata miss, or have too much, is among its ``problems``.

    Raises
    ------
    TargetError
        If no hierarchy opens there.
    """
    target = Target.of(where, storage_options)
    root = _root(target)
    if root is None:
        raise TargetError(f"{target.name}: expected a Zarr hierarchy, found {_instead(target)}")
    copies = _consolidated(target, root)
    problems: list[Problem] = []
    stored: dict[str, int] = {}
    if copies is None or sizes or target.path is not None:
        try:
            documents, stored = _listed(target, copies)
            problems = _stale(copies, documents)
        except (TargetError, NotImplementedError):
            if copies is None:
                raise
            documents = {"": root, **copies}  # a server that lists nothing: the copy says all that can be known
    else:
        documents = {"": root, **copies}
    nodes: dict[str, Node] = {}
    for path in sorted(documents, key=lambda path: path.split("/") if path else []):
        try:
            nodes[f"/{path}"] = node_of(f"/{path}", documents[path], stored.get(path, 0))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            problems.append(Problem(f"/{path}", f"its metadata are damaged ({type(error).__name__}: {error})"))
    return Tree(target.name, sum(stored.values()), 0, nodes, tuple(problems))


def _instead(target: Target) -> str:
    if target.get(f"{_MARK}/plan.json") is not None:
        return "an unfinished migration"
    folder = target.path
    if folder is not None and not folder.exists():
        return "nothing"
    return "a file" if folder is not None and folder.is_file() else "none that opens"


def _root(target: Target) -> dict[str, Json] | None:
    found = _parsed(target.get(_V3), target, "")
    if found is not None:
        return found
    old = {name: _parsed(target.get(name), target, "") for name in _V2}
    return _old(old) if old[".zgroup"] is not None or old[".zarray"] is not None else None


def _old(documents: Mapping[str, dict[str, Json] | None]) -> dict[str, Json]:
    """One document of a format 2 node's two."""
    main = documents.get(".zarray") or documents.get(".zgroup") or {}
    return {**main, "attributes": documents.get(".zattrs") or {}}


def _parsed(raw: bytes | None, target: Target, place: str) -> dict[str, Json] | None:
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TargetError(f"{target.name}/{place}: its metadata are damaged (expected a JSON object)")
    return found


def _consolidated(target: Target, root: dict[str, Json]) -> Documents | None:
    """The copies of documents that the root carries, by path; None where it has none."""
    if root.get("zarr_format") == 3:
        whole = root.get("consolidated_metadata")
        copies = whole.get("metadata") if isinstance(whole, dict) else None
        return {path: dict(document) for path, document in copies.items()} if isinstance(copies, dict) else None
    found = _parsed(target.get(".zmetadata"), target, "")
    if found is None:
        return None
    parts: dict[str, dict[str, dict[str, Json] | None]] = {}
    for key, document in found.get("metadata", {}).items():
        path, _, name = key.rpartition("/")
        parts.setdefault(path, {})[name] = document
    return {path: _old(documents) for path, documents in parts.items() if path}


def _listed(target: Target, copies: Documents | None) -> tuple[Documents, dict[str, int]]:
    """Every node's document, and the bytes stored of each array."""
    folder = target.path
    if folder is not None:
        return _walked(target, os.path.realpath(folder / target.prefix))
    names, objects = _remote_listing(target)
    places = sorted({key.rpartition("/")[0] for key in names}, key=lambda place: place.split("/") if place else [])
    documents = {place: copies[place] for place in places if copies is not None and place in copies}
    documents |= _fetched(target, [key for key in names if key.rpartition("/")[0] not in documents])
    arrays = {place for place, document in documents.items() if is_array(document)}
    stored: dict[str, int] = {}
    for key, nbytes in objects:
        place = key.rpartition("/")[0]
        while place and place not in arrays:
            place = place.rpartition("/")[0]
        if place in arrays:
            stored[place] = stored.get(place, 0) + nbytes
    return documents, stored


def _walked(target: Target, root: str) -> tuple[Documents, dict[str, int]]:
    documents: Documents = {}
    stored: dict[str, int] = {}
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [("", root, ())]
    while waiting:
        path, here, above = waiting.pop()
        with reaching(f"{target.name}/{path}"), os.scandir(here) as entries:
            inside = list(entries)
        names = {entry.name for entry in inside}
        document = _local_document(target, path, here, names)
        if document is None:
            continue
        documents[path] = document
        if is_array(document):
            stored[path] = _chunk_nbytes(inside)
            continue
        for entry in inside:
            if entry.name != _MARK and entry.is_dir():
                stat = entry.stat()
                if (stat.st_dev, stat.st_ino) not in above:  # a link to where it lies
                    waiting.append((f"{path}/{entry.name}".lstrip("/"), entry.path, (*above, (stat.st_dev, stat.st_ino))))
    return documents, stored


def _local_document(target: Target, path: str, here: str, names: set[str]) -> dict[str, Json] | None:
    def read(name: str) -> dict[str, Json] | None:
        if name not in names:
            return None
        with open(os.path.join(here, name), "rb") as file:
            return _parsed(file.read(), target, path)

    if _V3 in names:
        return read(_V3)
    return _old({name: read(name) for name in _V2}) if {".zgroup", ".zarray"} & names else None


def _chunk_nbytes(inside: Sequence[os.DirEntry[str]]) -> int:
    total = 0
    waiting = [list(inside)]
    while waiting:
        for entry in waiting.pop():
            if entry.is_dir(follow_symlinks=False):
                with os.scandir(entry.path) as entries:
                    waiting.append(list(entries))
            elif entry.name not in (_V3, *_V2):
                total += entry.stat().st_size
    return total


def _remote_listing(target: Target) -> tuple[list[str], list[tuple[str, int]]]:
    """Keys of metadata documents; keys and bytes of all else."""
    documents, objects = [], []
    for key, nbytes in _sized(target):
        if key.startswith(f"{_MARK}/"):
            continue
        if key.rpartition("/")[2] in (_V3, *_V2):
            documents.append(key)
        else:
            objects.append((key, nbytes))
    return documents, objects


def _sized(target: Target) -> Iterator[tuple[str, int]]:
    if isinstance(target.where, str):
        from fsspec.core import url_to_fs

        with reaching(target.name):
            files, root = url_to_fs(target.where, **(target.storage_options or {}))
            files.invalidate_cache()
            prefix = f"{root.rstrip('/')}/{target.prefix}"
            for path, info in files.find(prefix, detail=True).items():
                yield path.removeprefix(prefix).lstrip("/"), int(info.get("size") or 0)
        return
    from zarr.core.sync import sync

    store = target.store

    async def collect() -> list[tuple[str, int]]:
        return [(key, await store.getsize(key)) async for key in store.list_prefix(target.prefix)]

    with reaching(target.name):
        yield from ((key[len(target.prefix) :], nbytes) for key, nbytes in sync(collect()))


def _fetched(target: Target, keys: Sequence[str]) -> Documents:
    """The documents at these keys, read at once; the two of a format 2 node as one."""
    from zarr.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    make = default_buffer_prototype()

    async def collect() -> list[bytes | None]:
        gate = asyncio.Semaphore(_CONCURRENCY)

        async def one(key: str) -> bytes | None:
            async with gate:
                found = await target.store.get(target.prefix + key, make)
                return None if found is None else found.to_bytes()

        return list(await asyncio.gather(*map(one, keys)))

    with reaching(target.name):
        raws = sync(collect()) if keys else []
    out: Documents = {}
    old: dict[str, dict[str, dict[str, Json] | None]] = {}
    for key, raw in zip(keys, raws, strict=True):
        place, _, name = key.rpartition("/")
        document = _parsed(raw, target, place)
        if document is not None and name == _V3:
            out[place] = document
        elif document is not None:
            old.setdefault(place, {})[name] = document
    out |= {place: _old(documents) for place, documents in old.items() if place not in out and set(documents) != {".zattrs"}}
    known = {""}
    for place in sorted(out, key=lambda place: place.split("/") if place else []):
        if place.rpartition("/")[0] in known:
            known.add(place)
    return {place: document for place, document in out.items() if place in known}


def _stale(copies: Documents | None, documents: Documents) -> list[Problem]:
    """What the root's copy of all metadata misses, or has too much: readers that trust it go by it."""
    if copies is None:
        return []
    text = "consolidated metadata are stale: "
    missing = [Problem(f"/{path}", text + "this node is not in them") for path in documents if path and path not in copies]
    gone = [Problem(f"/{path}", text + "this node is in them, and is not there") for path in copies if path not in documents]
    return missing + gone
