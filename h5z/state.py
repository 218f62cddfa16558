"""How a target stands to its source, from the target's own record: what a run over many files asks before it opens any."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h5z.errors import TargetError
from h5z.hdf5.listing import identify
from h5z.nodes import Problem, Record
from h5z.plan import FORMAT
from h5z.policy import RUNNING, Policy


@dataclass(frozen=True)
class State(Record):
    """How a target stands to its source.

    Attributes
    ----------
    name : str
        ``absent``: nothing is there. ``current``: the finished migration of the source as it is, by this policy.
        ``unfinished``: that migration, begun. ``outdated``: of the source as it was, finished or begun.
        ``replanned``: by another policy, or another version of the format. ``foreign``: anything else.
    level : str
        The level at which a current target was verified; empty where it was not.
    not_carried : tuple of Problem
        What of the source a current target does not hold.
    """

    name: str
    level: str = ""
    not_carried: tuple[Problem, ...] = ()


def state(
    source: str | os.PathLike[str],
    target: Any,
    *,
    policy: Policy | None = None,
    identity: tuple[int, int] | None = None,
    storage_options: dict[str, Any] | None = None,
    source_options: dict[str, Any] | None = None,
    **fields: Any,
) -> State:
    """Say how a target stands to its source, by one look at each; neither is opened.

    Parameters
    ----------
    source : path or URL
        The HDF5 file.
    target : path, URL or zarr Store
        Where its Zarr store is, or is to be.
    policy : Policy, optional
        As for `h5z.convert`; its fields may also be given as keywords.
    identity : (int, int), optional
        The source's size and time of modification in ns, where they are known.

    Raises
    ------
    OSError
        If the source is not there.
    TargetError, TransientError
        If the target cannot be read.
    """
    from h5z.target import Target

    place = Target.of(target, storage_options)
    wanted = policy_record(Policy.of(policy, fields).to_dict())
    size, mtime_ns = identity or identify(os.fspath(source), source_options)
    given = {"name": os.path.basename(os.fspath(source)), "size": size, "mtime_ns": mtime_ns}
    try:
        root = place.root()
        raw = None if root is not None else place.get(".h5z/plan.json")
        plan = None if raw is None else json.loads(raw)
    except ValueError:
        return State("foreign")
    except TargetError:
        if place.path is not None and not place.path.is_dir():
            return State("foreign")
        raise
    if root is not None:
        record = root.get("h5z")
        if not isinstance(record, Mapping) or "fingerprint" not in record:
            return State("foreign")
        name = _compare(record, wanted, given)
        problems = tuple(map(Problem.from_dict, record.get("not_carried", ())))
        return State(name, record.get("verified") or "", problems) if name == "current" else State(name)
    if plan is not None:
        found = {**plan, "format": FORMAT, "source": {**plan, "name": os.path.basename(plan["source"])}}
        name = _compare(found, wanted, given)
        return State("unfinished" if name == "current" else name)
    return State("foreign" if place.exists() else "absent")


def _compare(record: Mapping[str, Any], wanted: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    source = record.get("source")
    if not isinstance(source, Mapping) or source.get("name") != given["name"]:
        return "foreign"
    if record.get("format") != FORMAT or policy_record(record.get("policy", {})) != wanted:
        return "replanned"
    return "current" if all(source.get(key) == value for key, value in given.items()) else "outdated"


def policy_record(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A policy as JSON would give it back, without what makes no difference to the target."""
    kept = {key: value for key, value in policy.items() if key not in RUNNING}
    return dict(json.loads(json.dumps(kept)))
