"""A batch survives files on which libhdf5 crashes, hangs, or takes all memory; each is in quarantine with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flows
from flows.parameters import ArchiveParameters
from h5z.errors import PlanError

from ..hostile import COMPILER, CRASH, HANG, build, misbehaving

pytestmark = [pytest.mark.cluster, pytest.mark.flow]
SECRET = "s3cr3tvalue"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files that are well, one that crashes and one that hangs libhdf5 while its data are read."""
    if COMPILER is None:
        pytest.skip("no C compiler for a filter that misbehaves")
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.setenv("HDF5_PLUGIN_PATH", build(tmp_path)["HDF5_PLUGIN_PATH"])
    for i in range(2):
        misbehaving(folder / f"good{i}.h5", CRASH, slumbering=True)
    misbehaving(folder / "crashes.h5", CRASH)
    misbehaving(folder / "hangs.h5", HANG)
    return folder


def reasons(report: flows.ArchiveReport) -> dict[str, str]:
    return {Path(record.source).name: record.reason for record in report.quarantined}


def test_small_files(archive: Path, tmp_path: Path) -> None:
    """Converted in the workers' children: no worker dies, and the reasons are exact."""
    report = flows.migrate(archive, tmp_path / "out", workers=1, scan_timeout=2, verify="full")
    assert (report.exit_code, report.count("converted")) == (5, 2), str(report)
    assert set(reasons(report)) == {"crashes.h5", "hangs.h5"}
    assert "libhdf5 crashed while reading it (SIGSEGV)" in reasons(report)["crashes.h5"]
    assert "no progress for 2 s" in reasons(report)["hangs.h5"]
    assert {path.name for path in (tmp_path / "out").glob("*.zarr")} == {"good0.zarr", "good1.zarr"}


def test_large_files(archive: Path, tmp_path: Path) -> None:
    """Each a graph over the cluster, whose tasks are done in the workers' children too."""
    report = flows.migrate(
        archive, tmp_path / "out", workers=1, scan_timeout=3, big_file_nbytes="1kB", retries=0, verify="sample"
    )
    assert (report.exit_code, report.count("converted")) == (5, 2), str(report)
    assert set(reasons(report)) == {"crashes.h5", "hangs.h5"}
    assert "libhdf5 crashed while reading it (SIGSEGV)" in reasons(report)["crashes.h5"]
    assert "no progress for 3 s" in reasons(report)["hangs.h5"]


@pytest.mark.parametrize("name", ["sources", "target_root"])
@pytest.mark.parametrize("url", ["https://user:{}@host/a.h5", "https://host/a.h5?X-Amz-Signature={}", "s3://AKIA:{}@bucket/a"])
def test_credentials_are_no_parameters(name: str, url: str) -> None:
    """Prefect stores parameters, and shows them; refused, in words that do not repeat them."""
    given = {"sources": ["a.h5"], "target_root": "out", name: url.format(SECRET)}
    given["sources"] = [given["sources"]] if isinstance(given["sources"], str) else given["sources"]
    with pytest.raises(PlanError, match="credentials") as caught:
        ArchiveParameters.check(given)
    assert SECRET not in str(caught.value)
    with pytest.raises(PlanError, match="credentials") as caught:
        flows.migrate(given["sources"], given["target_root"])
    assert SECRET not in str(caught.value)


def test_credentials_are_no_names_of_files(tmp_path: Path) -> None:
    """Nor in a listing: they would be in the report."""
    listing = tmp_path / "list.txt"
    listing.write_text(f"https://host/a.h5?X-Amz-Signature={SECRET}\n")
    with pytest.raises(PlanError, match="credentials") as caught:
        flows.migrate(f"@{listing}", tmp_path / "out", workers=1)
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "out").exists() or SECRET not in json.dumps([p.read_text() for p in (tmp_path / "out").rglob("*")])
