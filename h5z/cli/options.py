"""Options that several verbs take, and what a verb prints."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

import h5z
from h5z.errors import PlanError
from h5z.policy import nbytes


def option(kind: Any, text: str, *names: str) -> Any:
    """The annotation of an option: its type, what it says of itself, its names where those are others than its parameter's."""
    return Annotated[kind, typer.Option(*names, help=text)]


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Scheduler = Annotated[str | None, typer.Option(help="threads, processes, sync or a dask scheduler's address.")]
Workers = Annotated[int | None, typer.Option(help="Tasks at once; the machine's cores by default.", min=1)]
Texts = list[str] | None
# The fields of Policy as options: annotation and default of each; None leaves a field to the policy file, or to its default.
_POLICY: dict[str, tuple[Any, Any]] = {
    "policy_file": (option(str | None, "A policy: YAML, JSON or TOML. Options given beside it win.", "--policy"), None),
    "chunks": (option(Texts, "auto, source, 64,256,256 or /path=64,256,256; repeatable."), None),
    "shards": (option(Texts, "auto, 256,256,256 or /path=…; repeatable."), None),
    "codec": (option(Texts, "auto, keep, zstd:3, blosc-lz4:5, gzip:6, none or /path=…; repeatable."), None),
    "route": (option(Texts, "auto, copy, recode, regrid, staged, library or /path=…; repeatable."), None),
    "zarr_format": (option(int | None, "3 (the default) or 2."), None),
    "links": (option(str | None, "record (the default) or follow soft and external links."), None),
    "external_roots": (option(Texts, "Folder in which linked files may lie; repeatable.", "--external-root"), None),
    "include": (option(Texts, "Path pattern of what to take; repeatable."), None),
    "exclude": (option(Texts, "Path pattern of what to leave out; repeatable."), None),
    "unsupported": (option(str | None, "error (the default): stop before writing; report: name it and go on."), None),
    "memory": (option(str | None, "Peak memory, such as 512MiB."), None),
    "unmatched": (option(str | None, "error: refuse patterns and shapes that fit no array; report: note them."), None),
    "durable": (option(str | None, "none, commit or always: when files are made to reach the disk."), None),
    "attempts": (option(int | None, "How often what fails in a way that may pass is tried at most."), None),
    "strings": (option(str | None, "auto (the default), utf8 or bytes."), None),
    "consolidate": (option(bool | None, "Copy all metadata into the root's.", "--consolidate/--no-consolidate"), None),
}
Timeout = Annotated[float, typer.Option(help="Seconds that reading a file may take without progress.")]
MemoryLimit = Annotated[str | None, typer.Option(help="Memory that reading a file may take at all, such as 4GiB (Linux).")]


def with_policy(function: Callable[..., None]) -> Callable[..., None]:
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
        given[name] = per_path(name, given[name], convert[name])
    return h5z.Policy.of(None if policy_file is None else h5z.Policy.read(policy_file), given)


def per_path(name: str, values: list[str], convert: Any) -> Any:
    """One value for all arrays, or one for each pattern of their paths."""
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


def within(timeout: float, memory_limit: str | None) -> dict[str, Any]:
    """Read files in a process of its own, within limits: what is read may be damaged, or hostile."""
    limit = None if memory_limit is None else nbytes(memory_limit, "memory-limit")
    return {"isolated": True, "timeout": timeout, "memory_limit": limit}


def show(value: Any, as_json: bool) -> None:
    """Print a result, as JSON or for people."""
    print(json.dumps(value.to_dict(), indent=2) if as_json else str(value).encode("utf-8", "backslashreplace").decode())


def done(report: Any, as_json: bool) -> None:
    """Print a report, and end with its exit status."""
    show(report, as_json)
    raise typer.Exit(report.exit_code)


def bar(as_json: bool) -> bool:
    """Whether to show how far a verb is: to people at a terminal."""
    return sys.stderr.isatty() and not as_json
