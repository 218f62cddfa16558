"""The work of a task: read some files, compress them, and append them to a container as one pack, with their rows.

Two formats. In h5z's own, a pack is one member of the container: its rows and the stored bytes of all its files, so that even
small files take little beside their content. In HDF5Vault's, each file, or part of one, is a member by its path, and the rows
are one more, put last.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h5z.container import Container
from h5z.container.frames import crc32
from h5z.errors import SourceError, one_line
from h5z.vault.catalog import BLOSC2, FILE, FOLDER, LINK, RAW, Row, Rows
from h5z.vault.codec import VaultCodec, digest
from h5z.vault.walk import Found, Refused, Unit

OWN, HDF5VAULT = "h5z", "hdf5vault"
LAYOUTS = (OWN, HDF5VAULT)
VAULT = "__h5z_vault__/"
HEADER, CATALOG, PACKS = f"{VAULT}header", f"{VAULT}catalog", f"{VAULT}pack/"
_HEAD = struct.Struct("<4sI")  # magic, bytes of the table
_MAGIC = b"h5zP"
_ATTEMPTS, _PAUSE = 3, 0.05


@dataclass(frozen=True)
class Recipe:
    """How members are stored; the same for all tasks."""

    root: bytes
    codec: VaultCodec
    digest: str
    layout: str = OWN
    follow: bool = False


@dataclass(frozen=True)
class Packed:
    """What a task has done: members (those whose last part it stored), bytes read and stored, and what was refused."""

    members: int
    nbytes: int
    stored_nbytes: int
    refused: tuple[Refused, ...]


class _RefusedError(Exception):
    """A file that cannot be stored; the message says why."""


def store(recipe: Recipe, container: Container, number: int, batch: Sequence[Unit]) -> Packed:
    """Store a batch as pack `number`.

    Raises
    ------
    TargetError
        If the container cannot be written.
    """
    stamp = time.time_ns()
    rows: list[Row] = []
    payloads: list[bytes] = []
    refused: list[Refused] = []
    for unit in batch:
        try:
            row, stored = _stored(recipe, unit, number, stamp)
        except _RefusedError as error:
            refused.append(Refused(unit.found.name, str(error)))
        else:
            rows.append(row)
            payloads.append(stored)
    if rows:
        put(recipe.layout, container, number, rows, payloads)
    members = sum(row.part == row.parts - 1 for row in rows)
    return Packed(members, sum(row.nbytes for row in rows), sum(map(len, payloads)), tuple(refused))


def _stored(recipe: Recipe, unit: Unit, number: int, stamp: int) -> tuple[Row, bytes]:
    """A unit's row, and its bytes as they are stored."""
    data, found = _read(recipe, unit)
    packed = recipe.codec.encode(data) if found.kind == FILE else None
    if packed is not None and recipe.layout == HDF5VAULT and os.path.lexists(os.path.join(recipe.root, found.name) + b".blosc2"):
        packed = None  # there, a file x compressed and a file x.blosc2 as it is would have one name
    stored, codec = (data, RAW) if packed is None else (packed, BLOSC2)
    row = Row(
        found.name,
        found.kind,
        found.mode,
        found.nbytes,
        found.mtime,
        unit.part,
        unit.parts,
        unit.start,
        len(data),
        codec,
        crc32(stored),
        digest(data, recipe.digest),
        len(stored),
        stamp,
        number,
    )
    if recipe.layout == HDF5VAULT and row.kind == FILE:
        _check_name(recipe, row)
    return row, stored


def _check_name(recipe: Recipe, row: Row) -> None:
    """Refuse a file whose dataset would have the name of another file's, in HDF5Vault's format."""
    name = dataset_name(row)
    if name.startswith(VAULT):
        raise _RefusedError("its name is one of the vault's own")
    if row.parts > 1 and os.path.lexists(os.path.join(recipe.root, os.fsencode(name))):
        raise _RefusedError(f"a part of it would have the name of the file {name}, in HDF5Vault's format")


def put(layout: str, container: Container, number: int, rows: Sequence[Row], payloads: Sequence[bytes]) -> None:
    """Append a pack: rows, in which the places of payloads are still to be filled in, and payloads."""
    apart = [layout == HDF5VAULT and row.kind == FILE for row in rows]
    members = [(dataset_name(row), data) for row, data, alone in zip(rows, payloads, apart, strict=True) if alone]
    inside = [data for data, alone in zip(payloads, apart, strict=True) if not alone]
    container.put_many([*members, (pack_key(number), join_pack(rows, inside, apart))])


def join_pack(rows: Sequence[Row], payloads: Sequence[bytes], apart: Sequence[bool] = ()) -> bytes:
    """A pack of rows, whose places are filled in, and the payloads of those that are not stored apart."""
    left, placed = sum(map(len, payloads)), []
    for row, alone in zip(rows, apart or [False] * len(rows), strict=True):
        placed.append(row._replace(at=0) if alone else row._replace(at=left))
        left -= 0 if alone else row.stored
    table = Rows.of(placed).encode()
    return b"".join([_HEAD.pack(_MAGIC, len(table)), table, *payloads])


def split_pack(data: bytes, what: str) -> tuple[list[Row], list[bytes]]:
    """A pack's rows and payloads, unchecked; of a row that is stored apart, nothing.

    Raises
    ------
    SourceError
        If its table is damaged.
    """
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise SourceError(f"{what}: expected a pack of a vault, found other bytes")
    end = _HEAD.size + int(_HEAD.unpack_from(data)[1])
    rows = list(Rows.decode(data[_HEAD.size : end], what))
    return rows, [data[len(data) - row.at :][: row.stored] if row.at else b"" for row in rows]


def pack_key(number: int) -> str:
    """The member that is a pack, or in HDF5Vault's format its rows."""
    return f"{PACKS}{number:08d}"


def catalog_key(generation: int) -> str:
    """The member that is a container's catalog."""
    return f"{CATALOG}-{generation}" if generation else CATALOG


def read_rows(container: Container, key: str) -> Rows:
    """A pack's rows.

    Raises
    ------
    SourceError
        If they are damaged.
    """
    what = f"{container.path}: {key}"
    head = container.get(key, 0, _HEAD.size) or b""
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise SourceError(f"{what}: expected a pack of a vault, found other bytes")
    length = _HEAD.unpack_from(head)[1]
    return Rows.decode(container.get(key, _HEAD.size, _HEAD.size + length) or b"", what)


def packs(container: Container) -> list[str]:
    """The keys of a container's packs, in order."""
    return sorted(key for key in container.entries() if key.startswith(PACKS))


def all_rows(container: Container, number: int) -> Rows:
    """The rows of all of a container's packs, which is the vault's container of that number.

    Without those of files that are stored apart and are not there any more: they were damaged, and the container repaired.
    """
    rows = Rows.joined(read_rows(container, key) for key in packs(container)).in_file(number)
    apart = np.flatnonzero((rows.columns["kind"] == FILE) & (rows.columns["at"] == 0) & (rows.columns["stored"] > 0))
    entries = container.entries() if len(apart) else {}
    gone = [i for i in apart.tolist() if dataset_name(rows.row(i)) not in entries]
    return rows.take(np.setdiff1d(np.arange(len(rows)), gone)) if gone else rows


def dataset_name(row: Row) -> str:
    """The dataset of a part of a file in HDF5Vault's format: parts numbered, padded to the length of their count's last."""
    name = row.name.decode("utf-8", "surrogateescape")
    if row.parts > 1:
        name += f"____part{row.part:0{len(str(row.parts - 1))}d}"
    return name + (".blosc2" if row.codec == BLOSC2 else "")


def _read(recipe: Recipe, unit: Unit) -> tuple[bytes, Found]:
    """A unit's bytes, and what it was when they were read.

    Raises
    ------
    _RefusedError
        If they cannot be read, or change while they are.
    """
    path = os.path.join(recipe.root, unit.found.name)
    try:
        if unit.found.kind == FOLDER:
            return b"", unit.found
        if unit.found.kind == LINK:
            return os.readlink(path), unit.found
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE)
            data, before, after = _read_file(path, unit, follow=recipe.follow)
            same = _identity(before) == _identity(after)
            if unit.parts > 1:
                if (
                    same
                    and _identity(before)[:3] == (unit.found.inode, unit.found.nbytes, unit.found.mtime)
                    and len(data) == unit.nbytes
                ):
                    return data, unit.found
            elif same and len(data) == after.st_size:
                mode = stat.S_IMODE(after.st_mode)
                return data, unit.found._replace(mode=mode, nbytes=len(data), mtime=after.st_mtime_ns)
    except OSError as error:
        raise _RefusedError(f"cannot be read ({error.strerror or one_line(error)})") from None
    raise _RefusedError("changes while it is read")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_dev


def _read_file(path: bytes, unit: Unit, *, follow: bool) -> tuple[bytes, os.stat_result, os.stat_result]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)  # never waits for the other end of a pipe
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _RefusedError("expected a file, found something else by the time that it was read")
        wanted = unit.nbytes if unit.parts > 1 else before.st_size
        if wanted > max(unit.nbytes * 2, unit.nbytes + (1 << 24)):
            raise _RefusedError(f"changes: expected {unit.nbytes} bytes, found {wanted}")
        data = _pread(descriptor, wanted, unit.start)
        return data, before, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _pread(descriptor: int, nbytes: int, start: int) -> bytes:
    data = os.pread(descriptor, nbytes, start) if nbytes else b""
    while len(data) < nbytes:
        more = os.pread(descriptor, nbytes - len(data), start + len(data))
        if not more:
            break
        data += more
    return data
