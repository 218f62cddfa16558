"""The verbs of many files: ``h5z migrate``, ``h5z combine`` and ``h5z events``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

import h5z
from h5z.cli.options import Json, MemoryLimit, Scheduler, Timeout, Workers, bar, done, with_policy, within
from h5z.errors import PlanError, one_line


@with_policy
def migrate(
    sources: Annotated[list[str], typer.Argument(help="HDF5 files, folders, globs, URLs, or @listing.")],
    to: Annotated[str, typer.Option("--to", help="The folder or URL that the Zarr stores go below.")],
    policy: h5z.Policy,
    workers: Annotated[int | None, typer.Option(help="Processes to spawn; the machine's cores by default.", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="The address of a dask scheduler to use instead.")] = None,
    timeout: Timeout = 600,
    verify: Annotated[str, typer.Option(help="none, structure, sample or full.")] = "sample",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other hierarchies, each once its successor is complete.")
    ] = False,
    name_template: Annotated[str | None, typer.Option(help="A target's path, of {parent}, {stem}, {suffix} and {name}.")] = None,
    since: Annotated[str | None, typer.Option(help="Skip files modified before: a time, or a duration such as P7D.")] = None,
    settle: Annotated[float, typer.Option(help="Leave files modified in the last so many seconds for the next run.")] = 0,
    as_json: Json = False,
) -> None:
    """Migrate many files, as the Prefect flow."""
    import flows

    template = {} if name_template is None else {"name_template": name_template}
    with _files_bar(bar(as_json)) as listener:
        report = flows.migrate(
            sources,
            to,
            policy=policy,
            verify=verify,
            overwrite=overwrite,
            workers=workers,
            scheduler=scheduler,
            scan_timeout=timeout,
            since=since,
            settle_seconds=settle,
            on_progress=listener,
            **template,
        )
    done(report, as_json)


@contextmanager
def _files_bar(shown: bool) -> Iterator[Any]:
    """A bar of files and bytes on the terminal, or nothing."""
    if not shown:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(progress: Any) -> None:
            text = f"{progress.files_done}/{progress.files_total} files"
            bar.update(task, completed=progress.nbytes_done, total=progress.nbytes_total, description=text)

        yield told


@with_policy
def combine(
    files: Annotated[list[str], typer.Argument(help="HDF5 files that are slices along a dimension; or only the new ones.")],
    to: Annotated[str, typer.Option("--to", help="The Zarr store to be, or to add to.")],
    dim: Annotated[str, typer.Option(help="The dimension, such as time.")],
    policy: h5z.Policy,
    new_dim: Annotated[bool, typer.Option("--new-dim", help="Files lack the dimension: each is one step along it.")] = False,
    times: Annotated[
        str, typer.Option(help="same: refuse times counted from another date; first: count as the first file.")
    ] = "same",
    order: Annotated[str, typer.Option(help="coordinate: by the dimension's values, where it has any; or given.")] = "coordinate",
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    verify: Annotated[str | None, typer.Option(help="structure, sample or full, before the target is committed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Join all files anew where they cannot be added.")] = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Join files along a dimension into one store; add those that it does not hold yet."""
    report = h5z.combine(
        files,
        to,
        dim=dim,
        new_dim=new_dim,
        policy=policy,
        times=times,
        order=order,
        verify=verify,
        overwrite=overwrite,
        scheduler=scheduler,
        workers=workers,
        **within(timeout, memory_limit),
        progress=bar(as_json),
    )
    done(report, as_json)


def events(
    sources: Annotated[list[str], typer.Argument(help="HDF5 files, a session each: files, folders, globs, URLs, or @listing.")],
    to: Annotated[str, typer.Option("--to", help="Where each store goes: s3://bucket/prefix/{session_id}_events.zarr.")],
    layout: Annotated[
        str | None, typer.Option(help="JSON file: where in a file the rows are (h5z.events.SessionLayout).")
    ] = None,
    schema: Annotated[str | None, typer.Option(help="JSON file: what the rows are (h5z.events.Schema).")] = None,
    problems: Annotated[str, typer.Option(help="Rows that break the schema: error, or report: kept and named.")] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace stores of sessions that have changed.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes to spawn; the machine's cores by default.", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="The address of a dask scheduler to use instead.")] = None,
    as_json: Json = False,
) -> None:
    """Publish the events of recorded sessions, a Zarr store each, as the Prefect flow."""
    import flows

    report = flows.publish(
        sources,
        to,
        layout=_json_file("layout", layout),
        schema=_json_file("schema", schema),
        problems=problems,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
    )
    done(report, as_json)


def _json_file(name: str, path: str | None) -> Any:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise PlanError(f"{name}: expected a JSON file, found {path} ({one_line(error)})") from None
