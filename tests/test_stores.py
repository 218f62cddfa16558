"""Targets and sources wherever they lie: paths, URLs, S3, zarr's own stores; and secrets that stay where they were given."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import s3fs
import zarr
from zarr.storage import LocalStore, MemoryStore

import h5z
from h5z.errors import H5zError, SourceError, TargetError, TargetExistsError, TransientError
from h5z.source import Dataset
from h5z.target import Target

from .s3server import SECRET, plain
from .stored import listing, stored, stored_in

POLICY: dict[str, Any] = {"chunks": {"/group/x": (20, 20)}, "memory": "1MiB"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, text, attributes, unallocated chunks, contiguous data."""
    path = tmp_path_factory.mktemp("stores") / "in.h5"
    with h5py.File(path, "w") as file:
        data = np.arange(6000, dtype="<f4").reshape(60, 100)
        file.create_dataset("group/x", data=data, chunks=(10, 30), compression="gzip").attrs["units"] = "m"
        file["plain"] = np.arange(50)
        file["words"] = ["a", "ß"]
        file.create_dataset("sparse", (40, 40), "<i2", chunks=(10, 10))[25, 25] = 1
    return path


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The target's objects, as a conversion into a folder writes them."""
    target = tmp_path_factory.mktemp("expected") / "out.zarr"
    h5z.convert(source, target, **POLICY)
    return stored(target)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server of its own."""
    with plain() as url:
        yield url


@pytest.fixture(scope="module")
def options(server: str) -> dict[str, Any]:
    """What s3fs takes to reach the server."""
    return {"key": "somebody", "secret": SECRET, "client_kwargs": {"endpoint_url": server}}


@pytest.fixture(scope="module")
def bucket(options: dict[str, Any], source: Path) -> s3fs.S3FileSystem:
    """A bucket that holds the source, readable by all."""
    filesystem = s3fs.S3FileSystem(**options, use_listings_cache=False)
    filesystem.mkdir("bucket", acl="public-read")
    filesystem.put_file(str(source), "bucket/in.h5", ACL="public-read")
    return filesystem


def objects(bucket: s3fs.S3FileSystem, below: str) -> dict[str, bytes]:
    """All objects below a prefix."""
    return {key.removeprefix(f"{below}/"): bucket.cat_file(key) for key in bucket.find(below)}


LOCAL: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda path: path,
    "store": LocalStore,
    "URL": lambda path: f"file://{path}",
}


@pytest.mark.parametrize("kind", LOCAL)
def test_a_folder_by_any_name(source: Path, expected: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    """Written, found finished, verified, replaced; as a graph too."""
    target = LOCAL[kind](tmp_path / "out.zarr")
    assert h5z.convert(source, target, **POLICY).status == "converted"
    assert stored(tmp_path / "out.zarr") == expected
    assert h5z.convert(source, target, **POLICY).status == "unchanged"
    assert h5z.verify(source, target, level="full").ok
    assert h5z.convert(source, target, overwrite=True, verify="full", chunks="source").ok
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["group/x"].chunks == (10, 30)
    graphed = LOCAL[kind](tmp_path / "graphed.zarr")
    h5z.graph(h5z.plan(source, graphed, **POLICY)).compute(scheduler="threads")
    h5z.finalize(graphed)
    assert stored(tmp_path / "graphed.zarr") == expected


def test_a_store_in_memory(source: Path, expected: dict[str, bytes]) -> None:
    store = MemoryStore()
    assert h5z.convert(source, store, **POLICY).status == "converted"
    assert stored_in(store) == expected
    assert h5z.convert(source, store, **POLICY).status == "unchanged"
    assert h5z.verify(source, store, level="full").ok
    with pytest.raises(TargetExistsError):
        h5z.convert(source, store, chunks="source")
    assert h5z.convert(source, store, overwrite=True, verify="full", chunks="source").ok
    assert zarr.open_group(store, mode="r")["group/x"].chunks == (10, 30)
    assert not any(".h5z" in key for key in stored_in(store))


def test_a_plan_s_graph_writes_to_the_store_that_was_planned_for(source: Path, expected: dict[str, bytes]) -> None:
    """Or says that it cannot; never to somewhere else."""
    store = MemoryStore()
    plan = h5z.plan(source, store, **POLICY)
    try:
        h5z.graph(plan).compute(scheduler="threads")
    except H5zError:
        return
    h5z.finalize(store)
    assert stored_in(store) == expected


@pytest.mark.parametrize("make", [lambda path: LocalStore(path, read_only=True), lambda _: MemoryStore(read_only=True)])
def test_a_store_for_reading_alone_is_not_written_to(source: Path, tmp_path: Path, make: Any) -> None:
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(TargetError, match=r"read.only"):
        h5z.convert(source, make(tmp_path / "out.zarr"))
    assert list((tmp_path / "out.zarr").iterdir()) == []


def test_s3(source: Path, expected: dict[str, bytes], bucket: s3fs.S3FileSystem, options: dict[str, Any]) -> None:
    """Written, found finished, verified, refused, replaced: the old one reads until the new one is complete."""
    target = "s3://bucket/out.zarr"
    held: dict[str, Any] = {"storage_options": options}
    assert h5z.convert(source, target, **held, **POLICY).status == "converted"
    assert objects(bucket, "bucket/out.zarr") == expected
    assert h5z.convert(source, target, **held, **POLICY).status == "unchanged"
    assert h5z.verify(source, target, level="full", **held).ok
    with pytest.raises(TargetExistsError):
        h5z.convert(source, target, chunks="source", **held)
    seen = []

    def look(done: int, total: int) -> None:
        seen.append({key: value for key, value in objects(bucket, "bucket/out.zarr").items() if not key.startswith(".h5z")})

    assert h5z.convert(source, target, overwrite=True, progress=look, chunks="source", **held).status == "converted"
    assert seen
    assert all(state == expected for state in seen)
    assert zarr.open_group(target, mode="r", storage_options=options)["group/x"].chunks == (10, 30)
    assert h5z.verify(source, target, **held).ok
    assert not any(".h5z" in key for key in bucket.find("bucket/out.zarr"))


@pytest.mark.parametrize("place", ["s3://bucket/in.h5", "{server}/bucket/in.h5", "file://{source}"])
def test_sources_by_url(
    source: Path, expected: dict[str, bytes], bucket: Any, options: Any, server: str, tmp_path: Path, place: str
) -> None:
    """The values are those of the file; what a target knows of its source beside them is its name, size and time."""
    url = place.format(server=server, source=source)
    held = {"source_options": options} if url.startswith("s3:") else {}
    assert h5z.convert(url, tmp_path / "out.zarr", verify="full", **held, **POLICY).ok
    found = stored(tmp_path / "out.zarr")
    assert {key for key, _ in found.items() ^ expected.items()} == {"zarr.json"}
    assert h5z.convert(url, tmp_path / "out.zarr", **held, **POLICY).status == "unchanged"


def test_from_s3_to_s3_as_a_graph(bucket: Any, options: dict[str, Any]) -> None:
    plan = h5z.plan("s3://bucket/in.h5", "s3://bucket/graphed.zarr", storage_options=options, **POLICY)
    h5z.graph(plan, storage_options=options, source_options=options).compute(scheduler="threads")
    h5z.finalize("s3://bucket/graphed.zarr", storage_options=options)
    kept = {"source_options": options, "storage_options": options}
    assert h5z.verify("s3://bucket/in.h5", "s3://bucket/graphed.zarr", **kept).ok


def test_a_graph_tells_its_source_nothing_of_its_target_s_options(bucket: Any, options: dict[str, Any], server: str) -> None:
    """S3's key is none of a web server's business."""
    plan = h5z.plan(f"{server}/bucket/in.h5", "s3://bucket/mixed.zarr", **POLICY)
    h5z.graph(plan, storage_options=options).compute(scheduler="sync")
    h5z.finalize("s3://bucket/mixed.zarr", storage_options=options)
    assert h5z.verify(f"{server}/bucket/in.h5", "s3://bucket/mixed.zarr", storage_options=options).ok


def test_a_source_that_changed_at_its_url_is_not_the_same(bucket: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Though its size is."""
    held = {"source_options": options}
    for value in (1, 2):
        with h5py.File(tmp_path / "in.h5", "w") as file:
            file["x"] = [value] * 4
        bucket.put_file(str(tmp_path / "in.h5"), "bucket/changing.h5")
        if value == 1:
            h5z.convert("s3://bucket/changing.h5", tmp_path / "out.zarr", **held)
    with pytest.raises(TargetExistsError):
        h5z.convert("s3://bucket/changing.h5", tmp_path / "out.zarr", **held)
    assert h5z.convert("s3://bucket/changing.h5", tmp_path / "out.zarr", overwrite=True, verify="full", **held).ok
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["x"][...].tolist() == [2] * 4


def test_a_store_that_does_not_answer_may_be_tried_again(source: Path, options: dict[str, Any], tmp_path: Path) -> None:
    """As a target, and as a source; one line that does not say the secret."""
    gone = {**options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    gone["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    with pytest.raises(TransientError) as caught:
        h5z.convert(source, "s3://bucket/never.zarr", storage_options=gone)
    assert SECRET not in str(caught.value)
    with pytest.raises((TransientError, SourceError)) as missed:
        h5z.convert("s3://bucket/in.h5", tmp_path / "out.zarr", source_options=gone)
    assert SECRET not in str(missed.value)


def test_no_secret_is_written(source: Path, bucket: s3fs.S3FileSystem, options: dict[str, Any], caplog: Any) -> None:
    """To any object, at any time; to any log; to the report."""
    caplog.set_level(logging.DEBUG, logger="h5z")
    seen: dict[str, bytes] = {}
    kept = {"source_options": options, "storage_options": options, **POLICY}
    for overwrite in (False, True):
        report = h5z.convert(
            "s3://bucket/in.h5",
            "s3://bucket/secret.zarr",
            overwrite=overwrite,
            codec="zstd:1" if overwrite else "auto",
            progress=lambda *_: seen.update(objects(bucket, "bucket/secret.zarr")),
            **kept,
        )
    assert any(".h5z" in key for key in seen)
    seen |= objects(bucket, "bucket/secret.zarr")
    assert [key for key, value in seen.items() if SECRET.encode() in value] == []
    assert SECRET not in json.dumps(report.to_dict()) + str(report) + caplog.text


@pytest.mark.parametrize("form", ["{scheme}://user:{secret}@{host}/bucket/in.h5", "{scheme}://{host}/bucket/in.h5?sig={secret}"])
def test_no_secret_of_a_url_is_written_or_shown(bucket: Any, server: str, tmp_path: Path, form: str) -> None:
    """A password before the host; a signature after the path, which moreover is another each time."""
    scheme, host = server.split("://")
    url = form.format(scheme=scheme, host=host, secret=SECRET)
    seen: dict[str, bytes | None] = {}
    target = tmp_path / "out.zarr"
    report = h5z.convert(url, target, progress=lambda *_: seen.update(listing(target)), **POLICY)
    seen |= listing(target)
    assert [key for key, value in seen.items() if value and SECRET.encode() in value] == []
    assert SECRET not in str(report) + json.dumps(report.to_dict())
    assert SECRET not in str(h5z.plan(url, target, **POLICY))
    assert h5z.convert(url.replace(SECRET, "4n0th3r"), target, **POLICY).status == "unchanged"
    with pytest.raises(SourceError) as caught:
        h5z.scan(url.replace("in.h5", "missing.h5"))
    assert SECRET not in str(caught.value)


def test_no_secret_is_in_what_others_print(options: dict[str, Any]) -> None:
    """A scheduler logs the arguments of a task that failed; they travel all the same."""
    target, dataset = Target.of("s3://bucket/out.zarr", options), Dataset("s3://bucket/in.h5", "/x", "<f4", options)
    assert SECRET not in repr(target) + str(target) + repr(dataset) + str(dataset)
    assert pickle.loads(pickle.dumps(target)).storage_options == options
    assert pickle.loads(pickle.dumps(dataset)).storage_options == options
    assert SECRET not in Target.of(f"s3://key:{SECRET}@bucket/out.zarr").name
