"""Small files whose headers tell of more than any machine holds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

BOMBS: dict[str, Callable[[Path], None]] = {}


def bomb(function: Callable[[Path], None]) -> None:
    """Register a generator by its name."""
    BOMBS[function.__name__] = function


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes that must be there, wherever they are."""
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))


def unwritten(
    file: h5py.File, name: bytes, dtype: h5t.TypeID, shape: tuple[int, ...], chunks: tuple[int, ...] | None = None
) -> None:
    """A dataset of which nothing is stored."""
    plist = h5p.create(h5p.DATASET_CREATE)
    if chunks:
        plist.set_chunk(chunks)
    h5d.create(file.id, name, dtype, h5s.create_simple(shape), plist)


@bomb
def an_attribute_of_two_to_the_fortieth_elements(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["big"] = np.zeros(1234, "<i8")
        file["x"] = 1
    patch(path, struct.pack("<Q", 1234), struct.pack("<Q", 1 << 40))


@bomb
def an_attribute_of_a_huge_type(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["big"] = np.bytes_(b"x" * 1234)
        file["x"] = 1
    patch(path, struct.pack("<I", 1234), struct.pack("<I", 0x7FFFFFFF))


@bomb
def more_than_a_hundred_thousand_attributes(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        space = h5s.create(h5s.SCALAR)
        for i in range(100_001):
            h5py.h5a.create(file.id, b"a%d" % i, h5t.STD_I8LE, space)


@bomb
def two_to_the_sixty_second_elements_in_one_run(path: Path) -> None:
    with h5py.File(path, "w") as file:
        unwritten(file, b"x", h5t.STD_I8LE, (1 << 31, 1 << 31))


@bomb
def two_to_the_sixty_third_elements_in_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        unwritten(file, b"x", h5t.STD_I8LE, (1 << 31, 1 << 31, 2), (1 << 10, 1 << 10, 2))


@bomb
def chunks_of_one_element(path: Path) -> None:
    with h5py.File(path, "w") as file:
        unwritten(file, b"x", h5t.IEEE_F64LE, (1 << 20, 1 << 20), (1, 1))


@bomb
def a_chunk_of_two_to_the_fortieth_bytes(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        unwritten(file, b"x", h5t.STD_I8LE, (1 << 20, 1 << 20), (1 << 20, 1 << 20))


@bomb
def a_chunk_of_almost_four_gigabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (1 << 16, (1 << 16) - 1), "i1", chunks=(1 << 16, (1 << 16) - 1), compression="gzip")
        data.id.write_direct_chunk((0, 0), b"x\x9c\x03\x00\x00\x00\x00\x01")


@bomb
def an_element_of_four_gigabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        unwritten(file, b"x", h5t.array_create(h5t.IEEE_F64LE, (1 << 28,)), (4,))


@bomb
def text_of_two_gigabytes_an_element(path: Path) -> None:
    with h5py.File(path, "w") as file:
        tid = h5t.C_S1.copy()
        tid.set_size((1 << 31) - 1)
        unwritten(file, b"x", tid, (100,))


@bomb
def a_user_block_of_a_hundred_megabytes(path: Path) -> None:
    """With nothing in it, nor on the disk."""
    with h5py.File(path, "w", userblock_size=1 << 27) as file:
        file["x"] = 1


@bomb
def copies_of_copies(path: Path) -> None:
    """Forty groups, each with two links to the next: a million million paths for whoever follows links."""
    with h5py.File(path, "w") as file:
        for i in range(40):
            group = file.create_group(f"g{i}")
            group["a"] = group["b"] = h5py.SoftLink(f"/g{i + 1}")
        file["g40/x"] = 1


@bomb
def ten_thousand_levels_of_groups(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group = file.id
        for _ in range(10_000):
            group = h5py.h5g.create(group, b"group")
        h5d.create(group, b"x", h5t.STD_I8LE, h5s.create_simple((1,)))


@bomb
def a_long_path(path: Path) -> None:
    """Each name is one that a file system holds; all of them together are not."""
    with h5py.File(path, "w") as file:
        file["/".join(["n" * 200] * 40)] = 1


@bomb
def a_hundred_levels_of_compounds(path: Path) -> None:
    with h5py.File(path, "w") as file:
        tid: h5t.TypeID = h5t.STD_I8LE
        for _ in range(100):
            outer = h5t.create(h5t.COMPOUND, tid.get_size())
            outer.insert(b"m", 0, tid)
            tid = outer
        unwritten(file, b"x", tid, (2,))


@bomb
def a_view_of_more_than_there_is(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["s"] = np.zeros(4, "i1")
        layout = h5py.VirtualLayout((1 << 40, 1 << 20), "i1")
        layout[0, 0:4] = h5py.VirtualSource(file["s"])
        file.create_virtual_dataset("x", layout)


@bomb
def a_text_that_a_million_elements_share(path: Path) -> None:
    """Its 1 MiB is stored once; decoded they are a terabyte."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (1 << 20,), h5py.string_dtype())
        data[0] = "x" * (1 << 20)
        offset = data.id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[offset : offset + (16 << 20)] = raw[offset : offset + 16] * (1 << 20)
    path.write_bytes(raw)


@bomb
def a_sequence_that_says_it_is_long(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (2,), h5py.vlen_dtype("<f8"))
        data[0] = np.arange(7)
        offset = data.id.get_offset()
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(struct.pack("<I", 0xFFFFFFF0))
