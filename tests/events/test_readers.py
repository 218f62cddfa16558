"""The same rows out of HDF5's usual layouts; and files that are broken, hostile or not what the layout says."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from h5z.errors import RecordError, SourceError
from h5z.events import (
    RECORDED_SESSION,
    Attribute,
    Entity,
    Layout,
    Relation,
    Schema,
    SessionLayout,
    read,
    rows,
    tables,
    to_dataset,
)

from .generated import Tables, session, write_columns, write_groups, write_tables

EMPTY = {"count": -1, "sequence_idx": -1, "title": "", "completion_status": ""}
TABLES = SessionLayout(
    {
        "task": (Layout("table", "/tasks", missing={"count": -1, "completion_status": ""}),),
        "element": (Layout("table", "/elements", missing={"sequence_idx": -1, "title": [""]}),),
        "segment": (Layout("table", "/segments"),),
    }
)
COLUMNS = SessionLayout(
    {
        "task": (Layout("columns", "/tasks", missing={"count": -1, "completion_status": ""}),),
        "element": (Layout("columns", "/elements/", missing={"sequence_idx": -1, "title": ""}),),
        "segment": (Layout("columns", "/segments/{segment_type}"),),
    }
)
GROUPS = SessionLayout(
    {
        "task": (Layout("groups", "/tasks/{id}"),),
        "element": (Layout("groups", "/tasks/{task_id}/elements/{element_id}"),),
        "segment": (Layout("groups", "/tasks/*/elements/{containing_element_id}/segments/{id}"),),
    }
)
WAYS: dict[str, tuple[Callable[..., Path], SessionLayout]] = {
    "tables": (write_tables, TABLES),
    "columns": (write_columns, COLUMNS),
    "groups": (write_groups, GROUPS),
}


def by_id(dataset: xr.Dataset) -> dict[str, dict[str, dict[str, Any]]]:
    """All rows, by entity and id."""
    return {entity.name: {row["id"]: row for row in rows(dataset, entity.name)} for entity in RECORDED_SESSION.entities}


@pytest.fixture(scope="module")
def expected(small: Tables) -> dict[str, dict[str, dict[str, Any]]]:
    """The small session's rows, as they were generated."""
    out = {}
    for entity, columns in small.items():
        listed = {name: column.tolist() for name, column in columns.items()}
        found = [dict(zip(listed, items, strict=True)) for items in zip(*listed.values(), strict=True)]
        for row in found:
            for name, value in row.items():
                if value != value or (name in EMPTY and value == EMPTY[name]):
                    row[name] = None
        out[entity] = {row["id"]: row for row in found}
    return out


@pytest.mark.parametrize("way", WAYS)
def test_each_layout_gives_the_same_rows(way: str, small: Tables, expected: Any, tmp_path: Path) -> None:
    write, layout = WAYS[way]
    path = write(tmp_path / "in.h5", small, session_id="s-ü 1")
    dataset = to_dataset(read(path, layout, RECORDED_SESSION), RECORDED_SESSION)
    assert dataset.attrs["session_id"] == "s-ü 1"
    assert "not_carried" not in dataset.attrs
    assert by_id(dataset) == expected


@pytest.mark.parametrize(
    "storage", [{"chunks": (3,)}, {"chunks": True, "compression": "gzip", "shuffle": True}, {"maxshape": (None,)}]
)
def test_chunks_and_filters(storage: dict[str, Any], small: Tables, expected: Any, tmp_path: Path) -> None:
    path = write_tables(tmp_path / "in.h5", small, **storage)
    dataset = to_dataset(read(path, TABLES, RECORDED_SESSION), RECORDED_SESSION)
    assert dataset.attrs["session_id"] == "in"
    assert by_id(dataset) == expected


def test_from_s3(small: Tables, expected: Any, tmp_path: Path, bucket: Any, options: dict[str, Any]) -> None:
    bucket.put_file(str(write_tables(tmp_path / "in.h5", small)), "bucket/sources/far.h5")
    records = read("s3://bucket/sources/far.h5", TABLES, RECORDED_SESSION, storage_options=options)
    assert records.session_id == "far"
    assert by_id(to_dataset(records, RECORDED_SESSION)) == expected
    with pytest.raises(SourceError, match="no such object"):
        read("s3://bucket/sources/none.h5", TABLES, RECORDED_SESSION, storage_options=options)


ONE = Schema("one", (Entity("a", (Attribute("x", "string", required=False), Attribute("n", "int32", required=False))),))


def one(path: Path, kind: str = "table", where: str = "/a", schema: Schema = ONE, **layout: Any) -> list[dict[str, Any]]:
    """Rows of a file of one entity."""
    made = SessionLayout({"a": (Layout(kind, where, **layout),)})  # type: ignore[arg-type]
    return list(rows(to_dataset(read(path, made, schema), schema), "a"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([b"ab", b"c\xc3\xbc"], "S4"), ["ab", "cü"]),
        (np.array(["ü", ""], h5py.string_dtype()), ["ü", ""]),
        (np.array([b"ascii", b""], h5py.string_dtype("ascii")), ["ascii", ""]),
        (np.array([1, 0], h5py.enum_dtype({"off": 0, "on": 1}, "i1")), ["on", "off"]),
        (np.array([1, 5], h5py.enum_dtype({"off": 0, "on": 1}, "i1")), RecordError),
        (np.array([1, 2]), RecordError),
        (np.array([b"\xff", b""], "S1"), RecordError),
    ],
    ids=["fixed", "utf-8", "ascii", "enum", "enum without a name", "numbers", "no text"],
)
@pytest.mark.parametrize("kind", ["table", "columns"])
def test_text_in_all_its_forms(kind: str, value: Any, expected: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        if kind == "table":
            data = np.empty(2, [("id", "i8"), ("x", value.dtype)])
            data["id"], data["x"] = [1, 2], value
            file["a"] = data
        else:
            file["a/id"], file["a/x"] = [1, 2], value
    if expected is RecordError:
        with pytest.raises(RecordError, match=r"in\.h5: session in: a [12]: x: expected string"):
            one(tmp_path / "in.h5", kind)
    else:
        assert [row["x"] for row in one(tmp_path / "in.h5", kind)] == expected


def test_values_of_groups(tmp_path: Path) -> None:
    """Attributes of any form, arrays of one element, null dataspaces, scalar datasets; what is unknown is named."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        forms: list[tuple[Any, Any]] = [
            ("ü", 1),
            (np.bytes_(b"b"), np.int16(2)),
            (h5py.Empty("S1"), np.array([3])),
            ("", np.array([[4.0]])),
        ]
        for i, (x, n) in enumerate(forms):
            group = file.create_group(f"a/{i}")
            group.attrs["x"] = x
            group["n"] = n
            group.attrs["colour"] = "red"
            group["curve"] = np.zeros(5)
        file["a/0"].attrs.create("n2", 1, dtype=h5py.enum_dtype({"one": 1}))
    layout = SessionLayout({"a": (Layout("groups", "/a/{id}"),)})
    dataset = to_dataset(read(tmp_path / "in.h5", layout, ONE), ONE)
    assert [(row["id"], row["x"], row["n"]) for row in rows(dataset, "a")] == [
        ("0", "ü", 1),
        ("1", "b", 2),
        ("2", None, 3),
        ("3", "", 4),
    ]
    assert dataset.attrs["not_carried"] == ["a: /a/{id}: colour", "a: /a/{id}: curve", "a: /a/{id}: n2"]
    numbered = Schema("one", (Entity("a", (Attribute("x", "string", False), Attribute("n", "int32", False)), id_dtype="int64"),))
    assert [row["id"] for row in one(tmp_path / "in.h5", "groups", "/a/{id}", numbered)] == [0, 1, 2, 3]
    with h5py.File(tmp_path / "in.h5", "a") as file:
        file["a/0"].attrs["x"] = [1, 2]
    with pytest.raises(RecordError, match="a '0': x: expected string, found"):
        one(tmp_path / "in.h5", "groups", "/a/{id}")


def test_names_constants_and_several_places(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["first"] = np.array([(1, 2.0, 3)], [("key", "i4"), ("number", "f8"), ("n", "i2")])
        file["second/id"], file["second/x"] = [2], ["b"]
    layouts = (
        Layout("table", "/first", {"a_id": "key", "n": "number"}, {"x": "first"}),
        Layout("columns", "second", constants={"n": "7"}),
    )
    dataset = to_dataset(read(tmp_path / "in.h5", SessionLayout({"a": layouts}), ONE), ONE)
    assert list(rows(dataset, "a")) == [{"id": 1, "x": "first", "n": 2}, {"id": 2, "x": "b", "n": 7}]
    assert dataset.attrs["not_carried"] == ["a: /first: n"]


@pytest.mark.parametrize(
    ("make", "where", "expected"),
    [
        (lambda file: file.attrs.__setitem__("session_id", 17), "auto", "17"),
        (lambda file: file.attrs.__setitem__("session_id", np.bytes_(b"s")), "auto", "s"),
        (lambda file: None, "auto", "in.copy"),
        (lambda file: file.attrs.__setitem__("session_id", "x"), "name", "in.copy"),
        (lambda file: file.__setitem__("meta/id", "deep"), "/meta/id", "deep"),
        (lambda file: file.create_group("meta").attrs.__setitem__("id", ["one"]), "/meta@id", "one"),
        (lambda file: None, "@id", "@id: expected in the file, found nothing there"),
        (lambda file: None, "/none@id", "/none@id: expected in the file, found nothing there"),
        (lambda file: file.attrs.__setitem__("session_id", 1.5), "auto", "expected the session's id, found 1.5"),
        (lambda file: file.attrs.__setitem__("session_id", ""), "auto", "expected the session's id, found ''"),
        (lambda file: file.attrs.__setitem__("session_id", h5py.Empty("f")), "auto", "expected the session's id, found None"),
        (lambda file: file.create_group("g"), "/g", "/g: cannot be read"),
    ],
)
def test_the_session_s_id(make: Callable[[Any], Any], where: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "in.copy.h5"
    with h5py.File(path, "w") as file:
        make(file)
    layout = SessionLayout({}, session=where)
    if " " not in expected:
        assert read(path, layout, ONE).session_id == expected
        return
    with pytest.raises(SourceError) as caught:
        read(path, layout, ONE)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def external(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["a"] = np.array([(1,)], [("id", "i4")])
    file["a"] = h5py.ExternalLink("other.h5", "/a")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((1,), [("id", "i4")])
    layout[0] = h5py.VirtualSource("other.h5", "a", (1,))[0]
    file.create_virtual_dataset("a", layout)


def outside(file: h5py.File) -> None:
    Path(file.filename).with_name("raw").write_bytes(bytes(4))
    file.create_dataset("a", (1,), [("id", "i4")], external=[("raw", 0, 4)])


def damaged(file: h5py.File) -> None:
    file.create_dataset("a", data=np.array([(1,)] * 9, [("id", "i4")]), chunks=(9,), compression="gzip")
    file["a"].id.write_direct_chunk((0,), b"not a stream")


@pytest.mark.parametrize(
    ("make", "kind", "expected"),
    [
        (lambda file: None, "table", "/a: expected in the file, found nothing there"),
        (lambda file: file.__setitem__("a", [1, 2]), "table", "/a: expected a table (a dataset of compounds), found int64"),
        (lambda file: file.create_group("a"), "table", "/a: expected a dataset, found a group"),
        (lambda file: file.__setitem__("a", np.zeros((2, 2), [("id", "i4")])), "table", "expected a table of one dimension"),
        (lambda file: file.__setitem__("a", [1]), "columns", "/a: expected a group of columns, found a dataset"),
        (lambda file: file.__setitem__("a", [1]), "groups", "/a: expected a group a row, found a dataset"),
        (lambda file: file.update({"a/id": [1, 2], "a/x": ["a"]}), "columns", "/a/x"),
        (lambda file: file.update({"a/id": 1}), "columns", "/a/id: expected a column of 1 values"),
        (lambda file: file.update({"a/id": [[1, 2]]}), "columns", "found shape (1, 2)"),
        (lambda file: file.create_group("a/id"), "columns", "/a/id: expected a dataset, found a group"),
        (external, "table", "/a: expected rows in this file, found a link into another"),
        (virtual, "table", "/a: expected values in this file, found them in others"),
        (outside, "table", "/a: expected values in this file, found them in others"),
        (lambda file: file.__setitem__("a", h5py.SoftLink("/a")), "table", "/a: "),
        (damaged, "table", "/a[0:9] cannot be read"),
    ],
)
def test_a_file_that_is_not_as_its_layout_says(make: Callable[[Any], Any], kind: str, expected: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        make(file)
    with pytest.raises(SourceError) as caught:
        one(tmp_path / "in.h5", kind)
    assert str(caught.value).startswith(str(tmp_path / "in.h5"))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path, small: Tables) -> None:
    (tmp_path / "text.h5").write_text("Dear reader,\n")
    whole = write_tables(tmp_path / "whole.h5", small).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    for name in ("text.h5", "cut.h5", "none.h5"):
        with pytest.raises(SourceError, match=name):
            read(tmp_path / name, TABLES, RECORDED_SESSION)


def test_tables_without_rows(tmp_path: Path) -> None:
    """Empty, null, or not matched by a wildcard: no rows; ids of the type that the file has."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("none", (0,), [("id", "i4"), ("x", h5py.string_dtype())])
        file.create_dataset("null", data=h5py.Empty(np.dtype([("id", "i4")])))
        file.create_group("columns").create_dataset("id", (0,), "u2")
        file.create_group("groups")
    for kind, where in [
        ("table", "/none"),
        ("table", "/null"),
        ("columns", "/columns"),
        ("groups", "/groups/{id}"),
        ("table", "/groups/*"),
    ]:
        assert one(tmp_path / "in.h5", kind, where) == []
    for kind, where in (("table", "/none"), ("columns", "/columns")):
        layout = SessionLayout({"a": (Layout(kind, where),)})  # type: ignore[arg-type]
        assert to_dataset(read(tmp_path / "in.h5", layout, ONE), ONE).a_id.dtype == np.int64


def test_wildcards_take_what_fits(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in ("größe", "b c"):
            file[f"a/{name}"] = np.array([(ord(name[0]),)], [("id", "i4")])
        file.create_group("a/group")
    assert [(row["id"], row["x"]) for row in one(tmp_path / "in.h5", where="/a/{x}")] == [(98, "b c"), (103, "größe")]


def test_a_broken_relation_names_the_file(tmp_path: Path, small: Tables) -> None:
    wrong = {**small, "segment": {**small["segment"], "containing_element_id": np.full(300, "no", object)}}
    path = write_tables(tmp_path / "in.h5", wrong)
    with pytest.raises(RecordError) as caught:
        to_dataset(read(path, tables(RECORDED_SESSION), RECORDED_SESSION), RECORDED_SESSION)
    assert str(caught.value).startswith(f"{path}: session in: segment 'segment-")


def test_large_tables_are_never_all_python_objects(tmp_path: Path) -> None:
    """Python's own peak grows by what a batch holds, not by what the table has; numpy's columns are counted too."""
    schema = Schema("s", (Entity("a"), Entity("b", (Attribute("x", "string"),), (Relation("a_id", "a"),))))
    peaks = []
    for count in (150_000, 300_000):
        tables = session(count, elements=10, tasks=1)
        with h5py.File(tmp_path / f"{count}.h5", "w") as file:
            file["a"] = np.array([(i,) for i in range(10)], [("id", "i8")])
            data = np.empty(count, [("id", "i8"), ("a_id", "i8"), ("x", h5py.string_dtype())])
            data["id"], data["a_id"], data["x"] = np.arange(count), np.arange(count) % 10, tables["segment"]["segment_type"]
            file.create_dataset("b", data=data, chunks=(8192,))
        layout = SessionLayout({"a": (Layout("table", "/a"),), "b": (Layout("table", "/b"),)})
        tracemalloc.start()
        dataset = to_dataset(read(tmp_path / f"{count}.h5", layout, schema), schema)
        peaks.append(tracemalloc.get_traced_memory()[1] - dataset.nbytes)
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 150_000 * 60  # a row as a dict of Python objects takes hundreds of bytes
