"""The h5z command: each verb one thin call."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import typer

import h5z
from h5z.cli import shards as cli_shards
from h5z.cli import vault as cli_vault
from h5z.credentials import redact
from h5z.errors import H5zError, PlanError, SourceError, TargetError, TargetExistsError, one_line
from h5z.policy import nbytes

app = typer.Typer(
    name="h5z",
    help="Migrate HDF5 files to Zarr: nothing lost in silence, complete or not there at all, as fast as the bytes allow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(cli_shards.app, name="shards")
app.add_typer(cli_vault.app, name="vault")

_INTERRUPTED = 130


def _option(kind: Any, text: str, *names: str) -> Any:
    return Annotated[kind, typer.Option(*names, help=text)]


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Texts = list[str] | None
# The fields of Policy as options: annotation and default of each; None leaves a field to the policy file, or to its default.
_POLICY: dict[str, tuple[Any, Any]] = {
    "policy_file": (_option(str | None, "A policy: YAML, JSON or TOML. Options given beside it win.", "--policy"), None),
    "chunks": (_option(_Texts, "auto, source, 64,256,256 or /path=64,256,256; repeatable."), None),
    "shards": (_option(_Texts, "auto, 256,256,256 or /path=…; repeatable."), None),
    "codec": (_option(_Texts, "auto, keep, zstd:3, blosc-lz4:5, gzip:6, none or /path=…; repeatable."), None),
    "route": (_option(_Texts, "auto, copy, recode, regrid, staged, library or /path=…; repeatable."), None),
    "zarr_format": (_option(int | None, "3 (the default) or 2."), None),
    "links": (_option(str | None, "record (the default) or follow soft and external links."), None),
    "external_roots": (_option(_Texts, "Folder in which linked files may lie; repeatable.", "--external-root"), None),
    "include": (_option(_Texts, "Path pattern of what to take; repeatable."), None),
    "exclude": (_option(_Texts, "Path pattern of what to leave out; repeatable."), None),
    "unsupported": (_option(str | None, "error (the default): stop before writing; report: name it and go on."), None),
    "memory": (_option(str | None, "Peak memory, such as 512MiB."), None),
    "unmatched": (_option(str | None, "error: refuse patterns and shapes that fit no array; report: note them."), None),
    "durable": (_option(str | None, "none, commit or always: when files are made to reach the disk."), None),
    "attempts": (_option(int | None, "How often what fails in a way that may pass is tried at most."), None),
    "strings": (_option(str | None, "auto (the default), utf8 or bytes."), None),
    "consolidate": (_option(bool | None, "Copy all metadata into the root's.", "--consolidate/--no-consolidate"), None),
}
Timeout = Annotated[float, typer.Option(help="Seconds that reading a file may take without progress.")]
MemoryLimit = Annotated[str | None, typer.Option(help="Memory that reading a file may take at all, such as 4GiB (Linux).")]


def _with_policy(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a policy in the place of its parameter of that name."""
    signature = inspect.signature(function, eval_str=True)
    own = [item for item in signature.parameters.values() if item.name != "policy"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=default, annotation=kind) for name, (kind, default) in _POLICY.items()]

    @wraps(function)
    def command(**given: Any) -> None:
        function(policy=_policy(**{name: given.pop(name) for name in _POLICY}), **given)

    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def _policy(policy_file: str | None, **options: Any) -> h5z.Policy:
    convert = {"chunks": _shape("chunks"), "shards": _shape("shards"), "codec": str, "route": str}
    given = {name: value for name, value in options.items() if value is not None and value != []}
    for name in convert.keys() & given.keys():
        given[name] = _per_path(name, given[name], convert[name])
    return h5z.Policy.of(None if policy_file is None else h5z.Policy.read(policy_file), given)


def _per_path(name: str, values: list[str], convert: Any) -> Any:
    pairs = [value.rpartition("=") for value in values]
    if len(pairs) == 1 and not pairs[0][1]:
        return convert(values[0])
    if any(not found for _, found, _ in pairs):
        raise PlanError(f"{name}: expected one value for all, or PATH=VALUE for each, found {' '.join(values)}")
    return {pattern: convert(value) for pattern, _, value in pairs}


def _shape(name: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if text in ("auto", "source"):
            return text
        try:
            return tuple(int(part) for part in text.split(","))
        except ValueError:
            raise PlanError(f"{name}: expected auto, source or a shape such as 64,256,256, found {text!r}") from None

    return convert


def _limits(timeout: float, memory_limit: str | None) -> dict[str, Any]:
    """Read files in a process of its own, within limits: what is read may be damaged, or hostile."""
    return {"isolated": True, "timeout": timeout, "memory_limit": None if memory_limit is None else nbytes(memory_limit)}


def _print(value: Any, as_json: bool) -> None:
    print(json.dumps(value.to_dict(), indent=2) if as_json else str(value).encode("utf-8", "backslashreplace").decode())


@app.command()
def tree(
    path: Annotated[str, typer.Argument(help="An HDF5 file or a Zarr store.")],
    other: Annotated[str | None, typer.Argument(help="Another, such as its target: show both side by side.")] = None,
    attributes: Annotated[bool, typer.Option("--attributes", "-a", help="Show attributes.")] = False,
    depth: Annotated[int | None, typer.Option(help="Levels to show.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Show what has this in its name, or matches it: 'temp', '/run*/x'.")] = None,
    sizes: Annotated[
        bool, typer.Option("--sizes/--no-sizes", help="List what a store holds, for the bytes of its arrays.")
    ] = True,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Show the hierarchy of an HDF5 file or a Zarr store; of two, side by side."""
    from h5z.explore import filtered, scan_any
    from h5z.explore.render import render

    full = attributes or as_json or other is not None
    limits = _limits(timeout, memory_limit)
    found = [scan_any(where, attributes=full, sizes=sizes, **limits) for where in (path, other) if where is not None]
    if other is not None:
        from h5z.explore.compare import compare

        trees = [filtered(tree, depth, pattern) for tree in found]
        comparison = compare(trees[0], trees[1])
        print(json.dumps(comparison.to_dict()) if as_json else comparison)
        raise typer.Exit(0 if comparison.same else 1)
    if as_json:
        print(json.dumps(filtered(found[0], depth, pattern).to_dict()))
    else:
        print(render(found[0], attributes=attributes, depth=depth, pattern=pattern))


@app.command()
def advise(
    source: Annotated[str, typer.Argument(help="An HDF5 file.")],
    access: Annotated[
        list[str] | None, typer.Option(help="How it will be read: time, space, balanced, '64,*,*' or /path=…; repeatable.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The policy file; NAME.policy.yaml by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the policy file.")] = False,
    codec: Annotated[list[str] | None, typer.Option(help="A codec to try; repeatable.")] = None,
    sample: Annotated[str, typer.Option(help="Bytes to read of each dataset.")] = "8MiB",
    bandwidth: Annotated[str, typer.Option(help="Bytes a second at which stored bytes will come.")] = "200MB",
    include: Annotated[list[str] | None, typer.Option(help="Path pattern of what to measure; repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Path pattern of what to leave out; repeatable.")] = None,
    plot: Annotated[str | None, typer.Option(help="An SVG file for the plot.")] = None,
    as_json: Json = False,
) -> None:
    """Measure which chunks and codecs suit a file and its readers; write a policy that convert, plan and migrate take."""
    from h5z.advise import advise as measure
    from h5z.advise.trials import CODECS

    words = "balanced" if not access else _per_path("access", access, str)
    where = output or f"{os.path.splitext(os.path.basename(source))[0]}.policy.yaml"
    if os.path.exists(where) and not overwrite:
        raise TargetExistsError(f"{where}: expected nothing, found a file (--overwrite replaces it)")
    found = measure(
        source,
        access=words,
        codecs=codec or CODECS,
        sample=sample,
        bandwidth=bandwidth,
        isolated=True,
        include=include or (),
        exclude=exclude or (),
    )
    found.write(where, overwrite=overwrite)
    if plot is not None:
        with open(plot, "w", encoding="utf-8") as file:
            file.write(found.svg())
    _print(found, as_json)
    if not as_json:
        print(f"\nwritten to {where}: h5z convert {source} TARGET --policy {where}")


@app.command()
@_with_policy
def plan(
    source: Annotated[str, typer.Argument(help="An HDF5 file.")],
    target: Annotated[str, typer.Argument(help="The Zarr store to be.")],
    policy: h5z.Policy,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Say what would be done: routes, chunks, objects, sizes, peak memory. Writes nothing."""
    _print(h5z.plan(source, target, policy=policy, **_limits(timeout, memory_limit)), as_json)


@app.command()
@_with_policy
def convert(
    source: Annotated[str, typer.Argument(help="An HDF5 file.")],
    target: Annotated[str, typer.Argument(help="The Zarr store to be.")],
    policy: h5z.Policy,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    verify: Annotated[str | None, typer.Option(help="structure, sample or full, before the target is committed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another hierarchy once this one is complete.")] = False,
    scheduler: Annotated[str | None, typer.Option(help="threads, processes, sync or a dask scheduler's address.")] = None,
    workers: Annotated[int | None, typer.Option(help="Tasks at once; the machine's cores by default.")] = None,
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
        **_limits(timeout, memory_limit),
        progress=sys.stderr.isatty() and not as_json,
    )
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def verify(
    source: Annotated[str, typer.Argument(help="The HDF5 file; or, alone, a Zarr store to compare with its own digests.")],
    target: Annotated[str | None, typer.Argument(help="The Zarr store made of it.")] = None,
    level: Annotated[str, typer.Option(help="structure, sample or full.")] = "full",
    repair: Annotated[bool, typer.Option("--repair", help="Write anew what differs.")] = False,
    scheduler: Annotated[str | None, typer.Option(help="threads, processes, sync or a dask scheduler's address.")] = None,
    timeout: Timeout = 600,
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Compare a target with its source, or with its own digests."""
    progress = sys.stderr.isatty() and not as_json
    limits = _limits(timeout, memory_limit)
    report = h5z.verify(source, target, level=level, repair=repair, scheduler=scheduler, progress=progress, **limits)
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def restore(
    source: Annotated[str, typer.Argument(help="A Zarr store, of h5z's or not.")],
    target: Annotated[str, typer.Argument(help="The HDF5 file to be.")],
    verify: Annotated[str | None, typer.Option(help="structure, sample or full, before the file takes its place.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    layouts: Annotated[str, typer.Option(help="auto, rebuild or materialise: virtual datasets and external storage.")] = "auto",
    memory: Annotated[str | None, typer.Option(help="Peak memory, such as 512MiB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; the machine's cores by default.")] = None,
    as_json: Json = False,
) -> None:
    """Build the HDF5 file again from a Zarr store."""
    progress = sys.stderr.isatty() and not as_json
    options: dict[str, Any] = {"verify": verify, "overwrite": overwrite, "layouts": layouts, "memory": memory}
    report = h5z.restore(source, target, workers=workers, progress=progress, **options)
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


@app.command()
@_with_policy
def migrate(
    sources: Annotated[list[str], typer.Argument(help="HDF5 files, folders, globs, URLs, or @listing.")],
    to: Annotated[str, typer.Option("--to", help="The folder or URL that the Zarr stores go below.")],
    policy: h5z.Policy,
    workers: Annotated[int | None, typer.Option(help="Processes to spawn; the machine's cores by default.")] = None,
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
    with _files_bar(sys.stderr.isatty() and not as_json) as listener:
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
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


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


@app.command()
@_with_policy
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
    scheduler: Annotated[str | None, typer.Option(help="threads, processes, sync or a dask scheduler's address.")] = None,
    workers: Annotated[int | None, typer.Option(help="Tasks at once; the machine's cores by default.")] = None,
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
        **_limits(timeout, memory_limit),
        progress=sys.stderr.isatty() and not as_json,
    )
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def events(
    sources: Annotated[list[str], typer.Argument(help="HDF5 files, a session each: files, folders, globs, URLs, or @listing.")],
    to: Annotated[str, typer.Option("--to", help="Where each store goes: s3://bucket/prefix/{session_id}_events.zarr.")],
    layout: Annotated[
        str | None, typer.Option(help="JSON file: where in a file the rows are (h5z.events.SessionLayout).")
    ] = None,
    schema: Annotated[str | None, typer.Option(help="JSON file: what the rows are (h5z.events.Schema).")] = None,
    problems: Annotated[str, typer.Option(help="Rows that break the schema: error, or report: kept and named.")] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace stores of sessions that have changed.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes to spawn; the machine's cores by default.")] = None,
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
    _print(report, as_json)
    raise typer.Exit(report.exit_code)


def _json_file(name: str, path: str | None) -> Any:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise PlanError(f"{name}: expected a JSON file, found {path} ({one_line(error)})") from None


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, and which HDF5 filters and stores can be read and written here."""
    from h5z.doctor import examine

    findings = examine()
    print(json.dumps(findings, indent=2) if as_json else "\n".join(f"{name}: {value}" for name, value in findings.items()))


def main() -> None:
    """Run the command; end with one line and the design's exit status whatever happens."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except H5zError as error:
        code = _fail(error, error.exit_code, debug)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail(PlanError("interrupted; the same command goes on from here"), _INTERRUPTED, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except PermissionError as error:
        code = _fail(TargetError(one_line(error)), 4, debug)
    except OSError as error:
        code = _fail(SourceError(one_line(error)), 3, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer raises for a call that it cannot parse
            code = _fail(PlanError(f"{error.format_message()} (h5z --help)"), 2, debug)
        else:
            code = _fail(error, 1, debug)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: Exception, code: int, debug: bool) -> int:
    if debug:
        import traceback

        print(redact(traceback.format_exc()), file=sys.stderr)
    print(f"h5z: {one_line(error)}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code
