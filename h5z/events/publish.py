"""A Dataset -> one Zarr store, on S3 or anywhere: whole chunks straight to their place, the root's metadata last."""

from __future__ import annotations

import datetime as dt
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from h5z.arrayplan import ArrayPlan, numpy_dtype
from h5z.codecs import default, fit
from h5z.commit import commit
from h5z.errors import PlanError, TargetError
from h5z.events.content import CIRCUMSTANCES, Variable, digest, plain, variables
from h5z.grid import Region, region_shape
from h5z.nodes import Json
from h5z.plan import Piece, Plan
from h5z.policy import Policy
from h5z.prepare import prepared
from h5z.target import Target
from h5z.units import Stored, TargetArray

if TYPE_CHECKING:
    import xarray as xr

SMALL_CHUNK = 100  # rows of a chunk, of a table of up to LARGE_TABLE rows
LARGE_TABLE = 10_000
LARGE_CHUNK = 65_536
_FIELD = "{session_id}"
_ABOVE_ALL = '/\\?#*[]{}<>|"'  # what a path, a URL or a glob takes for something else
_LONGEST = 200


def publish(
    dataset: xr.Dataset,
    target: Any,
    *,
    storage_options: dict[str, Any] | None = None,
    overwrite: bool = False,
    chunks: int | Mapping[str, int] | None = None,
    codec: Any = "auto",
    consolidate: bool = True,
    verify: bool = False,
    workers: int = 16,
) -> dict[str, Any]:
    """Write a session's Dataset as one Zarr store (format 3), with nothing in between.

    The root's metadata come last: until then the store does not open, and one that it replaces stays readable. The same
    Dataset again, whenever it was made, finds its store and leaves it alone; a call that was killed is finished by the next.

    Parameters
    ----------
    dataset : xarray.Dataset
        As `to_dataset` makes it; variables may be lazy, and are read by chunks.
    target : path, URL or zarr Store
        Where; ``{session_id}`` in it becomes the session's id, as in ``s3://bucket/prefix/{session_id}_events.zarr``.
    storage_options : dict, optional
        For a URL, as fsspec takes them.
    overwrite : bool
        Whether another store at that place is replaced, once this one is complete.
    chunks : int or mapping of str to int, optional
        Rows of a chunk; by entity or dimension, where they differ. By default all rows up to 100, 100 up to 10,000 rows, and
        65,536 of larger tables.
    codec : as `h5z.Policy` takes it
    consolidate : bool
        Whether the root's metadata carry a copy of all others'.
    verify : bool
        Whether all chunks are read back and compared before the store is committed.
    workers : int
        How many chunks are on their way at once.

    Returns
    -------
    dict
        The session's metadata: ``session_id``, ``processed_at`` (ISO 8601, UTC), ``storage_format``, ``<entity>_count`` of each
        entity, ``zarr_stores`` ({"events": where}), ``status`` ("published" or "unchanged"), ``problem_count``.

    Raises
    ------
    PlanError
        If the call is wrong, or the Dataset holds what Zarr or JSON does not.
    TargetExistsError
        If something else is there and `overwrite` is not given.
    TargetError, TransientError
        If the target cannot be written.
    """
    session = dataset.attrs.get("session_id")
    if not isinstance(session, str):
        raise PlanError(f"dataset: expected an attribute session_id, found {session!r}")
    if workers < 1:
        raise PlanError(f"workers: expected at least 1, found {workers!r}")
    place = Target.of(located(target, session), storage_options)
    found = variables(dataset)
    policy = Policy(codec=codec, consolidate=consolidate)
    counts = {f"{str(dim).removesuffix('_id')}_count": n for dim, n in dataset.sizes.items() if dim in dataset.coords}
    attributes = {**plain(dataset.attrs, "dataset"), "row_counts": counts}
    plan = _plan(found, attributes, f"events://{session}", place, policy, chunks)
    plan = _as_begun(plan, place)
    with prepared(place, plan, overwrite=overwrite) as (ready, begun):
        if begun is not None:
            plan = begun
            arrays = [TargetArray(ready, array, policy.zarr_format) for array in plan.arrays]
            _write(plan, ready, arrays, found, workers)
            if verify:
                _verify(plan, arrays, found, workers)
                ready.mark_verified("full", {})
            commit(ready, plan)
    return metadata(plan.groups[""], place.name, "unchanged" if begun is None else "published")


def metadata(root: Mapping[str, Any], where: str, status: str) -> dict[str, Any]:
    """A session's metadata, from the attributes of its store."""
    return {
        "session_id": root["session_id"],
        "processed_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "storage_format": "zarr",
        **root["row_counts"],
        "zarr_stores": {"events": where},
        "status": status,
        "problem_count": int(root.get("problem_count", 0)),
    }


def located(target: Any, session: str) -> Any:
    """A target with the session's id in its place.

    Raises
    ------
    PlanError
        If the id would lead elsewhere, or the target has other fields.

    Examples
    --------
    >>> located("s3://bucket/{session_id}_events.zarr", "s-17")
    's3://bucket/s-17_events.zarr'
    """
    if not isinstance(target, str | os.PathLike):
        return target
    text = os.fspath(target)
    if _FIELD in text:
        check_name(session)
    rest = text.replace(_FIELD, "")
    if "{" in rest or "}" in rest:
        raise PlanError(f"target: expected no other field than {_FIELD}, found {text!r}")
    return text.replace(_FIELD, session)


def check_name(session: str) -> None:
    """Refuse an id that cannot be part of a store's name.

    Raises
    ------
    PlanError
        Naming the id.
    """
    if (
        not session.strip(" .")
        or session != session.strip()
        or "::" in session
        or any(letter in _ABOVE_ALL or unicodedata.category(letter) in ("Cc", "Cs") for letter in session)
        or len(session.encode("utf-8", "replace")) > _LONGEST
    ):
        raise PlanError(f"session_id: expected an id that can be part of a path, found {session[:_LONGEST]!r}")


def chunk_rows(rows: int) -> int:
    """Rows of a chunk by default.

    >>> [chunk_rows(rows) for rows in (0, 40, 5000, 1_000_000)]
    [1, 40, 100, 65536]
    """
    return max(1, min(rows, SMALL_CHUNK if rows <= LARGE_TABLE else LARGE_CHUNK))


def _chunks(found: Iterable[Variable], chunks: Any) -> dict[str, int]:
    """Rows of a chunk by dimension."""
    sizes = {dim: n for item in found for dim, n in zip(item.dims, item.shape, strict=True)}
    out = {dim: chunk_rows(n) for dim, n in sizes.items()}
    given = dict.fromkeys(sizes, chunks) if chunks is None or not isinstance(chunks, Mapping) else dict(chunks)
    for name, rows in given.items():
        dim = name if name in sizes else f"{name}_id"
        if dim not in sizes:
            raise PlanError(f"chunks: expected an entity or dimension ({', '.join(sizes)}), found {name!r}")
        if rows is None:
            continue
        if not isinstance(rows, int | np.integer) or isinstance(rows, bool) or rows < 1:
            raise PlanError(f"chunks: expected a positive number of rows, found {rows!r}")
        out[dim] = max(1, min(int(rows), sizes[dim]))
    return out


def _plan(found: list[Variable], attributes: dict[str, Json], source: str, place: Target, policy: Policy, chunks: Any) -> Plan:
    rows = _chunks(found, chunks)
    arrays = []
    for item in found:
        text = item.dtype == "string"
        itemsize = 1 if text else numpy_dtype(item.dtype).itemsize
        wanted = policy.pick("codec", f"/{item.name}")
        if wanted == "keep":
            raise PlanError("codec: expected a codec, found 'keep', which is for what an HDF5 file holds encoded")
        unit = tuple(rows[dim] for dim in item.dims)
        arrays.append(
            ArrayPlan(
                path=f"/{item.name}",
                source="",
                described=item.dtype,
                dtype=item.dtype,
                shape=item.shape,
                source_shape=item.shape,
                chunks=unit,
                block=unit,
                route="regrid",
                codecs=tuple(default(itemsize, text=text) if wanted == "auto" else fit(wanted, itemsize)),
                names=item.dims,
                attributes=item.attributes,
            )
        )
    whole = {**attributes, "content_digest": digest(found, attributes)}
    return Plan(source, place.name, 0, 0, policy, {"": whole}, tuple(arrays))


def _as_begun(plan: Plan, place: Target) -> Plan:
    """A plan with the circumstances of an earlier call of the same content: it is the same publication."""
    begun = place.begun()
    for earlier in (place.root(), begun.groups[""] if begun is not None else None):
        root = plan.groups[""]
        if earlier is not None and earlier.get("content_digest") == root["content_digest"]:
            same = {name: value for name, value in root.items() if name not in CIRCUMSTANCES}
            same |= {name: earlier[name] for name in CIRCUMSTANCES if name in earlier}
            return replace(plan, groups={"": same})
    return plan


def _write(plan: Plan, place: Target, arrays: list[TargetArray], found: list[Variable], workers: int) -> None:
    """Write what an earlier call has not: each task's chunks at once, then its mark."""
    done = place.done()
    for task in plan.tasks():
        if task.number in done:
            continue

        def write(piece: Piece) -> tuple[str, Stored]:
            values = found[piece.array].read(piece.region)
            return plan.arrays[piece.array].path, arrays[piece.array].write(piece.region, values)

        stored: dict[str, Stored] = {}
        for path, part in _at_once(write, task.pieces, workers):
            stored[path] = stored.get(path, Stored()) + part
        total = sum(stored.values(), Stored())
        sums = {path: part.checksum for path, part in stored.items() if part.units}
        place.mark_done(task.number, {"units": total.units, "nbytes": total.nbytes, "checksums": sums})


def _at_once(function: Callable[[Piece], Any], pieces: Iterable[Piece], workers: int) -> list[Any]:
    """Call a function for each piece in threads; after the first failure no other is begun."""
    with ThreadPoolExecutor(workers, thread_name_prefix="h5z-publish") as pool:
        futures = [pool.submit(function, piece) for piece in pieces]
        ended, left = wait(futures, return_when=FIRST_EXCEPTION)
        for future in left:
            future.cancel()
        failed = next((error for future in ended if (error := future.exception()) is not None), None)
        if failed is not None:
            raise failed
        return [future.result() for future in futures]


def _verify(plan: Plan, arrays: list[TargetArray], found: list[Variable], workers: int) -> None:
    def check(piece: Piece) -> None:
        expected, stored = found[piece.array].read(piece.region), arrays[piece.array].read(piece.region)
        if not _same(expected, stored.reshape(region_shape(piece.region))):
            where = f"{plan.arrays[piece.array].path}[{_shown(piece.region)}]"
            raise TargetError(f"{arrays[piece.array].target.name}: {where}: expected what was written, found other values")

    for task in plan.tasks():
        _at_once(check, task.pieces, workers)


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same bits, or the same text."""
    if a.dtype.kind == "T":
        return bool((a == b).all())
    return cast(bool, a.tobytes() == b.astype(a.dtype).tobytes())


def _shown(region: Region) -> str:
    return ",".join(f"{part.start}:{part.stop}" for part in region)
