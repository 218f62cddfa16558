"""Queries on stored sessions give what a search through all rows gives, and read little of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore, WrapperStore

from h5z.errors import H5zError, PlanError, TargetError
from h5z.events import (
    RECORDED_SESSION,
    Attribute,
    Entity,
    Relation,
    Schema,
    between,
    children,
    find,
    frame,
    open_session,
    open_sessions,
    publish,
    rows,
    to_dataset,
)

from .generated import Tables, session

STARTS = {"s0": 0.0, "s1": 4000.0, "s2": 8000.0}


def made(tables: Any, session_id: str = "s1", schema: Schema = RECORDED_SESSION, **options: Any) -> xr.Dataset:
    return to_dataset(tables, schema, session_id=session_id, **options)


def shuffled(tables: Tables, seed: int) -> Tables:
    """Rows in no order, some without a start's order or an end."""
    random = np.random.default_rng(seed)
    out = {}
    for name, columns in tables.items():
        order = random.permutation(len(columns["id"]))
        out[name] = {key: column[order] for key, column in columns.items()}
    out["segment"]["end_time"][::5] = np.nan
    return out


@pytest.fixture(scope="module")
def tables() -> dict[str, Tables]:
    """Three sessions, one after the other, of the same ids."""
    return {
        name: shuffled(session(9000, elements=90, tasks=4, start=start, seed=i), i)
        for i, (name, start) in enumerate(STARTS.items())
    }


@pytest.fixture(scope="module")
def stores(tables: dict[str, Tables]) -> dict[str, MemoryStore]:
    out = {}
    for name, one in tables.items():
        out[name] = MemoryStore()
        publish(made(one, name), out[name], chunks=1000)
    return out


@pytest.fixture(scope="module")
def one(stores: dict[str, MemoryStore]) -> xr.Dataset:
    return open_session(stores["s1"])


@pytest.fixture(scope="module")
def several(stores: dict[str, MemoryStore]) -> xr.Dataset:
    return open_sessions(stores.values())


def ids(dataset: xr.Dataset, entity: str) -> list[Any]:
    """Ids of a selection, sorted; it holds the rows of that entity and no others."""
    assert set(dataset.dims) == {f"{entity}_id"}
    return sorted(dataset[f"{entity}_id"].values.tolist())


def where(columns: dict[str, Any], mask: Any) -> list[Any]:
    return sorted(columns["id"][mask].tolist())


def test_elements_of_a_task(one: xr.Dataset, tables: dict[str, Tables]) -> None:
    element = tables["s1"]["element"]
    for task in tables["s1"]["task"]["id"]:
        assert ids(children(one, "task", task, "element"), "element") == where(element, element["task_id"] == task)


def test_segments_of_an_element_by_type(one: xr.Dataset, tables: dict[str, Tables]) -> None:
    segment = tables["s1"]["segment"]
    for element in ("element-0000000", "element-0000041", "element-0000089"):
        mask = segment["containing_element_id"] == element
        assert ids(children(one, "element", element, "segment"), "segment") == where(segment, mask)
        speech = children(one, "element", element, "segment", type="speech")
        assert set(speech.segment_segment_type.values) == {"speech"}
        assert ids(speech, "segment") == where(segment, mask & (segment["segment_type"] == "speech"))
        some = children(one, "element", element, "segment", type=["speech", "saccade", "none"])
        assert ids(some, "segment") == where(segment, mask & (segment["segment_type"] != "fixation"))
        assert ids(children(one, "element", element, "segment", type="none"), "segment") == []


def test_segments_of_a_task_through_its_elements(one: xr.Dataset, tables: dict[str, Tables]) -> None:
    element, segment = tables["s1"]["element"], tables["s1"]["segment"]
    for task in tables["s1"]["task"]["id"]:
        mask = np.isin(segment["containing_element_id"].astype(str), element["id"][element["task_id"] == task].astype(str))
        assert ids(children(one, "task", task, "segment"), "segment") == where(segment, mask)


def overlapping(columns: dict[str, Any], low: float | None, high: float | None) -> Any:
    start, end = columns["start_time"], columns["end_time"]
    until = np.where(np.isnan(end), start, np.maximum(start, end))
    mask = np.ones(len(start), bool) if high is None else start < high
    return mask if low is None else mask & ((until > low) | (start >= low))


SPANS = [(4100.0, 4200.0), (4000.0, 4000.0), (None, 4500.0), (7900.0, None), (None, None), (0, 10), (-np.inf, np.inf)]


@pytest.mark.parametrize(("low", "high"), SPANS)
@pytest.mark.parametrize("entity", ["task", "element", "segment"])
def test_time_ranges(one: xr.Dataset, tables: dict[str, Tables], entity: str, low: Any, high: Any) -> None:
    columns = tables["s1"][entity]
    assert ids(between(one, entity, low, high), entity) == where(columns, overlapping(columns, low, high))


@pytest.mark.parametrize(("low", "high"), [(3900.0, 4100.0), (None, 8010.0), (-5, -1), (None, None)])
def test_time_ranges_across_sessions(several: xr.Dataset, tables: dict[str, Tables], low: Any, high: Any) -> None:
    found = between(several, "segment", low, high, type="speech")
    assert found.segment_start_time.chunks is not None  # still lazy
    expected: list[tuple[str, str]] = []
    for name, one in tables.items():
        segment = one["segment"]
        expected += [
            (name, key) for key in where(segment, overlapping(segment, low, high) & (segment["segment_type"] == "speech"))
        ]
    names = several.session_id.values[found.segment_session_index.values]
    assert sorted(zip(names.tolist(), found.segment_id.values.tolist(), strict=True)) == expected
    mine = between(several, "segment", low, high, session="s1", type="speech")
    assert ids(mine, "segment") == [key for name, key in expected if name == "s1"]


def test_relations_lead_within_the_whole(several: xr.Dataset) -> None:
    whole = several.load()
    for child, parent, attribute, index in (
        ("element", "task", "task_id", "element_task_index"),
        ("segment", "element", "containing_element_id", "segment_containing_element_index"),
    ):
        row = whole[index].values
        assert (whole[f"{parent}_id"].values[row] == whole[f"{child}_{attribute}"].values).all()
        assert (whole[f"{parent}_session_index"].values[row] == whole[f"{child}_session_index"].values).all()
        first, count = whole[f"{parent}_{child}_first"].values, whole[f"{parent}_{child}_count"].values
        for i in range(0, len(first), 17):
            assert (row[first[i] : first[i] + count[i]] == i).all()
    assert whole.session_segment_count.values.tolist() == [9000] * 3


def test_rows_of_several_sessions(several: xr.Dataset, one: xr.Dataset) -> None:
    assert ids(children(several, "session", "s2", "task"), "task") == [f"task-{i:07d}" for i in range(4)]
    in_one = children(several, "element", "element-0000041", "segment", session="s1")
    assert list(rows(in_one, "segment")) == list(rows(children(one, "element", "element-0000041", "segment"), "segment"))
    with pytest.raises(PlanError, match="is an id in sessions s0, s1, s2: expected session= to say which"):
        children(several, "element", "element-0000041", "segment")
    with pytest.raises(PlanError, match="expected one of 3 that are open, found 's9'"):
        find(several, "element", "element-0000041", session="s9")
    assert find(several, "element", "element-0000041", session="s1") == 90 + find(one, "element", "element-0000041")


def test_types_are_numbered_anew_over_sessions() -> None:
    kinds = {"s0": ["b", "c"], "s1": ["a", "c"], "s2": []}
    stores = []
    for name, words in kinds.items():
        segment = [{"id": i, "segment_type": word, "start_time": i, "containing_element_id": 1} for i, word in enumerate(words)]
        element = [{"id": 1, "element_type": "x", "start_time": 0, "task_id": 1}]
        task = [{"id": 1, "task_type": "x", "start_time": 0, "count": None}]
        schema = Schema.from_dict(
            {**RECORDED_SESSION.to_dict(), "entities": [{**e.to_dict(), "id_dtype": "int32"} for e in RECORDED_SESSION.entities]}
        )
        stores.append(MemoryStore())
        publish(made({"task": task, "element": element, "segment": segment}, name, schema), stores[-1])
    whole = open_sessions(stores)
    assert whole.segment_type_index.attrs["types"] == ["a", "b", "c"]
    assert whole.segment_type_index.values.tolist() == [1, 2, 0, 2]
    assert between(whole, "segment", type="c").segment_session_index.values.tolist() == [0, 1]


def test_a_mask_that_only_one_session_has(small: Tables) -> None:
    """A required attribute that one session lacks, kept and reported."""
    stores = [MemoryStore(), MemoryStore()]
    lacking = {**small, "task": {**small["task"], "task_type": np.array(["x", None, "y"], object)}}
    publish(made(small, "whole"), stores[0])
    publish(made(lacking, "lacking", problems="report"), stores[1])
    both = open_sessions(stores)
    assert both.attrs["problem_count"] == 1
    assert both.task_task_type_missing.values.tolist() == [False, False, False, False, True, False]
    assert [row["task_type"] for row in rows(both, "task")][3:] == ["x", None, "y"]


class Counting(WrapperStore[Any]):
    """A store that notes which objects it gave."""

    def __init__(self, store: Any, asked: list[str] | None = None) -> None:
        super().__init__(store)
        self.asked: list[str] = [] if asked is None else asked

    def _with_store(self, store: Any) -> Counting:
        return Counting(store, self.asked)

    async def get(self, key: str, *arguments: Any, **keywords: Any) -> Any:
        self.asked.append(key)
        return await super().get(key, *arguments, **keywords)


@pytest.fixture(scope="module")
def large() -> MemoryStore:
    """A session of 60,000 segments in chunks of 1,000."""
    store = MemoryStore()
    publish(made(session(60_000, elements=3000, tasks=30)), store, chunks=1000)
    return store


@pytest.mark.parametrize(
    ("query", "most"),
    [
        (lambda d: children(d, "element", "element-0001500", "segment"), 2),
        (lambda d: children(d, "element", "element-0001500", "segment", type="speech"), 2),
        (lambda d: children(d, "task", "task-0000015", "segment"), 4),
        (lambda d: between(d, "segment", 15_000.0, 15_010.0), 11),
        (lambda d: between(d, "segment", 1e9), 0),
    ],
)
def test_a_query_reads_the_chunks_it_needs(large: MemoryStore, query: Callable[[xr.Dataset], xr.Dataset], most: int) -> None:
    """Of 60 chunks of each variable; nothing of a variable that is not used; nothing twice for what is loaded."""
    for opener in (open_session, lambda store: open_sessions([store])):
        store = Counting(large)
        dataset = opener(store)
        assert not [key for key in store.asked if "/c/" in key and key.startswith("segment")]
        store.asked.clear()
        found = query(dataset)
        starts = found.segment_start_time.values
        asked = {key for key in store.asked if "/c/" in key and key.startswith("segment_") and "_zone_" not in key}
        for name in {key.split("/")[0] for key in asked}:
            assert sum(key.startswith(f"{name}/") for key in asked) <= most, name
        assert not any(key.startswith(("segment_duration/", "segment_segment_type/", "segment_id/")) for key in asked)
        assert (len(starts) > 0) == (most > 0)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda d: children(d, "task", "task-9", "element"), "task: expected the id of one of 4 rows, found 'task-9'"),
        (lambda d: children(d, "task", 9, "element"), "task: expected an id that is text, found 9"),
        (lambda d: children(d, "tusk", "t", "element"), "expected an entity"),
        (lambda d: children(d, "task", "task-0000001", "task"), "task: expected what belongs to a task"),
        (lambda d: children(d, "segment", "segment-0000001", "task"), "task: expected what belongs to a segment"),
        (lambda d: children(d, "task", "task-0000001", "element", type="x"), "expected an entity of several types"),
        (
            lambda d: children(d, "task", "task-0000001", "element", relation="next_id"),
            "expected a relation to task (task_id (to task))",
        ),
        (
            lambda d: children(d.isel(element_id=slice(5)), "task", "task-0000001", "element"),
            "expected a Dataset with all its 90 rows",
        ),
        (
            lambda d: children(d.sortby("segment_start_time"), "element", "element-0000041", "segment"),
            "in the order that they were",
        ),
        (lambda d: between(d.isel(segment_id=[1, 2]), "segment", 0, 1), "expected a Dataset with all its 9000 rows"),
        (lambda d: between(d, "segment", 5, 1), "expected a start before the end"),
        (lambda d: between(d, "segment", float("nan")), "expected a bound of time"),
        (lambda d: between(d, "segment", "noon"), "expected a bound of time that is float64, found 'noon'"),
        (lambda d: between(d, "segment", 1, 2, session="s9"), "session: expected 's1'"),
        (lambda d: find(d.drop_attrs(), "task", "x"), "expected events with their schema"),
    ],
)
def test_a_question_that_is_wrong(one: xr.Dataset, ask: Callable[[xr.Dataset], Any], expected: str) -> None:
    with pytest.raises(PlanError) as caught:
        ask(one)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sessions_that_cannot_be_opened_together(stores: dict[str, MemoryStore], tmp_path: Path) -> None:
    other = Schema("other", (Entity("a"),))
    publish(made({}, "x", other), tmp_path / "x.zarr")
    for places, error, expected in (
        ([], PlanError, "at least one store"),
        ([stores["s1"], stores["s1"]], PlanError, "are both of session 's1'"),
        ([stores["s1"], tmp_path / "x.zarr"], PlanError, "expected the schema"),
        ([stores["s1"], tmp_path / "y.zarr"], TargetError, "found none"),
    ):
        with pytest.raises(error, match=expected):
            open_sessions(places)
    integers = MemoryStore()
    publish(made({"task": [{"id": 1, "task_type": "x", "start_time": 0}]}, "ints"), integers)
    with pytest.raises(H5zError, match="types of ids"):
        open_sessions([stores["s1"], integers])


def test_frames_keep_types_and_what_is_missing(one: xr.Dataset, tables: dict[str, Tables]) -> None:
    found = frame(one, "task")
    assert {name: str(found[name].dtype) for name in ("count", "skipped", "start_time")} == {
        "count": "Int32",
        "skipped": "boolean",
        "start_time": "float64",
    }
    assert isinstance(found["task_type"].dtype, pd.StringDtype)
    assert found.index.name == "id"
    assert list(found.index) == tables["s1"]["task"]["id"].tolist()
    lacking = made({"task": [{"id": 2, "task_type": "x", "start_time": 0, "completion_status": None, "count": None}]})
    row = frame(lacking, "task").loc[2]
    assert row["completion_status"] is pd.NA
    assert row["count"] is pd.NA


TIMED = Schema(
    "timed",
    (
        Entity("a", (Attribute("t", "int16", False), Attribute("u", "int16", False)), id_dtype="int64", interval=("t", "u")),
        Entity(
            "b",
            (Attribute("kind", "string", False, types=True), Attribute("t", "float32", False)),
            (Relation("a_id", "a", False), Relation("next_id", "b", False)),
            id_dtype="int64",
            interval=("t", "t"),
        ),
    ),
)
Whole = st.one_of(st.none(), st.integers(-5, 5))
A_ROWS = st.lists(st.fixed_dictionaries({"t": Whole, "u": Whole}), max_size=5)
B_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from([None, "x", "y z", ""]),
            "t": Whole,
            "a_id": st.one_of(st.none(), st.integers(0, 4)),
            "next_id": Whole,
        }
    ),
    max_size=8,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(A_ROWS, B_ROWS), min_size=1, max_size=3), Whole, Whole)
def test_any_sessions_of_any_rows(given_rows: list[tuple[list[Any], list[Any]]], low: int | None, high: int | None) -> None:
    """Stored and opened again, alone and together, queries find what a search finds; integer times, broken relations."""
    found = []
    for number, (of_a, of_b) in enumerate(given_rows):
        tables = {name: [{"id": i, **row} for i, row in enumerate(some)] for name, some in (("a", of_a), ("b", of_b))}
        store = MemoryStore()
        publish(made(tables, f"s{number}", TIMED, problems="report"), store, chunks=2)
        dataset = open_session(store)
        found.append(store)
        for name, some in tables.items():
            back = {row["id"]: row for row in rows(dataset, name)}
            assert back == {row["id"]: row for row in some}
        check_queries(dataset, tables, low, high, None)
    whole = open_sessions(found)
    for number, (of_a, of_b) in enumerate(given_rows):
        tables = {name: [{"id": i, **row} for i, row in enumerate(some)] for name, some in (("a", of_a), ("b", of_b))}
        check_queries(whole, tables, low, high, f"s{number}")


def check_queries(dataset: xr.Dataset, tables: dict[str, list[dict[str, Any]]], low: Any, high: Any, session: str | None) -> None:
    for row in tables["a"][-2:]:
        expected = [other["id"] for other in tables["b"] if other["a_id"] == row["id"]]
        assert children(dataset, "a", row["id"], "b", session=session).b_id.values.tolist() == expected
        typed = children(dataset, "a", row["id"], "b", session=session, type="y z").b_id.values.tolist()
        assert typed == [key for key in expected if tables["b"][key]["kind"] == "y z"]
    for row in tables["b"][-1:]:
        expected = [other["id"] for other in tables["b"] if other["next_id"] == row["id"]]
        assert ids(children(dataset, "b", row["id"], "b", relation="next_id", session=session), "b") == expected
    if low is not None and high is not None and low > high:
        return
    for name in ("a", "b"):
        expected = [row["id"] for row in tables[name] if hits(row["t"], row.get("u"), low, high)]
        assert ids(between(dataset, name, low, high, session=session), name) == expected


def hits(start: Any, end: Any, low: Any, high: Any) -> bool:
    if start is None:
        return False
    until = start if end is None else max(start, end)
    return (high is None or start < high) and (low is None or until > low or start >= low)


def strings() -> Iterator[str]:
    yield from ("", "None", "nan", "a\0", "\0", " ", "é", "é", "\U0001f600", "x" * 5000, "\n", '"')


def test_text_of_every_kind_comes_back(tmp_path: Path) -> None:
    schema = Schema("texts", (Entity("a", (Attribute("x", "string", False),)),))
    given_rows = [{"id": f"{i}{text}", "x": text} for i, text in enumerate(strings())] + [{"id": "none", "x": None}]
    publish(made({"a": given_rows}, "s", schema), tmp_path / "out.zarr", chunks=2, verify=True)
    assert list(rows(open_session(tmp_path / "out.zarr"), "a")) == given_rows
    with xr.open_zarr(tmp_path / "out.zarr") as opened:
        assert opened.a_x.values[:-1].tolist() == list(strings())


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = {
    "task_type": "string",
    "start_time": "float64",
    "count": "int32",
    "skipped": "bool",
    "status": "string",
    "duration": "float32",
}
TASKS = Schema("tasks", (Entity("task", tuple(Attribute(name, kind, name == "task_type") for name, kind in KINDS.items())),))
RANDOM = st.fixed_dictionaries(
    {
        "task_type": ANY_TEXT,
        "start_time": st.one_of(st.none(), st.floats(allow_nan=False)),
        "count": st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        "skipped": st.one_of(st.none(), st.booleans()),
        "status": st.one_of(st.none(), ANY_TEXT),
        "duration": st.one_of(st.none(), st.floats(allow_nan=False, width=32)),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(RANDOM, max_size=7), st.integers(1, 5), st.booleans())
def test_any_rows_come_back_as_they_were(given_rows: list[dict[str, Any]], chunks: int, numbered: bool) -> None:
    store = MemoryStore()
    tasks = [{"id": i if numbered else f"t{i}", **row} for i, row in enumerate(given_rows)]
    publish(made({"task": tasks}, schema=TASKS), store, chunks=chunks, verify=True)
    back = list(rows(open_session(store), "task"))
    assert back == tasks
    for row, other in zip(back, tasks, strict=True):
        assert {name: type(value) for name, value in row.items()} == {name: type(value) for name, value in other.items()}
