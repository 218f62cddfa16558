"""The verbs that look: ``h5z tree``, ``h5z advise`` and ``h5z doctor``."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from h5z.cli.options import Json, MemoryLimit, Timeout, per_path, show, within
from h5z.errors import TargetError, TargetExistsError


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
    from h5z.explore import filtered, listing, scan_any

    limits = within(timeout, memory_limit)
    if other is None and not as_json:
        print(listing(path, attributes=attributes, depth=depth, pattern=pattern, sizes=sizes, **limits))
        return
    found = [scan_any(where, sizes=sizes, **limits) for where in (path, other) if where is not None]
    if other is not None:
        from h5z.explore.compare import compare

        trees = [filtered(tree, depth, pattern) for tree in found]
        comparison = compare(trees[0], trees[1])
        print(json.dumps(comparison.to_dict()) if as_json else comparison)
        raise typer.Exit(0 if comparison.same else 1)
    print(json.dumps(filtered(found[0], depth, pattern).to_dict()))


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

    words = "balanced" if not access else per_path("access", access, str)
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
        try:
            with open(plot, "w", encoding="utf-8") as file:
                file.write(found.svg())
        except OSError as error:
            raise TargetError(f"{plot}: cannot be written ({error.strerror})") from None
    show(found, as_json)
    if not as_json:
        print(f"\nwritten to {where}: h5z convert {source} TARGET --policy {where}")


def doctor(as_json: Json = False) -> None:
    """Say what is installed, and which HDF5 filters and stores can be read and written here."""
    from h5z.doctor import examine

    findings = examine()
    print(json.dumps(findings, indent=2) if as_json else "\n".join(f"{name}: {value}" for name, value in findings.items()))
