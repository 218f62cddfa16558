"""Rows become one Dataset: relations, types, what is missing, order, counts; and every kind of broken row."""

from __future__ import annotations

import copy
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from h5z.errors import PlanError, RecordError, SourceError
from h5z.events import RECORDED_SESSION, Attribute, Batch, Entity, Records, Relation, Schema, rows, to_dataset

from .generated import Tables, compound, session

Rows = dict[str, list[dict[str, Any]]]
GOOD: Rows = {
    "task": [
        {"id": "t1", "task_type": "reading", "start_time": 0.0, "end_time": 9.0, "count": 3, "skipped": True},
        {"id": "t2", "task_type": "größe", "start_time": 10.0, "count": None, "completion_status": "None"},
        {"id": "t3", "task_type": "", "start_time": 20, "completion_status": ""},
    ],
    "element": [
        {"id": "e1", "element_type": "x", "start_time": 10.0, "task_id": "t2", "title": "None", "is_instruction": False},
        {"id": "e2", "element_type": "y", "start_time": 1.0, "task_id": "t1", "sequence_idx": 2**31 - 1},
        {"id": "e3", "element_type": "y", "start_time": 2.0, "task_id": "t1", "title": ""},
    ],
    "segment": [
        {"id": 1, "segment_type": "b", "start_time": 10.5, "containing_element_id": "e1"},
        {"id": 2, "segment_type": "a", "start_time": 1.5, "containing_element_id": "e2"},
        {"id": 3, "segment_type": "b", "start_time": 1.25, "containing_element_id": "e2", "duration": 0.5},
        {"id": 4, "segment_type": "c", "start_time": 2.5, "containing_element_id": "e3"},
        {"id": 5, "segment_type": "a", "start_time": 1.75, "containing_element_id": "e2"},
    ],
}


def changed(entity: str, row: int, **values: Any) -> Rows:
    """Good rows with one that is not."""
    out = copy.deepcopy(GOOD)
    out[entity][row] |= values
    out[entity][row] = {name: value for name, value in out[entity][row].items() if value is not ...}
    return out


def made(records: Any, schema: Schema = RECORDED_SESSION, **options: Any) -> xr.Dataset:
    return to_dataset(records, schema, **{"session_id": "s1", **options})


def test_the_dataset_of_a_session() -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    dataset = made(GOOD)
    assert dict(dataset.sizes) == {"task_id": 3, "element_id": 3, "segment_id": 5} | {
        f"{name}_zone": 1 for name in ("task", "element", "segment")
    }
    assert set(dataset.coords) == {"task_id", "element_id", "segment_id"} == set(dataset.xindexes)
    for entity in RECORDED_SESSION.entities:
        assert {entity.variable(name) for name in entity.columns} <= set(dataset.data_vars)
    assert dataset.attrs["session_id"] == "s1"
    assert dataset.attrs["transform"] == "h5z.events"
    assert dataset.attrs["version"] == "1"
    assert dt.datetime.fromisoformat(dataset.attrs["creation_time"]) >= before
    assert Schema.from_dict(json.loads(dataset.attrs["schema"]))["segment"].id_dtype == "int64"
    assert dataset.sel(task_id="t2").task_task_type.item() == "größe"


def test_rows_of_one_container_lie_together_in_the_order_of_their_source() -> None:
    dataset = made(GOOD)
    assert dataset.element_id.values.tolist() == ["e2", "e3", "e1"]
    assert dataset.segment_id.values.tolist() == [2, 3, 5, 4, 1]
    assert dataset.segment_source_row.values.tolist() == [1, 2, 4, 3, 0]
    assert dataset.task_element_count.values.tolist() == [2, 1, 0]
    assert dataset.task_element_first.values.tolist() == [0, 2, 3]
    assert dataset.element_segment_count.values.tolist() == [3, 1, 1]
    assert dataset.task_element_count.attrs["sample_dimension"] == "element_id"
    assert dataset.element_task_index.values.tolist() == [0, 0, 1]
    assert dataset.element_task_index.attrs["instance_dimension"] == "task_id"
    of_segments = dataset.element_id[dataset.segment_containing_element_index]
    assert of_segments.values.tolist() == dataset.segment_containing_element_id.values.tolist()
    assert dataset.segment_type_index.values.tolist() == [0, 1, 0, 2, 1]
    assert dataset.segment_type_index.attrs["types"] == ["a", "b", "c"]


def test_types_stay_what_they_are_and_what_is_missing_comes_back_missing() -> None:
    dataset = made(GOOD)
    text = np.dtypes.StringDType()
    kinds = {"task_count": "int32", "task_skipped": "bool", "task_end_time": "float64", "element_sequence_idx": "int32"}
    kinds |= {"task_task_type": text, "element_is_instruction": "bool", "segment_start_time": "float64", "task_id": text}
    assert {name: dataset[name].dtype for name in kinds} == {name: np.dtype(kind) for name, kind in kinds.items()}
    assert dataset.task_count_missing.values.tolist() == [False, True, True]
    assert dataset.task_count.attrs["ancillary_variables"] == "task_count_missing"
    assert "task_start_time_missing" not in dataset
    assert "task_task_type_missing" not in dataset
    back = {row["id"]: row for row in rows(dataset, "task")}
    assert [back[name]["count"] for name in ("t1", "t2", "t3")] == [3, None, None]
    assert [back[name]["skipped"] for name in ("t1", "t2", "t3")] == [True, None, None]
    assert [back[name]["completion_status"] for name in ("t1", "t2", "t3")] == [None, "None", ""]
    assert [back[name]["end_time"] for name in ("t1", "t2", "t3")] == [9.0, None, None]
    assert {row["id"]: row["title"] for row in rows(dataset, "element")} == {"e1": "None", "e2": None, "e3": ""}


BROKEN = {
    "a relation to nothing": (changed("element", 1, task_id="t9"), "element 'e2': task_id", "'t9'"),
    "a relation of another type": (changed("element", 1, task_id=7), "element 'e2': task_id: expected string", "7"),
    "a segment of no element": (changed("segment", 0, containing_element_id=None), "segment 1: containing_element_id", "none"),
    "a relation that is not there": (
        changed("segment", 0, containing_element_id=...),
        "segment 1: containing_element_id",
        "none",
    ),
    "an id twice": (changed("task", 1, id="t1"), "task 't1': id: expected an id of its own", "earlier row"),
    "an integer id twice": (changed("segment", 4, id=4), "segment 4: id: expected an id of its own", "earlier row"),
    "no id": (changed("element", 0, id=None), "element row 0: id", "none"),
    "an empty id of another type": (changed("segment", 2, id="3"), "segment row 2: id: expected int64", "'3'"),
    "an id that is a bool": (changed("segment", 2, id=True), "segment row 2: id: expected int64", "True"),
    "an id that is NaN": (changed("segment", 2, id=float("nan")), "segment row 2: id", "none"),
    "text for a number": (changed("task", 0, count="3"), "task 't1': count: expected int32", "'3'"),
    "a number for text": (changed("element", 0, title=5), "element 'e1': title: expected string", "5"),
    "text for a bool": (changed("task", 0, skipped="no"), "task 't1': skipped: expected bool", "'no'"),
    "too large a number": (changed("task", 0, count=2**31), "task 't1': count: expected int32", "2147483648"),
    "a part of a number": (changed("task", 0, count=1.5), "task 't1': count: expected int32", "1.5"),
    "a list": (changed("element", 0, title=["a"]), "element 'e1': title: expected string", "['a']"),
    "bytes that are no text": (changed("element", 0, title=b"\xff"), "element 'e1': title: expected string", "b'\\xff'"),
    "a lone surrogate": (changed("element", 0, title="\ud800"), "element 'e1': title: expected string", "'\\ud800'"),
    "no start": (changed("segment", 3, start_time=None), "segment 4: start_time", "none"),
    "a start that is NaN": (changed("segment", 3, start_time=float("nan")), "segment 4: start_time", "none"),
    "a start that is text": (changed("segment", 3, start_time="2.5"), "segment 4: start_time: expected float64", "'2.5'"),
    "a required attribute that is nowhere": (
        {**GOOD, "task": [{"id": f"t{i}", "start_time": 0.0, "kind": "x"} for i in (1, 2, 3)]},
        "task: task_type: expected a value in each row",
        "none (but kind)",
    ),
}


@pytest.mark.parametrize(("records", "where", "found"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_an_error_that_names_it(records: Rows, where: str, found: str) -> None:
    with pytest.raises(RecordError) as caught:
        made(records)
    message = str(caught.value)
    assert message.startswith(f"session s1: {where}")
    assert found in message
    assert "\n" not in message
    message.encode()
    assert isinstance(caught.value, SourceError) and isinstance(caught.value, ValueError)  # noqa: PT018


@pytest.mark.parametrize(("records", "where", "found"), BROKEN.values(), ids=BROKEN)
def test_or_is_kept_and_reported(records: Rows, where: str, found: str) -> None:
    """All rows are there; the ones that are whole, whole; what is named is what the error would have named."""
    dataset = made(records, problems="report")
    assert any(line.startswith(where) and found in line for line in dataset.attrs["problems"])
    assert dataset.attrs["problem_count"] >= 1
    assert {name: dataset.sizes[f"{name}_id"] for name in GOOD} == {name: len(items) for name, items in records.items()}
    for entity, items in records.items():
        source = dataset.get(f"{entity}_source_row")
        order = range(len(items)) if source is None else source.values
        for row, back in zip(order, rows(dataset, entity), strict=True):
            for name, value in back.items():
                given = items[row].get(name)
                assert value == given or value is None or name == "kind", (entity, row, name)
                if given is not None and given == given and items[row] == GOOD[entity][row]:
                    assert value == given


def test_what_is_kept_is_kept_apart() -> None:
    """A broken relation keeps its id and leads nowhere; an id twice leads to the first; an id that is none leads nowhere."""
    dataset = made(changed("element", 1, task_id="t9"), problems="report")
    at = dataset.sel(element_id="e2")
    assert (at.element_task_id.item(), at.element_task_index.item()) == ("t9", -1)
    assert dataset.element_id.values.tolist() == ["e3", "e1", "e2"]  # those of no task last
    assert dataset.task_element_count.values.tolist() == [1, 1, 0]
    twice = made(changed("task", 1, id="t1"), problems="report")
    assert twice.task_element_count.values.tolist() == [2, 0, 0]
    none = made(
        changed("task", 0, id=None) | {"element": [{**GOOD["element"][0], "task_id": ""}], "segment": []}, problems="report"
    )
    assert none.task_id_missing.values.tolist() == [True, False, False]
    assert none.element_task_index.values.tolist() == [-1]


def test_all_problems_are_counted_and_some_are_told() -> None:
    many = {**GOOD, "segment": [{**GOOD["segment"][0], "id": i, "containing_element_id": "no"} for i in range(5000)]}
    with pytest.raises(RecordError, match=r"segment 0: containing_element_id: .*'no' \(and 4999 more\)"):
        made(many)
    attributes = made(many, problems="report").attrs
    assert attributes["problem_count"] == 5000
    assert len(attributes["problems"]) <= 20
    assert "segment: containing_element_id: expected the id of a row of element: 5000 in all" in attributes["problems"]


@pytest.mark.parametrize("records", [{}, {"task": []}, {"task": {}, "segment": iter(())}, iter(()), {"segment": {"id": []}}])
def test_empty_tables(records: Any) -> None:
    dataset = made(records)
    assert all(size == 0 for size in dataset.sizes.values())
    assert dataset.task_element_count.shape == (0,)
    assert dataset.segment_type_index.attrs["types"] == []
    assert list(rows(dataset, "task")) == []
    assert dataset.task_count.dtype == np.int32


def test_a_container_s_table_that_is_empty_breaks_what_belongs_to_it() -> None:
    with pytest.raises(RecordError, match="element 'e1': task_id"):
        made({**GOOD, "task": []})


def test_ids_are_text_or_integers_as_they_come() -> None:
    schema = Schema("s", (Entity("a"), Entity("b", (), (Relation("a_id", "a", required=False),))))
    for ids in ([3, 1], ["3", "1"]):
        dataset = made({"a": [{"id": i} for i in ids], "b": [{"id": ids[0], "a_id": ids[1]}, {"id": ids[1]}]}, schema)
        assert dataset.a_id.values.tolist() == ids
        assert dataset.b_a_index.values.tolist() == [1, -1]
        assert dataset.b_a_id_missing.values.tolist() == [False, True]
    with pytest.raises(RecordError, match="b 1: a_id: expected the id of a row of a, found 3"):
        made({"a": [{"id": "3"}], "b": [{"id": 1, "a_id": 3}]}, schema)
    with pytest.raises(RecordError, match="a row 1: id: expected int64, found 'x'"):
        made({"a": [{"id": 1}, {"id": "x"}]}, schema)
    assert made({"a": {"id": np.zeros(0, np.int64)}}, schema).a_id.dtype == np.int64
    late = made(
        [Batch("b", {"id": [1], "a_id": [None]}), Batch("b", {"id": [2], "a_id": ["x"]}), Batch("a", {"id": ["x"]})], schema
    )
    assert late.b_a_id.values.tolist() == ["x", ""]
    assert late.b_a_id_missing.values.tolist() == [False, True]
    strict = Schema("s", (Entity("a", id_dtype="uint8"),))
    assert made({"a": {"id": [255]}}, strict).a_id.dtype == np.uint8
    with pytest.raises(RecordError, match="expected uint8, found 256"):
        made({"a": {"id": [256]}}, strict)


def test_relations_that_contain_nothing() -> None:
    """To a row of its own table, and to a later one; counted, not ordered by."""
    schema = Schema(
        "s",
        (
            Entity("a", (), ()),
            Entity("b", (), (Relation("a_id", "a"), Relation("next_id", "b", required=False), Relation("best_c_id", "c"))),
            Entity("c", (), (Relation("a_id", "a"),)),
        ),
    )
    records = {
        "a": [{"id": 1}, {"id": 2}],
        "b": [{"id": 1, "a_id": 2, "next_id": 2, "best_c_id": 8}, {"id": 2, "a_id": 1, "best_c_id": 9}],
        "c": [{"id": 9, "a_id": 2}, {"id": 8, "a_id": 1}],
    }
    dataset = made(records, schema)
    assert dataset.b_id.values.tolist() == [2, 1]
    assert dataset.c_id.values.tolist() == [8, 9]
    assert dataset.b_next_index.values.tolist() == [-1, 0]
    assert dataset.b_best_c_index.values.tolist() == [1, 0]
    assert dataset.b_b_next_count.values.tolist() == [1, 0]


def test_rows_in_whatever_they_come(small: Tables) -> None:
    """Columns, structured arrays, DataFrames, rows, batches of any size in any order: the same Dataset."""
    fixed = {"creation_time": "now"}
    plain = made(small, **fixed)
    whole = {name: [dict(zip(t, row, strict=True)) for row in zip(*t.values(), strict=True)] for name, t in small.items()}
    many: list[Any] = [
        {name: compound(columns) for name, columns in small.items()},
        {name: pd.DataFrame(columns) for name, columns in small.items()},
        whole,
        {name: iter(items) for name, items in whole.items()},
        [
            Batch(name, {key: column[i : i + 7] for key, column in small[name].items()})
            for name in ("segment", "task", "element")
            for i in range(0, len(small[name]["id"]), 7)
        ],
    ]
    for records in many:
        xr.testing.assert_identical(made(records, **fixed), plain)


def test_records_have_their_own_id_and_may_be_gone_through_twice() -> None:
    def batches() -> Iterator[Batch]:
        yield Batch("task", {"task_id": ["t1"], "task_type": ["x"], "start_time": [0.0]})

    records = Records("own", batches, {"room": "3"}, source="a.h5")
    for _ in range(2):
        dataset = to_dataset(records, RECORDED_SESSION, attributes={"site": "x"})
        assert (dataset.attrs["session_id"], dataset.attrs["room"], dataset.attrs["site"]) == ("own", "3", "x")
        assert dataset.sizes["task_id"] == 1
    wrong = Records("own", lambda: [Batch("task", {"id": ["t1"], "task_type": [1], "start_time": [0.0]})], source="a.h5")
    with pytest.raises(RecordError, match=r"^a\.h5: session own: task 't1': task_type"):
        to_dataset(wrong, RECORDED_SESSION)


def test_a_mapping_may_say_whose_rows_they_are() -> None:
    assert to_dataset({"session_id": 7, **GOOD}, RECORDED_SESSION).attrs["session_id"] == "7"
    assert to_dataset({"session_id": 7, **GOOD}, RECORDED_SESSION, session_id="x").attrs["session_id"] == "x"


def test_attributes_that_no_schema_has_are_named() -> None:
    dataset = made(changed("element", 0, colour="red", font=1))
    assert dataset.attrs["not_carried"] == ["element: colour", "element: font"]


@pytest.mark.parametrize(
    ("records", "options", "expected"),
    [
        ({"tusk": []}, {}, "expected an entity (task, element, segment), found 'tusk'"),
        ({"task": 5}, {}, "task: expected rows or columns, found int"),
        ({"task": "abc"}, {}, "expected rows or columns"),
        (5, {}, "found int"),
        ([{"id": 1}], {}, "expected batches of rows, found dict"),
        ([Batch("tusk", {})], {}, "found 'tusk'"),
        ({}, {"session_id": None}, "expected the session's id, found None"),
        ({}, {"session_id": ""}, "expected the session's id"),
        ({}, {"session_id": True}, "expected the session's id"),
        ({}, {"problems": "ignore"}, "expected one of error, report, found 'ignore'"),
    ],
)
def test_a_call_that_is_wrong(records: Any, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(PlanError) as caught:
        made(records, **options)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": [1, 2], "count": [1]}, "count: expected 2 values as id has, found 1"),
        ({"id": [1], "task_id": [1]}, "expected one column of ids, found id and task_id"),
        ({"id": np.zeros((2, 2))}, "id: expected one value a row"),
        ({"id": [1], "count": np.zeros((1, 3))}, "count: expected one value a row"),
    ],
)
def test_columns_that_are_none(columns: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordError) as caught:
        made({"task": columns})
    assert expected in str(caught.value)
    with pytest.raises(RecordError, match="task row 1: expected attributes by name, found int"):
        made({"task": [{"id": 1}, 5]})


def test_times_as_times() -> None:
    schema = Schema(
        "s", (Entity("a", (Attribute("t", "datetime64[ns]"), Attribute("u", "datetime64[ns]", False)), interval=("t", "u")),)
    )
    given = [
        {"id": 1, "t": "2026-01-01T00:00:00Z", "u": None},
        {"id": 2, "t": np.datetime64("1960-01-01"), "u": dt.datetime(1960, 1, 2)},
    ]
    dataset = made({"a": given}, schema)
    assert dataset.a_t.values.tolist() == np.array(["2026-01-01", "1960-01-01"], "M8[ns]").tolist()
    assert dataset.a_zone_start.values[0] == np.datetime64("1960-01-01")
    assert dataset.a_zone_end.values[0] == np.datetime64("2026-01-01")
    assert next(iter(rows(dataset, "a")))["u"] is None


def test_zones_bound_what_is_in_them() -> None:
    tables = session(20_000, elements=500, tasks=5)
    tables["segment"]["end_time"][::9] = np.nan
    dataset = made(tables)
    first = dataset.segment_zone_first.values
    assert len(first) == 5
    for low, high, start, end in zip(
        first, np.append(first[1:], 20_000), dataset.segment_zone_start.values, dataset.segment_zone_end.values, strict=True
    ):
        starts, ends = dataset.segment_start_time.values[low:high], dataset.segment_end_time.values[low:high]
        assert start == starts.min()
        assert end == max(starts.max(), np.nanmax(ends))
