"""Other files that a source names are read inside the roots and nowhere else: each attack, and its control.

In all of them the attacker writes what lies in the source's folder, and wants what lies outside it. The control names the
folder outside as a root: then the same files give the secret away, so that the attack would have worked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import SourceError

SECRET = 0x5EC2E7
ATTACKS: dict[str, Callable[[Path, Path, pytest.MonkeyPatch], None]] = {}


def attack(function: Callable[[Path, Path, pytest.MonkeyPatch], None]) -> None:
    """Register an attack: it gets the source's path, the folder outside, and what changes the environment."""
    ATTACKS[function.__name__] = function


def link(path: Path, file: str, target: str = "/secret") -> None:
    with h5py.File(path, "w") as out:
        out["x"] = h5py.ExternalLink(file, target)


def view(path: Path, file: str, source: str = "/secret", name: str = "x") -> None:
    """A virtual dataset of one source."""
    with h5py.File(path, "a") as out:
        layout = h5py.VirtualLayout((4,), "<i8")
        layout[:] = h5py.VirtualSource(file, source, (4,))
        out.create_virtual_dataset(name, layout)


def raw(path: Path, file: str, name: str = "x") -> None:
    """A dataset with external storage."""
    with h5py.File(path, "a") as out:
        out.create_dataset(name, (4,), "<i8", external=[(file, 0, 32)])


@attack
def link_upwards(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    link(source, f"../{outside.name}/secret.h5")


@attack
def link_by_absolute_path(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    link(source, str(outside / "secret.h5"))


@attack
def link_to_a_symbolic_link(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    (source.parent / "other.h5").symlink_to(outside / "secret.h5")
    link(source, "other.h5")


@attack
def link_into_a_symbolic_link_of_a_folder(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    (source.parent / "folder").symlink_to(outside)
    link(source, "folder/secret.h5")


@attack
def link_through_a_folder_and_back(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    """Whoever resolves `..` as text takes this for the source's folder."""
    (outside / "deep").mkdir()
    (source.parent / "folder").symlink_to(outside / "deep")
    link(source, "folder/../secret.h5")


@attack
def link_to_what_lies_in_the_working_folder(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(outside)
    link(source, "secret.h5")


@attack
def link_by_a_variable_of_the_environment(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HDF5_EXT_PREFIX", f"/nowhere:{outside}")
    link(source, "secret.h5")


@attack
def soft_link_through_an_external_one(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    with h5py.File(source, "w") as out:
        out["away"] = h5py.ExternalLink(f"../{outside.name}/secret.h5", "/")
        out["x"] = h5py.SoftLink("/away/secret")


@attack
def link_to_a_file_that_links_on(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    link(source.with_name("other.h5"), f"../{outside.name}/secret.h5")
    link(source, "other.h5", "/x")


@attack
def link_to_a_soft_link_that_leads_on(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    with h5py.File(source.with_name("other.h5"), "w") as out:
        out["away"] = h5py.ExternalLink(f"../{outside.name}/secret.h5", "/")
        out["soft"] = h5py.SoftLink("away/secret")
    link(source, "other.h5", "/soft")


@attack
def view_upwards(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    view(source, f"../{outside.name}/secret.h5")


@attack
def view_by_absolute_path(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    view(source, str(outside / "secret.h5"))


@attack
def view_of_a_symbolic_link(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    (source.parent / "other.h5").symlink_to(outside / "secret.h5")
    view(source, "other.h5")


@attack
def view_of_what_lies_in_the_working_folder(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(outside)
    view(source, "secret.h5")


@attack
def view_of_what_has_an_absolute_path_no_more(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    """Of a path that is not there, libhdf5 tries the last part elsewhere."""
    patch.chdir(outside)
    view(source, str(source.parent / "gone" / "secret.h5"))


@attack
def view_by_a_variable_of_the_environment(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HDF5_VDS_PREFIX", f"{outside}")
    view(source, "secret.h5")


@attack
def view_of_a_view(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    view(source.with_name("other.h5"), f"../{outside.name}/secret.h5")
    view(source, "other.h5", "/x")


@attack
def view_of_external_storage(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    raw(source.with_name("other.h5"), str(outside / "secret.raw"))
    view(source, "other.h5", "/x")


@attack
def view_through_a_link_of_the_other_file(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    link(source.with_name("other.h5"), f"../{outside.name}/secret.h5", "/")
    view(source, "other.h5", "/x/secret")


@attack
def view_of_the_same_file_through_a_link(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    with h5py.File(source, "w") as out:
        out["away"] = h5py.ExternalLink(f"../{outside.name}/secret.h5", "/")
    view(source, ".", "/away/secret")


@attack
def view_of_numbered_files(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    """One of which is a symbolic link."""
    (source.parent / "part-0.h5").symlink_to(outside / "secret.h5")
    with h5py.File(source, "w") as out:
        here = h5py.h5s.create_simple((4,), (h5py.h5s.UNLIMITED,))
        here.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), stride=(4,), block=(4,))
        there = h5py.h5s.create_simple((4,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_virtual(here, b"part-%b.h5", b"/secret", there)
        space = h5py.h5s.create_simple((4,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(out.id, b"x", h5py.h5t.STD_I64LE, space, plist)


@attack
def storage_upwards(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    raw(source, f"../{outside.name}/secret.raw")


@attack
def storage_by_absolute_path(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    raw(source, str(outside / "secret.raw"))


@attack
def storage_in_a_symbolic_link(source: Path, outside: Path, _: pytest.MonkeyPatch) -> None:
    (source.parent / "other.raw").symlink_to(outside / "secret.raw")
    raw(source, "other.raw")


@attack
def storage_by_a_variable_of_the_environment(source: Path, outside: Path, patch: pytest.MonkeyPatch) -> None:
    """Which libhdf5 reads once, when it starts; h5z's own reader never does."""
    patch.setenv("HDF5_EXTFILE_PREFIX", str(outside))
    raw(source, "secret.raw")


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """The source's path, and the folder outside, whose name begins with that of the source's folder."""
    inside, outside = tmp_path / "data", tmp_path / "data2"
    inside.mkdir()
    outside.mkdir()
    with h5py.File(outside / "secret.h5", "w") as file:
        file["secret"] = np.full(4, SECRET, "<i8")
    np.full(4, SECRET, "<i8").tofile(outside / "secret.raw")
    return inside / "a.h5", outside


def gives_away(target: Path) -> bool:
    """Whether the secret is anywhere in a target."""
    needle = np.int64(SECRET).tobytes()
    return any(needle in path.read_bytes() for path in target.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(scene: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source, outside = scene
    ATTACKS[name](source, outside, monkeypatch)
    target = tmp_path / "out.zarr"
    report = h5z.convert(source, target, links="follow", unsupported="report", codec=None, verify="full")
    assert not gives_away(target)
    assert "/x" in {problem.path for problem in report.not_carried}
    assert "outside the external roots" in json.dumps([problem.reason for problem in report.not_carried])


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "storage_by_a_variable_of_the_environment"])
def test_attacks_would_work(scene: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With the folder outside among the roots, what is at /x is read, and is the secret."""
    source, outside = scene
    ATTACKS[name](source, outside, monkeypatch)
    target = tmp_path / "out.zarr"
    report = h5z.convert(source, target, links="follow", codec=None, verify="full", external_roots=outside)
    assert report.ok, report
    assert np.asarray(zarr.open_group(target, mode="r")["x"][...]).tolist() == [SECRET] * 4


@pytest.mark.parametrize("name", [name for name in ATTACKS if name.startswith(("view", "storage"))])
def test_a_tree_that_was_not_measured_leads_nowhere_else(
    scene: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Reading checks again, in whatever process it happens."""
    source, outside = scene
    ATTACKS[name](source, outside, monkeypatch)
    tree = h5z.scan(source)
    with suppress(SourceError):  # a scan that finds it says so in its report; else reading fails
        h5z.convert(tree, tmp_path / "out.zarr", unsupported="report", codec=None, scheduler="processes", workers=1)
    assert not gives_away(tmp_path / "out.zarr")


@pytest.mark.parametrize("kind", ["view", "storage"])
def test_what_was_inside_when_it_was_planned(scene: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """And is a symbolic link to the outside when it is read."""
    source, outside = scene
    other = source.with_name("other.h5" if kind == "view" else "other.raw")
    if kind == "view":
        with h5py.File(other, "w") as file:
            file["secret"] = np.zeros(4, "<i8")
        view(source, other.name)
    else:
        np.zeros(4, "<i8").tofile(other)
        raw(source, other.name)
    graph = h5z.graph(h5z.plan(source, tmp_path / "out.zarr", codec=None))
    other.unlink()
    other.symlink_to(outside / f"secret{other.suffix}")
    with pytest.raises(SourceError, match=r"a\.h5.*outside the external roots"):
        graph.compute(scheduler="sync")
    assert not gives_away(tmp_path / "out.zarr")


def test_a_url_leads_nowhere(scene: tuple[Path, Path], tmp_path: Path) -> None:
    """Not even to what lies beside it: there is no folder that anybody has named."""
    source, _ = scene
    np.full(4, SECRET, "<i8").tofile(source.with_name("beside.raw"))
    raw(source, "beside.raw")
    view(source, "beside.h5", name="y")
    report = h5z.convert(f"file://{source}", tmp_path / "out.zarr", unsupported="report", codec=None)
    assert {problem.path for problem in report.not_carried} == {"/x", "/y"}
    assert not gives_away(tmp_path / "out.zarr")


@pytest.mark.parametrize("kind", ["storage", "view", "link", "source"])
def test_a_pipe_is_not_waited_for(scene: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """What is no regular file may have no end."""
    source, _ = scene
    pipe = source.with_name("pipe") if kind != "source" else source
    os.mkfifo(pipe)
    if kind == "source":
        with pytest.raises(SourceError, match="found a pipe"):
            h5z.scan(source)
        return
    {"storage": raw, "view": view, "link": link}[kind](source, "pipe")
    report = h5z.convert(source, tmp_path / "out.zarr", links="follow", unsupported="report")
    assert [(p.path, "regular" in p.reason) for p in report.not_carried] == [("/x", True)]


def test_a_symbolic_link_to_a_source_has_that_source_s_folder(scene: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = scene
    np.arange(4, dtype="<i8").tofile(source.with_name("beside.raw"))
    with h5py.File(source.with_name("beside.h5"), "w") as file:
        file["secret"] = np.arange(4)
    raw(source, "beside.raw")
    view(source, "beside.h5", name="y")
    (tmp_path / "alias.h5").symlink_to(source)
    assert h5z.convert(tmp_path / "alias.h5", tmp_path / "out.zarr", verify="full").ok
    root = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert [np.asarray(root[name][...]).tolist() for name in "xy"] == [[0, 1, 2, 3]] * 2


def test_a_view_that_is_its_own_source(scene: tuple[Path, Path], tmp_path: Path) -> None:
    """By itself, or by way of another file; libhdf5 crashes on these."""
    source, _ = scene
    view(source, ".", "/x")
    view(source, "other.h5", "/back", name="y")
    view(source.with_name("other.h5"), source.name, "/y", name="back")
    report = h5z.convert(source, tmp_path / "out.zarr", unsupported="report")
    assert {problem.path: "its own source" in problem.reason for problem in report.not_carried} == {"/x": True, "/y": True}


def test_links_that_never_end(scene: tuple[Path, Path], tmp_path: Path) -> None:
    """Soft and external, round in circles."""
    source, _ = scene
    with h5py.File(source, "w") as file:
        file["here"] = h5py.SoftLink("/there")
        file["there"] = h5py.SoftLink("/here")
        file["out"] = h5py.ExternalLink(source.name, "/out")
        file["fine"] = 1
    report = h5z.convert(source, tmp_path / "out.zarr", links="follow")
    assert report.arrays == 1
