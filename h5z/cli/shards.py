"""The verbs ``h5z shards …``."""

from __future__ import annotations

from typing import Annotated

import typer

from h5z.cli.options import Json, Scheduler, Workers, bar, done

app = typer.Typer(help="Zarr stores whose chunks live in HDF5 containers.", no_args_is_help=True, rich_markup_mode=None)

Path = Annotated[str, typer.Argument(help="A Zarr folder, v2 or v3.")]
Depth = Annotated[int, typer.Option(help="How many of a chunk's indices, and one, go into a container: the original's depth.")]
Extension = Annotated[str, typer.Option(help="Suffix of containers.")]


@app.command()
def consolidate(
    path: Path,
    depth: Depth = 3,
    container_ext: Extension = "h5",
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Move loose chunks into containers, in place; the same command goes on after a kill."""
    from h5z.shards.moving import consolidate

    options = {"workers": workers, "scheduler": scheduler, "progress": bar(as_json)}
    done(consolidate(path, consolidate_depth=depth, container_ext=container_ext, **options), as_json)  # type: ignore[arg-type]


@app.command()
def unconsolidate(
    path: Path, container_ext: Extension = "h5", workers: Workers = None, scheduler: Scheduler = None, as_json: Json = False
) -> None:
    """Move chunks out of containers into files of their own, in place."""
    from h5z.shards.moving import unconsolidate

    report = unconsolidate(path, container_ext=container_ext, workers=workers, scheduler=scheduler, progress=bar(as_json))
    done(report, as_json)


@app.command()
def export(
    path: Path,
    target: Annotated[str, typer.Argument(help="The Zarr v3 store to be.")],
    depth: Depth = 3,
    container_ext: Extension = "h5",
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Write a plain Zarr v3 store with the sharding codec, a shard for each container; encoded chunks are copied."""
    from h5z.shards.export import export

    options = {"workers": workers, "scheduler": scheduler, "progress": bar(as_json)}
    done(export(path, target, consolidate_depth=depth, container_ext=container_ext, **options), as_json)  # type: ignore[arg-type]


@app.command()
def check(
    path: Path,
    repair: Annotated[bool, typer.Option("--repair", help="Write damaged containers anew, of what is whole in them.")] = False,
    container_ext: Extension = "h5",
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Compare every chunk in containers with its checksum."""
    from h5z.shards.moving import check

    options = {"workers": workers, "scheduler": scheduler, "progress": bar(as_json)}
    done(check(path, repair=repair, container_ext=container_ext, **options), as_json)  # type: ignore[arg-type]
