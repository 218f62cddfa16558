"""A folder with everything in it that a file system can have, and what of it must come back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

Snapshot = dict[bytes, tuple[object, ...]]


def snapshot(root: Path) -> Snapshot:
    """Every file, folder and link below a folder: kind, mode, time, content."""
    found: Snapshot = {}
    raw = os.fsencode(root)
    for place, folders, files in os.walk(raw):
        for name in [*folders, *files]:
            path = os.path.join(place, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                content: object = os.readlink(path)
            else:
                content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(status.st_mode) else None
            mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            found[os.path.relpath(path, raw)] = (kind, mode, status.st_mtime_ns, content)
    return found


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder of files of many kinds; nothing in it is refused."""
    root = tmp_path / "messy"
    chance = np.random.default_rng(5)
    (root / "plate" / "B02").mkdir(parents=True)
    for i in range(30):
        image = chance.poisson(100 + 20 * np.sin(np.arange(900) / 9 + i)).astype("<u2")
        (root / "plate" / "B02" / f"T0001F{i:03d}.tif").write_bytes(image.tobytes())
    (root / "empty.dat").touch()
    (root / "nothing in here" / "nor here").mkdir(parents=True)
    (root / "Größe µm 日本").write_bytes("café".encode())
    (root / "Cafe\u0301").write_bytes(b"not normalised")
    Path(os.fsdecode(os.fsencode(root) + b"/not \xff\xfe UTF-8")).write_bytes(b"bytes")
    (root / "line\nbreak \\ and 'quotes\"").write_bytes(b"!")
    (root / "large.bin").write_bytes(chance.bytes(70_000) + bytes(50_000))
    (root / "x").write_bytes(b"a" * 5000)
    (root / "x.blosc2").write_bytes(chance.bytes(48))
    (root / "y").write_bytes(b"b" * 5000)
    (root / "y.blosc2").mkdir()
    (root / "y.blosc2" / "inside").write_bytes(b"c" * 500)
    (root / "__HDF5Vault_info__").write_bytes(b"a name of the other format's")
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "secret").write_bytes(b"s")
    (root / "secret").chmod(0o600)
    (root / "a" / "b" / "c" / "d").mkdir(parents=True)
    (root / "a" / "b" / "c" / "d" / "e").write_bytes(b"deep")
    (root / "link").symlink_to("plate/B02/T0001F000.tif")
    (root / "a" / "up").symlink_to("../plate")
    (root / "broken").symlink_to("not there")
    os.utime(root / "x", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "empty.dat", ns=(1, -5_000_000_000))
    os.utime(root / "nothing in here", ns=(1, 987_654_321_987_654_321))
    os.utime(root / "link", ns=(1, 111_222_333_444_555_666), follow_symlinks=False)
    (root / "a" / "b").chmod(0o700)
    return root
