"""Where objects are saved: only there, all or nothing, whatever is beside, whoever else saves, whenever the process dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

import h5z
from h5z.errors import H5zError, MissingKeyError, PlanError, TargetError, TargetExistsError, TransientError
from h5z.objects import stage

from .same import assert_same

OLD = {"a": {"x": np.arange(6), "y": "old", "only old": 1}, "keep": np.arange(3.0)}
NEW = {"x": np.arange(9.0).reshape(3, 3), "y": ["new", None]}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with something in it."""
    h5z.save(OLD, tmp_path / "x.zarr")
    return tmp_path / "x.zarr"


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def test_a_key_replaces_only_itself(store: Path) -> None:
    before = stamps(store)
    h5z.save(NEW, store, key="a")
    assert_same(h5z.load(store), {"a": NEW, "keep": OLD["keep"]})
    assert {path for path in before if stamps(store).get(path) != before[path]} == {p for p in before if p.startswith("a/")}
    assert [path.name for path in store.parent.iterdir()] == ["x.zarr"]


def test_a_key_goes_beside_what_is_there(store: Path) -> None:
    before = stamps(store)
    h5z.save(1.5, store, key="a/deeper/still")
    assert all(stamps(store)[path] == stamp for path, stamp in before.items())
    assert_same(h5z.load(store, "a"), {**OLD["a"], "deeper": {"still": 1.5}})  # type: ignore[dict-item]
    h5z.save({"z": 1}, store, key=("a", "deeper", 7))
    assert h5z.load(store, ("a", "deeper")) == {7: {"z": 1}, "still": 1.5}


def test_without_a_key_the_whole_is_replaced(store: Path) -> None:
    h5z.save([1, "x"], store)
    assert h5z.load(store) == [1, "x"]
    assert not (store / "keep").exists()


def test_other_tools_read_what_is_there(store: Path) -> None:
    h5z.save({"n": 3, "t": "ß", "flag": True, "c": 1j, "l": [1, 2], "m": {"deep": np.eye(2)}}, store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        root = zarr.open_group(store, mode="r")
        assert (root["n"][()], root["t"][()], root["flag"][()], root["c"][()]) == (3, "ß", True, 1j)  # type: ignore[index]
        assert root["l"][:].tolist() == [1, 2]  # type: ignore[index, union-attr]
        assert np.array_equal(root["m/deep"][:], np.eye(2))  # type: ignore[index]
        assert {path for path, _ in root.members(max_depth=None)} == {"n", "t", "flag", "c", "l", "m", "m/deep"}


def test_what_other_tools_add_is_loaded(store: Path) -> None:
    root = zarr.open_group(store, mode="a")
    root["a/made"] = np.arange(4)
    root.create_group("50%").create_array("b", data=np.array(2.5))
    root["keep"][0] = -1  # type: ignore[index]
    found = h5z.load(store)
    assert found["50%"] == {"b": 2.5}
    assert h5z.load(store, "50%/b") == 2.5
    assert found["a"]["made"].tolist() == [0, 1, 2, 3]
    assert found["keep"].tolist() == [-1, 1, 2]
    h5z.save("replaced", store, key="a/made")
    assert h5z.load(store, "a/made") == "replaced"


def test_a_migrated_store_is_loaded_and_saved_into(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["g/x"] = np.arange(10.0)
        file["g"].attrs["units"] = "m"
        file["name"] = "text"
    h5z.convert(tmp_path / "in.h5", tmp_path / "x.zarr")
    assert_same(h5z.load(tmp_path / "x.zarr", "g/x"), np.arange(10.0))
    assert str(h5z.load(tmp_path / "x.zarr")["name"]) == "text"
    h5z.save({"mean": 4.5}, tmp_path / "x.zarr", key="g/statistics")
    assert h5z.load(tmp_path / "x.zarr", "g/statistics/mean") == 4.5
    assert zarr.open_consolidated(tmp_path / "x.zarr")["g/statistics/mean"][()] == 4.5  # type: ignore[index]
    with pytest.raises(TargetExistsError, match="found another Zarr hierarchy"):
        h5z.save(1, tmp_path / "x.zarr")
    h5z.save(1, tmp_path / "x.zarr", overwrite=True)
    assert h5z.load(tmp_path / "x.zarr") == 1


def test_zarr_format_2_is_loaded_and_not_written_to(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    root.create_array("g/a", data=np.arange(3))
    root.create_array("s", data=np.array(2))
    assert_same(h5z.load(tmp_path / "x.zarr"), {"g": {"a": np.arange(3)}, "s": np.int64(2)})
    assert_same(h5z.load(tmp_path / "x.zarr", "g/a"), np.arange(3))
    with pytest.raises(MissingKeyError):
        h5z.load(tmp_path / "x.zarr", "nothing")
    with pytest.raises(TargetExistsError, match="format 2"):
        h5z.save(1, tmp_path / "x.zarr", key="new")


REFUSED: dict[str, tuple[Callable[[Path], Any], type[H5zError], str]] = {
    "key in a list": (lambda p: h5z.save(1, p, key="list/0"), PlanError, "list: expected a dict to save into"),
    "key in an array": (lambda p: h5z.save(1, p, key="a/x/y"), PlanError, "a/x: expected a dict to save into"),
    "other data": (lambda p: h5z.save(1, p.parent / "folder"), TargetExistsError, "other data, which is never overwritten"),
    "other data by key": (lambda p: h5z.save(1, p, key="junk"), TargetExistsError, "other data, which is never overwritten"),
    "other data, overwriting": (
        lambda p: h5z.save(1, p.parent / "folder", overwrite=True),
        TargetExistsError,
        "other data, which is never overwritten",
    ),
    "a file": (lambda p: h5z.save(1, p.parent / "file"), TargetExistsError, "found a file"),
    "dots": (lambda p: h5z.save(1, p, key="../y"), PlanError, "expected names joined with slashes"),
    "dots as a key": (lambda p: h5z.load(p, ("..", "x.zarr", "keep")), MissingKeyError, "expected the key .., found"),
    "key of another type": (lambda p: h5z.save(1, p, key=5), PlanError, "expected text such as"),
    "missing": (lambda p: h5z.load(p, "a/z"), MissingKeyError, "expected the key a/z, found only old, x, y"),
    "nothing there": (lambda p: h5z.load(p.parent / "none"), TargetError, "expected a Zarr hierarchy, found none"),
    "a file to load": (lambda p: h5z.load(p.parent / "file"), TargetError, "expected a Zarr hierarchy, found none"),
    "chunks of no rank": (lambda p: h5z.save(OLD, p, chunks=(1, 2, 3)), PlanError, "chunks"),
    "chunks of nothing": (lambda p: h5z.save(OLD, p, chunks={"none": (1,)}), PlanError, "matches no dataset"),
    "codec": (lambda p: h5z.save(OLD, p, codec="zst"), PlanError, "codec: expected one of zstd"),
    "read-only": (lambda p: h5z.save(1, LocalStore(p, read_only=True), key="q"), TargetError, "read-only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_and_nothing_changed(name: str, store: Path) -> None:
    call, kind, message = REFUSED[name]
    h5z.save([1, "a"], store, key="list")
    (store / "junk").mkdir()
    (store / "junk" / "data.bin").write_bytes(b"1")
    (store.parent / "folder").mkdir()
    (store.parent / "folder" / "thesis.txt").write_text("x")
    (store.parent / "file").write_text("x")
    before = stamps(store.parent)
    with pytest.raises(kind, match=message) as error:
        call(store)
    assert "\n" not in str(error.value)
    assert stamps(store.parent) == before


def test_damage_is_named_in_one_line(store: Path) -> None:
    document = json.loads((store / "a" / "y" / "zarr.json").read_text())
    for change in (
        {"attributes": {"h5z": {"object": {"type": "unheard of"}}}},
        {"attributes": {"h5z": {"object": {"type": "timedelta"}}}},
        {"attributes": {"h5z": {"object": {"type": "list", "of": "str", "levels": ["list", "set"]}}}},
        {"attributes": {"h5z": {"object": {"type": "ndarray", "dtype": "<f99", "form": "plain"}}}},
        {"data_type": "float128"},
        {"codecs": []},
    ):
        (store / "a" / "y" / "zarr.json").write_text(json.dumps({**document, **change}))
        with pytest.raises(TargetError, match="a/y: cannot be read") as error:
            h5z.load(store)
        assert "\n" not in str(error.value)
        assert h5z.load(store, "keep").tolist() == [0, 1, 2]
    (store / "a" / "y" / "zarr.json").write_text("{")
    with pytest.raises(TargetError, match=r"a/y: its zarr.json is damaged"):
        h5z.load(store)


_KILLER = """
import os, sys
import numpy as np
import h5z
from h5z.objects import stage

sys.path.insert(0, os.path.dirname(sys.argv[1]))
folder, mode, key = sys.argv[2], sys.argv[3], sys.argv[4] or None
NEW = {"x": np.arange(9.0).reshape(3, 3), "y": ["new", None]}
h5z.save({}, folder + ".warm")
if mode == "two steps":
    stage.exchange = lambda a, b: False
number = int(sys.argv[5])
while True:
    child = os.fork()
    if child == 0:
        left = number
        def hook(event, arguments):
            global left
            if event == "ctypes.dlsym" or any(os.path.dirname(folder) in str(item) for item in arguments):
                left -= 1
                if left < 0:
                    os._exit(9)
        sys.addaudithook(hook)
        h5z.save(NEW, folder, key=key)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status != 9:
        break
    sys.stdin.readline()
    number += int(sys.argv[6])
"""
KILLS_APART = int(os.environ.get("H5Z_KILLS_APART", "8"))  # 1 kills at every step


@pytest.mark.parametrize(
    ("mode", "key"), [("exchange", "a"), ("two steps", "a"), ("exchange", ""), ("two steps", ""), ("exchange", "new/deep")]
)
def test_killed_anywhere_it_is_the_old_or_the_new(mode: str, key: str, store: Path) -> None:
    old = h5z.load(store)
    new = NEW if not key else {**old, "a": NEW} if key == "a" else {**old, "new": {"deep": NEW}}
    command = [sys.executable, "-c", _KILLER, __file__, str(store), mode, key, "0", str(KILLS_APART)]
    seen = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if mode == "exchange":  # others find the one or the other too, at any moment
                    root = zarr.open_group(store, mode="r")
                    assert {path for path, _ in root.members()} in (set(old), set(new))
            found = h5z.load(store)
            is_new = _same(found, new)
            assert is_new or _same(found, old)
            seen.append(is_new)
            if int(line) != 9:
                break
            child.stdin.write("\n")
            child.stdin.flush()
    assert int(line) == 0
    assert seen[-1]
    assert seen.count(False) > 40 // KILLS_APART
    assert sorted(path.name for path in store.parent.iterdir()) == ["x.zarr", "x.zarr.warm"]


def _same(a: Any, b: Any) -> bool:
    try:
        assert_same(a, b)
    except AssertionError:
        return False
    return True


class Dying(MemoryStore):
    """A store whose writer dies after so many writes."""

    left = 10**9

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        self._count()
        await super().set(key, value)

    async def delete(self, key: str) -> None:
        self._count()
        await super().delete(key)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


@pytest.mark.parametrize("key", ["a", "", "new/deep"])
def test_killed_where_nothing_can_be_renamed(key: str) -> None:
    new: Any = NEW if not key else {**OLD, "a": NEW} if key == "a" else {**OLD, "new": {"deep": NEW}}
    seen = []
    for number in range(200):
        store = Dying()
        h5z.save(OLD, store)
        store.left = number
        try:
            h5z.save(NEW, store, key=key or None)
            done = True
        except RuntimeError:
            done = False
        store = Dying(dict(store._store_dict))  # what others still write on behalf of the dead goes nowhere
        found = h5z.load(store)
        seen.append(_same(found, new))
        assert seen[-1] or _same(found, OLD) or (key.startswith("new") and _same(found, {**OLD, "new": {}}))
        h5z.save(NEW, store, key=key or None)
        assert_same(h5z.load(store), new)
        assert not [path for path in store._store_dict if path.startswith(".h5z/")]
        if done:
            break
    assert seen.count(False) > 5
    assert seen[-1]


_SAVER = """
import sys
import numpy as np
import h5z
folder, name, count, same = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "same"
for i in range(count):
    n = name * 1000 + i
    h5z.save({"n": n, "array": np.full(2000, n), "below": {"n": n}}, folder, key="shared/key" if same else f"shared/{name}/{i}")
"""


def _savers(store: Path, count: int, same: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", _SAVER, str(store), str(i), str(count), same]) for i in range(3)]


def test_saves_to_other_keys_at_once(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    h5z.save({"first": 1}, store, consolidate=True)
    running = _savers(store, 8, "apart")
    assert [process.wait() for process in running] == [0, 0, 0]
    found = h5z.load(store)
    assert {name: sorted(map(int, items)) for name, items in found["shared"].items()} == {
        str(i): list(range(8)) for i in range(3)
    }
    assert all(item["n"] == item["array"][-1] for items in found["shared"].values() for item in items.values())
    root = zarr.open_consolidated(store)
    assert sum(path.endswith("/array") for path, _ in root.members(max_depth=None)) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_a_reader_sees_one_save_whole_while_others_replace_it(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    h5z.save({"n": 0, "array": np.zeros(2000, int), "below": {"n": 0}}, store, key="shared/key")
    running = _savers(store, 30, "same")
    seen = set()
    while any(process.poll() is None for process in running):
        try:
            found = h5z.load(store, "shared")["key"]
        except TransientError:  # replaced five times while it was read
            continue
        except MissingKeyError:  # not yet saved
            continue
        assert found["n"] == found["below"]["n"]
        assert (found["array"] == found["n"]).all()
        seen.add(found["n"])
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(seen) > 3
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_threads_of_one_process(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: h5z.save({"i": i}, store, key=f"a/b/{i}"), range(40)))
    assert h5z.load(store) == {"a": {"b": {str(i): {"i": i} for i in sorted(range(40), key=str)}}}


def test_a_live_save_is_not_taken_for_a_dead_one(store: Path) -> None:
    with stage.staging(store) as one:
        (one / "mine").write_text("x")
        h5z.save(1, store, key="q")
        assert (one / "mine").exists()
    assert not one.exists()


def test_beside_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Root writes everywhere: what decides is asked of the function."""
    folder = tmp_path / "x.zarr"
    folder.mkdir()
    assert stage.base_of(folder) == tmp_path / ".x.zarr.h5z"
    if os.geteuid():
        tmp_path.chmod(0o500)
        try:
            assert stage.base_of(folder) == folder / ".h5z" / "save"
            h5z.save(1, folder, key="a")
            assert h5z.load(folder) == {"a": 1}
        finally:
            tmp_path.chmod(0o700)


def test_through_a_symbolic_link(store: Path) -> None:
    (store.parent / "link.zarr").symlink_to(store)
    h5z.save(NEW, store.parent / "link.zarr")
    assert_same(h5z.load(store), NEW)
    assert (store.parent / "link.zarr").is_symlink()


def test_saving_a_key_keeps_or_makes_consolidated_metadata(store: Path) -> None:
    h5z.save(1, store, key="new/x", consolidate=True)
    assert "new/x" in dict(zarr.open_consolidated(store).members(max_depth=None))
    h5z.save(1, store, key="new/y")
    assert "new/y" in dict(zarr.open_consolidated(store).members(max_depth=None))
    h5z.save(1, store, key="new/z", consolidate=False)
    assert "consolidated_metadata" not in json.loads((store / "zarr.json").read_text())
    assert h5z.load(store, "new") == {"x": 1, "y": 1, "z": 1}


def test_chunks_codecs_and_shards_as_asked(tmp_path: Path) -> None:
    value = {"raw": np.arange(10_000.0).reshape(100, 100), "deep": {"line": np.arange(50_000)}, "text": np.array(["a"] * 500)}
    options: dict[str, Any] = {"chunks": {"raw": (10, 100), "deep/*": (1000,)}, "codec": {"raw": "gzip:6"}}
    h5z.save(value, tmp_path / "x.zarr", shards={"deep/line": (5000,)}, **options)
    root = zarr.open_group(tmp_path / "x.zarr")
    assert (root["raw"].chunks, root["deep/line"].chunks, root["deep/line"].shards) == ((10, 100), (1000,), (5000,))  # type: ignore[union-attr]
    assert "Gzip" in str(root["raw"].compressors)  # type: ignore[union-attr]
    assert_same(h5z.load(tmp_path / "x.zarr"), value)
    for codec in ("zstd:9", "blosc-lz4:5", "none", None, "lz4", zarr.codecs.ZstdCodec(level=2)):
        h5z.save(value, tmp_path / "x.zarr", codec=codec)
        assert_same(h5z.load(tmp_path / "x.zarr"), value)
