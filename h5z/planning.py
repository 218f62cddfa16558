"""A source and a policy -> Plan: the headers scanned, what no header says measured, the planner asked."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from h5z.credentials import redact, separate, shown
from h5z.isolation import run_isolated
from h5z.nodes import Tree
from h5z.plan import Plan
from h5z.planner import make_plan
from h5z.policy import Policy
from h5z.scan import scan


def plan(
    source: str | os.PathLike[str] | Tree,
    target: Any = "",
    *,
    policy: Policy | None = None,
    storage_options: dict[str, Any] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
    workers: int | None = None,
    **fields: Any,
) -> Plan:
    """Plan a migration: routes, chunks, objects, sizes, peak memory; nothing is written.

    Parameters
    ----------
    source : path, URL or Tree
        An HDF5 file, or what `scan(measure=True)` made of it.
    target : path, URL or zarr Store
        Where the Zarr store shall be.
    policy : Policy, optional
        What to do; its fields may also be given as keywords.
    isolated, timeout, memory_limit
        As for `scan`.
    workers : int, optional
        How many tasks run at once; the machine's cores by default.

    Raises
    ------
    PlanError, UnsupportedError, SourceError
        If the policy does not fit the source, something cannot be carried over, or the source cannot be read.
    """
    policy = Policy.of(policy, fields)
    if isolated:
        answer = run_isolated(
            plan,
            source,
            target_name(target),
            subject=source_name(source),
            timeout=timeout,
            memory_limit=memory_limit,
            policy=policy,
            storage_options=storage_options,
            workers=workers,
        )
        planned = Plan.from_dict(answer)
    else:
        tree = source if isinstance(source, Tree) else _measured(source, policy, storage_options)
        planned = make_plan(tree, target_name(target), policy, workers=workers)
    named_in_full = isinstance(target, str | os.PathLike) and planned.target == os.fspath(target)
    return replace(planned, place=None if named_in_full else target, access=access(source))


def _measured(source: str | os.PathLike[str], policy: Policy, storage_options: dict[str, Any] | None) -> Tree:
    roots = [os.fspath(root) for root in policy.external_roots]
    return scan(source, measure=True, links=policy.links, external_roots=roots, storage_options=storage_options)


def access(source: str | os.PathLike[str] | Tree) -> dict[str, Any] | None:
    """What a source's name does not say: credentials that its URL carried."""
    if isinstance(source, Tree):
        return source.access
    name, options = separate(os.fspath(source))
    return None if name == os.fspath(source) else options


def source_name(source: str | os.PathLike[str] | Tree) -> str:
    """A source as reports and errors name it, without credentials."""
    return source.file if isinstance(source, Tree) else shown(os.fspath(source))


def target_name(target: Any) -> str:
    """A target as a plan names it, without credentials: its path or URL; a store by what it says of itself."""
    return shown(os.fspath(target)) if isinstance(target, str | os.PathLike) else redact(str(target))


def with_access(plan: Plan, options: dict[str, Any] | None) -> dict[str, Any] | None:
    """The options that reach a plan's source: those given, and what its URL carried."""
    return {**plan.access, **(options or {})} if plan.access else options
