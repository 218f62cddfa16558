"""Damaged vaults: every flipped bit is found, nothing wrong comes out, and what is whole is got out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import pytest

from h5z import vault
from h5z.container import Container
from h5z.container.openfiles import forget_all
from h5z.errors import SourceError
from h5z.vault import Vault
from h5z.vault.pack import CATALOG

from .conftest import snapshot


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
