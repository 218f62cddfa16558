"""The rows of the table on links, committed datatypes, creation order and user blocks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import UnsupportedError
from h5z.hdf5.symboltable import checksum

from .running import Convert

FORMATS = (3, 2)


def paths(target: Path) -> set[str]:
    """Every node of a target but the root."""
    return set(dict(zarr.open_group(target, mode="r").members(max_depth=None)))


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_hard_links_are_stored_once(converted: Convert, zarr_format: int) -> None:
    """One array for three links; two of the links under their groups' h5z."""
    target = converted("hard_links", zarr_format).target
    root = zarr.open_group(target, mode="r")
    stored = {"a/data", "b/again", "z"} & paths(target)
    assert len(stored) == 1
    where = "/" + stored.pop()
    for group, name in (("/a", "data"), ("/b", "again"), ("/", "z")):
        links = (root[group] if group != "/" else root).attrs.get("h5z", {}).get("links", {})
        path = f"{group.rstrip('/')}/{name}"
        assert links.get(name) == (None if path == where else {"hard": where})
    assert root["b"].attrs["h5z"]["links"]["a_again"] == {"hard": "/a"}
    assert np.asarray(root[where][...]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_cycles_end(converted: Convert, zarr_format: int) -> None:
    target = converted("cyclic_hard_links", zarr_format).target
    assert paths(target) == {"a", "a/b", "a/b/data"}
    links = zarr.open_group(target, mode="r")["a/b"].attrs["h5z"]["links"]
    assert links == {"root": {"hard": "/"}, "parent": {"hard": "/a"}, "self": {"hard": "/a/b"}}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_soft_links_are_recorded(converted: Convert, zarr_format: int) -> None:
    """The dangling and the one to itself too."""
    target = converted("soft_links", zarr_format).target
    assert paths(target) == {"a", "a/data"}
    root = zarr.open_group(target, mode="r")
    assert root.attrs["h5z"]["links"] == {
        "absolute": {"soft": "/a/data"},
        "group": {"soft": "/a"},
        "through": {"soft": "/group/data"},
        "dangling": {"soft": "/nowhere"},
        "loop": {"soft": "/loop"},
    }
    assert root["a"].attrs["h5z"]["links"] == {"relative": {"soft": "data"}}


def test_soft_links_are_followed_by_policy(converted: Convert) -> None:
    """An object that a link leads to is also stored at the link's place."""
    target = converted("soft_links", links="follow").target
    root = zarr.open_group(target, mode="r")
    for path in ("absolute", "a/relative", "through", "group/data", "a/data"):
        assert np.asarray(root[path][...]).tolist() == [0, 1, 2, 3], path
    assert {"dangling", "loop"} & paths(target) == set()
    assert root.attrs["h5z"]["links"]["dangling"] == {"soft": "/nowhere"}


def test_external_links_are_recorded(converted: Convert) -> None:
    done = converted("external_links")
    assert paths(done.target) == {"mine"}
    links = zarr.open_group(done.target, mode="r").attrs["h5z"]["links"]
    assert links["beside"] == {"external": ["external_links-other.h5", "/data"]}
    assert links["outside"] == {"external": ["../../../etc/passwd", "/"]}


def test_external_links_are_followed_by_policy_inside_the_roots(converted: Convert) -> None:
    """The file beside it is read; the one outside the roots is named and never opened."""
    done = converted("external_links", links="follow")
    root = zarr.open_group(done.target, mode="r")
    assert np.asarray(root["beside"][...]).tolist() == [0, 1, 2, 3, 4]
    assert "outside" not in root
    assert "/outside" in {problem.path for problem in done.report.not_carried}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_committed_datatypes_are_recorded(converted: Convert, zarr_format: int) -> None:
    """Where they are, what they are, their attributes, and who uses them."""
    root = zarr.open_group(converted("committed_datatypes", zarr_format).target, mode="r")
    point = root["types"].attrs["h5z"]["types"]["point"]
    assert [member[0] for member in point["dtype"]["members"]] == ["x", "y"]
    assert point["attributes"][0]["name"] == "unit"
    assert point["attributes"][0]["value"] == "metre"
    for name in ("a", "b"):
        record = root[name].attrs["h5z"]
        assert record.get("committed", record.get("dataset", {}).get("committed")) == "/types/point"
    assert root.attrs["h5z"]["types"]["number"]["dtype"] == ">i4"
    assert root.attrs["h5z"]["attributes"]["here"]["committed"] == "/number"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_creation_order_is_recorded(converted: Convert, zarr_format: int) -> None:
    """The order itself, not only that there was one: of links, and of attributes."""
    target = converted("creation_order", zarr_format).target

    def ordered(path: str, names: list[str]) -> bool:
        document = target / path / ("zarr.json" if zarr_format == 3 else ".zattrs")
        text = json.dumps(json.loads(document.read_bytes())).partition('"consolidated_metadata"')[0]
        record = text[text.index('"h5z"') :]
        places = [record.find(f'"{name}"') for name in names]
        return -1 not in places and places == sorted(places)

    assert ordered("z/2", ["second", "first"])
    assert ordered("z", ["2", "1", "3"])
    assert ordered("", ["z", "a", "m"])


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_user_blocks_are_recorded(converted: Convert, zarr_format: int) -> None:
    """Its bytes, which belong to somebody else."""
    done = converted("user_block", zarr_format)
    record = json.dumps(dict(zarr.open_group(done.target, mode="r").attrs)["h5z"])
    content = b"MATLAB 7.3 MAT-file, or so"
    assert base64.b64encode(content).decode()[:32] in record or content.decode() in record
    assert np.asarray(zarr.open_group(done.target, mode="r")["data"][...]).tolist() == list(range(20))


def test_comments_are_recorded_or_named(converted: Convert) -> None:
    """h5py's own call for them reads freed memory."""
    done = converted("comments")
    root = zarr.open_group(done.target, mode="r")
    for path, text in (("data", "three numbers"), ("group", "nothing in it")):
        recorded = root[path].attrs.get("h5z", {}).get("comment") == text
        assert recorded or any(f"/{path} " in note and "comment" in note for note in done.report.notes)


def test_depth_is_no_limit(converted: Convert) -> None:
    root = zarr.open_group(converted("deep_nesting").target, mode="r")
    assert np.asarray(root["/".join(["g"] * 340 + ["data"])][...]).tolist() == [0, 1, 2]


def test_a_hierarchy_of_nothing(converted: Convert) -> None:
    done = converted("empty_file")
    assert paths(done.target) == set()
    assert done.report.ok


def test_one_source_with_many_links_gives_one_report(tmp_path: Path) -> None:
    """Links of every kind beside each other: what is stored is what has an object of its own."""
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["data"] = np.arange(3)
        for i in range(50):
            file[f"hard{i}"] = file["data"]
            file[f"soft{i}"] = h5py.SoftLink("/data")
    report = h5z.convert(tmp_path / "links.h5", tmp_path / "out.zarr", verify="full")
    assert report.ok
    assert report.arrays == 1
    assert len(zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["h5z"]["links"]) == 100


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize(("what", "number"), [("links", 5), ("attributes", 8)])
@pytest.mark.parametrize("said", [19, 21])
def test_a_table_that_is_not_whole_is_named(tmp_path: Path, what: str, number: int, said: int, tracked: bool) -> None:
    """A B-tree that tells of another number of links, or attributes, than its nodes hold: nobody can list the others."""
    with h5py.File(tmp_path / "in.h5", "w", libver="latest", track_order=tracked) as file:
        for i in range(20):
            file[f"data{i}"] = i
            file.attrs[f"note{i}"] = i
    raw = bytearray((tmp_path / "in.h5").read_bytes())
    at = raw.index(b"BTHD\0" + bytes([number]))  # of the index by name; the number of its records is before its checksum
    assert raw[at + 26 : at + 34] == (20).to_bytes(8, "little")
    raw[at + 26 : at + 34] = said.to_bytes(8, "little")
    raw[at + 34 : at + 38] = checksum(bytes(raw[at : at + 34])).to_bytes(4, "little")
    (tmp_path / "in.h5").write_bytes(raw)
    expected = f"/: its {what} cannot be listed (expected {said}, found 20)"
    tree = h5z.scan(tmp_path / "in.h5")
    assert [f"{problem.path}: {problem.reason}" for problem in tree.problems] == [expected]
    assert len(list(tree.arrays)) == 20
    with pytest.raises(UnsupportedError, match=re.escape(expected)):
        h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr")


def test_references_are_read_while_what_they_point_to_is(tmp_path: Path) -> None:
    """Tasks of one file do not disturb each other."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for i in range(40):
            file[f"data/{i}"] = np.arange(2000)
        refs = [file[f"data/{i}"].ref for i in range(40)] * 25
        for i in range(8):
            file.create_dataset(f"refs/{i}", data=refs, dtype=h5py.ref_dtype)
    policy = {"chunks": {"/data": (500,), "/refs": (50,)}, "verify": "full", "workers": 4}
    for i in range(2):
        assert h5z.convert(tmp_path / "in.h5", tmp_path / f"out{i}.zarr", **policy).ok
    stored = zarr.open_group(tmp_path / "out0.zarr", mode="r")
    assert np.asarray(stored["refs/7"][...]).tolist() == [f"/data/{i}" for i in range(40)] * 25


def test_the_source_is_let_go(tmp_path: Path) -> None:
    """Once a call has returned, its source can be written to and replaced in the same process."""
    source = tmp_path / "in.h5"
    with h5py.File(source, "w") as file:
        file["data"] = np.arange(3)
    h5z.convert(source, tmp_path / "out.zarr", verify="full")
    with h5py.File(source, "r+") as file:
        file["more"] = np.arange(4)
    assert h5z.convert(source, tmp_path / "more.zarr", verify="full").arrays == 2
    with h5py.File(source, "w") as file:
        file["other"] = np.arange(5)
    assert not h5z.verify(source, tmp_path / "more.zarr").ok
