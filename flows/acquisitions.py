"""Acquisition folders that become vaults: which are complete, and what becomes of each. No Prefect here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from h5z import vault
from h5z.errors import H5zError, SourceError, TargetExistsError, one_line

REPORT_NAME = "h5z-vaults.json"


@dataclass(frozen=True)
class Acquisition:
    """A folder that a microscope, or whatever, has written, and what it becomes."""

    name: str
    folder: str
    vault: str
    zarr: str | None = None


@dataclass(frozen=True)
class Record:
    """What became of an acquisition.

    Attributes
    ----------
    status : {"archived", "added", "unchanged", "waiting", "failed"}
        Waiting: it may still be written to.
    quarantined : tuple of str
        Files that are not in the vault, each with its reason.
    zarr : str
        The OME-Zarr made of it; empty where none was.
    """

    name: str
    status: str
    members: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0
    seconds: float = 0.0
    verified: bool = False
    zarr: str = ""
    reason: str = ""
    quarantined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VaultsReport:
    """What became of each acquisition; also `REPORT_NAME` in the vaults' folder."""

    vaults: str
    records: tuple[Record, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """5 with any that failed or with files in quarantine, else 0."""
        return 5 if any(record.status == "failed" or record.quarantined for record in self.records) else 0

    def count(self, status: str) -> int:
        """How many acquisitions have a status."""
        return sum(record.status == status for record in self.records)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types."""
        return {"vaults": self.vaults, "exit_code": self.exit_code, "acquisitions": [asdict(record) for record in self.records]}

    def write(self) -> str:
        """Write the report into the vaults' folder, whole or not at all; return where it is."""
        place = Path(self.vaults) / REPORT_NAME
        draft = place.with_name(f".{place.name}.{uuid4().hex}")
        draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8", errors="backslashreplace")
        os.replace(draft, place)
        return str(place)

    def __str__(self) -> str:
        """The report in a few lines."""
        states = ("archived", "added", "unchanged", "waiting", "failed")
        counts = ", ".join(f"{self.count(state)} {state}" for state in states if self.count(state))
        lines = [f"{counts or 'no acquisitions'} of {len(self.records)}"]
        lines += [f"failed: {record.name}: {record.reason}" for record in self.records if record.status == "failed"]
        lines += [f"quarantined: {record.name}: {flaw}" for record in self.records for flaw in record.quarantined]
        return "\n".join(lines)


def discover(watch: str, vaults: str, zarr_root: str | None) -> list[Acquisition]:
    """The acquisitions of a folder: each folder in it.

    Raises
    ------
    SourceError
        If it is not there.
    """
    try:
        with os.scandir(watch) as found:
            folders = sorted(item.name for item in found if item.is_dir(follow_symlinks=False) and not item.name.startswith("."))
    except OSError as error:
        raise SourceError(f"{watch}: expected a folder of acquisitions ({error.strerror or one_line(error)})") from None
    own = {os.path.realpath(place) for place in (vaults, zarr_root) if place}
    return [
        Acquisition(
            name,
            os.path.join(watch, name),
            os.path.join(vaults, name),
            None if zarr_root is None else os.path.join(zarr_root, f"{name}.ome.zarr"),
        )
        for name in folders
        if os.path.realpath(os.path.join(watch, name)) not in own
    ]


def is_complete(folder: str, settle_seconds: float, marker: str | None) -> bool:
    """Whether nothing more is to come: a file of the marker's name is there, or nothing has changed for so long."""
    if marker is not None:
        return os.path.exists(os.path.join(folder, marker))
    latest = max(_times(folder), default=0.0)
    return time.time() - latest >= settle_seconds


def _times(folder: str) -> Iterator[float]:
    for place, _, files in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in files)):
            try:
                yield os.lstat(path).st_mtime
            except FileNotFoundError:
                yield time.time()  # it has just changed


def archive(
    acquisition: Acquisition,
    *,
    verify: str,
    codec: str,
    writers: int,
    layout: str,
    workers: int | None,
    scheduler: str | None,
) -> Record:
    """Archive an acquisition, or add what is new in it since, and verify the vault.

    Parameters
    ----------
    verify : {"none", "checksums", "source"}
        Read every member back; compare it with the acquisition, too.

    Raises
    ------
    H5zError
        If it cannot be archived, or the vault is not true.
    """
    start = time.perf_counter()
    options: dict[str, Any] = {"workers": workers, "scheduler": scheduler}
    try:
        report = vault.create(acquisition.folder, acquisition.vault, codec=codec, writers=writers, layout=layout, **options)
    except TargetExistsError as error:
        if "vault add" not in str(error):
            raise
        report = vault.add(acquisition.vault, acquisition.folder, **options)
    changed = report.action in ("created", "added")
    verified = False
    if verify != "none" and changed:
        source = acquisition.folder if verify == "source" else None
        found = vault.verify(acquisition.vault, source, **options)
        named = {flaw.name for flaw in report.quarantined}
        wrong = [flaw for flaw in found.flaws if flaw.name not in named]
        if wrong:
            raise H5zError(f"{acquisition.vault}: {len(wrong)} members are not true; the first: {wrong[0]}")
        verified = True
    return Record(
        acquisition.name,
        {"created": "archived", "added": "added"}.get(report.action, "unchanged"),
        report.members,
        report.nbytes,
        report.stored_nbytes,
        round(time.perf_counter() - start, 3),
        verified,
        quarantined=tuple(map(str, report.quarantined)),
    )


def convert(
    acquisition: Acquisition, pattern: str, *, workers: int | None, scheduler: str | None, options: dict[str, Any]
) -> tuple[str, Sequence[str]]:
    """Make the OME-Zarr of a vault; return where it is, and what there is to say of it.

    Raises
    ------
    H5zError
        If the vault's images do not make one.
    """
    assert acquisition.zarr is not None
    report = vault.to_zarr(
        acquisition.vault, acquisition.zarr, pattern, name=acquisition.name, workers=workers, scheduler=scheduler, **options
    )
    return report.target, report.notes
