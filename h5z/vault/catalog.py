"""The catalog of a vault: a row for each part of each member, by columns; small on the disk and in memory."""

from __future__ import annotations

import fnmatch
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numcodecs import Zstd

from h5z.errors import SourceError

FILE, FOLDER, LINK = 0, 1, 2
KINDS = ("file", "folder", "link")
RAW, BLOSC2 = 0, 1
UNKNOWN = -1  # of sizes and times that an archive does not tell
_MAGIC = b"h5zT"
_HEAD = struct.Struct("<4sIQQ")  # magic, version, rows, bytes of names
_VERSION = 1
_AT_ONCE = 10_000
_COLUMNS: dict[str, str] = {
    "kind": "u1",
    "mode": "<i4",
    "size": "<i8",  # of the whole member
    "mtime": "<i8",  # ns
    "part": "<u4",
    "parts": "<u4",
    "start": "<i8",  # of the part in the member
    "nbytes": "<i8",  # of the part
    "codec": "u1",
    "crc": "<i8",  # CRC-32 of the stored bytes
    "digest": "V16",
    "stored": "<i8",
    "stamp": "<i8",  # ns, when it was stored: of two of a name, the later counts
    "pack": "<i8",  # the number of the pack; -1 where `at` is a place in the file
    "at": "<i8",  # how far before the pack's end the stored bytes begin
    "file": "<u4",  # the number of the container
}


class Row(NamedTuple):
    """A part of a member, as `_COLUMNS` has it."""

    name: bytes
    kind: int
    mode: int
    size: int
    mtime: int
    part: int = 0
    parts: int = 1
    start: int = 0
    nbytes: int = 0
    codec: int = RAW
    crc: int = 0
    digest: bytes = bytes(16)
    stored: int = 0
    stamp: int = 0
    pack: int = 0
    at: int = 0
    file: int = 0


@dataclass
class Rows:
    """Rows by columns.

    Attributes
    ----------
    names : bytes
        Of all rows, each followed by a zero; as the file system has them, with slashes, relative.
    columns : dict
        Arrays of one length.
    """

    names: bytes
    columns: dict[str, Any]
    _places: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.columns["kind"])

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rows:
        """Rows from their values."""
        names = b"".join(row.name + b"\0" for row in rows)
        values = list(zip(*(row[1:] for row in rows), strict=True)) or [()] * len(_COLUMNS)
        return cls(names, {name: _column(name, found) for (name, found) in zip(_COLUMNS, values, strict=True)})

    @classmethod
    def joined(cls, many: Iterable[Rows]) -> Rows:
        """Rows of several, one after the other."""
        found = [rows for rows in many if len(rows)] or [cls.of([])]
        if len(found) == 1:
            return found[0]
        columns = {name: np.concatenate([rows.columns[name] for rows in found]) for name in _COLUMNS}
        return cls(b"".join(rows.names for rows in found), columns)

    @cached_property
    def _starts(self) -> Any:
        raw = np.frombuffer(self.names, np.uint8)
        return np.concatenate([[0], np.flatnonzero(raw == 0) + 1]).astype(np.int64)

    def name(self, i: int) -> bytes:
        """A row's name."""
        return self.names[self._starts[i] : self._starts[i + 1] - 1]

    def all_names(self) -> list[bytes]:
        """The names of all rows; faster than one by one, where many are wanted."""
        return self.names.split(b"\0")[:-1]

    def row(self, i: int) -> Row:
        """A row's values."""
        values = {name: column[i] for name, column in self.columns.items()}
        digest = values.pop("digest").tobytes()
        return Row(self.name(i), digest=digest, **{name: int(value) for name, value in values.items()})

    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), _AT_ONCE):
            last = min(first + _AT_ONCE, len(self))
            starts = self._starts[first : last + 1].tolist()
            names = [self.names[start : end - 1] for start, end in pairwise(starts)]
            yield from map(Row._make, zip(names, *(self.columns[name][first:last].tolist() for name in _COLUMNS), strict=True))

    def take(self, index: Any) -> Rows:
        """Some rows, in an order."""
        find = self.all_names().__getitem__ if 8 * len(index) > len(self) else self.name
        names = b"".join(find(i) + b"\0" for i in index.tolist())
        return Rows(names, {name: column[index] for name, column in self.columns.items()})

    def in_file(self, number: int) -> Rows:
        """The rows, as those of a container of that number."""
        return Rows(self.names, {**self.columns, "file": np.full(len(self), number, "<u4")})

    def encode(self) -> bytes:
        """Bytes of the rows: the columns' bytes sorted by their significance, compressed."""
        head = _HEAD.pack(_MAGIC, _VERSION, len(self), len(self.names)) + self.names
        width = sum(column.itemsize for column in self.columns.values())
        data = np.empty(len(head) + width * len(self), np.uint8)
        data[: len(head)] = np.frombuffer(head, np.uint8)
        at = len(head)
        for name, column in self.columns.items():
            if name != "digest":
                column = np.diff(column, prepend=column.dtype.type(0))
            planes = data[at : at + column.nbytes].reshape(column.itemsize, len(self))
            planes[...] = column.view(np.uint8).reshape(len(self), column.itemsize).T
            at += column.nbytes
        packed: bytes = Zstd(level=9).encode(data)
        return packed

    @classmethod
    def decode(cls, packed: bytes, what: str) -> Rows:
        """Rows of bytes.

        Raises
        ------
        SourceError
            If they are no rows.
        """
        try:
            data = bytes(Zstd().decode(packed))
            magic, version, count, nbytes = _HEAD.unpack_from(data)
            if magic != _MAGIC or version != _VERSION:
                raise ValueError(f"of another format, or of version {version}")
            at = _HEAD.size + nbytes
            columns = {}
            for name, dtype in _COLUMNS.items():
                size = np.dtype(dtype).itemsize * count
                raw = np.frombuffer(data, np.uint8, size, at).reshape(np.dtype(dtype).itemsize, count).T
                column = np.ascontiguousarray(raw).reshape(-1).view(dtype)
                columns[name] = column if name == "digest" else np.cumsum(column, dtype=dtype)
                at += size
            made = cls(data[_HEAD.size : _HEAD.size + nbytes], columns)
            if data.count(b"\0", _HEAD.size, _HEAD.size + nbytes) != count:
                raise ValueError("names do not match rows")
        except (ValueError, RuntimeError, struct.error) as error:
            raise SourceError(f"{what}: expected a vault's table, found other bytes ({error})") from None
        return made


def _column(name: str, values: Sequence[Any]) -> Any:
    return np.array(values, _COLUMNS[name]) if len(values) else np.zeros(0, _COLUMNS[name])


@dataclass(frozen=True)
class Catalog:
    """The rows of a vault, found by name.

    Attributes
    ----------
    rows : Rows
        Those that count, sorted by name and part.
    incomplete : tuple of bytes
        Names of members of which parts are missing.
    """

    rows: Rows
    incomplete: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, rows: Rows) -> Catalog:
        """Choose, of rows that were stored at different times, those of the last whole version of each member."""
        names = rows.all_names()
        order = sorted(range(len(rows)), key=names.__getitem__)
        incomplete = []
        if (rows.columns["parts"] != 1).any() or any(names[a] == names[b] for a, b in pairwise(order)):
            chosen: list[int] = []
            for name, group in groupby(order, key=names.__getitem__):
                whole = _last_whole(rows, list(group))
                chosen += whole
                if not whole:
                    incomplete.append(name)
            order = chosen
        del names
        return cls(rows.take(np.array(order, np.int64)), tuple(incomplete))

    def __len__(self) -> int:
        return len(self.firsts)

    @cached_property
    def firsts(self) -> Any:
        """The index of each member's first row."""
        return np.flatnonzero(self.rows.columns["part"] == 0)

    def find(self, name: bytes) -> list[Row]:
        """The parts of a member, in order; none if it is not there."""
        i = self._at(name)
        return self.parts_at(i) if i < len(self.rows) and self.rows.name(i) == name else []

    def has_below(self, folder: bytes) -> bool:
        """Whether a member lies in a folder of that name, which need not be one itself."""
        i = self._at(folder + b"/")
        return i < len(self.rows) and self.rows.name(i).startswith(folder + b"/")

    def _at(self, name: bytes) -> int:
        return bisect_left(range(len(self.rows)), name, key=self.rows.name)

    def parts_at(self, first: int) -> list[Row]:
        """The parts of a member, given the index of its first row."""
        return [self.rows.row(k) for k in range(first, first + int(self.rows.columns["parts"][first]))]

    def matching(self, patterns: Sequence[str] = ()) -> Any:
        """The indices of the first rows of members that match a pattern, or lie in a folder of that name; of all without."""
        if not patterns:
            return self.firsts
        names, found = self.rows.names.decode("utf-8", "surrogateescape").split("\0"), _matcher(patterns)
        return np.array([i for i in self.firsts.tolist() if found(names[i])], np.int64)

    def names(self, patterns: Sequence[str] = ()) -> Iterator[bytes]:
        """Names of members that match a pattern, or lie in a folder of that name; of all without patterns."""
        return map(self.rows.name, self.matching(patterns).tolist())


def _matcher(patterns: Sequence[str]) -> Callable[[str], object]:
    """What tells whether a name matches one of some patterns as the shell has them, or lies below it; ``*`` also matches slashes.

    >>> found = _matcher(["a", "*.tif"])
    >>> [bool(found(name)) for name in ("a/b.png", "c/b.tif", "ab")]
    [True, True, False]
    """
    bare = (pattern.rstrip("/") for pattern in patterns)
    below = (f"(?s:{re.escape(pattern)}(/.*)?)\\Z" for pattern in bare)
    wanted = "|".join([*map(fnmatch.translate, patterns), *below])
    return re.compile(wanted).match


def _last_whole(rows: Rows, group: list[int]) -> list[int]:
    """Of the rows of one name, those of the version stored last whose parts are all there."""
    if len(group) == 1:
        return group if int(rows.columns["parts"][group[0]]) == 1 else []
    versions: dict[tuple[int, ...], dict[int, int]] = {}
    stamps: dict[tuple[int, ...], int] = {}
    for i in group:
        version = tuple(int(rows.columns[column][i]) for column in ("kind", "size", "mtime", "parts"))
        parts = versions.setdefault(version, {})
        part = int(rows.columns["part"][i])
        if part not in parts or rows.columns["stamp"][i] >= rows.columns["stamp"][parts[part]]:
            parts[part] = i
        stamps[version] = max(stamps.get(version, 0), int(rows.columns["stamp"][i]))
    for version in sorted(versions, key=stamps.__getitem__, reverse=True):
        if len(versions[version]) == version[-1]:
            return [versions[version][part] for part in sorted(versions[version])]
    return []
