"""A store, or a key in it -> the Python object that it holds, as it was at one moment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from h5z.errors import H5zError, MissingKeyError, PlanError, TargetError, TransientError, one_line
from h5z.nodes import Json
from h5z.objects.decode import Found, decode
from h5z.objects.folder import document, documents_below, mark_of
from h5z.objects.keys import name_of, parts_of
from h5z.objects.read import Blocks, read_array, read_old
from h5z.objects.remote import complete_copy, get_documents, remote_document, remote_documents
from h5z.objects.stage import base_of, settle
from h5z.objects.write import Documents
from h5z.target import Target

_ATTEMPTS, _PAUSE = 10, 0.01
_SHOWN = 20


def load(
    where: Any,
    key: str | Sequence[Any] | None = None,
    *,
    allow_pickle: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> Any:
    """Load what `h5z.save` saved; of other Zarr hierarchies groups as dicts, arrays as numpy arrays.

    Parameters
    ----------
    where : path, URL or zarr Store
    key : str or sequence, optional
        What to load of it: names joined with slashes, or a tuple of keys, where keys are no names. The whole by default.
    allow_pickle : bool
        Unpickle what was saved with it. Whoever can write to the store can then run any code here.

    Returns
    -------
    object
        Equal to what was saved, of the same type. A dask array is lazy again: it reads the store when it is computed, and
        fails if what it was made of has been replaced meanwhile.

    Raises
    ------
    MissingKeyError
        If the key is not there; a `KeyError` and a `ValueError`.
    PlanError
        If there are pickled objects and `allow_pickle` is not given.
    TargetError
        If no Zarr hierarchy opens, or what is there is damaged.
    TransientError
        If other saves kept replacing it.
    """
    target = Target.of(where, storage_options)
    keys = parts_of(key)
    for attempt in range(_ATTEMPTS):
        seen: Documents = {}
        failure: Exception | None = None
        value: Any = None
        try:
            place = _resolve(target, keys)
            value = read_old(target, keys) if place is None else _read(target, place, seen, allow_pickle)
        except (H5zError, OSError) as error:
            failure = error
        if _unchanged(target, seen):
            if failure is not None:
                raise failure
            return value
        time.sleep(_PAUSE * attempt)
    raise TransientError(f"{target.name}: other saves kept replacing {'/'.join(map(str, keys)) or 'it'} while it was read")


def _unchanged(target: Target, seen: Documents) -> bool:
    """Whether everything read is still what it was: each save marks each of its nodes with a number of its own."""
    if target.path is not None:
        return all(document(target.path / place) == found for place, found in seen.items())
    found = get_documents(target, list(seen))
    return all(found.get(place) == document for place, document in seen.items())


def _document(target: Target, place: str) -> dict[str, Json] | None:
    return remote_document(target, place) if target.path is None else document(target.path / place)


def _documents(target: Target, place: str) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """Every node at and below a place: its path from there, where it lies, its document; parents before children."""
    if target.path is None:
        yield from remote_documents(target, place)
    else:
        for path, found in documents_below(target.path, place):
            yield path, f"{place}/{path}".strip("/"), found


def _resolve(target: Target, keys: Sequence[Any]) -> str | None:
    """Where a key lies; None in a hierarchy of an older format."""
    place = ""
    for i in range(len(keys) + 1):
        names = _names(keys[i - 1]) if i else [""]
        below = [f"{place}/{name}".strip("/") for name in names]
        found = next((path for path in below if _document(target, path) is not None), None)
        found = found if found is not None else _being_put(target, below[0])
        if found is None and not i and any(target.get(name) is not None for name in (".zgroup", ".zarray")):
            return None
        if found is None:
            raise _missing(target, place, keys[:i])
        place = found
    return place


def _names(key: Any) -> list[str]:
    """The names that a key's node may have: that which `save` gives it, and the key itself, by which others named it."""
    plain = isinstance(key, str) and key not in ("", ".", "..") and not {"/", "\\", "\0"} & set(key)
    return list(dict.fromkeys([name_of(key), *([str(key)] if plain else [])]))


def _being_put(target: Target, place: str) -> str | None:
    """Where to read what a save is just putting in its place, or was when it was killed."""
    if target.path is None:
        copy = complete_copy(target, place)
        return copy if copy is not None and _document(target, copy) is not None else None
    settle(base_of(Path(os.path.realpath(target.path))))
    return place if _document(target, place) is not None else None


def _missing(target: Target, place: str, keys: Sequence[Any]) -> H5zError:
    if not keys:
        return TargetError(f"{target.name}: expected a Zarr hierarchy, found none that opens")
    names = []
    if target.path is not None:
        names = sorted(entry.name for entry in (target.path / place).iterdir() if (entry / "zarr.json").exists())
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    asked = "/".join(keys) if all(isinstance(key, str) for key in keys) else repr(tuple(keys))
    return MissingKeyError(f"{target.name}: expected the key {asked}, found {shown or 'no such node'}")


def _read(target: Target, place: str, seen: Documents, allow_pickle: bool) -> Any:
    """Read and decode what lies at a place, members before their groups; every document read goes into `seen`."""
    founds: dict[str, Found] = {}
    for path, here, found in _documents(target, place):
        seen[here] = found
        founds[path] = _found(target, path, here, found)
    value: Any = None
    for path, node in reversed(founds.items()):
        value = _decoded(f"{target.name}/{place}".rstrip("/") + f"/{path}".rstrip("/"), node, allow_pickle)
        if path:
            group = founds[path.rpartition("/")[0]]
            group.members[node.name] = value
            group.keys[node.name] = node.key
            group.below[node.name] = node.attributes
        node.members.clear()
    return value.alone() if hasattr(value, "alone") else value


def _found(target: Target, path: str, place: str, document: dict[str, Json]) -> Found:
    found = Found(path.rpartition("/")[2], mark_of(document), document.get("attributes") or {})
    if document.get("node_type") == "array":
        found.read = lambda: read_array(target, place, document)
        found.lazy = Blocks(target, place, document).lazy
    return found


def _decoded(shown: str, node: Found, allow_pickle: bool) -> Any:
    try:
        return decode(node, allow_pickle=allow_pickle)
    except PlanError as error:
        raise PlanError(f"{shown}: {one_line(error)}") from None
    except H5zError:
        raise
    except ImportError as error:
        raise TargetError(f"{shown}: loading a {node.kind} needs {error.name}, which is not installed") from None
    except Exception as error:  # a mark that does not fit, a chunk that does not decode: each library has errors of its own
        raise TargetError(f"{shown}: cannot be read ({one_line(error)})") from None
