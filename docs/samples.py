"""The small files that the examples of these pages work on: ``python docs/samples.py FOLDER`` writes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np

TEXT = h5py.string_dtype()
SHAPE = (48, 64, 96)


def field(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A smooth field, noise and two decimals: it compresses as measurements do."""
    rng = np.random.default_rng(seed)
    waves = sum(
        np.sin(np.linspace(0, 6 + axis, n)).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for axis, n in enumerate(shape)
    )
    return np.round(280 + 9 * waves + rng.normal(0, 0.3, shape), 2).astype("f4")


def weather(path: Path, seed: int, *, first: int = 0, chunks: tuple[int, ...] = (1, 64, 96)) -> None:
    """Some days of `temp` and `wind` with netCDF's dimension scales, a chunk a time step, shuffled and deflated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, length in zip(("time", "lat", "lon"), SHAPE, strict=True):
            file[name] = np.arange(float(length)) + (first if name == "time" else 0)
            file[name].make_scale(name)
        for number, name in enumerate(("temp", "wind")):
            data = file.create_dataset(name, data=field(seed + number), chunks=chunks, compression="gzip", shuffle=True)
            data.attrs["units"] = "K" if name == "temp" else "m s-1"
            for axis, scale in enumerate(("time", "lat", "lon")):
                data.dims[axis].attach_scale(file[scale])
        file["time"].attrs["units"] = "days since 2019-01-01"


def session(path: Path, number: int) -> None:
    """A recorded session: four tasks, 20 elements, 200 segments, as tables of compounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [("start_time", "f8"), ("end_time", "f8")]
    task = np.array(
        [(f"t-{i}", "reading", 60.0 * i, 60.0 * i + 55) for i in range(4)], [("id", TEXT), ("task_type", TEXT), *times]
    )
    element = np.array(
        [(f"e-{i}", "paragraph", 12.0 * i, 12.0 * i + 11, f"t-{i // 5}") for i in range(20)],
        [("id", TEXT), ("element_type", TEXT), *times, ("task_id", TEXT)],
    )
    segment = np.array(
        [(f"s-{i}", ("speech", "fixation")[i % 2], 1.2 * i, 1.2 * i + 1, f"e-{i // 10}") for i in range(200)],
        [("id", TEXT), ("segment_type", TEXT), *times, ("containing_element_id", TEXT)],
    )
    with h5py.File(path, "w") as file:
        file.attrs["session_id"] = f"s{number}"
        file["tasks"], file["elements"], file["segments"] = task, element, segment


def images(folder: Path) -> None:
    """A plate's acquisition: TIFFs of two wells, two fields, two channels."""
    import tifffile

    rng = np.random.default_rng(7)
    for well in ("B02", "B03"):
        for site in (1, 2):
            for channel in (1, 2):
                path = folder / "plate1" / well / f"F{site}C{channel}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, rng.poisson(90 * channel, (64, 64)).astype("u2"))
    (folder / "notes.txt").write_text("exposure 20 ms\n")


def write(folder: Path) -> None:
    """All of them."""
    weather(folder / "a.h5", 1)
    for year in (2019, 2020):
        for month in (1, 2):
            first = SHAPE[0] * (2 * (year - 2019) + month - 1)
            weather(folder / "archive" / str(year) / f"{year}-{month:02d}.nc", 10 * year + month, first=first)
    weather(folder / "archive" / "raw" / "scan.h5", 5, chunks=(16, 64, 96))
    for number in (1, 2):
        session(folder / "sessions" / f"s{number}.h5", number)
    tables = {name: {"kind": "table", "path": f"/{name}s"} for name in ("task", "element", "segment")}
    (folder / "layout.json").write_text(json.dumps({"entities": tables}, indent=2))
    (folder / "list.txt").write_text("archive/2019/2019-01.nc\narchive/2019/2019-02.nc\n")
    images(folder / "images")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
