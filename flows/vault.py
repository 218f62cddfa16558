"""The flow that archives new acquisition folders, verifies their vaults, and by policy makes OME-Zarr of them.

Prefect owns acquisitions, dask their files: an acquisition has a task for its vault and one for its OME-Zarr. What is done
already is seen from the vaults and stores, not from Prefect's history: a run repeats nothing, and ends what a killed one began.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows import acquisitions
from flows.acquisitions import Acquisition, Record, VaultsReport
from h5z.errors import H5zError, PlanError, TargetError, TransientError, one_line


def retry_if_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect to try again if a store, the network or a worker failed, and only then."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, H5zError):
        return isinstance(error, TransientError)
    return isinstance(error, ConnectionError | TimeoutError)


@task(name="archive", task_run_name="archive {acquisition.name}", cache_policy=NO_CACHE, retry_condition_fn=retry_if_transient)
def archive_acquisition(acquisition: Acquisition, options: dict[str, Any]) -> Record:
    """Archive one acquisition, and verify its vault."""
    return acquisitions.archive(acquisition, **options)


@task(
    name="to OME-Zarr", task_run_name="convert {acquisition.name}", cache_policy=NO_CACHE, retry_condition_fn=retry_if_transient
)
def convert_acquisition(acquisition: Acquisition, pattern: str, options: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Make the OME-Zarr of one vault."""
    where, notes = acquisitions.convert(acquisition, pattern, **options)
    return where, tuple(notes)


@flow(name="archive-acquisitions", flow_run_name="archive {watch}")
def archive_acquisitions(
    watch: str,
    vaults: str,
    settle_seconds: float = 900.0,
    marker: str | None = None,
    verify: Literal["none", "checksums", "source"] = "source",
    codec: str = "blosc2-zstd:5",
    writers: int = 1,
    layout: Literal["h5z", "hdf5vault"] = "h5z",
    zarr_root: str | None = None,
    pattern: str | None = None,
    zarr_options: dict[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 2,
    retry_delay_seconds: float = 10.0,
) -> VaultsReport:
    r"""Archive each complete folder in a folder as a vault of its name; the same call again does only what is missing.

    Parameters
    ----------
    watch
        The folder in which acquisitions appear as folders.
    vaults
        The folder for vaults, and for the report ``h5z-vaults.json``.
    settle_seconds, marker
        An acquisition is complete when nothing in it has changed for so long, or when a file of that name is in it.
    verify
        Whether members are read back and compared with their checksums, or with their source too.
    codec, writers, layout
        As for `h5z.vault.create`.
    zarr_root, pattern
        Make OME-Zarr of each vault in this folder, of the TIFFs that match this pattern (see `h5z.vault.to_zarr`).
    zarr_options
        Further options of `h5z.vault.to_zarr`: ``scale``, ``levels``, ``codec``, ``verify``, …
    workers, scheduler
        Threads here, or the address of a dask scheduler whose workers reach the folders.
    retries, retry_delay_seconds
        How often an acquisition is tried again when a store, the network or a worker failed.

    Returns
    -------
    VaultsReport
        What became of each acquisition. One that cannot be archived is in it by name and reason; the others are done.
    """
    if (zarr_root is None) != (pattern is None):
        raise PlanError("zarr_root and pattern: expected both, or none of them")
    logger = get_run_logger()
    try:
        os.makedirs(vaults, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{vaults}: cannot be made ({error.strerror or one_line(error)})") from None
    found = acquisitions.discover(os.path.abspath(watch), os.path.abspath(vaults), zarr_root and os.path.abspath(zarr_root))
    where: dict[str, Any] = {"workers": workers, "scheduler": scheduler}
    again: dict[str, Any] = {"retries": retries, "retry_delay_seconds": exponential_backoff(retry_delay_seconds)}
    records = []
    for acquisition in found:
        record = Record(acquisition.name, "waiting")
        try:
            if acquisitions.is_complete(acquisition.folder, settle_seconds, marker):
                storing = {"verify": verify, "codec": codec, "writers": writers, "layout": layout, **where}
                record = archive_acquisition.with_options(**again)(acquisition, storing)
                if pattern is not None:
                    made, notes = convert_acquisition.with_options(**again)(
                        acquisition, pattern, {**where, "options": zarr_options or {}}
                    )
                    record = replace(record, zarr=made, notes=notes)
        except Exception as error:
            record = replace(record, status="failed", reason=one_line(error))
            logger.warning("failed: %s: %s", acquisition.name, record.reason)
        for flaw in record.quarantined:
            logger.warning("quarantined: %s: %s", acquisition.name, flaw)
        records.append(record)
    report = VaultsReport(os.path.abspath(vaults), tuple(records))
    logger.info("%s; report: %s", str(report).partition("\n")[0], report.write())
    return report
