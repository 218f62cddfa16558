"""Archives on an object store: sources by ranged requests, targets without local copies, credentials from where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import obstore
import pytest
import s3fs
import zarr

import flows
import h5z
from flows.cluster import connect
from flows.server import start, use
from h5z.errors import PlanError

from ..s3server import SECRET, plain

pytestmark = [pytest.mark.flow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server of its own."""
    with plain() as url:
        yield url


@pytest.fixture(scope="module")
def environment(server: str) -> Iterator[pytest.MonkeyPatch]:
    """Credentials where every client of S3 looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_ENDPOINT_URL", server)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        yield patch


@pytest.fixture(scope="module")
def near(environment: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster whose workers have those credentials."""
    with connect(workers=1) as client:
        yield client.scheduler.address


@pytest.fixture
def bucket(environment: pytest.MonkeyPatch, tmp_path: Path) -> s3fs.S3FileSystem:
    """Three files in a bucket of their own."""
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    if filesystem.exists("archive"):
        filesystem.rm("archive", recursive=True)
    filesystem.mkdir("archive")
    for i in range(3):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["x"] = np.arange(i, i + 100.0)
        filesystem.put_file(str(tmp_path / f"{i}.h5"), f"archive/in/2019/{i}.h5")
    return filesystem


def test_an_archive_is_migrated_on_s3_and_again(bucket: s3fs.S3FileSystem, near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a prefix, to a prefix; the second run finds nothing to do from a listing; a changed object is redone."""
    given: dict[str, Any] = {"scheduler": near, "verify": "full"}
    first = flows.migrate("s3://archive/in", "s3://archive/out", **given)
    assert (first.exit_code, first.count("converted")) == (0, 3), str(first)
    assert np.array_equal(zarr.open_group("s3://archive/out/2019/2.zarr", mode="r")["x"][:], np.arange(2, 102.0))
    assert {"archive/out/h5z-report.json", "archive/out/h5z-report.html"} <= set(bucket.find("archive/out"))
    assert SECRET not in bucket.cat_file("archive/out/h5z-report.json").decode()

    monkeypatch.setattr("flows.archive.connect", lambda **_: pytest.fail("a cluster was started for nothing"))
    second = flows.migrate("s3://archive/in/*/*.h5", "s3://archive/out", name_template="2019/{stem}.zarr", **given)
    assert (second.exit_code, second.count("unchanged")) == (0, 3), str(second)
    monkeypatch.undo()


def test_changed_and_vanished_objects(bucket: s3fs.S3FileSystem, near: str, tmp_path: Path) -> None:
    flows.migrate("s3://archive/in", "s3://archive/out", scheduler=near)
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["x"] = np.arange(7.0, 107.0)
    bucket.put_file(str(tmp_path / "new.h5"), "archive/in/2019/0.h5")
    bucket.rm_file("archive/in/2019/1.h5")
    report = flows.migrate("s3://archive/in", "s3://archive/out", scheduler=near)
    assert (report.count("converted"), report.count("unchanged")) == (1, 1), str(report)
    assert report.vanished == (("s3://archive/in/2019/1.h5", "s3://archive/out/2019/1.zarr"),)
    assert zarr.open_group("s3://archive/out/2019/0.zarr", mode="r")["x"][0] == 7


def test_headers_are_read_in_few_large_requests(
    bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file: two requests for its headers; a small one: one for all of it. Large data a request a chunk, small none."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("x", data=rng.random((12, 512, 512)), chunks=(2, 512, 512))
        for i in range(200):
            file.create_dataset(f"small/{i}", data=np.arange(50.0)).attrs["units"] = "m"
    bucket.put_file(str(tmp_path / "large.h5"), "archive/large.h5")
    calls: Counter[str] = Counter()
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
        calls[method] += 1
        return await call(self, method, *arguments, **keywords)

    get_range = obstore.get_range

    def ranged(*arguments: Any, **keywords: Any) -> Any:
        calls["get_object"] += 1
        return get_range(*arguments, **keywords)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    monkeypatch.setattr(obstore, "get_range", ranged)
    assert len(list(h5z.scan("s3://archive/large.h5", measure=True).arrays)) == 201
    assert calls["get_object"] <= 2
    calls.clear()
    h5z.scan("s3://archive/in/2019/0.h5", measure=True)
    assert calls["get_object"] == 1
    calls.clear()
    h5z.convert("s3://archive/large.h5", tmp_path / "large.zarr")
    assert calls["get_object"] <= 6 + 2 + 2 + 1  # chunks; headers when it is planned, and when it is read; is it the same still?
    assert np.array_equal(zarr.open_group(tmp_path / "large.zarr")["x"][3], np.asarray(h5py.File(tmp_path / "large.h5")["x"][3]))


def test_credentials_come_from_a_block_and_stay_there(
    server: str, bucket: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage options by the name of a Secret block: in no parameter, report or log."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with use(start()):
        from prefect.blocks.system import Secret
        from prefect.client.orchestration import get_client

        options = {"key": "somebody", "secret": SECRET, "client_kwargs": {"endpoint_url": server, "region_name": "us-east-1"}}
        Secret(value=options).save("archive-store", overwrite=True)
        given: dict[str, Any] = {"source_storage": "archive-store", "target_storage": "archive-store", "workers": 1}
        report = flows.migrate("s3://archive/in", "s3://archive/elsewhere", **given)
        assert (report.exit_code, report.count("converted")) == (0, 3), str(report)
        assert flows.migrate("s3://archive/in", "s3://archive/elsewhere", **given).count("unchanged") == 3
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs()
            assert SECRET not in "".join(run.model_dump_json() for run in runs)
    assert SECRET not in str(report.to_dict())
    with pytest.raises(PlanError, match="expected a Secret block by the name 'nowhere'"):
        flows.migrate("s3://archive/in", "s3://archive/elsewhere", source_storage="nowhere")
