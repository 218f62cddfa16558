"""A vault holds what a folder held, and gives it back, whatever is in the way or changes meanwhile."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import blosc2
import h5py
import numpy as np
import pytest
import tifffile

from h5z import vault
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError
from h5z.vault import Vault, codec
from h5z.vault.catalog import FILE, Catalog, Row, Rows

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


def test_a_vault_by_its_name_alone_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where one is, by its file's name."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    assert vault.create("a", "v").ok
    assert vault.add("v.h5", "b").members == 1
    assert vault.Vault("v.h5").names() == ["a", "b"]


@pytest.mark.parametrize(("directory", "name", "writers"), [("", "v", 1), ("a", "", 1), ("a", "v", 100_000)])
def test_what_names_no_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str, name: str, writers: int) -> None:
    """Nothing is not the folder where one is; and a file for each writer has to be open."""
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError):
        vault.create(directory, name, writers=writers)
    assert os.listdir(tmp_path) == ["a"]
