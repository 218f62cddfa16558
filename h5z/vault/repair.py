"""What is whole in a damaged vault, in a vault again; what is not, named."""

from __future__ import annotations

import os
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from h5z.container import Container
from h5z.container.frames import crc32
from h5z.container.salvage import check, salvage
from h5z.errors import PlanError, SourceError, TargetExistsError, one_line
from h5z.vault.archive import Vault
from h5z.vault.catalog import FILE, Row
from h5z.vault.codec import digest
from h5z.vault.files import container_files
from h5z.vault.header import Header, read_header
from h5z.vault.indexing import catalogs, index
from h5z.vault.pack import CATALOG, HEADER, OWN, PACKS, join_pack, put, split_pack
from h5z.vault.report import Flaw, VaultReport, shown
from h5z.vault.walk import Refused
from h5z.vault.writing import PACK_NBYTES, alone


def repair(vault: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> VaultReport:
    """Write a damaged vault anew, of all that is whole in it, and index it.

    Of h5z's own vaults, frames are found without any index, and files within a damaged pack one by one; where anything is
    lost, the damaged container is left beside the new one (``.damaged``). Archives of HDF5Vault are left as they are: all that
    can be read of them goes into a new vault.

    Parameters
    ----------
    target : path, optional
        The name of the new vault; for archives of HDF5Vault only, and needed there.

    Returns
    -------
    VaultReport
        Its ``flaws`` name what is lost, as far as it has a name.

    Raises
    ------
    SourceError
        If nothing of a vault is found.
    PlanError, TargetExistsError
        If the call is wrong, or the new vault is there already.
    """
    start = time.perf_counter()
    path = os.path.abspath(vault)
    if _is_foreign(path):
        return _copy(Vault(path), target, start)
    if target is not None:
        raise PlanError(f"{path}: a vault of h5z's is repaired in its place; expected no target, found {os.fspath(target)}")
    flaws: list[Flaw] = []
    notes: list[str] = []
    with alone(path):
        for file in _files(path):
            _repair_container(file, flaws, notes)
        files = container_files(path)
        containers = [Container(file) for file in files]
        header = read_header(containers[0])
        index(containers, header, [Refused(os.fsencode(name), reason) for name, reason in header.quarantined])
    found = Vault(path)
    flaws += [Flaw(shown(name), "parts of it are lost") for name in found.catalog.incomplete]
    return VaultReport(
        "repaired",
        files[0],
        len(found),
        sum(int(found.catalog.rows.columns["nbytes"][i]) for i in range(len(found.catalog.rows))),
        0,
        round(time.perf_counter() - start, 3),
        flaws=tuple(dict.fromkeys(flaws)),
        notes=tuple(notes),
    )


def _is_foreign(path: str) -> bool:
    """Whether a file is HDF5Vault's, as far as it can be read."""
    try:
        return Vault(path).header is None
    except SourceError:
        return False


def _files(path: str) -> list[str]:
    """The vault's containers; of one that cannot be read, itself and those that its name says are its siblings."""
    try:
        return container_files(path)
    except SourceError:
        folder, name = os.path.split(path)
        stem, _, number = name.removesuffix(".h5").rpartition("_")
        if not os.path.exists(path):
            raise
        if not (stem and number.isdigit()):
            return [path]
        siblings = (f"{stem}_{i:0{len(number)}d}.h5" for i in range(10 ** len(number)))
        return [os.path.join(folder, sibling) for sibling in siblings if os.path.exists(os.path.join(folder, sibling))]


def _repair_container(path: str, flaws: list[Flaw], notes: list[str]) -> None:
    wrong = list(check(path))
    if not wrong:
        return
    lost: list[Flaw] = []

    def mend(key: str, data: bytes, has_older: bool) -> bytes | None:
        if key == HEADER:
            return b"" if has_older else None
        return _mended(data, lost) if key.startswith(PACKS) else None

    found = salvage(path, mend=mend)
    packs = [key for key in found.lost if key.startswith(PACKS)]
    others = [key for key in found.lost if not key.startswith(PACKS) and key != HEADER and not key.startswith(CATALOG)]
    flaws += [Flaw(key, "lost") for key in others]
    if lost or found.gaps:
        notes.append(f"{path}: {wrong[0][1]}")
    flaws += lost
    unnamed = [key for key in packs if key not in Container(path)]
    flaws += [Flaw(f"{path}: {key}", "a pack whose table is damaged: its members are lost, and their names") for key in unnamed]
    for first, last in found.gaps:
        notes.append(f"{path}: bytes {first} to {last} hold nothing that could be found")
    if found.aside:
        notes.append(f"{path}: the damaged container is {found.aside}")
    Container(path).delete(*catalogs(Container(path)))


def _mended(data: bytes, lost: list[Flaw]) -> bytes | None:
    """A pack without its damaged members; None if its table is damaged."""
    try:
        rows, payloads = split_pack(data, "pack")
    except (SourceError, struct.error):
        return None
    kept = []
    for row, payload in zip(rows, payloads, strict=True):
        if len(payload) == row.stored and crc32(payload) == row.crc:
            kept.append((row, payload))
        else:
            lost.append(Flaw(shown(row.name), "damaged: lost"))
    return join_pack([row for row, _ in kept], [payload for _, payload in kept]) if kept else None


def _copy(vault: Vault, target: str | os.PathLike[str] | None, start: float) -> VaultReport:
    """Write what can be read of an archive of HDF5Vault to a new vault."""
    if target is None:
        raise PlanError(f"{vault.path}: an archive of HDF5Vault is not changed: expected a name for the new vault, found none")
    path = os.path.abspath(target).removesuffix(".h5") + ".h5"
    if os.path.exists(path):
        raise TargetExistsError(f"{path}: expected nothing there, found a file")
    draft = path + ".repairing"
    Path(draft).unlink(missing_ok=True)
    container = Container(draft, indexing=False)
    name, source = uuid.uuid4().hex, f"{vault.kind}: {vault.files[0]}"
    header = Header(name, 0, 1, "blosc2-zstd:5", "xxh3-128", OWN, source)
    flaws: list[Flaw] = []
    with alone(path):
        container.put(HEADER, header.encode())
        count = nbytes = 0
        for number, batch in enumerate(_batches(vault, flaws)):
            put(OWN, container, number, [row._replace(pack=number) for row, _ in batch], [payload for _, payload in batch])
            count += sum(row.part == 0 for row, _ in batch)
            nbytes += sum(row.nbytes for row, _ in batch)
        index([container], header, [])
        os.rename(draft, path)
    taken = round(time.perf_counter() - start, 3)
    return VaultReport("repaired", path, count, nbytes, 0, taken, flaws=tuple(flaws), notes=vault.notes)


def _batches(vault: Vault, flaws: list[Flaw]) -> Iterator[Sequence[tuple[Row, bytes]]]:
    batch: list[tuple[Row, bytes]] = []
    total = 0
    for parts in vault.grouped():
        try:
            found = list(_rows(vault, parts))
        except SourceError as error:
            flaws.append(Flaw(shown(parts[0].name), one_line(error)))
            continue
        batch += found
        total += sum(len(payload) for _, payload in found)
        if total > PACK_NBYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _rows(vault: Vault, parts: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
    contents: list[Any] = [vault.read_part(row) for row in parts]
    size, at = sum(map(len, contents)), 0
    for row, data in zip(parts, contents, strict=True):
        stored = vault.stored_part(row)
        sums = {"crc": crc32(stored), "digest": digest(data, "xxh3-128")}
        yield _own_row(row, size=size, start=at, nbytes=len(data), **sums), stored
        at += len(data)


def _own_row(row: Row, **values: Any) -> Row:
    """A row as h5z's own vaults have it."""
    return row._replace(kind=FILE, stamp=time.time_ns(), file=0, **values)
