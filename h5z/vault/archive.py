"""A vault as a mapping: members by name, read when they are asked for; h5z's own, and HDF5Vault's archives."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from h5z.container import Container
from h5z.container.frames import checked
from h5z.errors import SourceError, one_line
from h5z.vault import hdf5vault
from h5z.vault.catalog import BLOSC2, FILE, KINDS, UNKNOWN, Catalog, Row, Rows
from h5z.vault.codec import decode, decoded_nbytes, digest
from h5z.vault.files import container_files, is_own
from h5z.vault.header import Header, read_header
from h5z.vault.pack import HDF5VAULT, all_rows, catalog_key, dataset_name, pack_key, packs
from h5z.vault.report import shown

_CACHED_NBYTES = 64 << 20


@dataclass(frozen=True)
class Member:
    """A member of a vault.

    Attributes
    ----------
    kind : str
        ``file``, ``folder`` or ``link``.
    size : int
        Bytes of content.
    mode, mtime_ns : int or None
        As they were; None where the archive does not tell.
    digest : str
        Checksum of content, in hexadecimal; of several parts, one each with a dash between them; empty where there is none.
    """

    name: str
    kind: str
    size: int
    mode: int | None
    mtime_ns: int | None
    stored_nbytes: int
    parts: int
    digest: str


class Vault(Mapping[str, bytes]):
    """A vault, or an archive of HDF5Vault, for reading: ``vault["a/b.tif"]`` is a member's content.

    Names are relative, with slashes; what was no UTF-8 in them is there as surrogates. Folders and links are members too; a
    link's content is where it leads. Nothing but the catalog is read until it is asked for. Threads may share it; pickled copies
    open the vault anew.

    Parameters
    ----------
    path : path
        A container of the vault, or its name without ``.h5``. The others are found by their names.

    Raises
    ------
    SourceError
        If it is no vault, a container is missing, or its catalog is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self.files = container_files(self.path)
        self.notes: tuple[str, ...] = ()
        self.header: Header | None = None
        if is_own(self.files[0]):
            self.catalog, self.kind = self._own(), "h5z"
        else:
            found = hdf5vault.read(self.files)
            self.catalog, self.kind, self.notes = Catalog.of(found.rows), found.kind, found.notes
        if self.catalog.incomplete:
            raise_for = ", ".join(map(shown, self.catalog.incomplete[:3]))
            self.notes = (
                *self.notes,
                f"{self.files[0]}: parts of {len(self.catalog.incomplete)} members are missing: {raise_for}",
            )
        self._descriptors = [_open(file) for file in self.files]

    def __del__(self) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        for descriptor in self.__dict__.pop("_descriptors", []):
            os.close(descriptor)

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def __repr__(self) -> str:
        return f"Vault({self.path!r}): {len(self)} members, {self.kind}"

    # What there is

    def __len__(self) -> int:
        return len(self.catalog)

    def __iter__(self) -> Iterator[str]:
        return map(shown, self.catalog.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.catalog.find(_raw(name)))

    def names(self, *patterns: str) -> list[str]:
        """Names that match a pattern (``*`` also matches slashes) or lie in a folder of that name; all without patterns."""
        return [shown(name) for name in self.catalog.names(patterns)]

    def info(self, name: str) -> Member:
        """What is known of a member.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        return self.member_of(self.parts(name))

    def member_of(self, parts: Sequence[Row]) -> Member:
        """What is known of a member, by its rows."""
        first = parts[0]
        size = first.size
        if size == UNKNOWN:
            size = sum(self._part_nbytes(row) for row in parts)
        sums = "-".join(row.digest.hex() for row in parts) if self.header is not None and first.kind == FILE else ""
        return Member(
            shown(first.name),
            KINDS[first.kind],
            size,
            None if first.mode == UNKNOWN else first.mode,
            None if first.mtime == UNKNOWN else first.mtime,
            sum(row.stored for row in parts),
            len(parts),
            sums,
        )

    def members(self, *patterns: str) -> Iterator[Member]:
        """What is known of members, of all or of those that match."""
        for parts in self.grouped(patterns):
            yield self.member_of(parts)

    def grouped(self, patterns: Sequence[str] = ()) -> Iterator[list[Row]]:
        """Rows, by member."""
        return map(self.catalog.parts_at, self.catalog.matching(patterns).tolist())

    def _part_nbytes(self, row: Row) -> int:
        return row.nbytes if row.nbytes != UNKNOWN else decoded_nbytes(self._pread(row, min(16, row.stored)))

    # Content

    def __getitem__(self, name: str) -> bytes:
        """A member's content, compared with its checksums.

        Raises
        ------
        KeyError
            If there is none of that name.
        SourceError
            If it is damaged.
        """
        return b"".join(map(self.read_part, self.parts(name)))

    def open(self, name: str) -> BinaryIO:
        """A member as a file for reading; of parts, those that are needed are decoded.

        Raises
        ------
        KeyError, SourceError
            As `__getitem__`.
        """
        parts = self.parts(name)
        if len(parts) == 1:
            return io.BytesIO(self.read_part(parts[0]))
        return io.BufferedReader(_Parts(self, parts))

    def parts(self, name: str) -> list[Row]:
        """The rows of a member.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        found = self.catalog.find(_raw(name))
        if not found:
            raise KeyError(name)
        return found

    def read_part(self, row: Row) -> bytes:
        """The content of a part.

        Raises
        ------
        SourceError
            If its stored bytes, or what they decode to, are not what was stored.
        """
        what = f"{self.files[row.file]}: {shown(row.name)}"
        data = stored = self.stored_part(row)
        if row.codec == BLOSC2:
            data = decode(stored, what, None if row.nbytes == UNKNOWN else row.nbytes)
        if self.header is not None and digest(data, self.header.digest) != row.digest:
            raise SourceError(f"{what}: expected {self.header.digest} {row.digest.hex()}, found another: the data are damaged")
        return data

    def stored_part(self, row: Row) -> bytes:
        """A part's bytes as they are stored.

        Raises
        ------
        SourceError
            If they are not those that were stored.
        """
        what = f"{self.files[row.file]}: {shown(row.name)}"
        return checked(self._pread(row, row.stored), what, row.stored, None if row.crc == UNKNOWN else row.crc)

    def _pread(self, row: Row, nbytes: int) -> bytes:
        try:
            data = os.pread(self._descriptors[row.file], nbytes, row.at) if nbytes else b""
            while len(data) < nbytes and (more := os.pread(self._descriptors[row.file], nbytes - len(data), row.at + len(data))):
                data += more
        except OSError as error:
            raise SourceError(f"{self.files[row.file]}: cannot be read ({error.strerror or one_line(error)})") from None
        return data

    # Opening

    def _own(self) -> Catalog:
        """The catalog of a vault of h5z's, its rows' places those in the files."""
        many = []
        for number, file in enumerate(self.files):
            container = Container(file)
            header = read_header(container)
            if number == 0:
                self.header = header
            if self.header is None or header.vault != self.header.vault or header.number != number:
                raise SourceError(f"{file}: expected container {number} of the vault of {self.files[0]}, found another's")
            key = catalog_key(self.header.generation)
            if key in container and self.header.finished:
                rows = Rows.decode(container.get(key) or b"", f"{file}: {key}").in_file(number)
            else:
                rows = all_rows(container, number)
                self.notes = (*self.notes, f"{file}: expected a catalog, found none: made up from its packs")
            many.append(_placed(rows, container, header.layout))
        return Catalog.of(Rows.joined(many))


def _placed(rows: Rows, container: Container, layout: str) -> Rows:
    """Rows whose `at` is a place in the file."""
    entries = container.entries()
    ends = {}
    for key in packs(container):
        ends[key] = entries[key].address + entries[key].nbytes
    pack = rows.columns["pack"]
    numbers, inverse = np.unique(pack, return_inverse=True)
    missing = [int(number) for number in numbers if pack_key(int(number)) not in ends]
    if missing:
        raise SourceError(f"{container.path}: expected pack {missing[0]}, found none")
    at = np.array([ends[pack_key(int(number))] for number in numbers], np.int64)[inverse] - rows.columns["at"]
    if layout == HDF5VAULT:
        for i, row in enumerate(rows):
            if row.kind == FILE:
                entry = entries.get(dataset_name(row))
                if entry is None or entry.nbytes != row.stored:
                    raise SourceError(
                        f"{container.path}: expected a dataset {dataset_name(row)} of {row.stored} bytes, found none"
                    )
                at[i] = entry.address
    columns = {**rows.columns, "at": at.astype(np.int64), "pack": np.full(len(rows), UNKNOWN, np.int64)}
    return Rows(rows.names, columns)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror or one_line(error)})") from None


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class _Parts(io.RawIOBase):
    """A member of several parts as a file; the part that was read last is kept."""

    def __init__(self, vault: Vault, parts: Sequence[Row]) -> None:
        self._vault, self._parts = vault, parts
        sizes = [vault._part_nbytes(row) for row in parts]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
        self._at = 0
        self._kept = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        number = int(np.searchsorted(self._starts, self._at, side="right")) - 1
        if self._kept[0] != number:
            self._kept = number, self._vault.read_part(self._parts[number])
        inside = self._at - self._starts[number]
        piece = self._kept[1][inside : inside + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
