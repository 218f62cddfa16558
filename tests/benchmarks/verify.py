"""What a contender wrote, held against the source: outside the timing, in a process of its own."""

from __future__ import annotations

import filecmp
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from . import events
from .cases import DATASET, Case
from .contenders import CONTENDERS

SMALL_CHECKED = 500  # datasets compared by value, spread over all; all are counted


class VerifyError(ValueError):
    """An output is not what the case asked for."""


def check(case: Case, name: str, source: Path, target: Path) -> None:
    """Compare values, and the grid and codec where the case names them.

    Raises
    ------
    VerifyError
        If a value, an attribute, the number of arrays, the grid or the codec differs.
    """
    output = CONTENDERS[name].output
    if output == "bytes":
        _expect(filecmp.cmp(source, target, shallow=False), f"{target} is not a copy")
    elif output == "zarr" and case.chunks:
        _check_array(case, name, source, zarr.open_group(target, mode="r")[DATASET])
    elif output == "zarr" and case.kind == "events":
        _expect(not (wrong := events.differences(source, target)), f"these differ: {', '.join(wrong)}")
    elif output == "zarr":
        _check_small(source, target)


def _expect(true: bool, message: str) -> None:
    if not true:
        raise VerifyError(message)


def _check_array(case: Case, name: str, source: Path, array: Any) -> None:
    _expect(array.chunks == case.grid, f"chunks are {array.chunks}, not {case.grid}")
    if name != "h5z" or case.codec != "keep":
        _expect(_codec(array) == ("zstd", 1, "shuffle"), f"codec is {array.compressors}, not Blosc zstd-1 with shuffle")
    with h5py.File(source) as file:
        dataset = file[DATASET]
        _expect(array.shape == dataset.shape, f"shape is {array.shape}, not {dataset.shape}")
        rows = max(16, case.grid[0])
        for start in range(0, dataset.shape[0], rows):
            same = np.array_equal(array[start : start + rows], dataset[start : start + rows])
            _expect(same, f"values differ in rows {start} to {start + rows}")


def _codec(array: Any) -> tuple[str, int, str]:
    """Name, level and shuffle of an array's Blosc codec, in Zarr v3 or v2."""
    record = array.compressors[0]
    if array.metadata.zarr_format == 3:
        record = record.to_dict()["configuration"]
        return record["cname"], record["clevel"], record["shuffle"]
    return record.cname, record.clevel, {1: "shuffle"}.get(record.shuffle, "other")


def _small_datasets(path: Path) -> list[str]:
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Each input file with its store."""
    if source.is_file():
        yield source, target
        return
    for path in sorted(source.iterdir()):
        yield path, target / f"{path.stem}.zarr"


def _check_small(source: Path, target: Path) -> None:
    pairs = [(path, store, name) for path, store in _pairs(source, target) for name in _small_datasets(path)]
    stored = sum(b'"array"' in path.read_bytes() for path in target.rglob("*/zarr.json"))
    _expect(stored >= len(pairs), f"{stored} arrays where the source has {len(pairs)} datasets")
    for path, store, name in pairs[:: max(1, len(pairs) // SMALL_CHECKED)]:
        with h5py.File(path) as file:
            dataset, array = file[name], zarr.open_array(store, path=name, mode="r")
            _expect(np.array_equal(array[...], dataset[...]), f"{path.name}: values of {name} differ")
            for key, value in dataset.attrs.items():
                found: Any = array.attrs.get(key)
                _expect(np.array_equal(found, value), f"{path.name}: {name}@{key} is {found!r}, not {value!r}")


def _occupied(target: Path) -> dict[str, int]:
    """Files of an output, and their bytes."""
    files = [path for path in [target, *target.rglob("*")] if path.is_file()]
    return {"objects": len(files), "nbytes": sum(path.stat().st_size for path in files)}


def main() -> None:
    """Check one output; print what it occupies as JSON."""
    record, name, source, target = sys.argv[1:]
    check(Case.from_dict(json.loads(record)), name, Path(source), Path(target))
    print(json.dumps(_occupied(Path(target))))


if __name__ == "__main__":
    main()
