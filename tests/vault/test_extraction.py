"""Out of a vault: never out of the destination, never over what is there unless asked; and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from h5z import vault
from h5z.container import Container
from h5z.errors import PlanError, TargetError
from h5z.vault.catalog import FILE, LINK, Row
from h5z.vault.codec import digest
from h5z.vault.files import container_files
from h5z.vault.header import Header
from h5z.vault.indexing import index
from h5z.vault.pack import HEADER, OWN, put

from ..running import Run
from .conftest import snapshot


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
