"""A session's Dataset in one Zarr store: what xarray opens again, atomic, resumed, left alone; in folders, in memory, on S3."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import s3fs
import xarray as xr
import zarr
from obstore.store import S3Store
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, ObjectStore, WrapperStore

from h5z.errors import H5zError, PlanError, TargetError, TargetExistsError, TransientError
from h5z.events import RECORDED_SESSION, Attribute, Entity, Schema, open_session, publish, to_dataset

from ..stored import stored
from .conftest import SECRET
from .generated import Tables, session

TEMPLATE = "s3://bucket/{name}/{session_id}_events.zarr"


def made(tables: Tables, session_id: str = "s1", **options: Any) -> xr.Dataset:
    return to_dataset(tables, RECORDED_SESSION, session_id=session_id, **options)


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    """Three tasks, 12 elements, 120 segments."""
    return made(session(120, elements=12, tasks=3))


def bare(dataset: xr.Dataset) -> xr.Dataset:
    """Without indexes, and without what a store adds."""
    attributes = {name: value for name, value in dataset.attrs.items() if name not in ("h5z", "row_counts", "content_digest")}
    out = dataset.drop_indexes(list(dataset.xindexes)).load()
    out.attrs = attributes
    return out


def assert_stored(dataset: xr.Dataset, where: Any, storage_options: dict[str, Any] | None = None) -> None:
    """xarray itself opens it, without a warning, and finds what was given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_zarr(where, storage_options=storage_options, consolidated=True) as opened:
            xr.testing.assert_identical(bare(opened), bare(dataset))
            assert {name: item.dtype for name, item in opened.variables.items()} == {
                name: item.dtype for name, item in dataset.variables.items()
            }


def test_s3(dataset: xr.Dataset, bucket: s3fs.S3FileSystem, options: dict[str, Any]) -> None:
    """Published, opened, found unchanged, refused, replaced."""
    target = TEMPLATE.replace("{name}", "plain")
    found = publish(dataset, target, storage_options=options, verify=True)
    where = "s3://bucket/plain/s1_events.zarr"
    assert found.pop("processed_at") >= dataset.attrs["creation_time"]
    assert found == {
        "session_id": "s1",
        "storage_format": "zarr",
        "task_count": 3,
        "element_count": 12,
        "segment_count": 120,
        "zarr_stores": {"events": where},
        "status": "published",
        "problem_count": 0,
    }
    assert_stored(dataset, where, options)
    objects = bucket.find("bucket/plain")
    assert not any("/.h5z/" in key for key in objects)
    written = {key: bucket.info(key)["LastModified"] for key in objects}
    again = publish(dataset.assign_attrs(creation_time="another day"), target, storage_options=options)
    assert again["status"] == "unchanged"
    assert {key: bucket.info(key)["LastModified"] for key in bucket.find("bucket/plain")} == written
    other = dataset.assign_attrs(room="5")
    with pytest.raises(TargetExistsError, match="overwrite replaces it"):
        publish(other, target, storage_options=options)
    assert_stored(dataset, where, options)
    assert publish(other, target, storage_options=options, overwrite=True)["status"] == "published"
    assert_stored(other, where, options)
    assert not any("/.h5z/" in key for key in bucket.find("bucket/plain"))


def test_the_same_objects_everywhere(dataset: xr.Dataset, bucket: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """A path, a URL, fsspec's S3, obstore's S3, zarr's stores."""
    publish(dataset, tmp_path / "{session_id}.zarr")
    expected = stored(tmp_path / "s1.zarr")
    publish(dataset, f"file://{tmp_path}/url.zarr")
    publish(dataset, LocalStore(tmp_path / "store.zarr"))
    assert stored(tmp_path / "url.zarr") == stored(tmp_path / "store.zarr") == expected
    memory = MemoryStore()
    publish(dataset, memory)
    assert {key: value.to_bytes() for key, value in memory._store_dict.items()} == expected
    publish(dataset, "s3://bucket/same/fs.zarr", storage_options=options)
    endpoint = options["client_kwargs"]["endpoint_url"]
    keys = {"access_key_id": options["key"], "secret_access_key": options["secret"], "region": "us-east-1"}
    s3 = S3Store("bucket", prefix="same/ob.zarr", endpoint=endpoint, client_options={"allow_http": True}, **keys)
    publish(dataset, ObjectStore(s3))
    assert publish(dataset, ObjectStore(s3))["status"] == "unchanged"
    for name in ("fs", "ob"):
        place = f"bucket/same/{name}.zarr"
        assert {key.removeprefix(f"{place}/"): bucket.cat_file(key) for key in bucket.find(place)} == expected
    assert_stored(dataset, tmp_path / "s1.zarr")
    assert_stored(dataset, ObjectStore(s3, read_only=True))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (None, {"task_count": 3, "element_title": 30, "segment_start_time": 100}),
        (7, {"task_count": 3, "element_title": 7, "segment_start_time": 7}),
        ({"segment": 50, "element_id": 1000}, {"task_count": 3, "element_title": 30, "segment_start_time": 50}),
    ],
)
def test_chunks_by_entity(small: Tables, chunks: Any, expected: dict[str, int]) -> None:
    store, dataset = MemoryStore(), made(small)
    publish(dataset, store, chunks=chunks)
    group = zarr.open_group(store, mode="r")
    assert {name: group[name].chunks for name in expected} == {name: (rows,) for name, rows in expected.items()}
    assert_stored(dataset, store)


def test_large_tables_have_large_chunks_and_few_objects() -> None:
    store = MemoryStore()
    publish(made(session(70_000, elements=10_001, tasks=10_000)), store)
    group = zarr.open_group(store, mode="r")
    assert [group[name].chunks[0] for name in ("task_count", "element_title", "segment_start_time")] == [100, 10_001, 65_536]


def test_everything_else_that_a_dataset_may_hold(tmp_path: Path) -> None:
    """Times (and none), text as Python's or numpy's, scalars, two dimensions, lazy arrays, big-endian; attributes of numpy's."""
    times = np.array(["1960-01-01T00:00:00.000000001", "NaT", "2200-01-01"], "M8[ns]")
    dataset = xr.Dataset(
        {
            "t": ("x", times),
            "words": ("x", np.array(["a", "ß", ""], object)),
            "fixed": ("x", np.array(["a", "ß", ""])),
            "scalar": ((), np.float32(2)),
            "plane": (("x", "y"), np.arange(6, dtype=">i2").reshape(3, 2), {"unit": np.float64(2)}),
            "lazy": ("x", da.arange(3, chunks=2)),
            "empty": (("x", "none"), np.zeros((3, 0))),
        },
        attrs={"session_id": "s1", "flags": np.array([1, 2]), "nested": {"a": (1, None)}},
    )
    publish(dataset, tmp_path / "out.zarr", chunks={"x": 2}, verify=True)
    with xr.open_zarr(tmp_path / "out.zarr") as opened:
        assert opened.t.dtype == "M8[ns]"
        assert opened.t.values.view("i8").tolist() == times.view("i8").tolist()
        assert opened.words.values.tolist() == opened.fixed.values.tolist() == ["a", "ß", ""]
        assert opened.plane.values.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert (opened.plane.dtype, opened.plane.attrs) == (np.dtype("i2"), {"unit": 2.0})
        assert (opened.scalar.item(), opened.lazy.values.tolist(), opened.empty.shape) == (2, [0, 1, 2], (3, 0))
        assert opened.attrs["flags"] == [1, 2]
        assert opened.attrs["nested"] == {"a": [1, None]}


def test_what_was_opened_may_be_published_again(dataset: xr.Dataset, tmp_path: Path) -> None:
    publish(dataset, tmp_path / "a.zarr")
    publish(open_session(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    first, second = stored(tmp_path / "a.zarr"), stored(tmp_path / "b.zarr")
    assert {key for key in first if first[key] != second.get(key)} <= {"zarr.json"}
    roots = [json.loads(store["zarr.json"])["attributes"] for store in (first, second)]
    assert roots[0]["content_digest"] == roots[1]["content_digest"]


WRONG: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], dict[str, Any], str]] = {
    "no session": (lambda d: d.drop_attrs(), {}, "expected an attribute session_id"),
    "a path for an id": (lambda d: d.assign_attrs(session_id="../x"), {}, "an id that can be part of a path"),
    "dots for an id": (lambda d: d.assign_attrs(session_id=".."), {}, "an id that can be part of a path"),
    "a chain for an id": (lambda d: d.assign_attrs(session_id="a::b"), {}, "an id that can be part of a path"),
    "a bell in an id": (lambda d: d.assign_attrs(session_id="a\a"), {}, "an id that can be part of a path"),
    "a long id": (lambda d: d.assign_attrs(session_id="x" * 500), {}, "an id that can be part of a path"),
    "fields for an id": (lambda d: d.assign_attrs(session_id="{session_id}"), {}, "an id that can be part of a path"),
    "NaN in an attribute": (lambda d: d.assign_attrs(x=np.nan), {}, "dataset@x: expected a value that JSON holds, found nan"),
    "an object in an attribute": (lambda d: d.assign_attrs(x=object()), {}, "dataset@x: expected a value that JSON holds"),
    "a surrogate in an attribute": (lambda d: d.assign_attrs(x="\ud800"), {}, "dataset@x: expected text that UTF-8 holds"),
    "None among text": (lambda d: d.assign(x=("y", np.array(["a", None], object))), {}, "x: expected text, found NoneType"),
    "durations": (lambda d: d.assign(x=("y", np.array([1], "m8[s]"))), {}, "x: expected text, bool, numbers or times"),
    "no rows in a chunk": (lambda d: d, {"chunks": 0}, "chunks: expected a positive number of rows, found 0"),
    "chunks of nothing": (lambda d: d, {"chunks": {"tusk": 5}}, "chunks: expected an entity or dimension"),
    "a codec of nothing": (lambda d: d, {"codec": "zip"}, "codec"),
    "a codec kept": (lambda d: d, {"codec": "keep"}, "found 'keep'"),
    "no workers": (lambda d: d, {"workers": 0}, "workers"),
}


@pytest.mark.parametrize(("change", "options", "expected"), WRONG.values(), ids=WRONG)
def test_a_call_that_is_wrong_writes_nothing(
    dataset: xr.Dataset, tmp_path: Path, change: Any, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(PlanError) as caught:
        publish(change(dataset), str(tmp_path / "{session_id}.zarr"), **options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("session_id", ["s-1", "Sitzung 7 größe", "題😀", "a.b", "a%20b", "CON", "x&y=z;+"])
def test_ids_that_are_names(session_id: str, tmp_path: Path, options: Any) -> None:
    dataset = to_dataset({"a": [{"id": 1}]}, Schema("s", (Entity("a"),)), session_id=session_id)
    for target, kept in (
        (str(tmp_path / "{session_id}_events.zarr"), None),
        ("s3://bucket/names/{session_id}_events.zarr", options),
    ):
        found = publish(dataset, target, storage_options=kept)
        where = found["zarr_stores"]["events"]
        assert where.endswith(f"{session_id}_events.zarr")
        assert open_session(where, storage_options=kept).attrs["session_id"] == session_id


def test_a_target_of_other_fields(dataset: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no other field"):
        publish(dataset, str(tmp_path / "{session_id.__class__}.zarr"))
    (tmp_path / "letter").write_text("Dear reader,\n")
    with pytest.raises(TargetExistsError):
        publish(dataset, tmp_path / "letter")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("Dear reader,\n")
    with pytest.raises(TargetExistsError, match="never overwritten"):
        publish(dataset, tmp_path / "folder", overwrite=True)


class Failing(WrapperStore[Any]):
    """A store that calls back before each object it is given."""

    def __init__(self, store: Any, before: Callable[[str], None]) -> None:
        super().__init__(store)
        self.before = before

    async def set(self, key: str, value: Any) -> None:
        self.before(key)
        await super().set(key, value)


@pytest.mark.parametrize("fail_at", [0, 1, 20, 100, 150, ".h5z/plan.json", ".h5z/done/0", "zarr.json"])
def test_a_write_that_fails_leaves_nothing_that_opens_and_the_next_call_ends_it(dataset: xr.Dataset, fail_at: int | str) -> None:
    memory, count = MemoryStore(), 0

    def fail(key: str) -> None:
        nonlocal count
        count += 1
        if key == fail_at or (isinstance(fail_at, int) and count > fail_at):
            raise OSError(errno.ENOSPC, f"no room for {key}")

    with pytest.raises(TargetError, match="no room"):
        publish(dataset, Failing(memory, fail), chunks=20)
    assert "zarr.json" not in memory._store_dict
    with pytest.raises(TargetError, match="expected the store of a session, found"):
        open_session(memory)
    again: list[str] = []
    assert publish(dataset, Failing(memory, again.append), chunks=20)["status"] == "published"
    if fail_at == "zarr.json":
        assert set(again) == {"zarr.json"}  # all else was done
    assert_stored(dataset, memory)
    assert not any(".h5z" in key for key in memory._store_dict)


def test_what_another_dataset_began_is_not_mixed_with_this_one(dataset: xr.Dataset) -> None:
    memory = MemoryStore()

    def fail(key: str) -> None:
        if "/c" in key and key.startswith("task"):
            raise OSError(errno.ENOSPC, "no room")

    with pytest.raises(TargetError):
        publish(dataset, Failing(memory, fail))
    other = dataset.assign_attrs(room="5")
    with pytest.raises(TargetExistsError, match="unfinished"):
        publish(other, memory)
    publish(other, memory, overwrite=True)
    assert_stored(other, memory)


def test_what_is_replaced_reads_until_its_successor_is_whole(dataset: xr.Dataset) -> None:
    memory = MemoryStore()
    publish(dataset, memory)
    other = dataset.assign(task_count=dataset.task_count + 1)
    seen = []

    def look(key: str) -> None:
        if key.startswith(".h5z/"):
            seen.append({name: value for name, value in memory._store_dict.items() if not name.startswith(".h5z/")})

    before = dict(memory._store_dict)
    publish(other, Failing(memory, look), overwrite=True)
    assert len(seen) > 50
    assert all(state == before for state in seen)
    assert_stored(other, memory)


def test_an_error_in_the_data_is_told_and_nothing_opens(dataset: xr.Dataset) -> None:
    def bad(block: Any, block_info: Any = None) -> Any:
        raise RuntimeError("the disk is on fire")

    lazy = da.zeros(120, chunks=100).map_blocks(bad, dtype=float, meta=np.zeros(0))
    memory = MemoryStore()
    with pytest.raises(RuntimeError, match="on fire"):
        publish(dataset.assign(segment_start_time=("segment_id", lazy)), memory)
    assert "zarr.json" not in memory._store_dict


class Forgetful(WrapperStore[Any]):
    """A store that keeps another chunk than it was given."""

    async def set(self, key: str, value: Any) -> None:
        if key == "segment_start_time/c/1":
            value = await self._store.get("segment_start_time/c/0", default_buffer_prototype()) or value
        await super().set(key, value)


def test_what_does_not_read_back_is_not_committed(dataset: xr.Dataset) -> None:
    memory = MemoryStore()
    with pytest.raises(TargetError, match=r"/segment_start_time\[100:120\]: expected what was written"):
        publish(dataset, Forgetful(memory), verify=True, workers=1)
    assert "zarr.json" not in memory._store_dict


CHILD = """
import pickle, sys
from h5z.events import publish
dataset, target, options = pickle.load(open(sys.argv[1], "rb"))
publish(dataset, target, storage_options=options, chunks=30, workers=1, overwrite=True)
"""


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_and_run_again(replacing: bool, dataset: xr.Dataset, bucket: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """On S3, at several moments; what was there before still reads; the end is that of a call that nobody killed."""
    clean = MemoryStore()
    publish(dataset, clean, chunks=30)
    expected = {key: value.to_bytes() for key, value in clean._store_dict.items()}
    place = f"bucket/killed/{replacing}.zarr"
    old = dataset.assign_attrs(room="before")
    if replacing:
        publish(old, f"s3://{place}", storage_options=options)
    (tmp_path / "job").write_bytes(pickle.dumps((dataset, f"s3://{place}", options)))
    before = len(bucket.find(place))
    for more in (30, 60):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "job")], cwd=Path(__file__).parents[2]) as child:
            while len(bucket.find(place)) < before + more and child.poll() is None:
                time.sleep(0.05)
            assert child.poll() is None, "it ended before it could be killed"
            child.send_signal(signal.SIGKILL)
        if replacing:
            assert_stored(old, f"s3://{place}", options)
        else:
            with pytest.raises(TargetError, match="one that is not complete"):
                open_session(f"s3://{place}", storage_options=options)
    publish(dataset, f"s3://{place}", storage_options=options, chunks=30, overwrite=replacing)
    assert {key.removeprefix(f"{place}/"): bucket.cat_file(key) for key in bucket.find(place)} == expected


def test_nothing_is_kept_on_this_machine(dataset: xr.Dataset, options: dict[str, Any], tmp_path: Path) -> None:
    """A call to S3 leaves its working and temporary folders empty, and opens no file for writing."""
    code = """
import pickle, sys
dataset, target, options = pickle.load(open(sys.argv[1], "rb"))
from h5z.events import publish
publish(dataset, "s3://bucket/warm/{session_id}.zarr", storage_options=options)
opened = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(arguments[0])
    if event in ("os.mkdir", "tempfile.mkdtemp", "tempfile.mkstemp"):
        opened.append(event)
sys.addaudithook(audit)
publish(dataset, target, storage_options=options)
print(opened)
"""
    (tmp_path / "job").write_bytes(pickle.dumps((dataset, "s3://bucket/direct/{session_id}.zarr", options)))
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "empty"), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path / "job")]
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list((tmp_path / "empty").iterdir()) == []


def test_no_secret_is_written_or_told(dataset: xr.Dataset, bucket: Any, options: dict[str, Any], caplog: Any) -> None:
    seen: dict[str, bytes] = {}
    found = publish(dataset, "s3://bucket/secret/{session_id}.zarr", storage_options=options)
    seen = {key: bucket.cat_file(key) for key in bucket.find("bucket/secret")}
    assert not [key for key, value in seen.items() if SECRET.encode() in value]
    assert SECRET not in json.dumps(found) + caplog.text
    gone = {**options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    gone["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    with pytest.raises(TransientError) as caught:
        publish(dataset, "s3://bucket/{session_id}.zarr", storage_options=gone)
    assert SECRET not in str(caught.value)


def test_two_sources_of_one_session_do_not_overwrite_each_other(small: Tables, tmp_path: Path) -> None:
    publish(made(small), tmp_path / "{session_id}.zarr")
    other = made({**small, "task": {**small["task"], "task_type": small["task"]["task_type"][::-1]}})
    with pytest.raises(TargetExistsError):
        publish(other, tmp_path / "{session_id}.zarr")
    assert_stored(made(small, creation_time=open_session(tmp_path / "s1.zarr").attrs["creation_time"]), tmp_path / "s1.zarr")


def test_an_empty_session(options: dict[str, Any]) -> None:
    found = publish(made({}), "s3://bucket/empty/{session_id}.zarr", storage_options=options, verify=True)
    assert (found["task_count"], found["segment_count"], found["status"]) == (0, 0, "published")
    with xr.open_zarr("s3://bucket/empty/s1.zarr", storage_options=options) as opened:
        assert opened.sizes["segment_id"] == 0
        assert opened.task_count.dtype == np.int32


def test_any_tables_of_entities(tmp_path: Path) -> None:
    """Another schema, problems kept: counts by its entities, and how many problems."""
    schema = Schema("plant", (Entity("machine", (Attribute("kind", "string"),)),), version="7")
    found = publish(
        to_dataset({"machine": [{"id": 3, "kind": 4}]}, schema, session_id=17, problems="report"), tmp_path / "{session_id}.zarr"
    )
    assert (found["machine_count"], found["problem_count"], found["session_id"]) == (1, 1, "17")
    opened = xr.open_zarr(tmp_path / "17.zarr")
    assert opened.attrs["version"] == "7"
    assert opened.attrs["problems"] == ["machine 3: kind: expected string, found 4"]
    assert opened.machine_kind_missing.values.tolist() == [True]


def test_errors_are_the_project_s_own(dataset: xr.Dataset, tmp_path: Path) -> None:
    for where in (tmp_path / "none.zarr", tmp_path, "s3://", "nosuch://x/y"):
        with pytest.raises(H5zError) as caught:
            open_session(where)
        assert "\n" not in str(caught.value)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(TargetError, match="found another hierarchy"):
        open_session(tmp_path / "other.zarr")
