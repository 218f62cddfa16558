"""Publish the events of many sessions from Python: the flow, with nothing to set up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from h5z.errors import PlanError

if TYPE_CHECKING:
    from flows.events_report import EventsReport
    from h5z.events import Schema, SessionLayout


def publish(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    layout: SessionLayout | Mapping[str, Any] | None = None,
    schema: Schema | Mapping[str, Any] | None = None,
    problems: str = "error",
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    **parameters: Any,
) -> EventsReport:
    """Publish the events of many sessions, a Zarr store each.

    Runs the flow `flows.events.publish_events` on the Prefect server that the environment or the user's profile names, or on an
    embedded one. The same call again does only what is missing.

    Parameters
    ----------
    sources : path or iterable of paths
        Files, folders, globs, URLs, or ``@listing``: a text file of one path a line. A file a session.
    target : path or URL
        Where each store goes, such as ``s3://bucket/prefix/{session_id}_events.zarr``.
    layout, schema
        Where in a file the rows are, and what they are; by default ``/tasks``, ``/elements`` and ``/segments``.
    problems : {"error", "report"}
        As for `h5z.events.to_dataset`.
    overwrite : bool
        Whether stores of sessions that have changed are replaced.
    workers, scheduler
        Processes to spawn, or the address of a dask scheduler to use instead.
    **parameters
        The rest of the flow's: ``chunks``, ``verify``, ``batch_files``, ``batch_nbytes``, ``retries``, ``retry_delay_seconds``.

    Returns
    -------
    EventsReport
        Also in ``h5z-events-report.json`` beside the stores; its ``exit_code`` is 5 with sessions in quarantine, 1 if problems
        are reported, else 0.

    Raises
    ------
    PlanError, SourceError
        If the call is wrong, or a source is missing; before anything is written.
    """
    try:
        from flows.events_parameters import EventsParameters
    except ImportError as error:
        raise PlanError(f"publish: expected the packages of h5z's extra 'flows' (pip install 'h5z[flows]'): {error}") from None
    from flows.discovery import missing

    given = {
        "sources": sources,
        "target": target,
        "layout": layout,
        "events_schema": schema,
        "problems": problems,
        "overwrite": overwrite,
        "workers": workers,
        "scheduler": scheduler,
        **parameters,
    }
    wanted = EventsParameters.check(given)
    missing(wanted.sources)
    return _run(wanted.model_dump())


def _run(parameters: dict[str, Any]) -> EventsReport:
    from flows import server

    if find_spec("prefect") is None:
        raise PlanError("publish: expected Prefect (pip install 'h5z[flows]'), found none")
    embedded = server.start()  # is on its way while the flow is imported
    from flows.events import publish_events

    with server.use(embedded):
        report: EventsReport = publish_events(**parameters)
        return report
