"""One HDF5 file of a session -> its store: read, made one Dataset, published; left alone where nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from h5z.errors import PlanError, TransientError
from h5z.events.dataset import to_dataset
from h5z.events.layout import SessionLayout
from h5z.events.places import SourceFile
from h5z.events.problems import OnProblem
from h5z.events.publish import located, metadata, publish
from h5z.events.readers import read, session_id
from h5z.events.recorded_session import RECORDED_SESSION
from h5z.events.schema import Schema
from h5z.hdf5.files import open_file
from h5z.hdf5.listing import identify as state_of
from h5z.policy import Policy
from h5z.target import Target

FORMAT = 1  # of what becomes of the same rows: another one publishes them anew


def identify(source: str | os.PathLike[str], layout: SessionLayout, *, storage_options: dict[str, Any] | None = None) -> str:
    """Read the id of the session that a file holds, and nothing else.

    Raises
    ------
    SourceError
        If the file cannot be read, or the id is not where the layout says.
    """
    name = os.fspath(source)
    with open_file(name, storage_options) as file:
        return session_id(SourceFile(name, file), layout)


def publish_file(
    source: str | os.PathLike[str],
    target: Any,
    layout: SessionLayout,
    schema: Schema = RECORDED_SESSION,
    *,
    problems: OnProblem = "error",
    overwrite: bool = False,
    chunks: Any = None,
    codec: Any = "auto",
    verify: bool = False,
    source_options: dict[str, Any] | None = None,
    storage_options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Publish the session that an HDF5 file holds.

    A file that has not changed since it was published in this same way is not read again.

    Parameters
    ----------
    source : path or URL
        The file.
    target, overwrite, chunks, codec, verify, storage_options
        As for `publish`.
    layout, schema
        Where in the file the rows are, and what.
    problems : {"error", "report"}
        As for `to_dataset`.
    source_options : dict, optional
        For a source by URL, as fsspec takes them.

    Returns
    -------
    dict
        The session's metadata, as `publish` returns them.

    Raises
    ------
    SourceError, RecordError
        If the file cannot be read, or a row breaks the schema.
    PlanError, TargetError, TargetExistsError
        As for `publish`.
    TransientError
        If a store did not answer, or the file changed while it was read.
    """
    name = os.fspath(source)
    layout.check(schema)
    before = _identity(name, source_options)
    way = {
        "format": FORMAT,
        "file": [os.path.basename(name), *before],
        "layout": layout.to_dict(),
        "schema": schema.to_dict(),
        "problems": problems,
        "chunks": dict(chunks) if isinstance(chunks, dict) else chunks,
        "policy": Policy(codec=codec).to_dict(),
    }
    try:
        text = json.dumps(way, sort_keys=True)
    except TypeError as error:
        raise PlanError(f"layout: expected values that JSON holds ({error})") from None
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    records = read(name, layout, schema, storage_options=source_options)
    place = Target.of(located(target, records.session_id), storage_options)
    root = place.root()
    if root is not None and root.get("input_digest") == digest:
        return metadata(root, place.name, "unchanged")
    dataset = to_dataset(records, schema, problems=problems, attributes={"input_digest": digest})
    if _identity(name, source_options) != before:
        raise TransientError(f"{name}: changed while it was read")
    options = {"overwrite": overwrite, "chunks": chunks, "codec": codec, "verify": verify}
    return publish(dataset, place, **options)


def _identity(name: str, storage_options: dict[str, Any] | None) -> tuple[int, int]:
    open_file(name, storage_options).close()
    return state_of(name, storage_options)
