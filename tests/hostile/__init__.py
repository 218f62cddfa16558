"""Hostile files, and what makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = shutil.which("cc") or shutil.which("gcc")
FILTER, HARMFUL = 32760, 0xEE
CRASH, HANG, EAT, SLOW = 1, 2, 3, 4


def build(folder: Path) -> dict[str, str]:
    """Compile the filter that misbehaves; the environment in which libhdf5 finds it."""
    source = Path(__file__).with_name("misbehaving.c")
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(folder / "libmisbehaving.so"), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return {**os.environ, "HDF5_PLUGIN_PATH": str(folder)}


def misbehaving(path: Path, how: int, *, chunk: int = 2, slumbering: bool = False) -> Path:
    """A file of two datasets, one of which has a chunk on which the filter misbehaves; nothing of it is compressed.

    Parameters
    ----------
    how : int
        CRASH, HANG, EAT or SLOW.
    chunk : int
        Which of the four. Headers, and what measures a dataset, touch only the first.
    slumbering : bool
        Leave the chunk harmless; `wake` makes it harmful.
    """
    import h5py

    with h5py.File(path, "w") as file:
        file["fine"] = np.arange(5)
        stored: dict[str, Any] = {"chunks": (10, 10), "compression": FILTER, "compression_opts": (how,)}
        data = file.create_dataset("x", (40, 10), "u1", allow_unknown_filter=True, **stored)
        for i in range(4):
            value = HARMFUL if i == chunk and not slumbering else i
            data.id.write_direct_chunk((10 * i, 0), bytes([value]) * 100)
    return path


def wake(path: Path, *, chunk: int = 2) -> None:
    """Make a slumbering file's chunk harmful, without another trace: size and time stay as they are."""
    import h5py

    stat = path.stat()
    with h5py.File(path, "r") as file:
        offset = file["x"].id.get_chunk_info(chunk).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes([HARMFUL]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
