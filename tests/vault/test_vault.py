"""A vault holds what a folder held, and gives it back; whatever is in the way, killed, changed or damaged meanwhile."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import blosc2
import h5py
import numpy as np
import pytest
import tifffile

from h5z import vault
from h5z.container import Container, forget_all
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError
from h5z.vault import Vault, codec
from h5z.vault.catalog import FILE, LINK, Catalog, Row, Rows
from h5z.vault.codec import digest
from h5z.vault.files import container_files
from h5z.vault.header import Header
from h5z.vault.indexing import index
from h5z.vault.pack import CATALOG, HEADER, OWN, put

from ..running import Run
from .conftest import snapshot

HOME = Path(__file__).parents[2]

WAYS: list[dict[str, Any]] = [
    {},
    {"writers": 3, "split_nbytes": 7000, "codec": "blosc2-lz4:9"},
    {"codec": "none", "digest": "sha256", "scheduler": "sync"},
    {"layout": "hdf5vault"},
    {"layout": "hdf5vault", "writers": 2, "split_nbytes": 7000, "scheduler": "processes"},
]


def test_who_compresses_lets_other_threads_go_on() -> None:
    codec._compressor.cache_clear()
    codec._blosc2.cache_clear()
    blosc2.set_releasegil(False)  # as it is when it is imported
    packed = codec.VaultCodec("blosc2-zstd:1").encode(bytes(1000)) or b""
    assert blosc2.set_releasegil(True)
    assert codec.decode(packed, "x") == bytes(1000)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())) or "default")
def test_what_went_in_comes_out(messy: Path, tmp_path: Path, way: dict[str, Any]) -> None:
    report = vault.create(messy, tmp_path / "v", **way)
    assert report.ok, report
    expected = snapshot(messy)
    assert report.members == len(expected)
    found = Vault(tmp_path / "v")
    assert set(map(os.fsencode, found)) == set(expected)
    assert len(found.files) == way.get("writers", 1)
    assert sorted(tmp_path.glob("v*")) == sorted(map(Path, found.files))  # nothing else is left
    taken = found.info("x")
    assert (taken.size, taken.mtime_ns) == (5000, 1_234_567_890_123_456_789)
    assert vault.verify(found, messy).ok
    out = vault.extract(found, tmp_path / "out")
    assert out.ok, out
    assert snapshot(tmp_path / "out") == expected
    again = vault.create(messy, tmp_path / "v", **way)
    assert (again.action, again.exit_code) == ("unchanged", 0)
    assert vault.add(tmp_path / "v", messy).action == "unchanged"


def test_names_patterns_and_files_of_members(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v.h5", split_nbytes=10_000)
    found = Vault(tmp_path / "v.h5")
    assert found.names("plate/B02") == [f"plate/B02/T0001F{i:03d}.tif" if i >= 0 else "plate/B02" for i in range(-1, 30)]
    assert found.names("*.blosc2", "run") == ["run", "x.blosc2", "y.blosc2"]
    assert found["Größe µm 日本"].decode() == "café"
    assert found["broken"] == b"not there"
    assert found.info("not \udcff\udcfe UTF-8").kind == "file"
    assert "nothing" not in found
    with pytest.raises(KeyError):
        found["nothing"]
    whole = (messy / "large.bin").read_bytes()
    with found.open("large.bin") as file:
        assert file.seek(-5, os.SEEK_END) == len(whole) - 5
        assert file.read() == whole[-5:]
        file.seek(9_990)
        assert file.read(20) == whole[9_990:10_010]
        assert file.read() == whole[10_010:]
    assert found.info("large.bin").parts == 12
    copied = pickle.loads(pickle.dumps(found))
    assert dict(copied) == dict(found)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found.__getitem__, found)) == [copied[name] for name in copied]
    assert repr(found).startswith("Vault(")


def test_patterns_are_the_shell_s_and_know_characters_and_bytes() -> None:
    names = [b"a", b"a/b.tif", b"a.tif", "Größe".encode(), b"not \xff", b"x(1)", b"x(1)/y", b"line\nbreak"]
    rows = Rows.of([Row(name, FILE, 0, 0, 0) for name in names])
    expected = {
        ("a",): [b"a", b"a/b.tif"],
        ("a/",): [b"a", b"a/b.tif"],
        ("*.tif",): [b"a.tif", b"a/b.tif"],
        ("Gr??e",): ["Größe".encode()],
        ("not ?",): [b"not \xff"],
        ("x(1)", "[!a-z]*"): ["Größe".encode(), b"x(1)", b"x(1)/y"],
        ("line*",): [b"line\nbreak"],
        ("b",): [],
    }
    catalog = Catalog.of(rows)
    assert {patterns: list(catalog.names(patterns)) for patterns in expected} == expected


def test_images_are_opened_without_unpacking(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 60_000, (64, 48), dtype="u2")
    tifffile.imwrite(tmp_path / "in" / "a.tif", image)
    vault.create(tmp_path / "in", tmp_path / "v")
    assert np.array_equal(tifffile.imread(Vault(tmp_path / "v").open("a.tif")), image)


def test_it_is_an_hdf5_file(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v", layout="hdf5vault")
    with h5py.File(tmp_path / "v.h5") as file:
        assert file["plate/B02/T0001F000.tif.blosc2"].attrs["compression"] == "blosc2"
        assert file["x"][:].tobytes() == b"a" * 5000  # x.blosc2 is another file
        assert file["empty.dat"].shape == (0,)
        assert json.loads(file.attrs["__HDF5Vault_info__"])["run"][0]["dataset"] == "run"
    vault.create(messy, tmp_path / "own")
    with h5py.File(tmp_path / "own.h5") as file:
        assert list(file["__h5z_vault__/pack"]) == ["00000000"]


def test_what_cannot_be_stored_is_named_and_nothing_waits_for_it(messy: Path, tmp_path: Path, cli: Run) -> None:
    os.mkfifo(messy / "pipe")
    (messy / "loop").symlink_to(messy, target_is_directory=True)
    report = vault.create(messy, tmp_path / "v", links="follow")
    assert {flaw.name: flaw.reason for flaw in report.quarantined} == {
        "pipe": "expected a file, a folder or a link, found a pipe",
        "broken": "cannot be looked at (No such file or directory)",
        "loop": "a symbolic link that leads back to a folder above it",
    }
    assert report.exit_code == 5
    assert Vault(tmp_path / "v").info("link").kind == "file"
    assert Vault(tmp_path / "v")["a/up/B02/T0001F003.tif"] == (messy / "plate/B02/T0001F003.tif").read_bytes()
    done = cli("vault", "create", messy, tmp_path / "w", "--links", "skip")
    assert done.returncode == 5
    assert "quarantined: pipe: expected a file" in done.stdout
    assert "quarantined: link: a symbolic link, skipped by policy" in done.stdout
    assert cli("vault", "create", messy, tmp_path / "w", "--links", "skip").returncode == 5  # and still is


def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "shut").mkdir(parents=True)
    for name in ("open", "closed", "shut/inside"):
        (root / name).write_text(name)
    (root / "closed").chmod(0)
    (root / "shut").chmod(0)
    command = [sys.executable, "-m", "h5z.cli", "vault", "create", str(root), str(tmp_path / "v"), "--json"]
    if os.geteuid() == 0:  # to whom all is readable
        if not shutil.which("setpriv"):
            pytest.skip("root reads everything here")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (root / "shut").chmod(0o700)
    assert done.returncode == 5, done.stderr
    assert {item["name"]: item["reason"] for item in json.loads(done.stdout)["quarantined"]} == {
        "closed": "cannot be read (Permission denied)",
        "shut": "the folder cannot be read (Permission denied)",
    }
    assert set(Vault(tmp_path / "v")) == {"open", "shut"}


def test_a_file_that_keeps_changing_is_named_and_the_others_stored(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (messy / "growing").write_bytes(b"")
    (messy / "shrinking").write_bytes(bytes(100_000))
    pread = os.pread

    def meanwhile(descriptor: int, nbytes: int, offset: int) -> bytes:
        """What os.pread does, while another program writes to the files."""
        data = pread(descriptor, nbytes, offset)
        with open(messy / "growing", "ab") as file:
            file.write(b"more")
        os.truncate(messy / "shrinking", os.path.getsize(messy / "shrinking") - 1)
        return data

    monkeypatch.setattr(os, "pread", meanwhile)
    report = vault.create(messy, tmp_path / "v")
    monkeypatch.undo()
    assert {flaw.name for flaw in report.quarantined} == {"growing", "shrinking"}
    assert all("change" in flaw.reason for flaw in report.quarantined)
    assert len(Vault(tmp_path / "v")) == len(snapshot(messy)) - 2
    assert vault.add(tmp_path / "v", messy).ok  # they have come to rest
    assert Vault(tmp_path / "v")["growing"] == (messy / "growing").read_bytes()
    assert Vault(tmp_path / "v")["shrinking"] == (messy / "shrinking").read_bytes()


def test_adding_stores_what_is_new_or_has_changed(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v", writers=2, split_nbytes=30_000)
    before = Vault(tmp_path / "v")
    (messy / "new").write_bytes(b"new")
    (messy / "x").write_bytes(b"changed")
    (messy / "large.bin").write_bytes(b"small now")
    (messy / "run").unlink()
    report = vault.add(tmp_path / "v", messy)
    assert report.members == 3
    assert before["x"] == b"a" * 5000  # who has it open reads on
    after = Vault(tmp_path / "v")
    assert (after["new"], after["x"], after["large.bin"], after["run"]) == (b"new", b"changed", b"small now", b"#!/bin/sh\n")
    assert vault.verify(after).ok
    other = tmp_path / "other"
    other.mkdir()
    (other / "from elsewhere").write_bytes(b"1")
    assert vault.add(tmp_path / "v", other).members == 1
    assert Vault(tmp_path / "v")["from elsewhere"] == b"1"


def test_in_the_other_format_nothing_is_replaced(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v", layout="hdf5vault")
    (messy / "x").write_bytes(b"changed")
    (messy / "new").write_bytes(b"new")
    report = vault.add(tmp_path / "v", messy)
    assert [flaw.name for flaw in report.quarantined] == ["x"]
    found = Vault(tmp_path / "v")
    assert (found["x"], found["new"]) == (b"a" * 5000, b"new")
    assert vault.verify(found).ok


def test_wrong_calls(messy: Path, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"codec": "blosc2-zstd:10"},
        {"codec": "gzip"},
        {"codec": "blosc2-zstd:5:0"},
        {"writers": 0},
        {"split_nbytes": 0},
        {"links": "all"},
        {"digest": "md5"},
        {"layout": "tar"},
    ]
    for options in wrong:
        with pytest.raises(PlanError, match=f"{next(iter(options))}: expected"):
            vault.create(messy, tmp_path / "v", **options)
    with pytest.raises(SourceError, match="expected a folder, found nothing"):
        vault.create(tmp_path / "nowhere", tmp_path / "v")
    with pytest.raises(SourceError, match="expected a folder, found a file"):
        vault.create(messy / "x", tmp_path / "v")
    with pytest.raises(TargetError, match="cannot be written"):
        vault.create(messy, messy / "x" / "v")
    with pytest.raises(SourceError, match="no such vault"):
        Vault(tmp_path / "v")
    (tmp_path / "v.h5").write_bytes(b"something")
    with pytest.raises((TargetExistsError, SourceError), match=r"v\.h5"):
        vault.create(messy, tmp_path / "v")
    assert (tmp_path / "v.h5").read_bytes() == b"something"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("v")] == ["v.h5"]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(TargetExistsError, match="no vault of h5z's"):
        vault.create(messy, tmp_path / "other")
    with pytest.raises(SourceError, match="found another HDF5 file"):
        Vault(tmp_path / "other.h5")
    vault.create(messy, tmp_path / "w", writers=3)
    with pytest.raises(TargetExistsError, match="expected 2 containers, found a vault of 3"):
        vault.create(messy, tmp_path / "w", writers=2)
    (messy / "new").touch()
    with pytest.raises(TargetExistsError, match="vault add"):
        vault.create(messy, tmp_path / "w", writers=3)
    (tmp_path / "w_1.h5").unlink()
    with pytest.raises(SourceError, match=r"w_1\.h5: no such file"):
        Vault(tmp_path / "w_0.h5")


def test_a_vault_within_what_it_archives_leaves_itself_out(messy: Path) -> None:
    report = vault.create(messy, messy / "v", writers=2)
    assert report.ok
    assert not [name for name in Vault(messy / "v_1.h5") if name.startswith("v_")]
    assert vault.create(messy, messy / "v", writers=2).action == "unchanged"


# Kills


CREATE = "import sys; from h5z import vault; vault.create(sys.argv[1], sys.argv[2], writers=2, codec='blosc2-zstd:1')"


def nbytes_of(path: Path) -> int:
    """Bytes of a file, or of none: a call that is at work takes its lock away, and renames what is whole."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_killed_at_any_moment_the_same_call_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    chance = np.random.default_rng(0)
    for i in range(40):
        (root / f"{i:03d}").write_bytes(chance.integers(0, 9, 500_000, dtype="u1").tobytes())
    stamps: dict[str, int] = {}
    kills = 0
    for attempt in range(60):
        process = subprocess.Popen([sys.executable, "-c", CREATE, str(root), str(tmp_path / "v")])
        size = sum(map(nbytes_of, tmp_path.glob("v_*")))
        while process.poll() is None and sum(map(nbytes_of, tmp_path.glob("v_*"))) < size + 1_600_000:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        assert not (tmp_path / "v_0.h5").exists() or attempt > 1
        with pytest.raises(SourceError, match="unfinished"):
            Vault(tmp_path / "v")
        forget_all("")
        partial = Vault(tmp_path / "v_0.h5.unfinished")
        assert "made up from its packs" in partial.notes[0]
        now = {name: partial.parts(name)[0].stamp for name in partial}
        assert stamps.items() <= now.items()  # what was in is not stored again
        stamps = now
        for name in random.sample(sorted(now), min(3, len(now))):
            assert partial[name] == (root / name).read_bytes()
    assert kills >= 3
    found = Vault(tmp_path / "v")
    assert {name: found.parts(name)[0].stamp for name in stamps} == stamps
    assert vault.verify(found, root).ok
    assert len(found) == 40
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.parametrize(("case", "least"), [("create", 30), ("add", 20), ("repair", 20)])
def test_killed_at_each_of_its_writes_the_same_call_ends_it(case: str, least: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.killed_writes", case, tmp_path], capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= least


def test_two_at_once_are_refused(messy: Path, tmp_path: Path) -> None:
    code = f"""
import sys, time
from h5z.vault.writing import alone
with alone({str(tmp_path / "v.h5")!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TargetError, match="locked by another"):
        vault.create(messy, tmp_path / "v")
    holder.kill()
    holder.wait()
    assert vault.create(messy, tmp_path / "v").ok


# Damage


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    root.mkdir()
    (root / "raw").write_bytes(os.urandom(40))
    (root / "packed").write_bytes(b"0123456789" * 30)
    (root / "link").symlink_to("raw")
    return root


@pytest.mark.parametrize("layout", ["h5z", "hdf5vault"])
def test_every_flipped_bit_of_a_payload_is_found(tiny: Path, tmp_path: Path, layout: str) -> None:
    vault.create(tiny, tmp_path / "v", layout=layout)
    found = Vault(tmp_path / "v")
    path = Path(found.files[0])
    whole = path.read_bytes()
    rows = {name: found.parts(name)[0] for name in found}
    found.close()
    for name, row in rows.items():
        for at in range(row.at, row.at + row.stored):
            for bit in range(8) if layout == "h5z" else (at % 8,):
                raw = bytearray(whole)
                raw[at] ^= 1 << bit
                path.write_bytes(raw)
                with pytest.raises(SourceError, match=name):
                    Vault(path)[name]
            if at % 3 == 0:  # as it is left, with its last bit flipped
                flaws = vault.verify(path, scheduler="sync").flaws
                assert name in {flaw.name for flaw in flaws}, (at, flaws)
                out = vault.extract(path, tmp_path / f"out{at}", scheduler="sync")
                assert [flaw.name for flaw in out.flaws] == [name]
                assert out.exit_code == 1
                assert sorted(os.listdir(tmp_path / f"out{at}")) == sorted(set(rows) - {name})


@pytest.mark.parametrize("layout", ["h5z", "hdf5vault"])
def test_a_flipped_bit_anywhere_is_found_by_verify_and_nothing_wrong_extracted(tiny: Path, tmp_path: Path, layout: str) -> None:
    vault.create(tiny, tmp_path / "v", layout=layout)
    path = tmp_path / "v.h5"
    whole = path.read_bytes()
    expected = snapshot(tiny)
    places = {*range(0, len(whole), 43)}
    for entry in Container(str(path)).entries().values():
        places |= {entry.address, entry.address + entry.nbytes // 2, entry.address + entry.nbytes - 1}
    for at in sorted(places):
        raw = bytearray(whole)
        raw[at] ^= 1 << at % 8
        path.write_bytes(raw)
        try:
            assert not vault.verify(path, scheduler="sync").ok, at
            vault.extract(path, tmp_path / f"out{at}", scheduler="sync")
        except SourceError:
            continue
        assert snapshot(tmp_path / f"out{at}").items() <= expected.items()


@pytest.mark.parametrize("layout", ["h5z", "hdf5vault"])
@pytest.mark.parametrize("hurt", ["catalog", "index", "superblock", "cut", "payload", "everything but packs"])
def test_what_is_whole_is_got_out_of_a_damaged_vault(messy: Path, tmp_path: Path, hurt: str, layout: str) -> None:
    vault.create(messy, tmp_path / "v", layout=layout)
    path = tmp_path / "v.h5"
    expected = dict(Vault(path))
    container = Container(str(path))
    entries = container.entries()
    raw = bytearray(path.read_bytes())
    lost: set[str] = set()
    if hurt == "catalog":
        raw[entries[CATALOG].address + 9] ^= 1
    elif hurt == "index":
        raw[-9000:] = bytes(9000)
    elif hurt == "superblock":
        raw[:48] = bytes(48)
    elif hurt == "cut":
        del raw[-3000:]
    elif hurt == "payload":
        row = Vault(path).parts("plate/B02/T0001F007.tif")[0]
        raw[row.at + 20] ^= 4
        lost = {"plate/B02/T0001F007.tif"}
    else:
        raw[entries[CATALOG].address :] = bytes(len(raw) - entries[CATALOG].address)
        raw[:48] = bytes(48)
    path.write_bytes(raw)
    forget_all("")
    if hurt in ("payload", "catalog"):
        with pytest.raises(SourceError):
            dict(Vault(path))
    report = vault.repair(path)
    assert {flaw.name.removesuffix(".blosc2") for flaw in report.flaws} == lost, report
    found = Vault(path)
    assert {name: found[name] for name in found} == {name: data for name, data in expected.items() if name not in lost}
    assert vault.verify(found).ok
    assert not found.notes
    assert (tmp_path / "v.h5.damaged").exists() == bool(report.flaws or "damaged container" in str(report.notes))
    if layout == "hdf5vault":
        with h5py.File(path) as file:
            assert set(json.loads(file.attrs["__HDF5Vault_info__"])) == {n for n in found if found.info(n).kind == "file"}


def test_a_vault_without_catalog_is_read_and_says_so(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v")
    expected = dict(Vault(tmp_path / "v"))
    Container(str(tmp_path / "v.h5")).delete(CATALOG)
    found = Vault(tmp_path / "v")
    assert dict(found) == expected
    assert "expected a catalog, found none: made up from its packs" in found.notes[0]


# Extraction


def evil(path: Path, members: dict[bytes, tuple[int, bytes]]) -> Path:
    """A vault whose names and links somebody has chosen to do harm."""
    container = Container(str(path))
    header = Header("0", 0, 1, "none", "xxh3-128", OWN, "/")
    container.put(HEADER, header.encode())
    from h5z.container.frames import crc32

    rows = [
        Row(
            name, kind, 0o6777, len(data), 5, nbytes=len(data), crc=crc32(data), digest=digest(data, "xxh3-128"), stored=len(data)
        )
        for name, (kind, data) in members.items()
    ]
    put(OWN, container, 0, rows, [data for _, data in members.values()])
    index([container], header, [])
    return path


def test_extraction_never_leaves_its_destination(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "there").write_bytes(b"untouched")
    outside = os.fsencode(tmp_path / "outside")
    names = [b"../escaped", b"a/../../escaped", outside + b"/escaped", b"/escaped", b"a//b", b"./c", b"..", b"a/..", b"d/./e"]
    members = dict.fromkeys(names, (FILE, b"evil"))
    members |= {
        b"to outside": (LINK, outside),
        b"to outside/there": (FILE, b"evil"),
        b"up": (LINK, b"../outside"),
        b"up/there": (FILE, b"evil"),
        b"sly/link": (LINK, b"../../outside"),
        b"fine": (FILE, b"fine"),
        b"near": (LINK, b"./fine"),
        b"in/near": (LINK, b"../fine"),
    }
    path = evil(tmp_path / "evil.h5", members)
    out = tmp_path / "deep" / "er" / "out"
    report = vault.extract(path, out)
    refused = {os.fsencode(flaw.name): flaw.reason for flaw in report.flaws}
    assert set(names) <= set(refused)
    assert all("leads out of the destination" in refused[name] for name in names)
    assert report.exit_code == 1
    assert {b"to outside", b"up", b"sly/link"} <= set(refused)
    assert (tmp_path / "outside" / "there").read_bytes() == b"untouched"
    assert sorted(os.listdir(tmp_path / "outside")) == ["there"]
    assert sorted(os.listdir(tmp_path / "deep" / "er")) == ["out"]
    assert not list(tmp_path.rglob("escaped"))
    assert (out / "near").readlink() == Path("fine")
    assert (out / "in" / "near").read_bytes() == b"fine"
    assert (out / "fine").stat().st_mode & 0o7777 == 0o777  # without the bits that would give rights
    again = tmp_path / "again"
    assert vault.extract(path, again, links="all").exit_code == 1
    assert (again / "sly" / "link").readlink() == Path("../../outside")
    assert (tmp_path / "outside" / "there").read_bytes() == b"untouched"  # links are made when all files are


def test_extraction_does_not_follow_links_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    path = evil(tmp_path / "v.h5", {b"folder/file": (FILE, b"1"), b"name": (FILE, b"2")})
    out = tmp_path / "out"
    out.mkdir()
    (out / "folder").symlink_to(tmp_path / "outside")
    (out / "name").symlink_to(tmp_path / "outside" / "target")
    for existing in ("refuse", "overwrite"):
        report = vault.extract(path, out, existing=existing)
        assert "folder/file" in {flaw.name for flaw in report.flaws}
        assert os.listdir(tmp_path / "outside") == []
    assert (out / "name").read_bytes() == b"2"  # asked to overwrite, the link was replaced, not what it leads to
    assert not (out / "name").is_symlink()


def test_extraction_overwrites_only_when_asked(messy: Path, tmp_path: Path) -> None:
    vault.create(messy, tmp_path / "v")
    out = tmp_path / "out"
    (out / "y").mkdir(parents=True)
    (out / "x").write_bytes(b"mine")
    report = vault.extract(tmp_path / "v", out)
    assert {flaw.name for flaw in report.flaws} == {"x", "y"}
    assert (out / "x").read_bytes() == b"mine"
    assert vault.extract(tmp_path / "v", out, existing="skip").ok
    assert (out / "x").read_bytes() == b"mine"
    report = vault.extract(tmp_path / "v", out, existing="overwrite")
    assert {flaw.name for flaw in report.flaws} == {"y"}  # never a folder
    assert (out / "x").read_bytes() == b"a" * 5000
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]
    some = vault.extract(tmp_path / "v", tmp_path / "some", ["a", "*.blosc2", "empty.dat"])
    assert some.ok
    assert {path.name for path in (tmp_path / "some").iterdir()} == {"a", "x.blosc2", "y.blosc2", "empty.dat"}
    with pytest.raises(PlanError, match="match 'none'"):
        vault.extract(tmp_path / "v", tmp_path / "some", ["none"])
    with pytest.raises(PlanError, match="existing: expected"):
        vault.extract(tmp_path / "v", tmp_path / "some", existing="ask")
    with pytest.raises(TargetError, match="cannot be made"):
        vault.extract(tmp_path / "v", messy / "x")


def test_the_command(messy: Path, tmp_path: Path, cli: Run, cli_here: Run) -> None:
    done = cli(
        "vault", "create", messy, tmp_path / "v", "--codec", "blosc2-zstd:1", "--writers", "2", "--split-size", "64KiB", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["members"] == len(snapshot(messy))
    assert container_files(str(tmp_path / "v")) == [str(tmp_path / "v_0.h5"), str(tmp_path / "v_1.h5")]
    done = cli_here("vault", "list", tmp_path / "v", "plate/*7.tif", "-l")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [f"plate/B02/T0001F{i:03d}.tif" for i in (7, 17, 27)]
    assert done.stdout.startswith("-rw-r--r--         1800 20")
    names = subprocess.run(
        [sys.executable, "-m", "h5z.cli", "vault", "list", tmp_path / "v"], capture_output=True, check=True
    ).stdout
    assert b"not \xff\xfe UTF-8\n" in names
    done = cli_here("vault", "verify", tmp_path / "v", "--source", messy)
    assert done.returncode == 0
    (messy / "x").write_bytes(b"changed")
    done = cli_here("vault", "verify", tmp_path / "v", "--source", messy)
    assert done.returncode == 1
    assert "x: differs from" in done.stdout
    done = cli_here("vault", "extract", tmp_path / "v", "x", "run", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["run", "x"]
    assert cli_here("vault", "extract", tmp_path / "v", "x", "--to", tmp_path / "out").returncode == 1
    assert cli_here("vault", "extract", tmp_path / "v", "x", "--to", tmp_path / "out", "--overwrite").returncode == 0
    assert cli_here("vault", "add", tmp_path / "v", messy).returncode == 0
    assert cli_here("vault", "list", tmp_path / "nowhere").returncode == 3
    done = cli_here("vault", "create", messy, tmp_path / "w", "--codec", "zip")
    assert done.returncode == 2
    assert "\n" not in done.stderr.strip()
