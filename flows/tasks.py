"""What the flows' Prefect tasks have in common."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from flows.conversion import is_transient

T = TypeVar("T")
TAGS = {"h5z"}


def as_is(value: T) -> T:
    """Hand a value to a task without having Prefect look through it for other tasks' results."""
    return cast(T, quote(value))


def retry_if_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect to try again if a store, the network or a worker failed, and only then."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)
