"""Containers: HDF5 files of opaque members that no kill breaks, and whose damage is never taken for data."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h5z.container import Container
from h5z.container.frames import MAGIC
from h5z.container.openfiles import forget_all, seal_all
from h5z.container.salvage import check, salvage
from h5z.errors import H5zError, PlanError, SourceError, TargetError
from h5z.hdf5.symboltable import View, hierarchy, superblock

HERE = Path(__file__).parent
PROGRAM = HERE / "killing.py"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "container.h5")


def shown(path: str) -> dict[str, bytes]:
    """What libhdf5 sees."""
    found: dict[str, bytes] = {}

    def visit(name: object, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[()]
            key = name if isinstance(name, str) else bytes(name).decode("utf-8", "surrogateescape")  # type: ignore[call-overload]
            found[key] = b"" if isinstance(values, h5py.Empty) else values.tobytes()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def everything(path: str) -> dict[str, bytes | None]:
    container = Container(path)
    return {key: container.get(key) for key in container.entries()}


def test_members_come_back_and_libhdf5_sees_them(path: str) -> None:
    members = {
        "0.0": b"\0" * 5,
        "1": b"",
        "µ 日本": os.urandom(70_000),
        "not \udcff UTF-8": b"x",
        "deep/er": b"below",
        "p" * 300: b"long",
    }
    container = Container(path)
    assert container.get("0.0") is None
    assert not container.exists()
    for key, data in members.items():
        assert container.put(key, data)
    assert everything(path) == members
    assert len(container.entries()) == len(members)
    container.seal()
    assert shown(path) == members
    assert isinstance(h5py.File(path)["0.0"][()], np.void)
    assert container.get("µ 日本", 10, 20) == members["µ 日本"][10:20]
    assert container.get("µ 日本", -7) == members["µ 日本"][-7:]
    forget_all("")
    assert everything(path) == members
    assert list(check(path)) == []


@pytest.mark.skipif(not shutil.which("h5dump"), reason="HDF5's own tools are not installed")
def test_hdf5_own_tools_read_it(path: str, tmp_path: Path) -> None:
    container = Container(path)
    for i in range(2000):  # more than one level of B-tree nodes
        container.put(f"{i // 50}.{i % 50}", str(i).encode() * (i % 5))
    container.seal()
    listing = subprocess.run(["h5ls", path], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(listing) == 2000
    dump = subprocess.run(["h5dump", "-d", "/39.47", path], capture_output=True, text=True, check=True).stdout
    assert "31:39:39:37:31:39:39:37" in dump  # 1997, twice
    subprocess.run(["h5repack", path, tmp_path / "packed.h5"], check=True)
    assert everything(str(tmp_path / "packed.h5")) == everything(path)


def test_replacing_deleting_and_giving_space_back(path: str) -> None:
    container = Container(path)
    for i in range(300):
        container.put("same", bytes([i % 256]) * 20_000)
        container.put(f"kept{i % 3}", str(i).encode())
    assert os.path.getsize(path) < 2_000_000
    assert everything(path) == {"same": bytes([299 % 256]) * 20_000, "kept0": b"297", "kept1": b"298", "kept2": b"299"}
    assert not container.put("kept0", b"other", replace=False)
    container.delete("same", "not there")
    assert "same" not in container
    container.compact()
    assert os.path.getsize(path) < 3000
    assert shown(path) == everything(path) == {"kept0": b"297", "kept1": b"298", "kept2": b"299"}
    container.delete("kept0", "kept1", "kept2")
    assert not os.path.exists(path)
    assert container.entries() == {}
    container.put("again", b"1")
    assert everything(path) == {"again": b"1"}


def test_a_file_cut_anywhere_in_its_last_frame_has_what_it_had_before(path: str, tmp_path: Path) -> None:
    container = Container(path)
    container.put("a", b"old a")
    container.seal()
    container.put("b", b"b" * 40)
    before = os.path.getsize(path)
    container.put("a", b"new a")
    whole = Path(path).read_bytes()
    for length in range(before, len(whole) + 1):
        cut = tmp_path / f"cut{length}.h5"
        cut.write_bytes(whole[:length])
        expected = {"a": b"new a" if length == len(whole) else b"old a", "b": b"b" * 40}
        assert everything(str(cut)) == expected, length
        assert shown(str(cut)) == {"a": b"old a"}
        Container(str(cut)).put("c", b"c")
        assert everything(str(cut)) == expected | {"c": b"c"}


def test_a_file_cut_in_what_was_indexed_is_an_error(path: str, tmp_path: Path) -> None:
    container = Container(path)
    for i in range(5):
        container.put(f"{i}", bytes(100))
    container.seal()
    whole = Path(path).read_bytes()
    for length in [*range(0, 60), *range(60, len(whole), 37)]:
        cut = tmp_path / f"cut{length}.h5"
        cut.write_bytes(whole[:length])
        for act in (lambda c: c.get("0"), lambda c: c.entries(), lambda c: c.put("new", b"1")):
            with pytest.raises(SourceError, match=r"cut short|no readable HDF5 file") as caught:
                act(Container(str(cut)))
            assert "\n" not in str(caught.value)
        assert cut.stat().st_size == length


def test_no_flipped_bit_is_taken_for_data(path: str, tmp_path: Path) -> None:
    container = Container(path)
    members = {f"{i}": os.urandom(60) for i in range(4)}
    for key, data in members.items():
        container.put(key, data)
    container.seal()
    container.put("4", b"after the index")
    members["4"] = b"after the index"
    whole = bytearray(Path(path).read_bytes())
    last = whole.rindex(MAGIC)
    flipped = tmp_path / "flipped.h5"
    for at in range(len(whole)):
        whole[at] ^= 0x10
        flipped.write_bytes(whole)
        whole[at] ^= 0x10
        forget_all("")
        for key, data in members.items():
            try:
                found = Container(str(flipped)).get(key)
            except SourceError:
                continue
            # The length of the last key: a head that is longer than what is there, as if its writer had been killed.
            assert found == data or (key == "4" and last + 6 <= at < last + 8), (at, key)


def test_zeros_at_the_end_are_what_a_loss_of_power_leaves(path: str) -> None:
    container = Container(path)
    container.put("a", b"1")
    with open(path, "ab") as file:
        file.write(bytes(5000))
    forget_all("")
    assert everything(path) == {"a": b"1"}
    assert [key for key, _ in check(path)] == [""]
    container.put("b", b"2")
    assert everything(path) == {"a": b"1", "b": b"2"}
    assert list(check(path)) == []


def test_check_finds_flipped_bits_that_nobody_reads(path: str) -> None:
    container = Container(path)
    container.put("key", b"older")
    container.seal()
    container.put("key", b"newer")
    container.put("gone", b"deleted")
    container.delete("gone")
    container.seal()
    whole = bytearray(Path(path).read_bytes())
    assert list(check(path)) == []
    heads = [at + i for at in range(len(whole)) if whole.startswith(MAGIC, at) for i in range(56)]  # with keys and contents
    for at in sorted({*heads, *range(0, len(whole), 11)} & set(range(len(whole)))):
        whole[at] ^= 1 << at % 8
        Path(path).write_bytes(whole)
        whole[at] ^= 1 << at % 8
        assert list(check(path)), at
    Path(path).write_bytes(whole[:-200])
    assert [key for key, _ in check(path)] == [""]


def test_damage_before_whole_frames_is_an_error(path: str) -> None:
    container = Container(path)
    for i in range(6):
        container.put(str(i), b"x" * 50)
    raw = bytearray(Path(path).read_bytes())
    third = [i for i in range(len(raw)) if raw.startswith(MAGIC, i)][3]
    raw[third + 9] ^= 1
    Path(path).write_bytes(raw)
    forget_all("")
    with pytest.raises(SourceError, match="damaged"):
        container.get("5")
    with pytest.raises(SourceError, match="damaged"):
        container.put("7", b"")
    assert [reason for _, reason in check(path)] != []
    found = salvage(path)
    assert (found.members, len(found.gaps)) == (5, 1)
    assert Path(found.aside).read_bytes() == raw
    assert set(everything(path)) == {"0", "1", "3", "4", "5"}
    assert list(check(path)) == []


@pytest.mark.parametrize("hurt", ["superblock", "index", "head"])
def test_salvage_without_index(path: str, hurt: str) -> None:
    container = Container(path)
    members = {f"key{i}": os.urandom(300) for i in range(20)}
    for key, data in members.items():
        container.put(key, data)
    container.delete("key7")
    container.put("key3", b"newer")
    container.seal()
    raw = bytearray(Path(path).read_bytes())
    if hurt == "superblock":
        raw[:48] = bytes(48)
    elif hurt == "index":
        raw[-500:] = bytes(500)
    else:
        raw[:2000] = os.urandom(2000)
    Path(path).write_bytes(raw)
    forget_all("")
    with pytest.raises(SourceError):
        container.entries()
    salvage(path)
    found = everything(path)
    del members["key7"]
    members["key3"] = b"newer"
    assert {key: data for key, data in found.items() if members[key] == data} == found
    assert found == members if hurt != "head" else len(found) >= 12
    assert shown(path) == found


def test_salvage_does_not_take_an_inner_container_for_its_own(path: str, tmp_path: Path) -> None:
    inner = Container(str(tmp_path / "inner.h5"))
    inner.put("secret", b"of another")
    container = Container(path)
    for i in range(3):
        container.put(f"{i}", Path(inner.path).read_bytes())
    raw = bytearray(Path(path).read_bytes())
    first = [i for i in range(len(raw)) if raw.startswith(MAGIC, i)][1]
    raw[first + 9] ^= 1
    raw[:48] = bytes(48)
    Path(path).write_bytes(raw)
    forget_all("")
    salvage(path)
    assert set(everything(path)) == {"1", "2"}


def test_what_libhdf5_wrote_is_read_and_rewritten(path: str) -> None:
    with h5py.File(path, "w") as file:
        file["0.0"] = np.void(b"opaque")
        file["0.1"] = np.void(b"\0tail\0")
        file.create_dataset("group/vector", data=np.arange(5, dtype="i1"))
        file.create_dataset("chunked", data=np.arange(100, dtype="u1"), chunks=(10,), compression="gzip")
        file.create_dataset("none", shape=(0,), dtype="i1")
    expected = {"0.0": b"opaque", "0.1": b"\0tail\0", "group/vector": bytes(range(5)), "chunked": bytes(range(100)), "none": b""}
    assert everything(path) == expected
    Container(path).put("new", b"1")
    assert everything(path) == expected | {"new": b"1"}
    Container(path).seal()
    assert shown(path) == expected | {"new": b"1"}


def test_a_container_that_libhdf5_has_changed_is_read_through_libhdf5(path: str) -> None:
    container = Container(path)
    container.put("a", b"1")
    container.seal()
    with h5py.File(path, "r+") as file:
        file["b"] = np.void(b"2")
    assert everything(path) == {"a": b"1", "b": b"2"}
    container.put("c", b"3")
    assert everything(path) == {"a": b"1", "b": b"2", "c": b"3"}


def test_wrong_calls_and_files_are_one_line(path: str, tmp_path: Path) -> None:
    for key in ("", "a\0b", "x" * 5000):
        with pytest.raises(PlanError, match="expected a key"):
            Container(path).put(key, b"")
    assert not os.path.exists(path)
    (tmp_path / "text.h5").write_text("no container")
    (tmp_path / "folder.h5").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("text.h5", "folder.h5", "pipe.h5"):
        for act in (lambda c: c.get("a"), lambda c: c.put("a", b"")):
            with pytest.raises(H5zError) as caught:
                act(Container(str(tmp_path / name)))
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)
    assert (tmp_path / "text.h5").read_text() == "no container"
    with pytest.raises(TargetError, match="cannot be created"):
        Container(str(tmp_path / "text.h5" / "below.h5")).put("a", b"")


def test_a_full_disk_leaves_the_file_as_it_was(path: str) -> None:
    container = Container(path)
    container.put("a", b"1")
    code = f"""
import resource, signal
from h5z.container import Container
from h5z.errors import TargetError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    Container({path!r}).put("big", bytes(100_000))
except TargetError as error:
    print(error)
Container({path!r}).put("small", b"2")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert everything(path) == {"a": b"1", "small": b"2"}


def test_a_lock_held_by_another_fails_loudly_and_ends_with_its_process(path: str) -> None:
    Container(path).put("a", b"1")
    code = f"import fcntl, time; f = open({path!r}); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    impatient = Container(path, lock_timeout=0.2)
    with pytest.raises(TargetError, match="locked by another writer"):
        impatient.put("b", b"2")
    assert impatient.get("a") == b"1"  # readers take no lock
    holder.kill()
    holder.wait()
    impatient.put("b", b"2")
    assert everything(path) == {"a": b"1", "b": b"2"}


def test_a_forked_child_does_not_keep_the_lock(path: str) -> None:
    container = Container(path, lock_timeout=5)
    container.put("a", b"1")
    pid = os.fork()
    if not pid:
        time.sleep(30)
        os._exit(0)
    try:
        container.put("b", b"2")
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_threads(path: str) -> None:
    container = Container(path)
    stop = threading.Event()

    def read() -> int:
        seen = 0
        while not stop.is_set():
            for key in list(container.entries())[-20:]:
                assert container.get(key) == key.encode() * 30
                seen += 1
        return seen

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        list(pool.map(lambda i: container.put(f"{i}", str(i).encode() * 30), range(2000)))
        stop.set()
        assert all(reader.result() for reader in readers)
    assert everything(path) == {f"{i}": str(i).encode() * 30 for i in range(2000)}


def _write(number: int, folder: str) -> int:
    for i in range(512):
        Container(f"{folder}/{i % 4}.h5").put(f"{number}.{i}", f"{number}.{i}".encode() * 20)
    return os.getpid()


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(i, str(tmp_path))) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found: dict[str, bytes | None] = {}
    for i in range(4):
        found |= everything(str(tmp_path / f"{i}.h5"))
        assert shown(str(tmp_path / f"{i}.h5")) == everything(str(tmp_path / f"{i}.h5"))  # sealed as processes ended
    assert found == {f"{n}.{i}": f"{n}.{i}".encode() * 20 for n in range(8) for i in range(512)}


def test_killed_at_any_moment_it_opens_with_what_somebody_wrote(path: str) -> None:
    """Two hundred kills, of two writers each, that put, delete, index and rewrite."""
    command = [sys.executable, str(PROGRAM), path, "200", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["members"] > 500


def test_a_container_travels(path: str) -> None:
    container = Container(path, lock_timeout=3)
    copied = pickle.loads(pickle.dumps(container))
    assert copied == container
    copied.put("a", b"1")
    assert container.get("a") == b"1"


def test_space_is_not_held_by_indices(tmp_path: Path) -> None:
    """A thousand members of 64 KiB put one at a time: the file is what they are, and one part in fifty."""
    container = Container(str(tmp_path / "large.h5"))
    data = os.urandom(1 << 16)
    for i in range(1000):
        container.put(f"{i}", data)
    seal_all(str(tmp_path))
    assert os.path.getsize(container.path) < 1000 * len(data) * 1.02
    assert len(shown(container.path)) == 1000


def test_vectors_with_attributes(path: str) -> None:
    notes = {"a/b.blosc2": {"compression": "blosc2", "chunk": 3}, "c": {"compression": "None"}}
    view = View(vectors=True, root={"text": "µ" * 100_000, "number": -5, "empty": ""}, members=notes)
    container = Container(path, view=view)
    container.put("a/b.blosc2", b"\xff\0")
    container.put("c", b"")
    container.seal()
    with h5py.File(path) as file:
        assert dict(file.attrs) == {"text": "µ" * 100_000, "number": -5, "empty": ""}
        assert dict(file["a/b.blosc2"].attrs) == {"compression": "blosc2", "chunk": 3}
        assert file["a/b.blosc2"][:].tolist() == [-1, 0]
        assert file["c"].shape == (0,)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(names, st.binary(max_size=40), max_size=30))
def test_any_names_make_a_file_that_libhdf5_reads(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = str(tmp_path / "any.h5")
    Container(path).remove()
    Container(path).put_many(members.items())
    if members:
        Container(path).seal()
    assert everything(path) == members
    seen = shown(path)
    possible = {key for key in members if all(part not in ("", ".") for part in key.split("/"))}
    assert all(members[key] == data for key, data in seen.items())
    assert {
        key for key in possible if not any(other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in members)
    } <= set(seen)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 700))
def test_groups_of_any_size(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    path = tmp_path_factory.mktemp("groups") / "group.h5"
    made = hierarchy(((f"m{i}", 0, 0) for i in range(count)), 48, View())
    path.write_bytes(superblock(48 + len(made.data), made.root) + made.data)
    with h5py.File(path) as file:
        assert sorted(file) == sorted(f"m{i}" for i in range(count))
        assert all(f"m{i}" in file for i in range(count))
