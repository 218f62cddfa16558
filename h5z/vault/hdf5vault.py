"""HDF5Vault's formats: its archives of versions 0.2 and 0.3, and ZIP, as rows; and a view of ours that its tools read.

Format 0.3: each file, or part of one, is a one-dimensional dataset of int8 at its path, with ``____part{n}`` and ``.blosc2``
after its name; the root's attribute ``__HDF5Vault_info__`` is JSON: parts by path. 0.2: a dataset ``__filelist__`` names the
files, all compressed. ZIP: stored entries of the same names, and the JSON as one. In HDF5, no checksums, sizes or times.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from h5z.container.foreign import members, open_foreign
from h5z.container.frames import Entry
from h5z.errors import SourceError, one_line
from h5z.hdf5.symboltable import Value, View
from h5z.vault.catalog import BLOSC2, FILE, RAW, UNKNOWN, Row, Rows
from h5z.vault.pack import dataset_name

INFO = "__HDF5Vault_info__"
_FILELIST = "__filelist__"
_NUMBER, _COUNT = "__HDF5Vault_archive_file_number__", "__HDF5Vault_number_of_archive_files__"
_OLD_NUMBER, _OLD_COUNT = "hdf5_archive_file_number", "hdf5_number_of_archive_files"
_SUFFIX = ".blosc2"
_PART = re.compile(r"____part(\d+)$")
_DESCRIPTION = (
    "Files as datasets of bytes, by their paths; compressed with Blosc2 where the name ends in .blosc2, in parts where it ends "
    "in ____part{n}. The attribute __HDF5Vault_info__ is JSON: the parts of each file. HDF5Vault 0.3 and h5z read it."
)


@dataclass(frozen=True)
class Foreign:
    """An archive of HDF5Vault.

    Attributes
    ----------
    rows : Rows
        Their `at` is a place in the file; sizes and times are unknown.
    kind : str
        Which format.
    notes : tuple of str
        What was missing and how it was made up for.
    """

    rows: Rows
    kind: str
    notes: tuple[str, ...] = ()


def read(paths: Sequence[str]) -> Foreign:
    """Read the index of an archive, given all its files in the order of their numbers.

    Raises
    ------
    SourceError
        If it is none of HDF5Vault's, or its index does not match what it holds.
    """
    if paths[0].lower().endswith(".zip"):
        found = [_zip_entries(path) for path in paths]
        with zipfile.ZipFile(paths[0]) as archive:
            info = _parsed(archive.read(INFO) if INFO in archive.namelist() else None, paths[0])
        return Foreign(Rows.of(list(_rows_of(info, found, paths))), "HDF5Vault ZIP")
    found = [members(path) for path in paths]
    attributes = _attributes(paths[0])
    if INFO in attributes:
        info = _parsed(attributes[INFO], paths[0])
        return Foreign(Rows.of(list(_rows_of(info, found, paths))), "HDF5Vault 0.3")
    if "__HDF5Vault_version__" in attributes or "__HDF5Vault_chunksize__" in attributes:
        rows = [row for number, path in enumerate(paths) for row in _recovered(path, found[number], number)]
        note = f"{paths[0]}: expected an index ({INFO}), found none: made up from the names of datasets and their attributes"
        return Foreign(Rows.of(rows), "HDF5Vault 0.3", (note,))
    if any(_FILELIST in entries for entries in found) or {"description", "compression"} <= attributes.keys():
        rows = [row for number, path in enumerate(paths) for row in _old(path, found[number], number)]
        notes = tuple(
            f"{path}: expected {_FILELIST}, found none: made up from names"
            for path, e in zip(paths, found, strict=True)
            if _FILELIST not in e
        )
        return Foreign(Rows.of(rows), "HDF5Vault 0.2", notes)
    raise SourceError(f"{paths[0]}: expected a vault, or an archive of HDF5Vault, found another HDF5 file")


def siblings(path: str) -> list[str]:
    """All files of the archive that one is of, in the order of their numbers.

    Raises
    ------
    SourceError
        If one is missing.
    """
    number, count = _zip_number(path) if path.lower().endswith(".zip") else _numbers(path)
    if count == 1:
        return [path]
    stem, suffix = os.path.splitext(path)
    base, _, digits = stem.rpartition("_")
    if not digits.isdigit() or int(digits) != number:
        raise SourceError(f"{path}: part {number} of {count}: expected its name to end in _{number}{suffix}")
    paths = [f"{base}_{i:0{len(digits)}d}{suffix}" for i in range(count)]
    for other in paths:
        if not os.path.exists(other):
            raise SourceError(f"{other}: no such file, a part of the archive that {path} is of")
    return paths


def _numbers(path: str) -> tuple[int, int]:
    found = _attributes(path)
    return int(found.get(_NUMBER, found.get(_OLD_NUMBER, 0))), int(found.get(_COUNT, found.get(_OLD_COUNT, 1)))


def _zip_number(path: str) -> tuple[int, int]:
    """A ZIP says its number nowhere but in its name; the index, how many there are."""
    with _open_zip(path) as archive:
        info = _parsed(archive.read(INFO) if INFO in archive.namelist() else None, path)
    count = 1 + max((int(part["archive_number"]) for parts in info.values() for part in parts), default=0)
    digits = os.path.splitext(path)[0].rpartition("_")[2]
    return (int(digits), count) if count > 1 and digits.isdigit() else (0, count)


def _attributes(path: str) -> dict[str, Any]:
    with open_foreign(path) as file:
        try:
            return dict(file.attrs)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise SourceError(f"{path}: its attributes cannot be read ({one_line(error)})") from None


def _parsed(raw: Any, path: str) -> dict[str, list[dict[str, Any]]]:
    if raw is None:
        raise SourceError(f"{path}: expected an index ({INFO}), found none")
    try:
        found: dict[str, list[dict[str, Any]]] = json.loads(raw)
        for parts in found.values():
            for part in parts:
                int(part["archive_number"]), str(part["dataset"]), part["compression"], part["chunk"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: expected an index of HDF5Vault's, found other text ({one_line(error)})") from None
    return found


def _rows_of(
    info: Mapping[str, list[dict[str, Any]]], found: Sequence[Mapping[str, Entry]], paths: Sequence[str]
) -> Iterator[Row]:
    """Rows of an index; of parts in any order."""
    for name, parts in info.items():
        for part in parts:
            number, dataset = int(part["archive_number"]), str(part["dataset"])
            if not 0 <= number < len(paths):
                raise SourceError(f"{paths[0]}: {name}: expected one of {len(paths)} files, found number {number}")
            entry = found[number].get(dataset)
            if entry is None:
                raise SourceError(f"{paths[number]}: {name}: expected a dataset {dataset}, found none")
            codec = RAW if part["compression"] in (None, "None") else BLOSC2
            yield _row(name, entry, number, codec, int(part["chunk"] or 0), len(parts))


def _row(name: str, entry: Entry, number: int, codec: int, part: int = 0, parts: int = 1) -> Row:
    if entry.address < 0:
        raise SourceError(f"{name}: expected a contiguous dataset, found one that only libhdf5 can read")
    nbytes = entry.nbytes if codec == RAW else UNKNOWN
    size = nbytes if parts == 1 else UNKNOWN
    raw = name.encode("utf-8", "surrogateescape")
    return Row(
        raw,
        FILE,
        UNKNOWN,
        size,
        UNKNOWN,
        part,
        parts,
        UNKNOWN,
        nbytes,
        codec,
        UNKNOWN if entry.crc is None else entry.crc,
        stored=entry.nbytes,
        pack=UNKNOWN,
        at=entry.address,
        file=number,
    )


def _recovered(path: str, entries: Mapping[str, Entry], number: int) -> Iterator[Row]:
    """Rows of the datasets of an archive without index, by their names and attributes."""
    with open_foreign(path) as file:
        for dataset, entry in entries.items():
            notes = dict(file[dataset].attrs)
            codec = BLOSC2 if str(notes.get("compression", "None")) not in ("None", "none") else RAW
            name = dataset.removesuffix(_SUFFIX) if codec == BLOSC2 else dataset
            part = int(notes.get("chunk", 0))
            match = _PART.search(name)
            if "number_of_chunks" in notes and match is not None:
                name = name[: match.start()]
            yield _row(name, entry, number, codec, part, int(notes.get("number_of_chunks", 1)))


def _old(path: str, entries: Mapping[str, Entry], number: int) -> Iterator[Row]:
    with open_foreign(path) as file:
        compressed = str(file.attrs.get("compression", "blosc2")) not in ("None", "none")
        names = [raw.decode("utf-8", "surrogateescape") for raw in file[_FILELIST][()]] if _FILELIST in file else None
    if names is None:
        names = [dataset.removesuffix(_SUFFIX) if compressed else dataset for dataset in entries if dataset != _FILELIST]
    for name in names:
        entry = entries.get(name + _SUFFIX if compressed else name)
        if entry is None:
            raise SourceError(f"{path}: {name}: expected a dataset {name + _SUFFIX if compressed else name}, found none")
        yield _row(name, entry, number, BLOSC2 if compressed else RAW)


def _open_zip(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: expected a ZIP archive, found none that can be read ({one_line(error)})") from None


def _zip_entries(path: str) -> dict[str, Entry]:
    """Where stored entries of a ZIP archive are, and their checksums, which ZIP has.

    Source: PKWARE's APPNOTE, 4.3.7: the local file header.
    """
    found = {}
    with _open_zip(path) as archive, open(path, "rb") as file:
        for item in archive.infolist():
            if item.compress_type != zipfile.ZIP_STORED:
                raise SourceError(f"{path}: {item.filename}: expected a stored entry, found a compressed one")
            file.seek(item.header_offset)
            head = file.read(30)
            if len(head) < 30 or not head.startswith(b"PK\3\4"):
                raise SourceError(f"{path}: {item.filename}: expected its header at byte {item.header_offset}, found other bytes")
            name, extra = struct.unpack_from("<HH", head, 26)
            found[item.filename] = Entry(item.header_offset + 30 + name + extra, item.file_size, item.CRC)
    return found


def as_hdf5vault(rows: Rows, number: int, count: int, split_nbytes: int) -> View:
    """How a container appears so that HDF5Vault 0.3's tools read it: attributes of its root, and of each dataset.

    Parameters
    ----------
    rows : Rows
        Of all containers, by name: the index is the same in each.
    number, count : int
        Which container, of how many.
    """
    info: list[str] = []
    notes: dict[str, Mapping[str, Value]] = {}
    alike: tuple[Mapping[str, Value], ...] = ({"compression": "None"}, {"compression": "blosc2"})
    files = (row for row in rows if row.kind == FILE)
    for raw, group in groupby(files, key=attrgetter("name")):
        parts = []
        for row in group:
            dataset, packed = dataset_name(row), "blosc2" if row.codec == BLOSC2 else None
            chunk = row.part if row.parts > 1 else None
            parts.append({"chunk": chunk, "archive_number": row.file, "dataset": dataset, "compression": packed})
            if row.file == number:
                apart = {"chunk": row.part, "number_of_chunks": row.parts} if row.parts > 1 else {}
                notes[dataset] = {**alike[row.codec], **apart} if apart else alike[row.codec]
        info.append(f"{json.dumps(raw.decode('utf-8', 'surrogateescape'))}:{json.dumps(parts, separators=(',', ':'))}")
    root: dict[str, Value] = {
        "__Description__": _DESCRIPTION,
        "__HDF5Vault_version__": "0.3.3",
        "__HDF5Vault_chunksize__": split_nbytes,
    }
    if count > 1:
        root |= {_NUMBER: number, _COUNT: count}
    root[INFO] = f"{{{','.join(info)}}}"
    return View(vectors=True, root=root, members=notes)
