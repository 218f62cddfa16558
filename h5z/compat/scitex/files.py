"""`save` and `load`: Zarr stores, zipped ones, HDF5 files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5z
from h5z.compat.scitex.codecs import HDF5_SUFFIXES, codec_of
from h5z.compat.scitex.explorers import H5Explorer
from h5z.compat.scitex.hdf5_tree import save_hdf5
from h5z.compat.scitex.zipped import load_zip, save_zip
from h5z.errors import MissingKeyError, PlanError
from h5z.explore import Explorer
from h5z.policy import literal


def save(
    obj: Any,
    path: str | os.PathLike[str] | None = None,
    makedirs: bool = True,
    verbose: bool = True,
    *,
    key: str | None = None,
    compressor: Any = "zstd",
    chunks: Any = True,
    consolidate_metadata: bool = False,
    allow_pickle: bool = False,
    specified_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Save an object as a Zarr store (``.zarr``, or one ZIP file: ``.zarr.zip``) or as an HDF5 file (``.h5``, ``.hdf5``).

    Parameters
    ----------
    makedirs : bool
        Make the folders that the path lies in.
    key : str, optional
        Save below this key, beside what is there. The items of a dict are added to the group that the key names, each replacing
        its namesake; anything else replaces what the key names.
    compressor, chunks
        As of `migrate_h5_to_zarr`.
    consolidate_metadata : bool
        Whether the root's metadata shall carry a copy of all others'.
    allow_pickle : bool
        Pickle what has no place in a Zarr store; see `h5z.save`.

    Returns
    -------
    Path
        Where it was saved.
    """
    given = path if path is not None else specified_path
    if given is None:
        raise PlanError("path: expected where to save, found nothing")
    place = Path(given)
    codec = codec_of(compressor)
    if makedirs:
        place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix.lower() in HDF5_SUFFIXES:
        save_hdf5(obj, place, key)
    elif place.suffix.lower() == ".zip":
        save_zip(place, lambda folder: _save(obj, folder, key, codec, chunks, consolidate_metadata, allow_pickle))
    elif place.suffix.lower() == ".zarr" or "://" in os.fspath(given):
        _save(obj, os.fspath(given), key, codec, chunks, consolidate_metadata, allow_pickle)
    else:
        raise PlanError(
            f"{given}: expected a name that ends in .zarr, .zarr.zip, {', '.join(HDF5_SUFFIXES)}; found {place.suffix!r}"
        )
    if verbose:
        print(f"saved {given}" + (f" at {key}" if key else ""))
    return place


def _save(obj: Any, where: str, key: str | None, codec: Any, chunks: Any, consolidate: bool, allow_pickle: bool) -> None:
    options: dict[str, Any] = {"codec": codec, "allow_pickle": allow_pickle, "consolidate": True if consolidate else None}
    if key and type(obj) is dict and obj:
        above = tuple(part for part in key.split("/") if part)
        _saved_chunks(chunks, obj)  # a wrong one is refused before anything is saved
        for name, item in obj.items():
            h5z.save(item, where, key=(*above, name), chunks=_saved_chunks(_below(chunks, name), item), **options)
    else:
        h5z.save(obj, where, key=key, chunks=_saved_chunks(chunks, obj), **options)


def _saved_chunks(chunks: Any, obj: Any) -> Any:
    """As Policy has them; a shape that fits no array here is left aside, as for all arrays of another rank."""
    if chunks is True or chunks is None:
        return "auto"
    shapes = dict(_shapes(obj))
    if chunks is False:
        return {literal(path): tuple(max(1, n) for n in shape) for path, shape in shapes.items() if shape} or "auto"
    if isinstance(chunks, Mapping):
        for unmatched in h5z.Policy(chunks=chunks).unmatched_patterns(shapes):
            raise PlanError(unmatched)
        return chunks or "auto"
    wanted = h5z.Policy(chunks=chunks).chunks
    return wanted if any(len(shape) == len(wanted) for shape in shapes.values()) else "auto"


def _below(chunks: Any, name: Any) -> Any:
    """Of a map of chunks by path, what concerns one item of a dict, by the path from there."""
    if not isinstance(chunks, Mapping):
        return chunks
    paths = {pattern: pattern.strip("/") + "/" for pattern in chunks}
    return {path[len(f"{name}/") :].rstrip("/") or "/": chunks[p] for p, path in paths.items() if path.startswith(f"{name}/")}


def _shapes(obj: Any) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Path and shape of each array in nested dicts."""
    waiting: list[tuple[str, Any]] = [("", obj)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict):
            waiting += [(f"{path}/{name}", value) for name, value in item.items()]
        elif isinstance(getattr(item, "shape", None), tuple):
            yield path or "/", item.shape


def load(path: str | os.PathLike[str], key: str | None = None, *, allow_pickle: bool = False) -> Any:
    """Load a Zarr store, a zipped one, or an HDF5 file, or what a key of it names; groups as dicts.

    Of groups that have attributes, those come too, as ``_attr_NAME``.

    Raises
    ------
    MissingKeyError
        If the key is not there; a `KeyError`.
    TargetError, SourceError
        If nothing can be read there.
    PlanError
        For a pickled object without ``allow_pickle=True``.
    """
    name = os.fspath(path)
    if name.lower().endswith(HDF5_SUFFIXES):
        with H5Explorer(name) as explorer:
            return explorer.load(key or "/")
    if name.lower().endswith(".zip"):
        return load_zip(name, key, allow_pickle)
    with _open(name) as explorer:
        try:
            value = h5z.load(name, key, allow_pickle=allow_pickle)
        except MissingKeyError:
            if key == "data" and not explorer.keys():  # SciTeX keeps a lone array under this name
                return h5z.load(name, allow_pickle=allow_pickle)
            raise
        return _with_attributes(value, explorer, key or "/")


def _open(name: str) -> Explorer:
    return h5z.explore(name, sizes=False)


def _with_attributes(value: Any, explorer: Explorer, key: str) -> Any:
    """Add the attributes of groups to the dicts that they became."""
    if type(value) is not dict:
        return value
    start = "/" + key.strip("/")
    found: Any
    inside = start.rstrip("/") + "/"
    for node in explorer.tree.groups:
        if node.path != start and not node.path.startswith(inside):
            continue
        found = value
        for name in node.path[len(inside) :].split("/") if node.path != start else ():
            found = found.get(name) if type(found) is dict else None
        for item in node.attributes if type(found) is dict else ():
            if item.name != "h5z":
                found[f"_attr_{item.name}"] = item.value
    return value
