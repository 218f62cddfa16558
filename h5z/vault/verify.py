"""Every byte of a vault compared with its checksums, and if wanted with the folder that it was made of."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from h5z.container.salvage import check
from h5z.errors import SourceError, one_line
from h5z.scheduling import Job, run, watching
from h5z.vault.archive import Vault
from h5z.vault.catalog import FILE, FOLDER, LINK
from h5z.vault.report import Flaw, VaultReport, shown
from h5z.vault.tasks import groups, nbytes_of, opened
from h5z.vault.walk import Refused, Walk

_PIECE = 1 << 24


def verify(
    vault: str | os.PathLike[str] | Vault,
    source: str | os.PathLike[str] | None = None,
    patterns: Sequence[str] = (),
    *,
    scheduler: Any = None,
    workers: int | None = None,
    progress: Any = False,
) -> VaultReport:
    """Read every member, and compare it with its checksums.

    Archives of HDF5Vault have no checksums (ZIP apart): of those, it can only be said whether members decompress, unless they are
    compared with their source.

    Parameters
    ----------
    source : path, optional
        The folder that the vault was made of: each file of it must be in the vault, with the same bytes, and the other way round.
    patterns : sequence of str
        Of the members to verify; all by default.

    Returns
    -------
    VaultReport
        Its ``flaws`` name each member that is damaged, different or missing.

    Raises
    ------
    SourceError
        If the vault, or the folder, is not there.
    """
    start = time.perf_counter()
    found = vault if isinstance(vault, Vault) else Vault(vault)
    root = None if source is None else os.path.abspath(os.fsencode(source))
    if root is not None and not os.path.isdir(root):
        raise SourceError(f"{shown(root)}: expected a folder, found none")
    jobs: list[Job] = [(_verify_some, (found.path, group, root), nbytes_of(found, group)) for group in groups(found, patterns)]
    if found.header is not None and not patterns:
        jobs += [(_check, (file,), 0) for file in found.files]
    with watching(progress, sum(nbytes for _, _, nbytes in jobs)) as advance:
        done = run(jobs, scheduler, workers or os.cpu_count() or 1, advance)
    flaws = [flaw for item in done for flaw in item[2]]
    flaws += [Flaw(shown(name), "parts of it are missing") for name in found.catalog.incomplete]
    notes = found.notes
    if root is not None and not patterns:
        flaws += _not_stored(found, root)
    elif found.header is None and found.kind != "HDF5Vault ZIP":
        notes = (
            *notes,
            f"{found.kind} has no checksums: that members decompress is all that was seen",
        )
    return VaultReport(
        "verified",
        found.files[0],
        sum(item[0] for item in done),
        sum(item[1] for item in done),
        0,
        round(time.perf_counter() - start, 3),
        flaws=tuple(sorted(set(flaws), key=lambda flaw: flaw.name)),
        notes=notes,
    )


def _check(path: str) -> tuple[int, int, list[Flaw]]:
    return 0, 0, [Flaw(f"{path}: {key}" if key else path, reason) for key, reason in check(path)]


def _verify_some(path: str, group: Sequence[int], root: bytes | None) -> tuple[int, int, list[Flaw]]:
    vault = opened(path)
    nbytes = 0
    flaws = []
    for first in group:
        parts = vault.catalog.parts_at(first)
        name = parts[0].name
        try:
            file = _original(root, name, parts[0].kind)
            total = 0
            for row in parts:
                data = vault.read_part(row)
                total += len(data)
                if file is not None and not file.matches(data):
                    raise SourceError(f"{shown(name)}: differs from {shown(file.path)}")
            if parts[0].kind == FILE and parts[0].size not in (-1, total):
                raise SourceError(f"{shown(name)}: expected {parts[0].size} bytes, found {total}")
            if file is not None and not file.is_at_end():
                raise SourceError(f"{shown(name)}: ends before {shown(file.path)}")
            nbytes += total
        except SourceError as error:
            flaws.append(Flaw(shown(name), one_line(error).removeprefix(f"{shown(name)}: ")))
        except OSError as error:
            flaws.append(Flaw(shown(name), f"its source cannot be read ({error.strerror or one_line(error)})"))
    return len(group), nbytes, flaws


class _Original:
    """What a member was made of, compared piece by piece."""

    def __init__(self, path: bytes, kind: int) -> None:
        self.path = path
        self._file: Any = None
        self._link: bytes | None = os.readlink(path) if kind == LINK else None
        if kind == FILE:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def matches(self, data: bytes) -> bool:
        if self._file is None:
            return self._link is None or self._link == data
        pieces = (data[i : i + _PIECE] for i in range(0, len(data), _PIECE))
        return all(self._file.read(len(piece)) == piece for piece in pieces)

    def is_at_end(self) -> bool:
        return self._file is None or not self._file.read(1)


def _original(root: bytes | None, name: bytes, kind: int) -> _Original | None:
    if root is None or b".." in name.split(b"/") or name.startswith(b"/"):
        return None
    path = os.path.join(root, name)
    if kind == FOLDER and not os.path.isdir(path):
        raise SourceError(f"{shown(name)}: expected a folder {shown(path)}, found none")
    if kind == FILE and not os.path.isfile(path):
        raise SourceError(f"{shown(name)}: expected a file {shown(path)}, found none")
    return _Original(path, kind)


def _not_stored(vault: Vault, root: bytes) -> list[Flaw]:
    """Files of the source that are not in the vault; folders are also there by what lies in them."""
    links = vault.header.links if vault.header is not None else "keep"
    flaws = []
    for item in Walk(root, links):
        if isinstance(item, Refused) or (vault.header is None and item.kind != FILE):
            continue
        if not (vault.catalog.find(item.name) or (item.kind == FOLDER and vault.catalog.has_below(item.name))):
            flaws.append(Flaw(shown(item.name), "is in the source, and not in the vault"))
    return flaws
