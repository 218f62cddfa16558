"""The verbs of one file: ``h5z plan``, ``h5z convert``, ``h5z verify`` and ``h5z restore``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import h5z
from h5z.cli.options import Json, MemoryLimit, Scheduler, Timeout, Workers, bar, done, show, with_policy, within


@with_policy
def plan(
    source: Annotated[str, typer.Argument(help="An HDF5 file.")],
    target: Annotated[str, typer.Argument(help="The Zarr store to be.")],
    policy: h5z.Policy,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Say what would be done: routes, chunks, objects, sizes, peak memory. Writes nothing."""
    show(h5z.plan(source, target, policy=policy, **within(timeout, memory_limit)), as_json)


@with_policy
def convert(
    source: Annotated[str, typer.Argument(help="An HDF5 file.")],
    target: Annotated[str, typer.Argument(help="The Zarr store to be.")],
    policy: h5z.Policy,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    verify: Annotated[str | None, typer.Option(help="structure, sample or full, before the target is committed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another hierarchy once this one is complete.")] = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Migrate one HDF5 file."""
    report = h5z.convert(
        source,
        target,
        policy=policy,
        verify=verify,
        overwrite=overwrite,
        scheduler=scheduler,
        workers=workers,
        **within(timeout, memory_limit),
        progress=bar(as_json),
    )
    done(report, as_json)


def verify(
    source: Annotated[str, typer.Argument(help="The HDF5 file; or, alone, a Zarr store to compare with its own digests.")],
    target: Annotated[str | None, typer.Argument(help="The Zarr store made of it.")] = None,
    level: Annotated[str, typer.Option(help="structure, sample or full.")] = "full",
    repair: Annotated[bool, typer.Option("--repair", help="Write anew what differs.")] = False,
    scheduler: Scheduler = None,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Compare a target with its source, or with its own digests."""
    progress = bar(as_json)
    limits = within(timeout, memory_limit)
    report = h5z.verify(source, target, level=level, repair=repair, scheduler=scheduler, progress=progress, **limits)
    done(report, as_json)


def restore(
    source: Annotated[str, typer.Argument(help="A Zarr store, of h5z's or not.")],
    target: Annotated[str, typer.Argument(help="The HDF5 file to be.")],
    verify: Annotated[str | None, typer.Option(help="structure, sample or full, before the file takes its place.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    layouts: Annotated[str, typer.Option(help="auto, rebuild or materialise: virtual datasets and external storage.")] = "auto",
    memory: Annotated[str | None, typer.Option(help="Peak memory, such as 512MiB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; the machine's cores by default.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Build the HDF5 file again from a Zarr store."""
    progress = bar(as_json)
    options: dict[str, Any] = {"verify": verify, "overwrite": overwrite, "layouts": layouts, "memory": memory}
    report = h5z.restore(source, target, workers=workers, progress=progress, **options)
    done(report, as_json)
