"""What a schema and a layout refuse, in one line; and that they travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from h5z.errors import PlanError
from h5z.events import RECORDED_SESSION, Attribute, Entity, Layout, Relation, Schema, SessionLayout, read, tables

A = Attribute("x", "int32")
EXAMPLE = {
    "task": "task_type start_time end_time duration completion_status session_fraction_start session_fraction_end count "
    "input_modality audio_mode skipped",
    "element": "element_type start_time end_time duration title is_instruction task_id sequence_idx input_modality audio_mode",
    "segment": "segment_type start_time end_time duration containing_element_id element_relative_start",
}


def test_the_worked_example_has_the_team_s_attributes() -> None:
    assert {entity.name: set(entity.columns) for entity in RECORDED_SESSION.entities} == {
        name: set(words.split()) for name, words in EXAMPLE.items()
    }
    assert [relation.to for relation in RECORDED_SESSION["segment"].relations] == ["element"]
    assert RECORDED_SESSION["segment"].type_attribute == Attribute("segment_type", "string", types=True)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Attribute("x", "text"), "x: dtype: expected one of string"),
        (lambda: Attribute("a/b", "int32"), "expected a name of letters"),
        (lambda: Attribute("x", "int32", types=True), "expected string"),
        (lambda: Entity("t", (A,), id_dtype="float64"), "id_dtype"),
        (lambda: Entity("t", (A,), interval=("x", "y")), "interval"),
        (lambda: Entity("t", (A, Attribute("y", "int64")), interval=("x", "y")), "of one type"),
        (lambda: Entity("t", (Attribute("a", "string", types=True), Attribute("b", "string", types=True))), "at most one"),
        (lambda: Schema("s", ()), "expected entities"),
        (lambda: Schema("s", (Entity("a"), Entity("a"))), "would both be called a_id"),
        (lambda: Schema("s", (Entity("session"),)), "would both be called session_id"),
        (lambda: Entity("a", (Attribute("id", "string"),)), "other names than id and a_id"),
        (lambda: Entity("a", (), (Relation("a_id", "a"),)), "other names than id and a_id"),
        (lambda: Schema("s", (Entity("a", (A, Attribute("x_missing", "bool"))),)), "would both be called a_x_missing"),
        (lambda: Schema("s", (Entity("a", (), (Relation("b_id", "b"),)), Entity("b"))), "an entity listed before it"),
        (lambda: Schema("s", (Entity("a", (), (Relation("next_id", "a"),)),)), "an entity listed before it"),
        (lambda: Schema("s", (Entity("a"), Entity("b", (), (Relation("a_id", "a"), Relation("c_id", "c"))))), "found 'c'"),
        (
            lambda: Schema("s", (Entity("a", (Attribute("b_count", "int8"),)), Entity("b", (), (Relation("a_id", "a"),)))),
            "a_b_count",
        ),
        (lambda: RECORDED_SESSION["tusk"], "task, element, segment"),
        (lambda: Schema.from_dict({"name": "s", "entities": 1}), "a list of entities"),
        (lambda: Schema.from_dict({"name": "s", "entities": [{"nom": "a"}]}), "found 'nom'"),
        (lambda: Schema.from_dict({"entities": []}), "a field 'name'"),
        (lambda: Layout("tables", "/a"), "kind"),  # type: ignore[arg-type]
        (lambda: Layout("table", "/"), "path"),
        (lambda: Layout("table", "/a/../b"), "path"),
        (lambda: Layout("table", "/a/x{b}"), "path"),
        (lambda: SessionLayout({"task": {"path": "/a"}}), "expected 'kind'"),  # type: ignore[dict-item]
        (lambda: SessionLayout.from_dict({"entitys": {}}), "expected 'entities'"),
        (lambda: read("x.h5", SessionLayout({"tusk": Layout("table", "/a")}), RECORDED_SESSION), "'tusk'"),  # type: ignore[dict-item]
        (lambda: read("x.h5", SessionLayout({"task": (Layout("table", "/{kind}"),)}), RECORDED_SESSION), "found 'kind'"),
        (lambda: read("x.h5", SessionLayout({"task": (Layout("table", "/a", {"kind": "k"}),)}), RECORDED_SESSION), "names"),
    ],
)
def test_one_line_says_what_is_wrong(make: Callable[[], Any], expected: str) -> None:
    with pytest.raises(PlanError) as caught:
        make()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_schemas_and_layouts_travel_as_json() -> None:
    assert Schema.from_dict(json.loads(RECORDED_SESSION.to_json())) == RECORDED_SESSION
    layout = SessionLayout(
        {
            "task": (Layout("columns", "/tasks", {"id": "n"}, missing={"count": -1}),),
            "segment": (
                Layout("table", "/segments/{segment_type}"),
                Layout("groups", "/more/*", constants={"segment_type": "x"}),
            ),
        },
        session="/meta@id",
    )
    assert SessionLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert tables(RECORDED_SESSION, "/events/{entity}").entities["task"] == (Layout("table", "/events/task"),)
