"""Text: variable and fixed length, each padding and character set, and what is no text at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from .registry import oddity, raw_dataset

LATIN = "grün".encode("latin-1")
PADDINGS = {"nullterm": h5t.STR_NULLTERM, "nullpad": h5t.STR_NULLPAD, "spacepad": h5t.STR_SPACEPAD}
CHARSETS = {"ascii": h5t.CSET_ASCII, "utf8": h5t.CSET_UTF8}


@oddity
def variable_strings(path: Path) -> None:
    """Of both character sets; empty ones, never written ones, a long one, a scalar."""
    with h5py.File(path, "w") as file:
        for charset in ("ascii", "utf-8"):
            dtype = h5py.string_dtype(charset)
            words = ["", "a", "plain words", "x" * 5000] + (["ünï ☃ 𝄞", "line\nbreak\ttab"] if charset == "utf-8" else [])
            file.create_dataset(f"words_{charset}", data=words, dtype=dtype)
            file.create_dataset(f"table_{charset}", data=[["a", "b"], ["c", ""]], dtype=dtype, chunks=(1, 2))
            file.create_dataset(f"scalar_{charset}", data="alone", dtype=dtype)
            file.create_dataset(f"never_written_{charset}", shape=(3,), dtype=dtype)


@oddity
def variable_strings_that_are_not_utf8(path: Path) -> None:
    """Latin-1 bytes under a declaration of ASCII or UTF-8."""
    with h5py.File(path, "w") as file:
        for name, charset in CHARSETS.items():
            tid = h5t.C_S1.copy()
            tid.set_size(h5t.VARIABLE)
            tid.set_cset(charset)
            did = h5d.create(file.id, name.encode(), tid, h5s.create_simple((3,)))
            did.write(h5s.ALL, h5s.ALL, np.array([LATIN, b"plain", b"\xff\xfe"], h5py.string_dtype()))


@oddity
def fixed_strings(path: Path) -> None:
    """Each padding with each character set, bytes as they lie in the file."""
    rows = {
        "nullterm": [b"abc\0\0\0\0\0", b"1234567\0", b"\0\0\0\0\0\0\0\0"],
        "nullpad": [b"abc\0\0\0\0\0", b"12345678", b"a\0b\0\0\0\0\0"],
        "spacepad": [b"abc     ", b"12345678", b"        "],
    }
    with h5py.File(path, "w") as file:
        for padding, code in PADDINGS.items():
            for charset, cset in CHARSETS.items():
                tid = h5t.C_S1.copy()
                tid.set_size(8)
                tid.set_strpad(code)
                tid.set_cset(cset)
                values = rows[padding] + (["grün☃"[:4].encode().ljust(8, rows[padding][0][-1:])] if charset == "utf8" else [])
                raw_dataset(file, f"{padding}_{charset}", tid, np.array([np.void(row) for row in values], "V8"))


@oddity
def fixed_strings_that_are_not_utf8(path: Path) -> None:
    """Latin-1 bytes, and a character cut in two by the length."""
    with h5py.File(path, "w") as file:
        file.create_dataset("latin", data=np.array([LATIN, b"plain"], "S6"))
        file.create_dataset("cut", data=np.array(["☃☃".encode()[:5]], h5py.string_dtype("utf-8", 5)))


@oddity
def strings_of_one_byte(path: Path) -> None:
    """The shortest fixed string, chunked and compressed."""
    with h5py.File(path, "w") as file:
        file.create_dataset("letters", data=np.array([[b"a", b"b"], [b"", b"d"]], "S1"), chunks=(1, 2), compression="gzip")
