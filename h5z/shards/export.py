"""A shard store as a plain Zarr v3 store with the sharding codec: encoded chunks are copied, a container becomes a shard."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numcodecs.checksum32 import CRC32C

from h5z.bars import Progress
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError, UnsupportedError, one_line
from h5z.scheduling import Job
from h5z.shards.arrays import Array
from h5z.shards.folder import ShardFolder
from h5z.shards.moving import folder_of, run_jobs, total
from h5z.shards.places import Coordinates
from h5z.shards.report import ShardReport

DRAFT = ".h5z-export"  # ends the name of a folder that is being written


def export(
    store: Any,
    target: str | os.PathLike[str],
    *,
    consolidate_depth: int = 3,
    container_ext: str = "h5",
    scheduler: Any = None,
    workers: int | None = None,
    progress: Progress = False,
) -> ShardReport:
    """Write a plain Zarr v3 store, which any reader of the sharding codec opens.

    Encoded chunks are copied as they are; the chunks of a container become one shard. Metadata of v2 become those of v3 that
    stand for the same bytes. An array that has shards of its own is copied chunk by chunk. The store appears at its place
    when all of it is written.

    Parameters
    ----------
    store : path or H5ShardStore
        Containers, loose chunks, or both; v2 or v3.
    target : path
        A local folder that is not there yet.
    consolidate_depth : int
        For arrays that have no containers: how much of them goes into a shard.

    Raises
    ------
    UnsupportedError
        If an array of a v2 store has a codec or a data type that Zarr v3 has none for; named before anything is written.
    TargetExistsError, TargetError
        If there is something at the target, or it cannot be written.
    PlanError, SourceError
        If the store is not there, or cannot be read.
    """
    folder = folder_of(store, consolidate_depth=consolidate_depth, container_ext=container_ext)
    where = os.fspath(target)
    if "://" in where:
        raise PlanError(f"target: expected a local folder, found {where}")
    where = os.path.abspath(where)
    if os.path.lexists(where):
        raise TargetExistsError(f"{where}: expected nothing there, found a file or folder")
    if os.path.join(where, "").startswith(os.path.join(folder.root, "")):
        raise PlanError(f"{where}: the target lies inside its source {folder.root}")
    documents = v3_documents(folder.root)
    draft = where + DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    arrays = list(folder.arrays())
    jobs = [job for path, document in documents.items() for job in _scalar(folder, path, document, draft)]
    jobs += [job for array in arrays for job in _jobs(folder, array, documents[array.layout.path], draft)]
    try:
        done = run_jobs(jobs, scheduler, workers, progress)
        for path, document in documents.items():
            _write(os.path.join(draft, path, "zarr.json"), [json.dumps(document, indent=2).encode()])
        os.rename(draft, where)
    except OSError as error:
        if isinstance(error, SourceError | TargetError):
            raise
        raise TargetError(f"{where}: cannot be written ({error.strerror or one_line(error)})") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ShardReport("exported", where, len(arrays), len(jobs), *total(done))


def v3_documents(root: str) -> dict[str, dict[str, Any]]:
    """Every node's Zarr v3 metadata by its path, of a store of either format; arrays still without shards.

    Raises
    ------
    SourceError
        If there is no hierarchy.
    UnsupportedError
        If v3 has no word for something in it.
    """
    import zarr
    from zarr.storage import MemoryStore, StorePath

    if os.path.exists(os.path.join(root, "zarr.json")):
        return dict(_own_documents(root))
    from zarr.metadata.migrate_v3 import migrate_to_v3

    made: dict[str, Any] = {}
    try:
        node = zarr.open(MemoryStore(_v2_documents(root)), mode="r", zarr_format=2, use_consolidated=False)
    except (OSError, ValueError, KeyError) as error:
        why = f" ({one_line(error)})" if any(name.startswith(".z") for name in os.listdir(root)) else ", found none"
        raise SourceError(f"{root}: expected a Zarr hierarchy{why}") from None
    try:
        migrate_to_v3(node, StorePath(MemoryStore(made)))
    except (TypeError, ValueError, NotImplementedError, KeyError) as error:
        raise UnsupportedError(f"{root}: cannot be said in Zarr v3 ({one_line(error)})") from None
    return {key.rpartition("/")[0]: _named(json.loads(value.to_bytes())) for key, value in sorted(made.items())}


def _v2_documents(root: str) -> dict[str, Any]:
    """All v2 metadata by key; no fill value, which v3 has not, becomes zero."""
    from zarr.buffer import cpu

    found = {}
    for place, folders, files in os.walk(root):
        if ".zarray" in files:
            folders.clear()
        for name in {".zarray", ".zgroup", ".zattrs"}.intersection(files):
            with open(os.path.join(place, name), "rb") as file:
                raw = file.read()
            if name == ".zarray":
                raw = _filled(raw)
            found[os.path.relpath(os.path.join(place, name), root)] = cpu.Buffer.from_bytes(raw)
    return found


def _filled(raw: bytes) -> bytes:
    document = json.loads(raw)
    if document.get("fill_value") is None and isinstance(document.get("dtype"), str):
        kind = np.dtype(document["dtype"]).kind
        document["fill_value"] = {"b": False, "c": [0.0, 0.0], "U": "", "S": ""}.get(kind, 0)
    return json.dumps(document).encode()


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """Dimension names where v3 has them, and not in xarray's attribute for v2."""
    names = document["attributes"].get("_ARRAY_DIMENSIONS") if document["node_type"] == "array" else None
    if isinstance(names, list) and len(names) == len(document["shape"]):
        rest = {key: value for key, value in document["attributes"].items() if key != "_ARRAY_DIMENSIONS"}
        return {**document, "dimension_names": names, "attributes": rest}
    return document


def _own_documents(root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, folders, files in os.walk(root):
        folders.sort()
        if "zarr.json" in files:
            with open(os.path.join(place, "zarr.json"), "rb") as file:
                document = json.load(file)
            document.pop("consolidated_metadata", None)
            path = os.path.relpath(place, root)
            yield "" if path == "." else path, document
            if document.get("node_type") == "array":
                folders.clear()


def _scalar(folder: ShardFolder, path: str, document: dict[str, Any], draft: str) -> Iterator[Job]:
    """The task of an array without dimensions: its one chunk is copied."""
    if document["node_type"] != "array" or document["shape"]:
        return
    encoding = document["chunk_key_encoding"]
    key = "c" if encoding["name"] == "default" else "0"
    document["chunk_key_encoding"] = {"name": "default", "configuration": {"separator": "/"}}
    nbytes = folder.nbytes(f"{path}/{key}" if path else key)
    if nbytes is not None:
        yield _copy, (folder, f"{path}/{key}" if path else key, os.path.join(draft, path, "c")), nbytes


def _jobs(folder: ShardFolder, array: Array, document: dict[str, Any], draft: str) -> Iterator[Job]:
    """The tasks of an array; its document is changed to what they write."""
    layout = array.layout
    chunks = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    grid = tuple(max(1, -(-n // c)) for n, c in zip(document["shape"], chunks, strict=True))
    document["chunk_key_encoding"] = {"name": "default", "configuration": {"separator": "/"}}
    whole = any(codec["name"] == "sharding_indexed" for codec in document["codecs"])
    per_shard = (1,) * len(grid) if whole else _per_shard(array, grid)
    if not whole:
        document["codecs"] = [_sharding(chunks, document["codecs"])]
        shape = [c * n for c, n in zip(chunks, per_shard, strict=True)]
        document["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": shape}}
    shards: dict[Coordinates, int] = {}
    for key, nbytes in folder.items(layout.below):
        coordinates = layout.coordinates(key[len(layout.below) :])
        if coordinates is not None and all(i < n for i, n in zip(coordinates, grid, strict=True)):
            shard = tuple(i // n for i, n in zip(coordinates, per_shard, strict=True))
            shards[shard] = shards.get(shard, 0) + nbytes
    for shard, nbytes in sorted(shards.items()):
        path = os.path.join(draft, layout.path, "c", *map(str, shard))
        if whole:
            yield _copy, (folder, layout.key(shard), path), nbytes
        else:
            yield _shard, (folder, array, shard, per_shard, grid, path), nbytes


def _per_shard(array: Array, grid: Sequence[int]) -> tuple[int, ...]:
    """How many chunks a shard has along each axis: those of one container."""
    outer = max(0, array.layout.rank - array.depth + 1)
    return tuple(1 if i < outer else n for i, n in enumerate(grid))


def _sharding(chunks: Sequence[int], codecs: list[Any]) -> dict[str, Any]:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    inner = {"chunk_shape": list(chunks), "codecs": codecs, "index_codecs": index, "index_location": "end"}
    return {"name": "sharding_indexed", "configuration": inner}


def _copy(folder: ShardFolder, key: str, path: str) -> tuple[int, int]:
    """Write a chunk as it is."""
    data = folder.get(key) or b""
    _write(path, [data])
    return 1, len(data)


def _shard(
    folder: ShardFolder, array: Array, shard: Coordinates, per_shard: tuple[int, ...], grid: tuple[int, ...], path: str
) -> tuple[int, int]:
    """Write a shard, its chunks in C order and then their index."""
    index = np.full((math.prod(per_shard), 2), np.iinfo(np.uint64).max, "<u8")
    found = [0, 0]

    def parts() -> Iterator[bytes]:
        for number, inner in enumerate(np.ndindex(*per_shard)):
            place = tuple(s * n + i for s, n, i in zip(shard, per_shard, inner, strict=True))
            data = folder.get(array.layout.key(place)) if all(i < n for i, n in zip(place, grid, strict=True)) else None
            if data is not None:
                index[number] = found[1], len(data)
                found[0], found[1] = found[0] + 1, found[1] + len(data)
                yield data
        raw = index.tobytes()
        yield raw + struct.pack("<I", CRC32C.checksum(raw))

    _write(path, parts())
    return found[0], found[1]


def _write(path: str, parts: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
