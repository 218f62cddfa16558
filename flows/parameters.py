"""The parameters of a migration, typed and validated: what a deployment's form shows and what the flow accepts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from dask.utils import parse_bytes
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

import h5z
from flows.batches import DEFAULT_TEMPLATE, target_name
from h5z.credentials import redact, shown
from h5z.errors import PlanError, one_line


def _open(value: str) -> str:
    """Refuse credentials: what is a parameter is stored by Prefect, and shown."""
    if shown(value) != value:
        raise ValueError(f"{shown(value)} was given with credentials, which belong in the environment: parameters are stored")
    return value


def _listed(value: Any) -> Any:
    if isinstance(value, str | os.PathLike):
        value = [value]
    return [os.fspath(item) for item in value] if isinstance(value, Iterable) else value


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _size(value: Any) -> Any:
    try:
        return parse_bytes(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"expected a size such as '256MiB', found {value!r}") from None


def _policy(value: Any) -> Any:
    try:
        if isinstance(value, h5z.Policy):
            return value.to_dict()
        return h5z.Policy.from_dict(value or {}).to_dict() if isinstance(value, Mapping | None) else value
    except PlanError as error:
        raise ValueError(one_line(error)) from None


def _template(value: str) -> str:
    try:
        target_name("folder/name.h5", value)
    except PlanError as error:
        raise ValueError(one_line(error).removeprefix("name_template: ")) from None
    return value


Sources: TypeAlias = Annotated[
    list[Annotated[str, Field(min_length=1), AfterValidator(_open)]],
    Field(min_length=1, description="Files, folders, globs, URLs of these, or @listing (a text file of one path a line)."),
    BeforeValidator(_listed),
]
TargetRoot: TypeAlias = Annotated[
    str,
    Field(min_length=1, description="The folder that the Zarr stores go below."),
    BeforeValidator(_path),
    AfterValidator(_open),
]
PolicyFields: TypeAlias = Annotated[
    dict[str, Any],
    BeforeValidator(_policy),
    Field(description="Fields of h5z.Policy: chunks, codec, unsupported, memory, …"),
]
Template: TypeAlias = Annotated[
    str,
    AfterValidator(_template),
    Field(description="A target's path below the root, with {parent}, {stem}, {suffix} and {name} of its source."),
]
Verify: TypeAlias = Annotated[
    Literal["none", "structure", "sample", "full"],
    BeforeValidator(lambda value: "none" if value is None else value),
    Field(description="How each target is compared with its source before it is committed."),
]
Nbytes: TypeAlias = Annotated[
    PositiveInt,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "description": "Bytes, or text such as '256MiB'."}),
]
Isolate: TypeAlias = Annotated[
    Literal["auto", "always"],
    Field(description="Convert small files in child processes of the workers always, or only after one has killed its worker."),
]
Scheduler: TypeAlias = Annotated[str, Field(min_length=1, pattern="://", description="The address of a dask scheduler.")]


class ArchiveParameters(BaseModel):
    """What a migration was asked to do; the flow's parameters, checked together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Sources
    target_root: TargetRoot
    policy: PolicyFields = Field(default_factory=dict)
    name_template: Template = DEFAULT_TEMPLATE
    verify: Verify = "sample"
    overwrite: bool = False
    batch_files: PositiveInt = 500
    batch_nbytes: Nbytes = 1 << 30
    big_file_nbytes: Nbytes = 128 << 20
    workers: PositiveInt | None = None
    scheduler: Scheduler | None = None
    isolate: Isolate = "always"
    scan_timeout: PositiveFloat | None = 300.0
    retries: NonNegativeInt = 3
    retry_delay_seconds: NonNegativeFloat = 2.0

    @model_validator(mode="after")
    def _one_cluster(self) -> ArchiveParameters:
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers and scheduler: expected one of them: a cluster of that many processes, or an address")
        return self

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> ArchiveParameters:
        """Validate parameters.

        Raises
        ------
        PlanError
            One line that names each wrong parameter and what was expected.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise PlanError("; ".join(_message(item) for item in error.errors(include_url=False))) from None


def _message(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] != "value_error":
        text = redact(f"{text[:1].lower()}{text[1:]}, found {item['input']!r}")
    return f"{name}: {text}" if name else text
