"""Digests of values, targets that are verified alone, and repairs."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import h5z
from h5z.digest import Digest, digest, total
from h5z.errors import PlanError, TargetError
from h5z.grid import ChunkGrid
from tests.running import Run

MASK = (1 << 64) - 1


def mixed(n: int) -> int:
    """splitmix64's output for a state, made odd: as its authors give it."""
    z = (n + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return (z ^ z >> 31) | 1


def key(lane: int, axis: int, index: int) -> int:
    low, high = mixed((128 * lane + 2 * axis << 48) + index % 65536), mixed((128 * lane + 2 * axis + 1 << 48) + index // 65536)
    return low * high & MASK


def by_the_book(values: Any, start: tuple[int, ...]) -> str:
    """The digest as its definition reads, element by element."""
    lanes = [0, 0]
    size = values.dtype.itemsize
    for index in np.ndindex(values.shape):
        data = values[index].tobytes()
        index = tuple(i + s for i, s in zip(index, start, strict=True))
        if size in (1, 2) and index:  # neighbours share a word
            data = bytes(index[-1] % (4 // size) * size) + data
            index = (*index[:-1], index[-1] // (4 // size))
        data += bytes(-len(data) % 4)
        for word, number in enumerate(struct.unpack(f"<{len(data) // 4}I", data)):
            for lane in (0, 1):
                weight = key(lane, 62, word)
                for axis, i in enumerate(index):
                    weight = weight * key(lane, axis, i) & MASK
                lanes[lane] = (lanes[lane] + number * weight) & MASK
    return "".join(f"{lane:016x}" for lane in lanes)


def at(values: Any, start: tuple[int, ...]) -> Digest:
    return digest(values, tuple(slice(s, s + n) for s, n in zip(start, values.shape, strict=True)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["i1", "<u2", "<f4", "<i8", "<c16", "S3", "S8", "<f2", [("a", "i1"), ("b", "<f8")]]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, max_side=5),
    st.data(),
)
def test_digest_is_what_its_definition_says(dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=dtype.itemsize * math.prod(shape), max_size=dtype.itemsize * math.prod(shape)))
    start = tuple(data.draw(st.sampled_from([0, 3, 65530, 1 << 40])) for _ in shape)
    values = np.frombuffer(raw, dtype).reshape(shape)
    assert str(at(values, start)) == by_the_book(values, start)


@pytest.mark.parametrize(
    "shape", [(300_000,), (3, 70_000), (5, 40_000, 2), (70_000, 3), (2, 3, 65_537), (100_000, 1), (1, 200_000)]
)
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4", ">f8"])
def test_parts_add_up_to_the_whole(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    values = np.frombuffer(rng.bytes(math.prod(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    whole = at(values, (0,) * len(shape))
    cell = tuple(int(rng.integers(1, n + 1)) if n > 50 else 2 for n in shape)
    grid = ChunkGrid(shape, cell)
    assert total(digest(values[r], r) for r in map(grid.region, grid.indices())) == whole
    assert at(values.astype(values.dtype.newbyteorder()), (0,) * len(shape)) == whole
    assert at(np.asfortranarray(values), (0,) * len(shape)) == whole
    swapped = values.copy().reshape(-1)
    swapped[[0, -1]] = swapped[[-1, 0]]
    assert at(swapped.reshape(shape), (0,) * len(shape)) != whole or swapped[0] == swapped[-1]


def test_digests_of_text() -> None:
    words = np.array(["", "a", "ä", "\x00", "long " * 99], object)
    assert at(words, (0,)) == at(words.astype(np.dtypes.StringDType()), (0,)) == at(words[:2], (0,)) + at(words[2:], (2,))
    assert at(words, (0,)) != at(words[::-1], (0,))
    assert at(np.array(["", ""], object), (0,)) == Digest()


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_scalar_of_bytes(tmp_path: Path, zarr_format: int) -> None:
    """Text by its datatype, and not UTF-8: what zarr reads of it, numpy would take for an array of fixed length."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("latin", data="grün".encode("latin-1"), dtype=h5py.string_dtype())
        file.create_dataset("empty", data=b"", dtype=h5py.string_dtype())
    options: dict[str, Any] = {"zarr_format": zarr_format, "strings": "bytes", "verify": "full"}
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", **options).ok
    assert h5z.verify(tmp_path / "out.zarr").ok


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=rng.normal(size=(40, 30)).astype(">f4"), chunks=(10, 10), compression=4, shuffle=True)
        file.create_dataset("holes", shape=(100,), dtype="i4", chunks=(10,), fillvalue=-1)[25:45] = 7
        file["group/words"] = ["a", "ünï", "", "long" * 20]
        file["group/scalar"] = 3.5
        file["group/table"] = np.zeros(5, [("a", "i1"), ("b", ">f8")])
        file["empty"] = np.zeros((0, 3))
    return path


POLICIES: dict[str, dict[str, Any]] = {
    "auto": {},
    "recoded": {"chunks": "source", "codec": "blosc-lz4:1"},
    "sharded": {"chunks": {"/x": (5, 5)}, "shards": {"/x": (20, 20)}, "codec": "zstd"},
    "copied": {"chunks": "source", "codec": "keep"},
    "regridded": {"chunks": {"/x": (40, 3)}, "codec": None},
    "v2": {"zarr_format": 2, "chunks": {"/x": (7, 30)}},
}


def digests_of(target: Path) -> dict[str, str]:
    group = zarr.open_group(target, mode="r")
    arrays = {name: node for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    return {name: dict(array.attrs["h5z"]).get("digest", "") for name, array in arrays.items()}  # type: ignore[arg-type]


def test_digests_do_not_depend_on_how_a_target_is_stored(source: Path, tmp_path: Path) -> None:
    found = []
    for name, policy in POLICIES.items():
        h5z.convert(source, tmp_path / name, verify="full", **policy)
        found.append(digests_of(tmp_path / name))
        assert h5z.verify(tmp_path / name).status == "verified"
    assert all(item == found[0] for item in found)
    assert all(len(text) == 32 for text in found[0].values())
    with h5py.File(source) as file:
        assert found[0]["x"] == str(at(file["x"][()], (0, 0)))


def test_what_crosses_unread_has_a_digest_once_it_is_verified(source: Path, tmp_path: Path) -> None:
    report = h5z.convert(source, tmp_path / "out", **POLICIES["copied"])
    assert digests_of(tmp_path / "out")["x"] == ""
    assert digests_of(tmp_path / "out")["holes"] == ""
    assert digests_of(tmp_path / "out")["group/words"]
    report = h5z.verify(tmp_path / "out")
    assert report.ok
    assert "2 arrays carry no digest" in str(report)


def test_a_rechunked_copy_still_verifies(source: Path, tmp_path: Path) -> None:
    h5z.convert(source, tmp_path / "out", codec="zstd:1")
    old, new = zarr.open_group(tmp_path / "out", mode="r"), zarr.open_group(tmp_path / "new", mode="w")
    new.attrs.update(old.attrs)
    for name in ("x", "holes"):
        array: Any = old[name]
        new.create_array(name, data=array[...], chunks=(9,) * array.ndim, attributes=dict(array.attrs))
    assert [(item.path, item.found) for item in h5z.verify(tmp_path / "new").differences] == [
        (path, "none") for path in ("/group/scalar", "/group/table", "/group/words")
    ]
    array = zarr.open_array(tmp_path / "new" / "x", mode="r+")
    array[3, 4] = -array[3, 4]
    assert "/x" in {item.path for item in h5z.verify(tmp_path / "new").differences}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", POLICIES)
def test_any_damage_is_found_alone_and_repaired_to_the_byte(name: str, source: Path, tmp_path: Path) -> None:
    """Bytes flipped, objects taken away, cut short, put where none belongs; a document too."""
    target = tmp_path / "out"
    h5z.convert(source, target, verify="full", **POLICIES[name])
    before = tree(target)
    rng = np.random.default_rng(3)
    keys = [key for key in before if not key.rpartition("/")[2].startswith((".z", "zarr.json"))]
    assert len(keys) > 3
    for key in keys:
        raw = bytearray(before[key])
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        (target / key).write_bytes(raw)
        changed = h5z.verify(source, target)
        assert not changed.ok, key
        alone = h5z.verify(target)
        assert not alone.ok or "other bytes" in str(alone), key
        (target / key).write_bytes(before[key])
    (target / keys[0]).unlink()
    (target / keys[-1]).write_bytes(before[keys[-1]][:3])
    if name in ("copied", "recoded"):
        (target / "holes/c/9").write_bytes(before["holes/c/2"])
    document = target / ("group/scalar/.zarray" if name == "v2" else "group/scalar/zarr.json")
    document.write_text("{")
    report = h5z.verify(source, target, repair=True)
    assert (report.status, report.ok) == ("repaired", True), report
    assert tree(target) == before
    assert "units written anew" in str(report)
    assert h5z.verify(source, target, repair=True).status == "verified"


def test_repair_touches_only_what_differs(source: Path, tmp_path: Path, cli_here: Run) -> None:
    target = tmp_path / "out"
    h5z.convert(source, target, **POLICIES["recoded"])
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    (target / "x/c/1/1").write_bytes(b"")
    assert cli_here("verify", source, target, "--repair").returncode == 0
    changed = {path for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {target / "x/c/1/1"}


def test_repair_leaves_an_unfinished_successor_as_it_is(source: Path, tmp_path: Path) -> None:
    """What an overwrite that was broken off had done is gone on with after the repair, and is named."""

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    target, anew = tmp_path / "out", {"chunks": (2, 2), "overwrite": True, "unmatched": "report", "memory": "8KiB", "workers": 1}
    h5z.convert(source, target, **POLICIES["recoded"])
    before = tree(target)
    with pytest.raises(KeyboardInterrupt):
        h5z.convert(source, target, progress=stop, **anew)
    begun = {path for path in tree(target) if ".h5z/new/" in str(path)}
    assert begun
    (target / "x/c/1/1").write_bytes(b"")
    report = h5z.verify(source, target, repair=True)
    assert (report.status, report.ok) == ("repaired", True), report
    assert "an unfinished migration" in str(report)
    after = tree(target)
    assert {path: after[path] for path in before} == before
    assert begun <= set(after)
    assert h5z.convert(source, target, verify="full", **anew).status == "converted"


def test_no_repair_from_another_source(source: Path, tmp_path: Path, cli_here: Run) -> None:
    target = tmp_path / "out"
    h5z.convert(source, target)
    before = tree(target)
    with h5py.File(source, "a") as file:
        file["x"][3, 3] = 1e9
    done = cli_here("verify", source, target, "--repair")
    assert done.returncode == 2
    assert "before it changed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert tree(target) == before
    with pytest.raises(PlanError, match="needs the source"):
        h5z.verify(target, repair=True)


def test_alone_bad_input(source: Path, tmp_path: Path, cli_here: Run) -> None:
    with pytest.raises(TargetError, match="found nothing"):
        h5z.verify(tmp_path / "none")
    zarr.open_group(tmp_path / "foreign", mode="w").create_array("x", data=np.arange(3))
    with pytest.raises(TargetError, match="carry digests"):
        h5z.verify(tmp_path / "foreign")
    h5z.convert(source, tmp_path / "out")
    done = cli_here("verify", tmp_path / "out", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "verified")
    next((tmp_path / "out/x").glob("c*")).unlink()
    done = cli_here("verify", tmp_path / "out")
    assert done.returncode == 1
    assert "differs: /x: digest of values" in done.stdout


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_fill_value_that_is_one_nan_of_many(tmp_path: Path, zarr_format: int) -> None:
    """Units that are not stored hold that one, by whose bits a store is compared with its own digests too."""
    odd = np.array([0x7FFFFFFFFFFFFFFF], "<u8").view("<f8")[0]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.full((8, 8), odd), chunks=(4, 4), fillvalue=odd)
    assert h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify="full", zarr_format=zarr_format).ok
    assert h5z.verify(tmp_path / "a.h5", tmp_path / "a.zarr").ok
    assert h5z.verify(tmp_path / "a.zarr").ok
