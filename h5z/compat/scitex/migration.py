"""`migrate_h5_to_zarr` and `migrate_h5_to_zarr_batch`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5z
from h5z.codecs import parse
from h5z.compat.scitex.batch import BatchResult, run_batch
from h5z.compat.scitex.codecs import HDF5_SUFFIXES, codec_of
from h5z.errors import PlanError, TargetError, TargetExistsError
from h5z.nodes import ArrayNode, Tree
from h5z.policy import literal


def migrate_h5_to_zarr(
    h5_path: str | os.PathLike[str],
    zarr_path: str | os.PathLike[str] | None = None,
    compressor: Any = "zstd",
    chunks: Any = True,
    overwrite: bool = False,
    show_progress: bool = True,
    validate: bool = True,
) -> str:
    """Migrate an HDF5 file to a Zarr store.

    Parameters
    ----------
    zarr_path : path, optional
        By default the file's own with the suffix ``.zarr``.
    compressor : {"zstd", "lz4", "gzip", "blosc"}, None, codec object, or any codec that `h5z.convert` takes
    chunks : True, False, tuple of int, or {path pattern: tuple}
        True for chunks near the file's own, False for one chunk an array. A tuple applies to the arrays of its rank; the others
        get automatic chunks, and a warning says so.
    overwrite : bool
        Replace an existing store, once its successor is complete.
    show_progress : bool
        Show a bar, and what was done.
    validate : bool
        Compare every value, attribute and type with the file before the store is complete.

    Returns
    -------
    str
        The store's path.

    Raises
    ------
    SourceError, UnsupportedError
        If the file cannot be read, or holds what cannot be carried over; named.
    TargetExistsError
        If a store is there and `overwrite` is not given; one that an interrupted call left unfinished is finished.
    PlanError
        If the call is wrong.
    """
    source = os.fspath(h5_path)
    target = os.fspath(zarr_path) if zarr_path is not None else str(Path(source).with_suffix(".zarr"))
    codec = codec_of(compressor)
    if not overwrite and any(os.path.exists(os.path.join(target, name)) for name in ("zarr.json", ".zgroup", ".zarray")):
        raise TargetExistsError(f"{target}: expected nothing, found a Zarr hierarchy (overwrite=True replaces it)")
    policy = h5z.Policy(codec=codec, chunks=_chunks(chunks, source, show_progress))
    verify = "full" if validate else None
    report = h5z.convert(
        source, target, policy=policy, verify=verify, overwrite=overwrite, progress=show_progress, isolated=True, timeout=600
    )
    if not report.ok:
        raise TargetError("; ".join(str(report).splitlines()))
    if show_progress:
        print(report)
    return target


def _chunks(chunks: Any, source: str, said: bool) -> Any:
    """Policy's chunks for SciTeX's: True, False, a tuple or a map."""
    if chunks is True or chunks is None:
        return "auto"
    if isinstance(chunks, str | Mapping):
        return chunks
    tree = h5z.scan(source, isolated=True, timeout=600)
    if chunks is False:
        return {literal(node.path): tuple(max(1, n) for n in node.shape) for node in tree.arrays if node.shape} or "auto"
    wanted = h5z.Policy(chunks=chunks).chunks
    others = [node.path for node in _of_other_rank(tree, len(wanted))]
    if others:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        text = (
            f"{source}: chunks {wanted} apply to arrays of rank {len(wanted)}; automatic ones for {len(others)} others: {shown}"
        )
        print(text) if said else warnings.warn(text, UserWarning, stacklevel=3)
    return wanted if len(others) < sum(1 for _ in tree.arrays) else "auto"


def _of_other_rank(tree: Tree, rank: int) -> Iterable[ArrayNode]:
    return (node for node in tree.arrays if node.shape is None or len(node.shape) != rank)


def migrate_h5_to_zarr_batch(
    h5_paths: Any,
    output_dir: str | os.PathLike[str] | None = None,
    compressor: Any = "zstd",
    chunks: Any = True,
    overwrite: bool = False,
    parallel: bool = False,
    n_workers: int | None = None,
) -> BatchResult:
    """Migrate many HDF5 files, each to a store of its own name beside it or in `output_dir`.

    Parameters
    ----------
    h5_paths : paths, or a folder
        Of a folder, its HDF5 files.
    parallel, n_workers
        Whether to work on several files at once, in as many processes.

    Returns
    -------
    BatchResult
        A list of the paths of the stores that are complete, in the order of their sources, which names the failures too:
        ``result.failures`` maps each source that failed to the reason.

    Raises
    ------
    PlanError
        If two sources would share a store, or the call is wrong otherwise; before anything is written.
    """
    sources = _sources(h5_paths)
    codec = parse(codec_of(compressor))
    if n_workers is not None and n_workers < 1:
        raise PlanError(f"n_workers: expected a positive number, found {n_workers!r}")
    targets = [_target(source, output_dir) for source in sources]
    owners: dict[str, str] = {}
    for source, target in zip(sources, targets, strict=True):
        other = owners.setdefault(os.path.realpath(target), source)
        if other != source or sources.count(source) > 1:
            raise PlanError(
                f"{target}: expected a store of its own for each file, found that {other} and {source} would share it"
            )
    jobs = [
        {"h5_path": s, "zarr_path": t, "chunks": chunks, "overwrite": overwrite} for s, t in zip(sources, targets, strict=True)
    ]
    count = min(len(jobs), n_workers or os.cpu_count() or 1) if parallel else 1
    result = run_batch(jobs, codec, count, migrate_h5_to_zarr)
    print(result.summary())
    return result


def _sources(given: Any) -> list[str]:
    if isinstance(given, str | os.PathLike):
        folder = Path(given)
        if not folder.is_dir():
            return [os.fspath(given)]
        return sorted(
            str(path) for path in folder.iterdir() if path.suffix.lower() in (*HDF5_SUFFIXES, ".nc", ".nc4") and path.is_file()
        )
    if not isinstance(given, Iterable):
        raise PlanError(f"h5_paths: expected paths, found {given!r}")
    return [os.fspath(path) for path in given]


def _target(source: str, output_dir: str | os.PathLike[str] | None) -> str:
    path = Path(source).with_suffix(".zarr")
    return str(path if output_dir is None else Path(output_dir) / path.name)
