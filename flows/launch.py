"""Migrate an archive from Python or the command line: the flow, with nothing to set up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from h5z.errors import PlanError

if TYPE_CHECKING:
    import h5z
    from flows.progress import Listener
    from flows.report import ArchiveReport


def migrate(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target_root: str | os.PathLike[str],
    *,
    policy: h5z.Policy | Mapping[str, Any] | None = None,
    verify: str | None = "sample",
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Listener | None = None,
    **parameters: Any,
) -> ArchiveReport:
    """Migrate many HDF5 files to Zarr stores below one folder.

    Runs the flow `flows.archive.migrate_archive` on the Prefect server that the environment or the user's profile
    names, or on an embedded one. The same call again does only what is missing.

    Parameters
    ----------
    sources : path or iterable of paths
        Files, folders, globs, URLs, or ``@listing``: a text file of one path a line.
    target_root : path or URL
        The folder that the stores go below. A file below a source folder keeps its place, its suffix replaced by
        ``.zarr``; `name_template` says otherwise.
    policy : Policy or mapping of its fields, optional
        As for `h5z.convert`.
    verify : {"none", "structure", "sample", "full"}
        How each target is compared with its source.
    workers : int, optional
        Processes to spawn; as many as there are cores by default.
    scheduler : str, optional
        The address of a dask scheduler to use instead.
    on_progress : callable, optional
        Called with a `flows.progress.Progress` when a file has ended, and while a large one is on its way;
        from several threads, one at a time.
    **parameters
        The rest of `flows.archive.migrate_archive`'s: ``name_template``, ``policies``, ``cluster``, ``since``, ….

    Returns
    -------
    ArchiveReport
        Also in ``h5z-report.json`` in the target root; its ``exit_code`` is 5 with files in quarantine, 1 if
        anything is lacking or different, else 0. ``h5z-report.html`` beside it is the same for people.

    Raises
    ------
    PlanError, SourceError, TargetError
        If the call is wrong, a source is missing, or the target root cannot be written; before anything is written.
    """
    try:
        from flows.parameters import ArchiveParameters
    except ImportError as error:
        raise PlanError(f"migrate: expected the packages of h5z's extra 'flows' (pip install 'h5z[flows]'): {error}") from None
    from flows.discovery import check_root, missing

    given = {
        "sources": sources,
        "target_root": target_root,
        "policy": policy,
        "verify": verify,
        "overwrite": overwrite,
        "workers": workers,
        "scheduler": scheduler,
        **parameters,
    }
    wanted = ArchiveParameters.check(given)
    missing(wanted.sources)
    check_root(wanted.target_root)
    return _run(wanted.model_dump(mode="json"), on_progress)


def _run(parameters: dict[str, Any], on_progress: Listener | None) -> ArchiveReport:
    from flows import server
    from flows.progress import listening

    if find_spec("prefect") is None:
        raise PlanError("migrate: expected Prefect (pip install 'h5z[flows]'), found none")
    embedded = server.start()  # is on its way while the flow is imported
    from flows.archive import migrate_archive

    with server.use(embedded), listening(on_progress):
        report: ArchiveReport = migrate_archive(**parameters)
        return report
