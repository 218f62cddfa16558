"""The parameters of a run over sessions, typed and validated."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from flows.parameters import Nbytes, Parameters, Scheduler, Sources
from h5z.errors import PlanError, one_line
from h5z.events import RECORDED_SESSION, Schema, SessionLayout, tables


def _schema(value: Any) -> Any:
    return _as_dict(value, Schema)


def _layout(value: Any) -> Any:
    return _as_dict(value, SessionLayout)


def _as_dict(value: Any, kind: Any) -> Any:
    """A schema or layout as JSON, checked."""
    if value is None:
        return None
    try:
        made = value if isinstance(value, kind) else kind.from_dict(value)
    except PlanError as error:
        raise ValueError(one_line(error)) from None
    return made.to_dict()


def _template(value: str) -> str:
    rest = value.replace("{session_id}", "")
    if "{" in rest or "}" in rest:
        raise ValueError(f"expected no other field than {{session_id}}, found {value!r}")
    return value


Target: TypeAlias = Annotated[
    str,
    Field(min_length=1, description="Where each session's store goes, such as s3://bucket/prefix/{session_id}_events.zarr."),
    BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value),
    AfterValidator(_template),
]
LayoutFields: TypeAlias = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_layout),
    Field(description="Where in a file the rows are (h5z.events.SessionLayout); by default a table an entity: /tasks, …"),
]
SchemaFields: TypeAlias = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_schema),
    Field(description="What the rows are (h5z.events.Schema); by default tasks, elements and segments."),
]
Rows: TypeAlias = Annotated[PositiveInt | dict[str, PositiveInt] | None, Field(description="Rows of a chunk, or by entity.")]
OnProblem: TypeAlias = Annotated[
    Literal["error", "report"],
    Field(description="Whether a row that breaks the schema puts its session in quarantine, or is kept and reported."),
]


class EventsParameters(Parameters):
    """What a run was asked to do; the flow's parameters, checked together."""

    sources: Sources
    target: Target
    layout: LayoutFields = None
    events_schema: SchemaFields = None
    problems: OnProblem = "error"
    chunks: Rows = None
    overwrite: bool = False
    verify: bool = True
    batch_files: PositiveInt = 100
    batch_nbytes: Nbytes = 1 << 30
    workers: PositiveInt | None = None
    scheduler: Scheduler | None = None
    retries: NonNegativeInt = 3
    retry_delay_seconds: NonNegativeFloat = 2.0

    @model_validator(mode="after")
    def _fit(self) -> EventsParameters:
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers and scheduler: expected one of them: a cluster of that many processes, or an address")
        try:
            self.parsed_layout.check(self.parsed_schema)
        except PlanError as error:
            raise ValueError(one_line(error)) from None
        return self

    @property
    def parsed_schema(self) -> Schema:
        """The schema itself."""
        return RECORDED_SESSION if self.events_schema is None else Schema.from_dict(self.events_schema)

    @property
    def parsed_layout(self) -> SessionLayout:
        """The layout itself."""
        return tables(self.parsed_schema) if self.layout is None else SessionLayout.from_dict(self.layout)
