"""The verbs ``h5z vault …``."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Annotated, Any

import typer

from h5z.cli.options import Json, Scheduler, Workers, bar, done

app = typer.Typer(help="Many small files in few HDF5 containers.", no_args_is_help=True, rich_markup_mode=None)

VaultPath = Annotated[str, typer.Argument(metavar="VAULT", help="A vault, or an archive of HDF5Vault: any of its files.")]
Patterns = Annotated[list[str] | None, typer.Argument(help="Names, folders, or patterns such as '*.tif'; all by default.")]


def _nbytes(name: str, text: str) -> int:
    from h5z.policy import nbytes

    return nbytes(text, name)


@app.command()
def create(
    directory: Annotated[str, typer.Argument(help="The folder to archive.")],
    basename: Annotated[str, typer.Argument(help="The vault's path, without .h5.")],
    codec: Annotated[str, typer.Option(help="blosc2-zstd:5, blosc2-lz4:5, … with a level, or none.")] = "blosc2-zstd:5",
    writers: Annotated[int, typer.Option(help="How many containers.")] = 1,
    split_size: Annotated[str, typer.Option(help="Files larger than this are stored in parts.")] = "16MiB",
    links: Annotated[str, typer.Option(help="keep symbolic links, follow them, or skip them.")] = "keep",
    digest: Annotated[str, typer.Option(help="xxh3-128 or sha256, of content.")] = "xxh3-128",
    layout: Annotated[str, typer.Option("--format", help="h5z, or hdf5vault: readable by HDF5Vault 0.3's tools too.")] = "h5z",
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Archive a folder; the same command goes on after a kill."""
    from h5z.vault import create

    report = create(
        directory,
        basename,
        codec=codec,
        writers=writers,
        split_nbytes=_nbytes("split-size", split_size),
        links=links,
        digest=digest,
        layout=layout,
        workers=workers,
        scheduler=scheduler,
        progress=bar(as_json),
    )
    done(report, as_json)


@app.command()
def add(
    vault: VaultPath,
    directory: Annotated[str, typer.Argument(help="The folder of which what is new or has changed is stored.")],
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Store what is new, or has changed, in a folder."""
    from h5z.vault import add

    done(add(vault, directory, workers=workers, scheduler=scheduler, progress=bar(as_json)), as_json)


@app.command("list")
def list_members(
    vault: VaultPath,
    patterns: Patterns = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Modes, sizes, times and checksums too.")] = False,
    as_json: Json = False,
) -> None:
    """Print members' names."""
    from dataclasses import asdict

    from h5z.errors import PlanError
    from h5z.vault import Vault

    with Vault(vault) as found:
        for note in found.notes:
            print(note, file=sys.stderr)
        if as_json:
            print(json.dumps([asdict(member) for member in found.members(*patterns or ())], indent=1))
        elif long:
            for member in found.members(*patterns or ()):
                _line(f"{_long(member)}  {member.name}")
        else:
            for name in found.names(*patterns or ()):
                _line(name)
    for pattern in patterns or ():
        if not any(True for _ in found.catalog.names([pattern])):
            raise PlanError(f"{vault}: expected members that match {pattern!r}, found none")


def _line(text: str) -> None:
    sys.stdout.buffer.write(os.fsencode(text) + b"\n")


def _long(member: Any) -> str:
    import stat
    from datetime import UTC, datetime

    kind = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}[member.kind]
    mode = "?" * 10 if member.mode is None else stat.filemode(kind | member.mode)
    time = "?" if member.mtime_ns is None else datetime.fromtimestamp(member.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
    return f"{mode} {member.size:>12} {time:<25} {member.digest.partition('-')[0] or '-':<32}"


@app.command()
def extract(
    vault: VaultPath,
    patterns: Patterns = None,
    to: Annotated[str | None, typer.Option("--to", help="The folder to write to; here, of the vault's name, by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    skip: Annotated[bool, typer.Option("--skip-existing", help="Leave files that are there as they are.")] = False,
    links: Annotated[str, typer.Option(help="Make symbolic links that lead inside the folder, all, or skip them.")] = "inside",
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Write members into a folder, with their modes and times."""
    from h5z.errors import PlanError
    from h5z.vault import extract

    if overwrite and skip:
        raise PlanError("extract: expected one of --overwrite and --skip-existing, found both")
    existing = "overwrite" if overwrite else "skip" if skip else "refuse"
    where = to or os.path.basename(vault).removesuffix(".h5").removesuffix(".zip")
    options = {"workers": workers, "scheduler": scheduler, "progress": bar(as_json)}
    done(extract(vault, where, patterns or (), existing=existing, links=links, **options), as_json)  # type: ignore[arg-type]


@app.command()
def verify(
    vault: VaultPath,
    patterns: Patterns = None,
    source: Annotated[str | None, typer.Option(help="Compare with the folder that was archived, too.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Read every member, and compare it with its checksums."""
    from h5z.vault import verify

    done(verify(vault, source, patterns or (), workers=workers, scheduler=scheduler, progress=bar(as_json)), as_json)


@app.command()
def repair(
    vault: VaultPath,
    to: Annotated[str | None, typer.Option("--to", help="For an archive of HDF5Vault: the new vault.")] = None,
    as_json: Json = False,
) -> None:
    """Write a damaged vault anew, of all that is whole in it."""
    from h5z.vault import repair

    done(repair(vault, to), as_json)


@app.command("to-zarr")
def to_zarr(
    source: Annotated[str, typer.Argument(help="A vault, an archive of HDF5Vault, or a folder of TIFFs.")],
    target: Annotated[str, typer.Argument(help="The OME-Zarr to be.")],
    pattern: Annotated[str, typer.Option(help="Which file is which plane: {plate}/{well}/T{time}F{field}Z{z}C{channel}.tif")],
    name: Annotated[str | None, typer.Option(help="Of the image or plate.")] = None,
    levels: Annotated[int | None, typer.Option(help="Of the pyramid; until 256 pixels are left by default.")] = None,
    method: Annotated[str, typer.Option(help="How levels are made: mean or nearest.")] = "mean",
    chunk: Annotated[int, typer.Option(help="Length of a chunk along y and x.")] = 1024,
    shard_size: Annotated[str, typer.Option(help="About how large a shard is, decoded.")] = "32MiB",
    codec: Annotated[str, typer.Option(help="auto, zstd:3, blosc-lz4:5, …")] = "auto",
    pixel_size: Annotated[str | None, typer.Option(help="Of a pixel along y and x in µm, such as 0.65,0.65.")] = None,
    z_step: Annotated[float | None, typer.Option(help="Between planes, in µm.")] = None,
    time_step: Annotated[float | None, typer.Option(help="Between times, in seconds.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every pixel back before the store opens.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another hierarchy once this one is complete.")] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Write TIFFs as an OME-Zarr image or plate, without unpacking them."""
    from h5z.vault import to_zarr

    scale = {"z": z_step, "t": time_step, **_pixel_size(pixel_size)}
    report = to_zarr(
        source,
        target,
        pattern,
        name=name,
        levels=levels,
        method=method,
        chunk=chunk,
        shard_nbytes=_nbytes("shard-size", shard_size),
        codec=codec,
        scale={axis: step for axis, step in scale.items() if step is not None},
        verify=verify,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        progress=bar(as_json),
    )
    done(report, as_json)


def _pixel_size(text: str | None) -> dict[str, float]:
    from h5z.errors import PlanError

    if text is None:
        return {}
    try:
        steps = [float(part) for part in text.split(",")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2) or not all(0 < step < math.inf for step in steps):
        raise PlanError(f"pixel-size: expected one or two sizes in µm, such as 0.65,0.65, found {text!r}")
    return {"y": steps[0], "x": steps[-1]}
