"""How a target stands to its source, from the target's record alone; policies that fit not every file."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import PlanError
from h5z.hdf5.listing import identity_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ä b.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(12.0).reshape(3, 4)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_states_of_a_target(source: Path, tmp_path: Path, zarr_format: int) -> None:
    target = tmp_path / "out.zarr"
    policy = h5z.Policy(zarr_format=zarr_format, chunks={"/x": (2, 2)}, memory="64MiB")
    assert h5z.state(source, target, policy=policy).name == "absent"
    h5z.graph(h5z.plan(source, target, policy=policy))  # metadata and the plan: a migration begun
    assert h5z.state(source, target, policy=policy).name == "unfinished"
    h5z.convert(source, target, policy=policy, verify="sample")
    found = h5z.state(source, target, policy=policy, memory="1GiB", unmatched="report")
    assert (found.name, found.level) == ("current", "sample")
    assert h5z.convert(source, target, policy=policy, memory="1GiB", unmatched="report").status == "unchanged"
    assert h5z.state(source, target, policy=policy, codec="zstd:3").name == "replanned"

    os.utime(source, ns=(0, 0))
    assert h5z.state(source, target, policy=policy).name == "outdated"
    assert h5z.state(source, target, policy=policy, identity=(source.stat().st_size, 0)).name == "outdated"
    other = source.rename(tmp_path / "other.h5")
    assert h5z.state(other, target, policy=policy).name == "foreign"


def test_an_unfinished_target_of_a_source_since_changed(source: Path, tmp_path: Path) -> None:
    h5z.graph(h5z.plan(source, tmp_path / "out.zarr"))
    os.utime(source, ns=(0, 0))
    assert h5z.state(source, tmp_path / "out.zarr").name == "outdated"
    assert h5z.convert(source, tmp_path / "out.zarr", overwrite=True).ok


def test_what_is_not_ours_is_foreign(source: Path, tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "theirs.zarr")
    (tmp_path / "file.zarr").write_text("x")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "x").write_text("x")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / "zarr.json").write_text("{")
    for name in ("theirs", "file", "folder", "torn"):
        assert h5z.state(source, tmp_path / f"{name}.zarr").name == "foreign", name
    with pytest.raises(FileNotFoundError):
        h5z.state(tmp_path / "gone.h5", tmp_path / "theirs.zarr")


def test_what_a_target_lacks_is_known_from_its_record(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
        file["gone"] = h5py.ExternalLink("nowhere.h5", "/x")
        file.create_dataset("raw", (4,), "i4", external=[("missing.raw", 0, 16)])
    report = h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", unsupported="report")
    found = h5z.state(tmp_path / "a.h5", tmp_path / "a.zarr", unsupported="report")
    assert found.not_carried == report.not_carried
    assert found.not_carried


def test_the_identity_of_a_remote_source_is_that_of_its_listing(source: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/listed/a.h5", source.read_bytes())
    target = zarr.storage.MemoryStore()
    h5z.convert("memory://listed/a.h5", target)
    assert h5z.state("memory://listed/a.h5", target).name == "current"
    listed = identity_of(system.find("/listed", detail=True)["/listed/a.h5"])
    assert h5z.state("memory://listed/a.h5", target, identity=listed).name == "current"
    system.pipe("/listed/a.h5", source.read_bytes())
    assert h5z.state("memory://listed/a.h5", target).name == "outdated"


def test_patterns_that_fit_no_array_are_refused_or_noted(source: Path, tmp_path: Path) -> None:
    for fields in ({"chunks": {"/y": (2, 2)}}, {"chunks": (1, 2, 3)}, {"include": ["/y*"]}, {"codec": {"/y": "zstd:3"}}):
        with pytest.raises(PlanError, match=r"ä b\.h5: (chunks|include|codec)"):
            h5z.plan(source, tmp_path / "out.zarr", **fields)
    for fields in ({"chunks": {"/y": (2, 2)}}, {"chunks": (1, 2, 3)}):
        made = h5z.plan(source, tmp_path / "out.zarr", unmatched="report", **fields)
        assert any("chunks" in note for note in made.notes)


def test_a_report_says_which_routes_were_taken(source: Path, tmp_path: Path) -> None:
    report = h5z.convert(source, tmp_path / "out.zarr", route="library")
    assert report.routes == {"library": 96}
    assert h5z.Report.from_dict(report.to_dict()) == report
