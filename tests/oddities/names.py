"""Names that are hard for a store."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .registry import oddity

UNICODE = ["ünï", "☃", "𝄞", "e\u0301", "\u00e9", "日本語", "\u200b", "tab\there", "line\nbreak"]
PUNCTUATION = [
    " ",
    "a b",
    " leading",
    "trailing ",
    "a:b",
    "a*b",
    "a?b",
    "a|b",
    "%2F",
    "~",
    "#",
    "&",
    "'",
    '"',
    "<>",
    "-",
    "@",
    "{x}",
]
RESERVED = ["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata", "c", "0", "0.0", "c.0", "h5z"]
DOTS = ["..", "...", ".hidden", "a.", "a..b"]
UNDERSCORES = ["__x", "__", "_x", "__pycache__"]
BACKSLASHES = ["a\\b", "\\", "..\\up"]
CASES = ["Data", "data", "DATA"]
LONG = ["n" * 255, "n" * 256, "n" * 300, "☃" * 100]
NOT_UTF8 = [b"gr\xfcn", b"\xff"]
HARD = UNICODE + PUNCTUATION + RESERVED + DOTS + UNDERSCORES + BACKSLASHES + CASES


def write(path: Path, names: list[str] | list[bytes]) -> None:
    """Write a file with a dataset and, in a group, a group of each name, numbered."""
    with h5py.File(path, "w") as file:
        groups = file.create_group("groups")
        for i, name in enumerate(names):
            file[name] = np.full(2, i, "<i4")
            groups.create_group(name).attrs["number"] = i


@oddity
def names_of_unicode(path: Path) -> None:
    """Beyond ASCII and the basic plane, composed and decomposed, with control characters."""
    write(path, UNICODE)


@oddity
def names_of_punctuation(path: Path) -> None:
    """Spaces and what URLs and shells read in their own way."""
    write(path, PUNCTUATION)


@oddity
def names_in_case_pairs(path: Path) -> None:
    """The same on a file system that folds case."""
    write(path, CASES)


@oddity
def names_that_zarr_reserves(path: Path) -> None:
    """Zarr's own documents and chunk keys."""
    write(path, RESERVED)


@oddity
def names_of_dots(path: Path) -> None:
    """As far as HDF5 lets: a single dot it does not."""
    write(path, DOTS)


@oddity
def names_of_underscores(path: Path) -> None:
    """Zarr v3 reserves names that begin with two."""
    write(path, UNDERSCORES)


@oddity
def names_with_backslashes(path: Path) -> None:
    """Separators elsewhere, plain characters in HDF5."""
    write(path, BACKSLASHES)


@oddity
def names_that_are_long(path: Path) -> None:
    """Up to and past what file systems take for a name."""
    write(path, LONG)


@oddity
def names_that_are_not_utf8(path: Path) -> None:
    """HDF5 checks no name."""
    write(path, NOT_UTF8)
