"""The parameters of a migration, typed and validated: what a deployment's form shows and what the flow accepts.

``python -m flows.parameters ARCHIVE.yaml`` checks a file of them and prints them as JSON, for ``prefect deploy --params``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self, TypeAlias

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


def _aware(value: datetime | timedelta) -> datetime | timedelta:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


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
Policies: TypeAlias = Annotated[
    dict[str, PolicyFields],
    BeforeValidator(lambda value: {} if value is None else value),
    Field(description="Fields of h5z.Policy for the files that a pattern matches, over `policy`; the first match counts."),
]
OnChange: TypeAlias = Annotated[
    Literal["redo", "quarantine"],
    Field(description="What becomes of a file that has changed since its target was made."),
]
OnError: TypeAlias = Annotated[
    Literal["continue", "fail", "stop"],
    Field(description="With files in quarantine: end as completed; try all, then fail; or fail at the first."),
]
Since: TypeAlias = Annotated[
    datetime | timedelta,
    AfterValidator(_aware),
    Field(description="Skip files modified before: a time such as 2026-01-31T00:00Z, or a duration such as P7D."),
]
Block: TypeAlias = Annotated[
    str,
    Field(min_length=1, description="A Prefect Secret block that holds storage options as JSON: what fsspec takes."),
]


class ClusterSpec(BaseModel):
    """A dask cluster to make: a class by its dotted name, its keywords, and how large."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    class_name: str = Field(alias="class", pattern=r"^[A-Za-z_][\w.]*$", description="Such as dask_jobqueue.SLURMCluster.")
    keywords: dict[str, Any] = Field(default_factory=dict, description="What the class is called with.")
    scale: PositiveInt | None = Field(default=None, description="Workers to ask for.")
    adapt: dict[str, Any] | None = Field(default=None, description="Keywords of adapt: minimum, maximum, …")

    @model_validator(mode="after")
    def _one_size(self) -> ClusterSpec:
        if self.scale is not None and self.adapt is not None:
            raise ValueError("scale and adapt: expected one of them")
        return self


class Parameters(BaseModel):
    """What a flow was asked to do: checked together, and what is wrong said on one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> Self:
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


class ClusterParameters(Parameters):
    """Where the work of a flow is done: at most one of a number of processes, an address and a cluster to make."""

    workers: PositiveInt | None = None
    scheduler: Scheduler | None = None
    cluster: ClusterSpec | None = None

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        if sum(value is not None for value in (self.workers, self.scheduler, self.cluster)) > 1:
            expected = "a number of processes, an address, or a cluster to make"
            raise ValueError(f"workers, scheduler and cluster: expected one of them: {expected}")
        return self

    @property
    def where(self) -> dict[str, Any]:
        """The cluster, as `flows.cluster.connect` takes it: as asked for, else as the environment's H5Z_CLUSTER says.

        Raises
        ------
        PlanError
            If H5Z_CLUSTER is neither an address nor a cluster as JSON.
        """
        scheduler, cluster = self.scheduler, self.cluster
        text = os.environ.get("H5Z_CLUSTER", "").strip()
        if text and self.workers is None and scheduler is None and cluster is None:
            if "://" in text and not text.startswith("{"):
                scheduler = text
            else:
                try:
                    cluster = ClusterSpec.model_validate_json(text)
                except ValidationError as error:
                    what = "; ".join(_message(item) for item in error.errors(include_url=False))
                    raise PlanError(f"H5Z_CLUSTER: expected an address, or a cluster as JSON: {what}") from None
        made = None if cluster is None else cluster.model_dump(exclude_none=True)
        return {"workers": self.workers, "scheduler": scheduler, "cluster": made}


class ArchiveParameters(ClusterParameters):
    """What a migration was asked to do; the flow's parameters, checked together."""

    sources: Sources
    target_root: TargetRoot
    policy: PolicyFields = Field(default_factory=dict)
    policies: Policies = Field(default_factory=dict)
    name_template: Template = DEFAULT_TEMPLATE
    verify: Verify = "sample"
    overwrite: bool = False
    on_change: OnChange = "redo"
    on_error: OnError = "continue"
    since: Since | None = None
    settle_seconds: NonNegativeFloat = 0.0
    batch_files: PositiveInt = 500
    batch_nbytes: Nbytes = 1 << 30
    big_file_nbytes: Nbytes = 128 << 20
    isolate: Isolate = "always"
    scan_timeout: PositiveFloat | None = 300.0
    batch_timeout: PositiveFloat | None = None
    retries: NonNegativeInt = 3
    retry_delay_seconds: NonNegativeFloat = 2.0
    source_storage: Block | None = None
    target_storage: Block | None = None

    @property
    def not_before(self) -> float | None:
        """The time before which files are skipped, in seconds since 1970."""
        if isinstance(self.since, timedelta):
            return (datetime.now(UTC) - self.since).timestamp()
        return None if self.since is None else self.since.timestamp()


def _message(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] != "value_error":
        found = repr(item["input"])
        text = f"{text[:1].lower()}{text[1:]}, found {found if len(found) <= 80 else found[:77] + '...'}"
    if item["type"] == "missing":
        text = "expected it, found nothing"
    return redact(f"{name}: {text}" if name else text)


def read(path: str) -> ArchiveParameters:
    """Read and check a YAML or JSON file of parameters.

    Raises
    ------
    PlanError
        One line that names the file and what is wrong with it.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            given = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(f"{path}: expected a YAML file of parameters ({one_line(error)})") from None
    if not isinstance(given, dict):
        raise PlanError(f"{path}: expected parameters by name, found {type(given).__name__}")
    try:
        return ArchiveParameters.check(given)
    except PlanError as error:
        raise PlanError(f"{path}: {one_line(error)}") from None


if __name__ == "__main__":
    try:
        print(read(sys.argv[1]).model_dump_json(exclude_defaults=True))
    except (PlanError, IndexError) as error:
        sys.exit(f"usage: python -m flows.parameters ARCHIVE.yaml; {one_line(error)}")
