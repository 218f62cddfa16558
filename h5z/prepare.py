"""Bring a target to where its tasks can run: taken by this run, its plan written."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from h5z.commit import end_swap, swapping
from h5z.errors import H5zError, PlanError, TargetError, TargetExistsError, one_line
from h5z.joining.growth import recorded, strays
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.stores.disk import boot
from h5z.stores.lease import Lease, held, holder
from h5z.target import MARK, NEW, Target, reaching, seat, successor_beside
from h5z.units import TargetArray


def prepare(
    target: Target, plan: Plan, *, overwrite: bool = False, shared: bool = False, patient: bool = False
) -> tuple[Target, Plan | None]:
    """Bring a target to where its tasks can run, held by this run, or find that nothing is left to do.

    Parameters
    ----------
    shared, patient : bool
        Of the lease: `h5z.stores.lease.acquire`.

    Returns
    -------
    target : Target
        Where to write: the target itself, or the place of its successor. To be released (`Target.release`).
    plan : Plan, optional
        What to do there: as an unfinished run of this same migration has begun it, where there is one; None where it is complete.

    Raises
    ------
    TargetHeldError
        If another run holds it.
    TargetExistsError
        If something else is there and `overwrite` is not given, or is there and is no Zarr hierarchy.
    """
    _check_place(target, plan)
    if not isinstance(target.where, str) and target.where.read_only:
        raise TargetError(f"{target.name}: expected a store that can be written, found one that is read-only")
    target = replace(target, durable=plan.policy.durable, attempts=plan.policy.attempts)
    untidy = _untidy(target)
    if not untidy and _judge(target, plan, overwrite=overwrite) == "finished":  # what is refused is left without a lease
        return target, None
    if untidy:
        with reaching(target.name):
            other = None if patient else holder(target.claims)
        if other is not None:
            raise held(target.name, other)
        if not swapping(target):
            _judge(target, plan, overwrite=overwrite)
    _make_folder(target)
    taken = target.hold(shared=shared, patient=patient)
    try:
        if untidy or cast(Lease, taken.lease).number > 1:  # every run leaves a lease until it has left nothing else
            end_swap(taken)
        return _bring(taken, plan, overwrite=overwrite)
    except BaseException:
        with suppress(H5zError):
            taken.release()
        raise


@contextmanager
def prepared(target: Target, plan: Plan, *, overwrite: bool = False) -> Iterator[tuple[Target, Plan | None]]:
    """As `prepare`; let go of at the end, with every trace of the run where that is a good one."""
    place, begun = prepare(target, plan, overwrite=overwrite)
    try:
        yield place, begun
    except BaseException:
        with suppress(H5zError):
            place.release()
        raise
    place.release(tidy=True)


def _bring(target: Target, plan: Plan, *, overwrite: bool) -> tuple[Target, Plan | None]:
    found = _judge(target, plan, overwrite=overwrite)
    if found == "finished":
        return target, None
    if found == "begun":
        return target, _go_on(target)
    if found == "another":
        return _successor(target, plan)
    if found == "abandoned" or target.path is not None:  # there the power may have failed before the plan was on the disk
        target.clear()
    return target, _create(target, plan)


def _judge(target: Target, plan: Plan, *, overwrite: bool) -> str:
    """What is at the target's place: "finished", "begun", "another" to be replaced, "abandoned", or "nothing".

    Raises
    ------
    TargetExistsError
        If that must not be touched.
    """
    names = target.names()
    root = target.root() if names & {"zarr.json", ".zgroup"} else None
    if root is not None and _fingerprint(root) == plan.fingerprint:
        return "finished"
    try:
        waiting = target.pending() if root is None and MARK in names else None
    except TargetExistsError:
        if not overwrite:
            raise
        return "abandoned"
    if waiting is not None:
        if waiting.fingerprint == plan.fingerprint:
            return "begun"
        if not overwrite:
            what = f"an unfinished migration of {waiting.source} by another plan, or that file has changed since"
            raise TargetExistsError(f"{target.name}: expected nothing, or this migration; found {what} (overwrite starts anew)")
        return "abandoned"
    if plan.grows and tuple(recorded(root).get("parts", ())) == plan.before:
        return "another"
    if names - {MARK}:
        _refuse(target, root, overwrite)
        return "another"
    return "nothing"


def _untidy(target: Target) -> bool:
    """Whether a run has left anything behind, or is at work."""
    folder = target.path
    return MARK in target.names() or (folder is not None and successor_beside(folder).exists())


def _make_folder(target: Target) -> None:
    folder = target.path
    if folder is not None and seat(folder) == folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"{target.name}: cannot be created ({error.strerror or one_line(error)})") from None


def _check_place(target: Target, plan: Plan) -> None:
    folder = target.path
    if folder is None:
        return
    folder = folder.absolute()
    for source, *_ in plan.identities:
        if "://" not in source and (Path(source).absolute() in (folder, *folder.parents)):
            raise PlanError(f"{target.name}: the target lies inside its source {source}")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        found = "a link that leads nowhere" if os.path.islink(folder) and not os.path.exists(folder) else "a file"
        raise TargetExistsError(f"{target.name}: expected nothing, or a folder; found {found}")
    if any(os.path.isfile(parent) for parent in folder.parents):
        raise TargetError(f"{target.name}: expected a place in a folder, found one in a file")


def _refuse(target: Target, root: dict[str, Json] | None, overwrite: bool) -> None:
    if root is None and target.get(".zarray") is None:
        raise TargetExistsError(
            f"{target.name}: expected nothing, or a Zarr hierarchy; found other data, which is never overwritten"
        )
    if not overwrite:
        ours = root is not None and _fingerprint(root) is not None
        found = "another migration's result, or that of a source or policy since changed" if ours else "a Zarr hierarchy"
        raise TargetExistsError(f"{target.name}: expected nothing, or this migration; found {found} (overwrite replaces it)")


def _fingerprint(root: dict[str, Json]) -> str | None:
    record = root.get("h5z")
    return record.get("fingerprint") if isinstance(record, dict) else None


def _successor(target: Target, plan: Plan) -> tuple[Target, Plan]:
    """The place of a target's successor, made ready, or found where an earlier run left it; and its plan."""
    new = replace(target, prefix=NEW)
    try:
        waiting = new.pending()
    except TargetExistsError:
        waiting = None
    if waiting is None or waiting.fingerprint != plan.fingerprint:
        if waiting is not None and waiting.grows:
            target.delete(strays(target, waiting))
        if waiting is not None and waiting.before == plan.before and plan.grows:
            plan = replace(plan, base=waiting.base)  # of the target before any of its units was written anew
            new.clear(f"{MARK}/done/")
            new.delete([f"{MARK}/described", f"{MARK}/verified"])
        else:
            new.clear()
        return new, _create(new, plan)
    return new, _go_on(new)


def _create(target: Target, plan: Plan) -> Plan:
    """Write the plan."""
    folder = target.path
    if folder is not None:
        _check_case(folder, plan)
        target.put({f"{MARK}/boot": boot().encode()})
    text = json.dumps(plan.to_dict())
    durably = replace(target, durable="none" if target.durable == "none" else "always")
    durably.put({f"{MARK}/plan.json": text.encode("utf-8", "surrogatepass")})
    return plan


def _go_on(target: Target) -> Plan:
    """Go on with an unfinished run: its plan, whose blocks are those that it was begun with."""
    plan = cast(Plan, target.pending())
    if target.path is not None and target.durable != "always" and (target.get(f"{MARK}/boot") or b"").decode() != boot():
        _distrust(target, plan)
        target.put({f"{MARK}/boot": boot().encode()})
    return plan


def _distrust(target: Target, plan: Plan) -> None:
    """After a crash of the machine: see that what tasks wrote has reached the disk, and unmark those of which it has not.

    A file that was renamed to its place may be empty after the power failed, and its task's mark be there all the same.
    """
    done = target.done()
    arrays = [TargetArray(target.seat_of(plan), replace(array, attributes={}), plan.policy.zarr_format) for array in plan.arrays]
    unsure = [f"{MARK}/described"]
    for task in plan.tasks():
        sums: dict[str, int] = {}
        for piece in task.pieces if task.number in done and not task.staging else ():
            array = arrays[piece.array]
            stored = sum(array.stored(index).checksum for index in array.plan.units.overlapping(piece.region))
            sums[array.plan.path] = (sums.get(array.plan.path, 0) + stored) % (1 << 64)
        recorded = done.get(task.number, {}).get("checksums", {})
        if task.staging or any(sums[path] != recorded.get(path, 0) for path in sums):
            unsure.append(f"{MARK}/done/{task.number}")
    target.delete(unsure)


def _check_case(folder: Path, plan: Plan) -> None:
    """Refuse names that differ by case alone where the file system takes them for one."""
    folded: dict[str, str] = {}
    for path in (*plan.groups, *(array.path for array in plan.arrays)):
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            probe = folder / f"{MARK}-Case-{uuid.uuid4().hex}"
            probe.touch()
            same = Path(str(probe).swapcase()).exists() or (folder / probe.name.swapcase()).exists()
            probe.unlink()
            if same:
                raise PlanError(f"{folder}: {other} and {path} differ by case alone, and this file system takes them for one")
            return
