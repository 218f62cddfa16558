"""A Python object -> a store, or a key in it: all of it or nothing, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from h5z.errors import TargetError
from h5z.objects.encode import encode
from h5z.objects.folder import check_place, save_in_folder
from h5z.objects.keys import key_mark, name_of, parts_of
from h5z.objects.remote import save_remotely
from h5z.objects.write import Made, make, write_arrays, write_documents
from h5z.policy import Policy
from h5z.target import Target


def save(
    obj: Any,
    where: Any,
    key: str | Sequence[Any] | None = None,
    *,
    chunks: Any = "auto",
    codec: Any = "auto",
    shards: Any = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
    consolidate: bool | None = None,
    storage_options: dict[str, Any] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
) -> None:
    """Save a Python object as a Zarr hierarchy (format 3), or below a key of one.

    Dicts, lists and tuples become groups, numbers, text and arrays become arrays that other tools read; what Zarr has no word
    for is noted under the attribute ``h5z``. A kill leaves what was there before, or all of the new.

    Parameters
    ----------
    obj : object
        A tree of dicts, lists, tuples, None, bool, int, float, complex, str, bytes, datetime's types, numpy's scalars and arrays,
        dask arrays (streamed), pandas' DataFrame, Series and Index, xarray's Dataset and DataArray.
    where : path, URL or zarr Store
    key : str or sequence, optional
        Where in the store: names joined with slashes, or a tuple of keys. What is there is replaced, what is beside stays. The
        whole store by default.
    chunks, codec, shards
        As Policy's fields; patterns of paths are below `obj`.
    allow_pickle : bool
        Pickle, opaquely, what has no place in a Zarr store. Loading it needs the same permission.
    overwrite : bool
        Replace a whole Zarr hierarchy even if `save` did not write it.
    consolidate : bool, optional
        Whether the root's metadata shall carry a copy of all others'; None keeps what is there.
    workers : int, optional
        Threads that encode; the machine's cores by default.
    scheduler : optional
        As dask's `compute` takes it, for dask arrays.

    Raises
    ------
    PlanError
        For an object that has no place in a Zarr store, with its place in the tree; for a key inside something that is no dict.
    TargetExistsError
        If the place holds what `save` did not write.
    TargetError
        If the store cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, h5z
    >>> store = tempfile.mkdtemp()
    >>> h5z.save({"events": {"timestamps": np.arange(3.0)}, "rate": 30_000}, store)
    >>> h5z.load(store, key="events/timestamps")
    array([0., 1., 2.])
    >>> h5z.save(25_000, store, key="rate")
    >>> h5z.load(store)["rate"]
    25000
    """
    target = Target.of(where, storage_options)
    keys = parts_of(key)
    policy = Policy(chunks=chunks, codec=codec, shards=shards)
    if target.path is not None:
        if isinstance(target.where, Store) and target.where.read_only:
            raise TargetError(f"{target.name}: expected a store that can be written, found one that is read-only")
        check_place(target.path, tuple(map(name_of, keys)), overwrite)
    nodes = list(encode(obj, allow_pickle=allow_pickle))
    made = make(nodes, policy, key_mark(keys[-1], name_of(keys[-1])) if keys else {}, consolidate=bool(consolidate) and not keys)
    if target.path is None:
        save_remotely(
            target,
            keys,
            lambda there, place: _write(there, place, made, workers, scheduler),
            overwrite=overwrite,
            consolidate=consolidate,
        )
        return

    def prepare(stage: Path) -> None:
        _write(Target(str(stage)), "node", made, workers, scheduler)
        shutil.rmtree(stage / ".h5z", ignore_errors=True)

    save_in_folder(target.path, keys, prepare, overwrite=overwrite, consolidate=consolidate)


def _write(target: Target, place: str, made: Made, workers: int | None, scheduler: Any) -> None:
    """Chunks, then documents, the object's own last."""
    write_arrays(target, f"/{place}" if place else "", made, workers=workers, scheduler=scheduler)
    write_documents(target, place, made.documents)
