"""Names that are hard for a store: each object is found again under its own name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5z
from h5z.records import hdf5_name, json_name

from .oddities import names
from .running import Convert

FORMATS = (3, 2)
SETS: dict[str, list[str] | list[bytes]] = {
    "names_of_unicode": names.UNICODE,
    "names_of_punctuation": names.PUNCTUATION,
    "names_in_case_pairs": names.CASES,
    "names_that_zarr_reserves": names.RESERVED,
    "names_of_dots": names.DOTS,
    "names_of_underscores": names.UNDERSCORES,
    "names_with_backslashes": names.BACKSLASHES,
    "names_that_are_long": names.LONG,
    "names_that_are_not_utf8": names.NOT_UTF8,
}


def by_source_name(group: zarr.Group) -> dict[str, zarr.Array | zarr.Group]:
    """A group's members by the names that they had in HDF5."""
    return {str(node.attrs.get("h5z", {}).get("name", name)): node for name, node in group.members()}


def recorded(name: str | bytes) -> str:
    """A name as JSON holds it."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", SETS)
def test_every_name_is_found_again(converted: Convert, name: str, zarr_format: int) -> None:
    """As an array and as a group, each with its own content."""
    done = converted(name, zarr_format)
    assert done.report.ok, done.report.not_carried
    root = zarr.open_group(done.target, mode="r")
    arrays, groups = by_source_name(root), by_source_name(root["groups"])
    assert set(arrays) == {*map(recorded, SETS[name]), "groups"}
    assert set(groups) == set(map(recorded, SETS[name]))
    for i, hard in enumerate(SETS[name]):
        assert np.asarray(arrays[recorded(hard)][...]).tolist() == [i, i]
        assert groups[recorded(hard)].attrs["number"] == i


@pytest.mark.parametrize("name", SETS)
def test_names_stay_inside_the_target(converted: Convert, name: str) -> None:
    """Nothing is written beside the target, and nothing but a root's own documents lies on top of it."""
    target = converted(name).target
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert {path.name for path in target.iterdir() if path.is_file()} == {"zarr.json"}


@pytest.mark.parametrize("name", SETS)
def test_file_names_are_what_every_store_takes(converted: Convert, name: str) -> None:
    """At most 255 bytes of UTF-8, no control characters, no backslash, no name of dots."""
    for path in converted(name).target.rglob("*"):
        assert len(path.name.encode("utf-8")) <= 255
        assert path.name.isprintable() or not any(ord(character) < 32 for character in path.name)
        assert "\\" not in path.name
        assert path.name.strip(".")


def test_names_that_no_store_minds_are_kept(converted: Convert) -> None:
    """Escaping is for what needs it."""
    root = zarr.open_group(converted("names_of_punctuation").target, mode="r")
    assert {"a b", "a:b", "~", "#", "{x}"} <= set(root.array_keys())
    root = zarr.open_group(converted("names_of_unicode").target, mode="r")
    assert {"ünï", "☃", "日本語"} <= set(root.array_keys())


def test_a_slash_at_the_end_of_a_path_is_no_other_path(tmp_path: Path) -> None:
    """A target's path with and without it, and a path pattern too."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["group/data"] = np.arange(6).reshape(2, 3)
    target = tmp_path / "out.zarr"
    assert h5z.convert(tmp_path / "in.h5", f"{target}/", verify="full", chunks={"/group/": (1, 3)}).ok
    assert h5z.convert(tmp_path / "in.h5", str(target), chunks={"/group/": (1, 3)}).status == "unchanged"
    assert zarr.open_group(target, mode="r")["group/data"].chunks == (1, 3)


def test_escaped_names_do_not_take_each_others_place(tmp_path: Path) -> None:
    """A name that looks like another's escape."""
    pairs = ["zarr.json", "%7Aarr.json", "..", "%2E%2E", "a\\b", "a%5Cb", "%", "%25"]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for i, name in enumerate(pairs):
            file[name] = np.full(3, i)
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full").ok
    found = by_source_name(zarr.open_group(tmp_path / "out.zarr", mode="r"))
    assert {name: int(np.asarray(array[...])[0]) for name, array in found.items()} == {n: i for i, n in enumerate(pairs)}


@given(st.text(st.sampled_from(["\\", "x", "5", "c", "f", "7", "\udcf7", "\udcc3", "÷"]), max_size=12))
def test_names_in_json_are_told_apart(text: str) -> None:
    """Bytes that are not UTF-8 beside what is written like them."""
    name = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    assert hdf5_name(json_name(name)) == name


def test_members_of_compounds_with_hard_names(tmp_path: Path) -> None:
    """A member that becomes an array of a group has a name like any other."""
    dtype = np.dtype([("zarr.json", "<i4"), ("..", h5py.string_dtype()), ("a/b", "<f8"), ("lengths", "<i2")])
    rows = np.zeros(2, dtype)
    rows["zarr.json"], rows[".."], rows["a/b"], rows["lengths"] = [1, 2], ["x", "y"], [0.5, 1.5], [7, 8]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["rows"] = rows
    report = h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full")
    assert report.ok
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")["rows"]
    found = {node.attrs["h5z"]["part"][-1]: np.asarray(node[...]).tolist() for _, node in group.arrays()}
    assert found == {".zarr.json": [1, 2], "...": ["x", "y"], ".a/b": [0.5, 1.5], ".lengths": [7, 8]}
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("in.h5", "out.zarr")] == []


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(NAMES.filter(lambda name: name != "."), min_size=1, max_size=6, unique=True))
def test_any_name_that_hdf5_takes(tmp_path_factory: pytest.TempPathFactory, chosen: list[str]) -> None:
    """Whatever characters, whatever length."""
    folder = tmp_path_factory.mktemp("names")
    with h5py.File(folder / "in.h5", "w") as file:
        for i, name in enumerate(chosen):
            file.create_group(name)["inner"] = np.full(2, i)
    report = h5z.convert(folder / "in.h5", folder / "out.zarr", verify="full")
    assert report.ok
    found = by_source_name(zarr.open_group(folder / "out.zarr", mode="r"))
    assert {name: int(np.asarray(group["inner"][...])[0]) for name, group in found.items()} == {
        name: i for i, name in enumerate(chosen)
    }


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("route", ["auto", "library"])
def test_members_whose_names_are_not_utf8(tmp_path: Path, zarr_format: int, route: str) -> None:
    """Of compounds, and of enumerations; h5py names neither."""
    from h5py import h5d, h5s, h5t

    with h5py.File(tmp_path / "in.h5", "w") as file:
        rows, colours = h5t.create(h5t.COMPOUND, 12), h5t.enum_create(h5t.STD_I8LE)
        rows.insert(b"gr\xfcn", 0, h5t.STD_I32LE)
        rows.insert(b"b", 4, h5t.IEEE_F64LE)
        colours.enum_insert(b"\xfc", 1)
        did = h5d.create(file.id, b"rows", rows, h5s.create_simple((3,)))
        did.write(h5s.ALL, h5s.ALL, np.array([(i, i / 2) for i in range(3)], [("a", "<i4"), ("b", "<f8")]), rows)
        h5d.create(file.id, b"colours", colours, h5s.create_simple((3,)))
    policy = {"zarr_format": zarr_format, "route": route}
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok
    root = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert np.asarray(root["rows"][...]).tolist() == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert root["colours"].attrs["h5z"]["dtype"]["members"] == {"\\xfc": 1}
