"""Layouts, chunk indexes and filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from .registry import call, identifier, oddity

CHUNKS = (4, 6)
SHAPE = (10, 13)  # cut chunks at the end of both axes


def sample(dtype: str = "<i4") -> np.ndarray:
    """Smooth numbers of `SHAPE`, which no chunk holds as zeros."""
    return (np.arange(130).reshape(SHAPE) * 3 + 100).astype(dtype)


def filtered(file: h5py.File, name: str, data: np.ndarray, *filters: tuple[int, tuple[int, ...]]) -> h5d.DatasetID:
    """Create a chunked dataset with filters given by number and options."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(CHUNKS)
    for number, options in filters:
        plist.set_filter(number, 0, options)
    did = h5d.create(file.id, name.encode(), h5t.py_create(data.dtype), h5s.create_simple(data.shape), plist)
    did.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(data))
    return did


@oddity
def compact_and_contiguous(path: Path) -> None:
    """Data inside the object's header, and in one piece."""
    with h5py.File(path, "w") as file:
        for name, layout in (("compact", h5d.COMPACT), ("contiguous", h5d.CONTIGUOUS)):
            plist = h5p.create(h5p.DATASET_CREATE)
            plist.set_layout(layout)
            did = h5d.create(file.id, name.encode(), h5t.STD_I32BE, h5s.create_simple(SHAPE), plist)
            did.write(h5s.ALL, h5s.ALL, sample())


@oddity
def builtin_filters(path: Path) -> None:
    """Each of HDF5's own and h5py's lzf, alone and together; lossless on integers."""
    with h5py.File(path, "w") as file:
        options = {
            "none": {},
            "gzip": {"compression": "gzip", "compression_opts": 9},
            "shuffle": {"shuffle": True},
            "fletcher32": {"fletcher32": True},
            "lzf": {"compression": "lzf"},
            "scaleoffset": {"scaleoffset": 0},
            "shuffle_gzip_fletcher32": {"shuffle": True, "compression": "gzip", "fletcher32": True},
            "shuffle_lzf": {"shuffle": True, "compression": "lzf"},
        }
        for name, chosen in options.items():
            for dtype in ("<i4", ">i2", "<f8"):
                if name != "scaleoffset" or dtype != "<f8":
                    file.create_dataset(f"{name}_{dtype[1:]}", data=sample(dtype), chunks=CHUNKS, **chosen)
        file.create_dataset("scaleoffset_lossy", data=sample("<f4") / 7, chunks=CHUNKS, scaleoffset=2)
        filtered(file, "fletcher32_before_gzip", sample(), (3, ()), (1, (4,)))
        filtered(file, "gzip_twice", sample(), (1, (1,)), (1, (9,)))


@oddity
def szip(path: Path) -> None:
    """Entropy coding and nearest neighbour, where this HDF5 can encode it."""
    with h5py.File(path, "w") as file:
        for name, option in (("ec", "ec"), ("nn", "nn")):
            file.create_dataset(name, data=sample("<u2"), chunks=CHUNKS, compression="szip", compression_opts=(option, 8))


@oddity
def nbit(path: Path) -> None:
    """Whole integers, and integers of fewer bits than their size."""
    twelve = h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    with h5py.File(path, "w") as file:
        filtered(file, "whole", sample(), (5, ()))
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk(CHUNKS)
        plist.set_filter(5, 0, ())
        did = h5d.create(file.id, b"twelve", twelve, h5s.create_simple(SHAPE), plist)
        did.write(h5s.ALL, h5s.ALL, sample("<i2") - 300)


@oddity
def plugin_filters(path: Path) -> None:
    """The lossless ones of hdf5plugin, with their options."""
    chosen = {
        "bitshuffle": hdf5plugin.Bitshuffle(cname="none"),
        "bitshuffle_lz4": hdf5plugin.Bitshuffle(cname="lz4"),
        "bitshuffle_zstd": hdf5plugin.Bitshuffle(cname="zstd"),
        "lz4": hdf5plugin.LZ4(),
        "zstd": hdf5plugin.Zstd(clevel=5),
        "bzip2": hdf5plugin.BZip2(),
        "zfp_reversible": hdf5plugin.Zfp(reversible=True),
    }
    chosen |= {f"blosc_{name}": hdf5plugin.Blosc(cname=name) for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")}
    chosen |= {f"blosc_shuffle_{n}": hdf5plugin.Blosc(cname="zstd", shuffle=n) for n in (0, 1, 2)}
    chosen |= {f"blosc2_{name}": hdf5plugin.Blosc2(cname=name) for name in ("blosclz", "lz4", "zlib", "zstd")}
    with h5py.File(path, "w") as file:
        for name, options in chosen.items():
            file.create_dataset(name, data=sample(), chunks=CHUNKS, **options)
            file.create_dataset(f"{name}_f8", data=sample("<f8"), chunks=CHUNKS, **options)
        file.create_dataset("shuffle_zstd", data=sample(), chunks=CHUNKS, shuffle=True, **hdf5plugin.Zstd())


@oddity
def lossy_plugin_filters(path: Path) -> None:
    """What they decode to is what must arrive."""
    smooth = (np.sin(np.arange(64 * 64) / 99).reshape(64, 64) * 50).astype("<f4")
    chosen = {
        "zfp": hdf5plugin.Zfp(accuracy=0.01),
        "sz": hdf5plugin.SZ(absolute=0.01),
        "sz3": hdf5plugin.SZ3(absolute=0.01),
        "sperr": hdf5plugin.Sperr(rate=8),
    }
    with h5py.File(path, "w") as file:
        for name, options in chosen.items():
            file.create_dataset(name, data=smooth, chunks=(32, 32), **options)
        pixels = (np.arange(64 * 64).reshape(64, 64) % 251).astype("u1")
        file.create_dataset("fcidecomp", data=pixels, chunks=(32, 32), **hdf5plugin.FciDecomp())


@oddity
def filter_masks(path: Path) -> None:
    """Chunks of one dataset that went through different filters."""
    with h5py.File(path, "w") as file:
        data = np.arange(24, dtype="<i4").reshape(6, 4)
        made = file.create_dataset("data", shape=data.shape, dtype=data.dtype, chunks=(2, 4), shuffle=True, compression="gzip")
        made[0:2] = data[0:2]
        made.id.write_direct_chunk((2, 0), data[2:4].tobytes(), filter_mask=0b11)
        shuffled = data[4:6].ravel().view("u1").reshape(-1, 4).T.tobytes()
        made.id.write_direct_chunk((4, 0), shuffled, filter_mask=0b10)


@oddity
def filter_mask_of_strings(path: Path) -> None:
    """A chunk of strings that skipped its filter: whether compression helps depends on the addresses in it."""
    with h5py.File(path, "w") as file:
        words = {"data": [f"word {i}" for i in range(8)], "dtype": h5py.string_dtype(), "chunks": (8,)}
        plain = file.create_dataset("plain", **words)
        made = file.create_dataset("made", shape=(8,), dtype=h5py.string_dtype(), chunks=(8,), compression="gzip")
        made.id.write_direct_chunk((0,), plain.id.read_direct_chunk((0,))[1], filter_mask=0b1)


@oddity
def filter_that_is_not_installed(path: Path) -> None:
    """A filter number that nobody has: one dataset with stored chunks, one without, one whose only chunk skipped it."""
    with h5py.File(path, "w") as file:
        file["readable"] = np.arange(3)
        for name, mask in (("stored", 0), ("nothing_stored", None), ("skipped", 1)):
            did = _with_renumbered_deflate(file, name, h5t.STD_I32LE, (4,), (4,))
            if mask is not None:
                did.write_direct_chunk((0,), np.arange(4, dtype="<i4").tobytes(), filter_mask=mask)
    _renumber_deflate(path, 31_999, b"nobody", 3)


@oddity
def lzo(path: Path) -> None:
    """PyTables' filter, which neither libhdf5 nor hdf5plugin has: numbers, a chunk that is not there, rows with words."""
    text = h5t.C_S1.copy()
    text.set_size(4)  # terminated, as PyTables has its strings
    row = h5t.create(h5t.COMPOUND, 8)
    row.insert(b"n", 0, h5t.STD_I32LE)
    row.insert(b"word", 4, text)
    rows = np.array([(1, b"a\0xx"), (2, b"full"), (3, b"\0yyy"), (4, b"bc\0z")], [("n", "<i4"), ("word", "V4")])
    numbers = np.arange(12, dtype="<i4").reshape(6, 2)
    with h5py.File(path, "w") as file:
        for name, tid, shape, chunks, stored in (
            ("numbers", h5t.STD_I32LE, (6, 2), (2, 2), {(0, 0): numbers[:2], (4, 0): numbers[4:]}),
            ("rows", row, (4,), (4,), {(0,): rows}),
            ("words", text, (4,), (4,), {(0,): rows["word"]}),
        ):
            did = _with_renumbered_deflate(file, name, tid, shape, chunks)
            for place, values in stored.items():
                plain = values.tobytes()
                # LZO1X: a run of literals, whose length is its first byte less 17; the end.
                did.write_direct_chunk(place, bytes([17 + len(plain)]) + plain + b"\x11\0\0")
    _renumber_deflate(path, 305, b"lzo", 3)


@oddity
def bitgroom(path: Path) -> None:
    """A filter of netCDF's that rounds what is written, and does nothing when it is read."""
    with h5py.File(path, "w") as file:
        did = _with_renumbered_deflate(file, "rounded", h5t.IEEE_F32LE, (4,), (4,))
        did.write_direct_chunk((0,), np.array([0.5, 1.25, 2.0, 4.0], "<f4").tobytes())
    _renumber_deflate(path, 32022, b"bitgrm", 1)


def _with_renumbered_deflate(file: h5py.File, name: str, tid: h5t.TypeID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
    """Create a dataset with gzip: HDF5 lets nobody create what it cannot filter."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(chunks)
    plist.set_filter(1, h5py.h5z.FLAG_OPTIONAL, (1,))
    return h5d.create(file.id, name.encode(), tid, h5s.create_simple(shape), plist)


def _renumber_deflate(path: Path, number: int, name: bytes, count: int) -> None:
    """Write another number over deflate's in each filter pipeline message of version 1 (File Format, IV.A.2.l)."""
    raw = path.read_bytes()
    old = (
        (1).to_bytes(2, "little")
        + (8).to_bytes(2, "little")
        + (1).to_bytes(2, "little")
        + (1).to_bytes(2, "little")
        + b"deflate\0"
    )
    if raw.count(old) != count:
        raise RuntimeError(f"expected {count} filter messages, found {raw.count(old)}")
    path.write_bytes(raw.replace(old, number.to_bytes(2, "little") + old[2:8] + name.ljust(8, b"\0")))


@oddity
def chunk_indexes(path: Path) -> None:
    """Each that the newest format has: single, implicit, fixed array, extensible array, B-tree of version 2."""
    with h5py.File(path, "w", libver="latest") as file:
        data = sample()
        file.create_dataset("single", data=data, chunks=SHAPE)
        file.create_dataset("single_filtered", data=data, chunks=SHAPE, compression="gzip")
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk(CHUNKS)
        plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        did = h5d.create(file.id, b"implicit", h5t.STD_I32LE, h5s.create_simple(SHAPE), plist)
        did.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(data))
        file.create_dataset("fixed_array", data=data, chunks=CHUNKS, compression="gzip")
        file.create_dataset("extensible_array", data=data, chunks=CHUNKS, maxshape=(None, 13), compression="gzip")
        file.create_dataset("btree2", data=data, chunks=CHUNKS, maxshape=(None, None), compression="gzip")
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk(CHUNKS)
        plist.set_deflate(4)
        call("H5Pset_chunk_opts", identifier(plist), 2)  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS
        did = h5d.create(file.id, b"edges_unfiltered", h5t.STD_I32LE, h5s.create_simple(SHAPE), plist)
        did.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(data))


@oddity
def chunk_larger_than_the_array(path: Path) -> None:
    """Room to grow into, with garbage where the array has ended since."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset("shrunk", data=np.full((8, 8), 7, "<i2"), chunks=(8, 8), maxshape=(None, None))
        made.resize((3, 5))
        file.create_dataset("small", data=np.arange(3.0), chunks=(1000,), maxshape=(None,), compression="gzip")


@oddity
def many_ranks(path: Path) -> None:
    """From one dimension to thirty-two."""
    with h5py.File(path, "w") as file:
        for rank in (1, 5, 8, 32):
            shape = (2,) * min(rank, 6) + (1,) * (rank - 6)
            data = np.arange(2 ** min(rank, 6), dtype="<i2").reshape(shape)
            file.create_dataset(f"rank_{rank}", data=data, chunks=shape if rank > 8 else (1,) * rank)
