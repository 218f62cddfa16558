"""A store, or a key in it -> the Python object that it holds, as it was at one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from h5z.errors import H5zError, MissingKeyError, PlanError, TargetError, TransientError, one_line
from h5z.nodes import Json
from h5z.objects.decode import Found, decode
from h5z.objects.folder import document, documents_below, mark_of
from h5z.objects.keys import name_of, parts_of
from h5z.objects.read import Blocks, read_array, read_old
from h5z.objects.remote import complete_copy, remote_document, remote_documents
from h5z.objects.stage import settle
from h5z.target import Target

_ATTEMPTS = 5
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
    for _ in range(_ATTEMPTS):
        witnesses: dict[str, dict[str, Json] | None] = {}
        failure: Exception | None = None
        value: Any = None
        try:
            place = _resolve(target, keys, witnesses)
            value = read_old(target, keys) if place is None else _read(target, place, witnesses, allow_pickle)
        except (H5zError, OSError) as error:
            failure = error
        if all(_document(target, place) == found for place, found in witnesses.items()):
            if failure is not None:
                raise failure
            return value
    raise TransientError(f"{target.name}: other saves kept replacing {'/'.join(map(str, keys)) or 'it'} while it was read")


def _document(target: Target, place: str) -> dict[str, Json] | None:
    return remote_document(target, place) if target.path is None else document(target.path / place)


def _documents(target: Target, place: str) -> Iterator[tuple[str, dict[str, Json]]]:
    yield from remote_documents(target, place) if target.path is None else documents_below(target.path / place)


def _resolve(target: Target, keys: Sequence[Any], witnesses: dict[str, dict[str, Json] | None]) -> str | None:
    """Where a key lies; None in a hierarchy of an older format. Documents that tell one save from another are remembered."""
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
        seen = _document(target, place)
        if seen is not None and "save" in mark_of(seen):
            witnesses[place] = seen
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
    folder = Path(os.path.realpath(target.path))
    return place if settle(folder, folder / place) and _document(target, place) is not None else None


def _missing(target: Target, place: str, keys: Sequence[Any]) -> H5zError:
    if not keys:
        return TargetError(f"{target.name}: expected a Zarr hierarchy, found none that opens")
    names = []
    if target.path is not None:
        names = sorted(entry.name for entry in (target.path / place).iterdir() if (entry / "zarr.json").exists())
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    asked = "/".join(keys) if all(isinstance(key, str) for key in keys) else repr(tuple(keys))
    return MissingKeyError(f"{target.name}: expected the key {asked}, found {shown or 'no such node'}")


def _read(target: Target, place: str, witnesses: dict[str, dict[str, Json] | None], allow_pickle: bool) -> Any:
    """Read and decode what lies at a place, members before their groups."""
    founds: dict[str, Found] = {}
    saved: dict[str, str] = {}
    above = max((path for path in witnesses if not path or f"{place}/".startswith(f"{path}/")), key=len, default=place)
    for path, seen in _documents(target, place):
        here = f"{place}/{path}".strip("/")
        if "save" in mark_of(seen):
            witnesses[here] = seen
            saved[path] = here
        else:
            saved[path] = saved.get(path.rpartition("/")[0], above) if path else above
        founds[path] = _found(target, here, seen, saved[path], witnesses.get(saved[path]))
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


def _found(target: Target, place: str, seen: dict[str, Json], saved: str, witness: dict[str, Json] | None) -> Found:
    name = place.rpartition("/")[2]
    found = Found(name, mark_of(seen), seen.get("attributes") or {})
    if seen.get("node_type") != "array":
        return found
    blocks = Blocks(target, place, seen, saved, witness)
    found.read = lambda: read_array(target, place, seen)
    found.lazy = blocks.lazy
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
