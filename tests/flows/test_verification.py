"""The flow that verifies targets again: by their digests without sources, or against the sources that a report names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import pytest

import flows
from flows.server import start, use
from flows.targets import find_targets
from h5z.errors import PlanError, SourceError

Write: TypeAlias = Callable[..., Path]
pytestmark = [pytest.mark.flow, pytest.mark.cluster]


@pytest.fixture
def verify(cluster: str) -> Iterator[Callable[..., Any]]:
    """The flow, on the tests' server and cluster."""
    with use(start()):
        from flows.verification import verify_archive

        yield lambda root, **given: verify_archive(str(root), scheduler=cluster, **given)


@pytest.fixture
def root(tmp_path: Path, cluster: str, write: Write) -> Path:
    """Four targets in two folders."""
    for name in ("a/0.h5", "a/1.h5", "b/c/2.h5", "3.h5"):
        write(tmp_path / "in" / name, len(name))
    flows.migrate(tmp_path / "in", tmp_path / "out", scheduler=cluster)
    return tmp_path / "out"


def damage(root: Path, target: str) -> None:
    chunk = next(path for path in (root / target / "values").rglob("c*") if path.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_damage_is_found_and_named_without_the_sources(root: Path, tmp_path: Path, verify: Callable[..., Any]) -> None:
    for path in (tmp_path / "in").rglob("*.h5"):
        path.unlink()
    made = verify(root)
    assert [finding.target for finding in made.findings] == [
        str(root / name) for name in ("3.zarr", "a/0.zarr", "a/1.zarr", "b/c/2.zarr")
    ]
    assert made.bad == ()
    assert "4 of 4 targets are as they were written" in str(made)
    damage(root, "b/c/2.zarr")
    with pytest.raises(flows.ArchiveError, match=r"1 of 4 targets differ; the first: .*2\.zarr"):
        verify(root)
    found = json.loads((root / "h5z-verification.json").read_text())
    assert [item["target"] for item in found["findings"] if item["reasons"]] == [str(root / "b/c/2.zarr")]


def test_targets_are_compared_with_the_sources_of_the_report(root: Path, tmp_path: Path, verify: Callable[..., Any]) -> None:
    assert verify(root, level="full").bad == ()
    (tmp_path / "in" / "3.h5").unlink()
    with pytest.raises(flows.ArchiveError, match="1 of 4 targets differ"):
        verify(root, level="structure")


def test_a_share_is_drawn(root: Path, verify: Callable[..., Any]) -> None:
    assert len(verify(root, share=0.5).findings) == 2
    assert len(verify(root, share=0.01).findings) == 1


def test_a_wrong_call_is_refused_on_one_line(root: Path, tmp_path: Path, verify: Callable[..., Any]) -> None:
    with pytest.raises(PlanError, match=r"level: input should be .*; share: input should be less than or equal to 1, found 2"):
        verify(root, level="x", share=2)
    with pytest.raises(SourceError, match=r"cannot be listed"):
        verify(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert verify(tmp_path / "empty").findings == ()


def test_targets_are_found_by_url_without_a_look_into_them() -> None:
    system = fsspec.filesystem("memory")
    for name in ("x/a.zarr/zarr.json", "x/a.zarr/v/zarr.json", "x/a.zarr/v/c/0", "b.zarr/.zgroup", "half.zarr/v/zarr.json"):
        system.pipe(f"/found/{name}", b"{}")
    system.pipe("/found/h5z-report.json", b"{}")
    assert list(find_targets("memory://found")) == [
        "memory:///found/b.zarr",
        "memory:///found/half.zarr/v",
        "memory:///found/x/a.zarr",
    ]
