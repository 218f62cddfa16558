"""Shard stores over hierarchies of every kind, what the original wrote, many writers, errors; consolidated, exported, checked."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from zarr.core.sync import sync
from zarr.storage import LocalStore

import h5z
from h5z import H5ShardStore
from h5z.container import Container
from h5z.container.openfiles import forget_all
from h5z.errors import H5zError, PlanError, SourceError, TargetError, TargetExistsError
from h5z.shards import moving as shards
from h5z.shards.export import export
from h5z.shards.folder import ShardFolder

from .running import DATA, Run

ORIGINALS = DATA / "containers" / "shards"
original = pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the containers of the original tool are not here")
NAMES = ["v2_5d", "v2_5d_depth4", "v2_3d", "v2_2d", "v2_1d", "v2_1d_root/v2_1d", "v2_5d_mixed", "v3_3d"]


def files(folder: Path) -> list[str]:
    found = (os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names)
    return sorted(found)  # os.walk bears with folders that vanish


def is_chunk(name: str) -> bool:
    return name[-1].isdigit() and not name.endswith(".h5")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def keys(store: Any, prefix: str = "") -> list[str]:
    async def collect() -> list[str]:
        return sorted([key async for key in store.list_prefix(prefix)])

    return sync(collect())


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    shutil.copytree(ORIGINALS, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def array_at(store: H5ShardStore, name: str, mode: Any = "r") -> Any:
    node = zarr.open(store, mode=mode)
    return node["arr"] if name == "v2_1d" else node


@original
@pytest.mark.parametrize("depth", [2, 3, 4, 7])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_original_wrote_is_read_at_any_depth(name: str, depth: int) -> None:
    array = array_at(H5ShardStore(ORIGINALS / f"{name}.zarr", mode="r", consolidate_depth=depth), name)
    assert np.array_equal(array[...], np.load(ORIGINALS / f"{name}.npy"))
    if name in ("v2_5d", "v3_3d"):
        assert array.attrs["units"] == "counts"
    assert array.nchunks_initialized == {"v2_3d": 11}.get(name, array.nchunks if name != "v2_5d_mixed" else 12)


@original
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_original_wrote_can_be_changed_and_deleted(originals: Path, name: str, depth: int) -> None:
    store = H5ShardStore(originals / f"{name}.zarr", consolidate_depth=depth)
    expected = np.load(originals / f"{name}.npy")
    before = keys(store)
    half = tuple(slice(0, n // 2 + 1) for n in expected.shape)
    expected[half] += 1
    array_at(store, name, "r+")[half] = expected[half]
    for reader in (
        store,
        pickle.loads(pickle.dumps(store)),
        H5ShardStore(originals / f"{name}.zarr", mode="r", consolidate_depth=2),
    ):
        assert np.array_equal(array_at(reader, name)[...], expected)
        assert set(keys(reader)) == set(before) | set(keys(store))
    outside = {"v2_2d": "v2_2d.zarr.h5", "v2_1d": "v2_1d.zarr.h5", "v2_1d_root/v2_1d": "v2_1d_root.h5"}
    assert not (originals / outside.get(name, "none")).exists()  # what lay outside of the store is inside now
    path = "arr" if name == "v2_1d" else ""
    array = array_at(store, name, "r+")
    metadata = array.metadata
    sync(store.delete_dir(path))
    again = zarr.create_array(
        store, name=path or None, shape=array.shape, chunks=array.chunks, dtype="u2", fill_value=9, zarr_format=2
    )
    assert (again[...] == 9).all(), metadata


LAYOUTS: dict[str, dict[str, Any]] = {
    "v3": {"zarr_format": 3},
    "v3 dots": {"zarr_format": 3, "chunk_key_encoding": {"name": "default", "separator": "."}},
    "v3 as v2": {"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2": {"zarr_format": 2},
    "v2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}, "order": "F"},
}
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "one": ((50,), (7,)),
    "two": ((20, 30), (8, 8)),
    "three": ((9, 20, 30), (2, 8, 8)),
    "five": ((2, 2, 6, 7, 8), (1, 1, 2, 3, 4)),
    "0/1": ((12, 12, 12, 2), (5, 5, 5, 2)),
    "empty": ((0, 4), (2, 2)),
    "scalar": ((), ()),
    "sparse": ((100, 100, 100), (10, 10, 10)),
}


def fill(group: zarr.Group, layout: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    chance = np.random.default_rng(1)
    wanted = {key: value for key, value in layout.items() if key != "zarr_format"}
    expected = {}
    for name, (shape, chunks) in SHAPES.items():
        array = group.create_array(
            name, shape=shape, chunks=chunks, dtype="f4", fill_value=3, attributes={"units": "K"}, **wanted
        )
        values = chance.normal(size=shape).astype("f4")
        if name == "sparse":
            values = np.full(shape, 3, "f4")
            values[55, 66, 77] = 1
        array[...] = values
        expected[name] = values
    return expected


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_hierarchies_of_any_kind(layout: dict[str, Any], depth: int, tmp_path: Path) -> None:
    store = H5ShardStore(tmp_path / "a.zarr", consolidate_depth=depth)
    expected = fill(zarr.open_group(store, mode="w", zarr_format=layout["zarr_format"]), layout)
    plain = LocalStore(tmp_path / "b.zarr")
    fill(zarr.open_group(plain, mode="w", zarr_format=layout["zarr_format"]), layout)
    reader = zarr.open_group(H5ShardStore(tmp_path / "a.zarr", mode="r"), mode="r")
    for name, values in expected.items():
        assert np.array_equal(reader[name][...], values), name
    assert keys(store) == keys(plain)
    assert {name: array.nchunks_initialized for name, array in reader.arrays()} == {
        name: array.nchunks_initialized for name, array in zarr.open_group(plain, mode="r").arrays()
    }
    chunks = [name for name in files(tmp_path / "a.zarr") if is_chunk(name)]
    assert chunks in ([], ["scalar/0"])  # all others are in containers
    for name in files(tmp_path / "a.zarr"):  # and those lie within their array
        assert not name.endswith(".h5") or any(name.startswith(f"{array}/") for array in SHAPES), name
    for prefix in ("", "one", "0", "0/1/", "five/", "three", "three/c/0/"):
        assert keys(store, prefix) == keys(plain, prefix), prefix
        assert sync(store.getsize_prefix(prefix.rstrip("/"))) == sync(plain.getsize_prefix(prefix.rstrip("/")))


def test_loose_chunks_overlay_containers_and_move_in_when_written(tmp_path: Path) -> None:
    store = H5ShardStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=(4, 8, 8), chunks=(1, 4, 4), dtype="i4", compressors=None)
    array[...] = 1
    LocalStore(tmp_path / "a.zarr")
    loose = zarr.open_array(LocalStore(tmp_path / "a.zarr"), mode="r+")
    loose[0, :4, :4] = 2
    assert (tmp_path / "a.zarr" / "c/0/0/0").is_file()
    assert array[0, 0, 0] == 2
    assert array[0, 7, 7] == 1
    assert len(keys(store)) == 17
    array[0, :4, :4] = 3
    assert not (tmp_path / "a.zarr" / "c/0/0").exists() or not (tmp_path / "a.zarr" / "c/0/0/0").exists()
    assert array[0, 0, 0] == 3
    later = zarr.open_array(H5ShardStore(tmp_path / "a.zarr", write_direct=False), mode="r+")
    later[1, 4:, 4:] = 5
    assert (tmp_path / "a.zarr" / "c/1/1/1").is_file()
    assert array[1, 7, 7] == 5
    sync(store.delete("c/1/1/1"))
    assert array[1, 7, 7] == 0  # gone from both


def test_byte_ranges_of_chunks_and_shards_within_chunks(tmp_path: Path) -> None:
    store = H5ShardStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=(64, 64), chunks=(4, 4), shards=(32, 32), dtype="u2")
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    array[...] = values
    assert files(tmp_path / "a.zarr") == [".h5z-shards", "c.h5", "zarr.json"]
    assert np.array_equal(array[30:40:3, 5], values[30:40:3, 5])


def test_two_depths_share_what_the_first_has_chosen(tmp_path: Path) -> None:
    first = zarr.create_array(H5ShardStore(tmp_path / "a.zarr"), shape=(4, 4, 4, 4), chunks=(1, 1, 1, 4), dtype="i4")
    first[0] = 1
    second = zarr.open_array(H5ShardStore(tmp_path / "a.zarr", consolidate_depth=2), mode="r+")
    second[1] = 2
    second[0, 0] = 3
    assert {name.count("/") for name in files(tmp_path / "a.zarr") if name.endswith(".h5")} == {2}
    assert (first[0, 0] == 3).all()
    assert (first[1] == 2).all()


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with pytest.raises(FileNotFoundError):
        zarr.open(H5ShardStore(path, mode="r"))
    array = zarr.create_array(H5ShardStore(path, mode="w"), shape=(4,), chunks=(2,), dtype="i4")
    array[...] = 7
    reader = H5ShardStore(path, mode="r")
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(reader, mode="r")[...] = 1
    assert (zarr.open_array(pickle.loads(pickle.dumps(reader)))[...] == 7).all()
    assert pickle.loads(pickle.dumps(reader)).read_only
    with pytest.raises(TargetExistsError, match="expected nothing there"):
        H5ShardStore(path, mode="w-")
    anew = H5ShardStore(path, mode="w", consolidate_depth=4, container_ext=".hdf", write_direct=False)
    assert files(path) == []
    zarr.create_array(anew, shape=(4,), chunks=(2,), dtype="i4")[...] = 1
    copied = pickle.loads(pickle.dumps(anew))  # a copy does not delete once more
    assert (zarr.open_array(copied)[...] == 1).all()
    assert copied == anew
    assert files(path) == ["c/0", "c/1", "zarr.json"]
    for wrong in ({"mode": "x"}, {"consolidate_depth": 1}, {"consolidate_depth": "3"}, {"container_ext": ""}):
        with pytest.raises(PlanError):
            H5ShardStore(path, **wrong)
    (tmp_path / "file").touch()
    with pytest.raises(TargetExistsError, match="found a file"):
        zarr.open_group(H5ShardStore(tmp_path / "file"), mode="a")
    with pytest.raises(PlanError, match="a key of names"):
        sync(anew.get("../outside"))


@pytest.mark.parametrize("hurt", ["cut", "flipped", "folder", "text", "unreadable"])
def test_an_error_is_never_a_missing_chunk(tmp_path: Path, hurt: str) -> None:
    store = H5ShardStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=(4, 64, 64), chunks=(1, 32, 32), dtype="i4", compressors=None)
    array[...] = 1
    store.close()
    path = tmp_path / "a.zarr" / "c" / "2.h5"
    raw = bytearray(path.read_bytes())
    if hurt == "cut":
        path.write_bytes(raw[:-10])
    elif hurt == "flipped":
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif hurt == "text":
        path.write_text("no container")
    elif hurt == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        path.symlink_to(path.name)  # ELOOP: what opening a file may fail with
    forget_all("")
    assert (array[3] == 1).all()
    with pytest.raises(SourceError, match=r"2\.h5"):
        array[...]
    with pytest.raises(H5zError, match=r"2\.h5"):
        array[2]


@original
@pytest.mark.parametrize("length", [0, 10, 500, 5000, -1])
def test_a_container_of_the_original_that_is_cut_short_is_an_error(originals: Path, length: int) -> None:
    path = originals / "v3_3d.zarr" / "c" / "0.h5"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(SourceError, match=r"0\.h5"):
        array_at(H5ShardStore(originals / "v3_3d.zarr", mode="r"), "v3_3d")[...]


GRID = (8, 32, 64)  # chunks: 2,048 to each of eight processes, that meet in every container


def _write_column(number: int, path: str) -> None:
    array = zarr.open_array(H5ShardStore(path), mode="r+")
    array[:, :, number * 8 : number * 8 + 8] = np.full((*GRID[:2], 8), number + 1, "i2")


def test_eight_processes_of_2048_chunks_lose_nothing(tmp_path: Path) -> None:
    store = H5ShardStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=GRID, chunks=(1, 1, 1), dtype="i2", compressors=None)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_column, args=(i, str(tmp_path / "a.zarr"))) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert array.nchunks_initialized == 8 * 2048
    assert np.array_equal(array[...], np.broadcast_to(np.repeat(np.arange(1, 9), 8), GRID))
    assert len(files(tmp_path / "a.zarr")) == GRID[0] + 2
    with h5py.File(tmp_path / "a.zarr" / "c" / "3.h5") as file:
        assert len(file) == 2048


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(silence_logs=40, **options) as made, Client(made, set_as_default=False) as client:
        yield client


@pytest.mark.cluster
def test_a_cluster_writes_and_reads(tmp_path: Path, cluster: Client) -> None:
    values = np.random.default_rng(3).integers(0, 99, (6, 80, 80)).astype("i4")
    store = H5ShardStore(tmp_path / "a.zarr")
    target = zarr.create_array(store, shape=values.shape, chunks=(1, 8, 8), dtype="i4")
    with cluster.as_current():
        da.from_array(values, chunks=(1, 8, 40)).store(target, lock=False)
        back = da.from_zarr(zarr.open_array(H5ShardStore(tmp_path / "a.zarr", mode="r")))
        assert np.array_equal(back.compute(), values)
    assert target.nchunks_initialized == 600
    report = store.consolidate(scheduler=cluster)
    assert (report.chunks, report.ok) == (0, True)


def test_xarray_opens_and_h5z_writes_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("t", data=np.arange(600.0).reshape(10, 60), chunks=(5, 20))
        file["t"].attrs["units"] = "K"
        file["x"] = np.arange(60)
        file["x"].make_scale("x")
        file["t"].dims[1].attach_scale(file["x"])
    store = H5ShardStore(tmp_path / "out.zarr")
    report = h5z.convert(tmp_path / "in.h5", store, verify="full", chunks={"/t": (5, 60)})
    assert report.ok
    assert h5z.convert(tmp_path / "in.h5", store, chunks={"/t": (5, 60)}).status == "unchanged"
    with xr.open_zarr(H5ShardStore(tmp_path / "out.zarr", mode="r")) as dataset:
        assert dataset["t"].attrs["units"] == "K"
        assert np.array_equal(dataset["t"], np.arange(600.0).reshape(10, 60))
    assert {"t/c/0/0", "t/c/1/0"} <= set(files(tmp_path / "out.zarr"))  # loose: their array's metadata came after them
    with xr.open_zarr(H5ShardStore(tmp_path / "out.zarr"), chunks={}) as dataset:
        (dataset * 2).to_zarr(H5ShardStore(tmp_path / "twice.zarr"), mode="w")
    assert float(xr.open_zarr(H5ShardStore(tmp_path / "twice.zarr"))["t"][9, 59]) == 599 * 2


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_consolidated_in_place_and_taken_apart_again(layout: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    expected = fill(zarr.open_group(LocalStore(folder), mode="w", zarr_format=layout["zarr_format"]), layout)
    before, listed = contents(folder), keys(LocalStore(folder))
    seen: list[tuple[int, int]] = []
    report = shards.consolidate(folder, progress=lambda done, of: seen.append((done, of)))
    assert report.ok
    assert report.chunks == sum(is_chunk(name) and "scalar" not in name for name in before)
    assert seen[-1][0] == seen[-1][1] == report.nbytes
    store = H5ShardStore(folder, mode="r")
    assert keys(store) == listed
    assert len(files(folder)) < len(before) / 3
    group = zarr.open_group(store, mode="r")
    assert all(np.array_equal(group[name][...], values) for name, values in expected.items())
    assert shards.consolidate(folder).chunks == 0
    assert shards.check(folder).chunks == report.chunks

    made = export(store, tmp_path / "v3.zarr")
    assert made.ok
    plain = zarr.open_group(LocalStore(tmp_path / "v3.zarr"), mode="r", zarr_format=3)
    for name, values in expected.items():
        assert np.array_equal(plain[name][...], values), name
        assert plain[name].attrs["units"] == "K"
        assert plain[name].chunks == group[name].chunks
        assert values.ndim == 0 or plain[name].shards is not None
    assert len(files(tmp_path / "v3.zarr")) <= len(files(folder)) + 3

    again = H5ShardStore(folder).unconsolidate()
    assert again.chunks == report.chunks
    assert contents(folder) == before
    assert not [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_exported_names_of_dimensions_and_inner_shards(tmp_path: Path) -> None:
    dataset = xr.Dataset({"t": (("y", "x"), np.arange(12.0).reshape(3, 4), {"units": "K"})}, {"x": np.arange(4)})
    dataset.to_zarr(tmp_path / "v2.zarr", zarr_format=2, consolidated=True)
    shards.consolidate(tmp_path / "v2.zarr")
    export(tmp_path / "v2.zarr", tmp_path / "v3.zarr")
    assert xr.open_zarr(tmp_path / "v3.zarr", consolidated=False).identical(dataset)
    store = H5ShardStore(tmp_path / "inner.zarr")
    array = zarr.create_array(store, shape=(64, 64), chunks=(4, 4), shards=(32, 32), dtype="u2")
    array[5:40, 5:40] = 7
    export(store, tmp_path / "outer.zarr")
    out = zarr.open_array(LocalStore(tmp_path / "outer.zarr"), mode="r")
    assert (out.shards, out.chunks) == ((32, 32), (4, 4))
    assert np.array_equal(out[...], array[...])


def test_export_refuses_what_it_cannot_do_before_it_writes(tmp_path: Path) -> None:
    zarr.create_array(LocalStore(tmp_path / "a.zarr"), shape=(4,), chunks=(2,), dtype="i4")
    (tmp_path / "there").mkdir()
    with pytest.raises(TargetExistsError):
        export(tmp_path / "a.zarr", tmp_path / "there")
    with pytest.raises(PlanError, match="lies inside its source"):
        export(tmp_path / "a.zarr", tmp_path / "a.zarr" / "b")
    with pytest.raises(PlanError, match="local folder"):
        export(tmp_path / "a.zarr", "s3://bucket/a")
    with pytest.raises(SourceError, match="expected a Zarr hierarchy"):
        export(tmp_path / "there", tmp_path / "b.zarr")
    with pytest.raises(SourceError, match="found nothing"):
        shards.consolidate(tmp_path / "nowhere")
    assert files(tmp_path) == ["a.zarr/zarr.json"]


def test_consolidating_needs_little_more_disk_than_the_chunks_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = zarr.create_array(
        LocalStore(tmp_path / "a.zarr"), shape=(4, 512, 512), chunks=(1, 64, 64), dtype="f4", compressors=None
    )
    array[...] = np.random.default_rng(0).random(array.shape)
    monkeypatch.setattr(shards, "BATCH_NBYTES", 64 << 10)
    used: list[int] = []
    put_many = Container.put_many

    def spying(self: Container, items: Any, **options: Any) -> int:
        count = put_many(self, items, **options)
        used.append(sum(path.stat().st_size for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()))
        return count

    before = sum(path.stat().st_size for path in (tmp_path / "a.zarr").rglob("*") if path.is_file())
    monkeypatch.setattr(Container, "put_many", spying)
    assert shards.consolidate(tmp_path / "a.zarr", scheduler="sync").chunks == 256
    assert len(used) == 64
    assert max(used) < before + (64 << 10) + 256 * 400  # a batch, and what containers take beside their members


CALL = "import sys; from h5z import shards; getattr(shards, sys.argv[1])(sys.argv[2], scheduler='threads', workers=2)"


@pytest.mark.parametrize("action", ["consolidate", "unconsolidate"])
def test_killed_and_called_again_it_ends_and_nothing_is_lost(tmp_path: Path, action: str) -> None:
    folder = tmp_path / "a.zarr"
    array = zarr.create_array(LocalStore(folder), shape=(8, 96, 96), chunks=(1, 8, 8), dtype="f4", compressors=None)
    values = np.random.default_rng(0).random(array.shape).astype("f4")
    array[...] = values
    if action == "unconsolidate":
        shards.consolidate(folder)
    kills = 0
    for attempt in range(100):
        process = subprocess.Popen([sys.executable, "-c", CALL, action, str(folder)])
        before = len(files(folder))
        while process.poll() is None and abs(len(files(folder)) - before) < 150 * (attempt + 1):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        forget_all("")
        assert np.array_equal(zarr.open_array(H5ShardStore(folder, mode="r"))[...], values)
    assert kills >= 2
    assert np.array_equal(zarr.open_array(H5ShardStore(folder, mode="r"))[...], values)
    assert shards.check(folder).ok
    left = [name for name in files(folder) if not name.endswith(".partial")]
    assert len(left) == (10 if action == "consolidate" else 1153)


@pytest.mark.parametrize(("case", "least"), [("consolidate", 30), ("unconsolidate", 30), ("write", 6)])
def test_killed_at_each_of_its_writes_nothing_is_lost(case: str, least: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.killed_writes", case, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= least


def test_damage_is_named_and_repaired_as_far_as_it_can_be(tmp_path: Path, cli: Run, cli_here: Run) -> None:
    folder = tmp_path / "a.zarr"
    array = zarr.create_array(LocalStore(folder), shape=(4, 16, 16), chunks=(1, 8, 8), dtype="i4", compressors=None)
    array[...] = 1
    done = cli("shards", "consolidate", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chunks"] == 16
    assert cli_here("shards", "check", folder).returncode == 0
    path = folder / "c" / "1.h5"
    raw = bytearray(path.read_bytes())
    raw[Container(str(path)).entries()["1.0"].address + 5] ^= 1
    path.write_bytes(raw)
    done = cli_here("shards", "check", folder)
    assert done.returncode == 1
    assert f"{path}: 1.0: expected CRC-32" in done.stdout
    done = cli_here("shards", "unconsolidate", folder)
    assert done.returncode == 3
    assert "1.0" in done.stderr
    assert path.exists()
    done = cli_here("shards", "check", folder, "--repair")
    assert "written anew with 3 chunks; 1 lost, the damaged file is 1.h5.damaged" in done.stdout
    assert (folder / "c" / "1.h5.damaged").read_bytes() == raw
    assert cli_here("shards", "check", folder).returncode == 0
    done = cli_here("shards", "export", folder, tmp_path / "plain.zarr")
    assert done.returncode == 0, done.stderr
    out = zarr.open_array(LocalStore(tmp_path / "plain.zarr"), mode="r")[...]
    assert (out[1, 8:, :8] == 0).all()
    assert out.sum() == 4 * 256 - 64
    assert cli_here("shards", "export", folder, tmp_path / "plain.zarr").returncode == 4
    assert cli_here("shards", "check", tmp_path / "nowhere").returncode == 3
    assert cli_here("shards", "consolidate", folder, "--depth", "1").returncode == 2


def test_a_writer_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    import fcntl

    store = H5ShardStore(tmp_path / "a.zarr", lock_timeout=0.1)
    array = zarr.create_array(store, shape=(4,), chunks=(2,), dtype="i4")
    array[...] = 1
    with open(tmp_path / "a.zarr" / "c.h5") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match="locked by another"):
            array[...] = 2
        assert (array[...] == 1).all()


def test_a_folder_is_as_good_from_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = H5ShardStore("a.zarr")
    zarr.create_array(store, shape=(4,), chunks=(2,), dtype="i4")[...] = 1
    monkeypatch.chdir("/")
    assert os.path.isabs(store.root)
    assert (zarr.open_array(store)[...] == 1).all()
    assert store == H5ShardStore(tmp_path / "a.zarr")
    assert store != ShardFolder(store.root)


@pytest.mark.parametrize("verb", ["consolidate", "unconsolidate", "check"])
def test_a_folder_that_is_no_hierarchy(verb: str, tmp_path: Path, cli_here: Run) -> None:
    """A path that was mistyped is not a store without chunks; no path at all is not the folder where one is."""
    done = cli_here("shards", verb, tmp_path)
    assert (done.returncode, done.stderr) == (3, f"h5z: {tmp_path}: expected a Zarr hierarchy, found none\n")
    assert cli_here("shards", verb, "").returncode == 2
