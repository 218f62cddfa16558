"""HDF5Vault: what its tools wrote is read; what is written for them, they accept."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5z import vault
from h5z.errors import PlanError, SourceError, TargetExistsError
from h5z.vault import Vault

from ..running import DATA, Run
from .conftest import snapshot
from .peer import AbsentError, install

ARCHIVES = DATA / "containers" / "vault"
SOURCE = ARCHIVES / "source"
pytestmark = pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the archives of HDF5Vault are not here")
SETS = {
    "v033_single.h5": 1,
    "v033_multi_0.h5": 2,
    "v033_multi_1.h5": 2,
    "v033_split.h5": 1,
    "v033_none.h5": 1,
    "v033_zip_0.zip": 2,
    "v033_zip_1.zip": 2,
    "v021_single.h5": 1,
    "v021_multi_0.h5": 2,
    "v033_multi": 2,
    "v021_multi": 2,
    "v033_zip": 2,
}


def contents(root: Path) -> dict[bytes, object]:
    return {name: found[3] for name, found in snapshot(root).items()}


def copied(tmp_path: Path, *names: str) -> Path:
    for name in names:
        shutil.copy(ARCHIVES / name, tmp_path / name)
        (tmp_path / name).chmod(0o644)
    return tmp_path / names[0]


@pytest.mark.parametrize("name", SETS)
def test_what_it_wrote_is_read(name: str, tmp_path: Path) -> None:
    found = Vault(ARCHIVES / name)
    assert len(found.files) == SETS[name]
    assert vault.verify(found, SOURCE).ok
    assert found.info("plate1/B02/T0001F001Z01C01.tif").size == 8448
    assert found.info("random30k.bin").size == 30720
    assert found.info("random30k.bin").mtime_ns is None
    report = vault.extract(found, tmp_path / "out")
    assert report.ok
    assert contents(tmp_path / "out") == contents(SOURCE)


def test_without_index_it_is_made_up_and_said_so(cli: Run) -> None:
    done = cli("vault", "verify", ARCHIVES / "broken_noindex.h5", "--source", SOURCE)
    assert done.returncode == 0
    assert "expected an index (__HDF5Vault_info__), found none: made up" in done.stdout


def test_a_name_that_leads_out_is_refused(tmp_path: Path, cli: Run) -> None:
    done = cli("vault", "extract", ARCHIVES / "evil_traversal.h5", "--to", tmp_path / "in" / "out")
    assert done.returncode == 1
    assert "../../escaped.txt: refused: its name leads out of the destination" in done.stdout
    assert not list(tmp_path.rglob("escaped*"))
    assert len(contents(tmp_path / "in" / "out")) > 11


def test_a_flipped_bit_is_found_by_comparison_and_only_by_that(cli: Run) -> None:
    done = cli("vault", "verify", ARCHIVES / "bitflip.h5", "--source", SOURCE)
    assert done.returncode == 1
    assert "plate1/B02/T0001F001Z01C01.tif: differs" in done.stdout
    done = cli("vault", "verify", ARCHIVES / "bitflip.h5")
    assert done.returncode == 0
    assert "has no checksums" in done.stdout


def test_a_zip_has_checksums(tmp_path: Path) -> None:
    path = copied(tmp_path, "v033_zip_0.zip", "v033_zip_1.zip")
    raw = bytearray(path.read_bytes())
    row = Vault(path).parts("plate1/B02/T0001F001Z01C01.tif")[0]
    raw[row.at + 900] ^= 1
    path.write_bytes(raw)
    assert [flaw.name for flaw in vault.verify(path).flaws] == ["plate1/B02/T0001F001Z01C01.tif"]


def test_an_archive_of_which_a_part_is_missing(tmp_path: Path) -> None:
    for name in ("v033_multi_1.h5", "v021_multi_0.h5", "v033_zip_0.zip"):
        with pytest.raises(SourceError, match="no such file, a part of the archive"):
            Vault(copied(tmp_path, name))
    odd = tmp_path / "renamed.h5"
    shutil.copy(ARCHIVES / "v033_multi_1.h5", odd)
    with pytest.raises(SourceError, match="expected its name to end in _1"):
        Vault(odd)


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    path = copied(tmp_path, "v033_single.h5")
    whole = path.read_bytes()
    for length in (0, 100, 3000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError) as caught:
            Vault(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    path.write_bytes(whole)
    for wrong in (
        "[1]",
        "{}x",
        '{"a": [{"chunk": null}]}',
        '{"a": [{"chunk": null, "archive_number": 7, "dataset": "b", "compression": null}]}',
    ):
        with h5py.File(path, "r+") as file:
            file.attrs["__HDF5Vault_info__"] = wrong
        with pytest.raises(SourceError, match="expected"):
            Vault(path)
    (tmp_path / "not.zip").write_bytes(b"PK")
    with pytest.raises(SourceError, match="expected a ZIP archive"):
        Vault(tmp_path / "not.zip")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(SourceError, match="expected an index"):
        Vault(tmp_path / "plain.zip")


def test_what_can_be_read_of_it_goes_into_a_new_vault(tmp_path: Path) -> None:
    path = copied(tmp_path, "v033_split.h5")
    raw = bytearray(path.read_bytes())
    row = Vault(path).parts("plate1/B02/T0001F001Z01C01.tif")[1]
    raw[row.at + 4] ^= 0xFF  # how much it decompresses to
    path.write_bytes(raw)
    with pytest.raises(PlanError, match="a name for the new vault"):
        vault.repair(path)
    report = vault.repair(path, tmp_path / "new")
    assert [flaw.name for flaw in report.flaws] == ["plate1/B02/T0001F001Z01C01.tif"]
    assert path.read_bytes() == raw
    found = Vault(tmp_path / "new")
    assert len(found) == 11
    assert all(found[name] == (SOURCE / name).read_bytes() for name in found)
    assert vault.verify(found).ok
    assert [flaw.name for flaw in vault.verify(found, SOURCE).flaws] == ["plate1/B02/T0001F001Z01C01.tif"]  # and no folders
    with pytest.raises(TargetExistsError):
        vault.repair(path, tmp_path / "new")
    vault.extract(found, tmp_path / "out")
    assert len([name for name, item in contents(tmp_path / "out").items() if item is not None]) == 11


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The start of a command that runs a module of HDF5Vault 0.3.3 on two MPI ranks."""
    try:
        return install(tmp_path_factory.mktemp("hdf5vault"))
    except AbsentError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"writers": 3, "split_nbytes": 5000}], ids=["one", "three in parts"])
def test_its_own_tools_accept_what_is_written_for_them(tools: list[str], tmp_path: Path, options: dict[str, object]) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    for i in range(20):
        (source / f"image{i}").write_bytes(np.random.default_rng(i).poisson(100, 5000).astype("<u2").tobytes())
    (source / "x").write_bytes(b"a" * 3000)
    (source / "x.blosc2").write_bytes(os.urandom(30))
    report = vault.create(source, tmp_path / "archive", layout="hdf5vault", **options)  # type: ignore[arg-type]
    assert report.ok
    files = Vault(tmp_path / "archive").files
    unpack = [*tools, "-m", "hdf5vault.unpack", "-d", str(tmp_path / "out"), "-f", *files]
    (tmp_path / "out").mkdir()
    done = subprocess.run(unpack, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out" / "archive") == contents(source)
    check = [*tools, "-m", "hdf5vault.check", "-d", str(source), "-f", *files]
    done = subprocess.run(check, capture_output=True, text=True, timeout=200, check=False)
    assert "passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
