"""Write a small archive of HDF5 files of many makes, the same at every call: ``python sample_archive.py FOLDER``.

Each function writes one file as a program of its community would, with h5py and numpy alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

Writer: TypeAlias = Callable[[h5py.File], None]
SEED = 20261121


def climate(file: h5py.File) -> None:
    """NetCDF-4: dimension scales, packed integers, CF attributes, an unlimited time."""
    rng = np.random.default_rng(SEED)
    lengths = {"time": 48, "lat": 73, "lon": 144}
    for number, (name, length) in enumerate(lengths.items()):
        unlimited = (None,) if name == "time" else None
        values = {"time": np.arange(length) * 6.0, "lat": np.linspace(90, -90, length), "lon": np.arange(length) * 2.5}
        scale = file.create_dataset(name, data=values[name], maxshape=unlimited, chunks=True if unlimited else None)
        scale.make_scale(name)
        scale.attrs["_Netcdf4Dimid"] = np.int32(number)
    file["time"].attrs.update(units="hours since 2019-01-01", calendar="standard", axis="T")
    file["lat"].attrs.update(units="degrees_north", standard_name="latitude")
    file["lon"].attrs.update(units="degrees_east", standard_name="longitude")
    field = np.cos(np.radians(file["lat"][:]))[None, :, None] * 30 + rng.normal(0, 2, tuple(lengths.values()))
    packed = np.round(field / 0.01).astype("i2")
    packed[rng.random(packed.shape) < 0.01] = -32767
    data = file.create_dataset(
        "t2m",
        data=packed,
        chunks=(12, 73, 144),
        maxshape=(None, 73, 144),
        compression="gzip",
        shuffle=True,
        fletcher32=True,
        fillvalue=np.int16(-32767),
    )
    for axis, name in enumerate(lengths):
        data.dims[axis].attach_scale(file[name])
    data.attrs.update(units="degC", long_name="air temperature at 2 m", scale_factor=0.01, add_offset=0.0)
    data.attrs["_FillValue"] = np.array([-32767], "i2")
    file.attrs.update(Conventions="CF-1.11", title="Two weeks of weather that never was")


def cube(file: h5py.File) -> None:
    """A plain cube of 32 MiB: smooth field, noise, two decimals; chunked, shuffled, deflated."""
    rng = np.random.default_rng(SEED + 1)
    x, y, z = np.ogrid[0:6.28:128j, 0:6.28:256j, 0:6.28:256j]
    field = 20 * np.sin(x) * np.cos(y) + 5 * np.sin(3 * z) + rng.normal(0, 0.3, (128, 256, 256))
    data = np.round(field, 2).astype("f4")
    file.create_dataset("cube", data=data, chunks=(16, 64, 64), compression="gzip", compression_opts=4, shuffle=True)
    file["cube"].attrs["unit"] = "mK"


def cells(file: h5py.File) -> None:
    """AnnData: a sparse matrix, a categorical column, text indices, encodings as attributes."""
    rng = np.random.default_rng(SEED + 2)
    text = h5py.string_dtype("utf-8")
    count, genes = 500, 300
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    dense = rng.poisson(0.2, (count, genes))
    rows, columns = np.nonzero(dense)
    matrix = file.create_group("X")
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(dense.shape)})
    matrix.create_dataset("data", data=dense[rows, columns].astype("f4"), compression="gzip")
    matrix.create_dataset("indices", data=columns.astype("i4"), compression="gzip")
    matrix.create_dataset("indptr", data=np.searchsorted(rows, np.arange(count + 1)).astype("i4"))
    for axis, length in (("obs", count), ("var", genes)):
        frame = file.create_group(axis)
        columns_here = np.array(["batch"] if axis == "obs" else [], dtype=object)
        frame.attrs.create("column-order", columns_here, dtype=text)
        frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
        names = np.array([f"{axis}-{i:04d}" for i in range(length)], dtype=object)
        index = frame.create_dataset("_index", data=names, dtype=text)
        index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    batch = file.create_group("obs/batch")
    batch.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": np.bool_(False)})
    batch.create_dataset("codes", data=rng.integers(0, 3, count).astype("i1"))
    kinds = batch.create_dataset("categories", data=np.array(["alpha", "beta", "gamma"], dtype=object), dtype=text)
    kinds.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    batch["codes"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        file.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})


def recording(file: h5py.File) -> None:
    """NWB: typed groups, a raw time series, references from a table to it, enumerated booleans."""
    rng = np.random.default_rng(SEED + 3)
    text = h5py.string_dtype("utf-8")
    file.attrs.update(nwb_version="2.7.0", namespace="core", neurodata_type="NWBFile")
    file.create_dataset("session_description", data="an evening of noise", dtype=text)
    series = file.create_group("acquisition/ephys")
    series.attrs.update(neurodata_type="ElectricalSeries", namespace="core", comments="no comments")
    samples = rng.normal(0, 40, (20000, 16)).astype("i2")
    data = series.create_dataset("data", data=samples, chunks=(4096, 16), compression="lzf")
    data.attrs.update(conversion=1.95e-7, unit="volts", resolution=np.nan)
    start = series.create_dataset("starting_time", data=0.0)
    start.attrs.update(rate=np.float32(30000), unit="seconds")
    trials = file.create_group("intervals/trials")
    trials.create_dataset("start_time", data=np.arange(8) * 0.07)
    trials.create_dataset("correct", data=np.arange(8) % 3 == 0)
    target = trials.create_dataset("timeseries", (8,), dtype=h5py.ref_dtype)
    for i in range(8):
        target[i] = series.ref


def diffraction(file: h5py.File) -> None:
    """NeXus: NX_class everywhere, soft links from the plot to the detector, a default signal."""
    rng = np.random.default_rng(SEED + 4)
    file.attrs.update(default="entry", file_name="diffraction.nxs", NeXus_version="4.4.3")
    entry = file.create_group("entry")
    entry.attrs.update(NX_class="NXentry", default="data")
    detector = entry.create_group("instrument/detector")
    entry["instrument"].attrs["NX_class"] = "NXinstrument"
    detector.attrs["NX_class"] = "NXdetector"
    frames = rng.poisson(3, (24, 128, 128)).astype("u4")
    counts = detector.create_dataset("counts", data=frames, chunks=(1, 128, 128), compression="gzip", shuffle=True)
    counts.attrs["target"] = "/entry/instrument/detector/counts"
    plot = entry.create_group("data")
    plot.attrs.update(NX_class="NXdata", signal="counts")
    plot["counts"] = h5py.SoftLink("/entry/instrument/detector/counts")
    plot["angle"] = np.linspace(0, 23, 24)
    entry["title"] = np.bytes_("powder, ambient")


def workspace(file: h5py.File) -> None:
    """MATLAB 7.3: a user block, classes as attributes, a cell array of references into ``#refs#``."""
    rng = np.random.default_rng(SEED + 5)
    matrix = file.create_dataset("A", data=rng.normal(size=(40, 60)), chunks=(20, 60), compression="gzip")
    matrix.attrs["MATLAB_class"] = np.bytes_("double")
    name = file.create_dataset("name", data=np.frombuffer("gr\u00fc\u00df dich".encode("utf-16-le"), "u2")[:, None])
    name.attrs.update(MATLAB_class=np.bytes_("char"), MATLAB_int_decode=np.int32(2))
    flag = file.create_dataset("flag", data=np.array([[1]], "u1"))
    flag.attrs.update(MATLAB_class=np.bytes_("logical"), MATLAB_int_decode=np.int32(1))
    hidden = file.create_group("#refs#")
    cell = file.create_dataset("cell", (3, 1), dtype=h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")
    for i, letter in enumerate("abc"):
        hidden[letter] = np.full((1, i + 1), float(i))
        cell[i, 0] = hidden[letter].ref
    hole = file.create_dataset("empty", data=np.array([0, 0], "u8"))
    hole.attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_empty=np.uint8(1))


def events(file: h5py.File) -> None:
    """Tables: compound rows with a fixed string, an array member and an enumeration."""
    rng = np.random.default_rng(SEED + 6)
    kind = h5py.enum_dtype({"noise": 0, "muon": 1, "electron": 2}, basetype="u1")
    row = np.dtype([("time", "f8"), ("energy", "f4"), ("position", "f4", (3,)), ("label", "S8"), ("kind", kind)])
    rows = np.zeros(5000, row)
    rows["time"] = np.cumsum(rng.exponential(0.1, len(rows)))
    rows["energy"] = rng.gamma(2, 3, len(rows))
    rows["position"] = rng.normal(size=(len(rows), 3))
    rows["label"] = np.array([f"ev{i % 100:02d}" for i in range(len(rows))], "S8")
    rows["kind"] = rng.integers(0, 3, len(rows))
    file.create_dataset("events", data=rows, chunks=(1024,), compression="gzip", shuffle=True, maxshape=(None,))
    file["events"].attrs["run"] = np.array([17, 18], "i4")


def diary(file: h5py.File) -> None:
    """Text and sequences of variable length, an empty dataset, scalars, complex numbers."""
    rng = np.random.default_rng(SEED + 7)
    text = h5py.string_dtype("utf-8")
    lines = np.array(["rain", "", "\u5feb\u6674", "wind \u2192 west", "fog " * 20] * 40, dtype=object)
    file.create_dataset("notes", data=lines, dtype=text, chunks=(50,), compression="gzip")
    walks = file.create_dataset("walks", (30,), dtype=h5py.vlen_dtype(np.dtype("f4")))
    for i in range(30):
        walks[i] = rng.normal(size=i % 7).astype("f4")
    file.create_dataset("nothing", data=h5py.Empty("f8"))
    file.create_dataset("answer", data=np.int64(42))
    file.create_dataset("signal", data=(rng.normal(size=64) + 1j * rng.normal(size=64)).astype("c8"))
    file.attrs["moods"] = np.array(["calm", "brisk"], dtype=object)
    file.attrs["where"] = np.array([np.nan, np.inf, 47.4], "f4")


def linked(file: h5py.File) -> None:
    """Links: two names for one dataset, a soft link, one to nowhere, and a cycle of groups."""
    file["data/raw"] = np.arange(1000, dtype=">i4").reshape(50, 20)
    file["data/again"] = file["data/raw"]
    file["latest"] = h5py.SoftLink("/data/raw")
    file["lost"] = h5py.SoftLink("/data/no-such")
    file["data/up"] = file["data"]


def sparse(file: h5py.File) -> None:
    """A large array of which little is written: unallocated chunks and a fill value."""
    data = file.create_dataset("mask", (4000, 4000), "i2", chunks=(500, 500), fillvalue=-1, compression="gzip")
    data[1000:1200, 3000:3100] = np.arange(100, dtype="i2")
    file.create_dataset("never", (10, 10), "f8", chunks=(5, 5), fillvalue=np.nan)


def image(file: h5py.File) -> None:
    """An HDF5 image and its palette, contiguous, with fixed-length attributes."""
    rng = np.random.default_rng(SEED + 8)
    picture = file.create_dataset("picture", data=rng.integers(0, 255, (200, 300), dtype="u1"))
    palette = file.create_dataset("palette", data=np.repeat(np.arange(256, dtype="u1")[:, None], 3, axis=1))
    picture.attrs.update(CLASS=np.bytes_("IMAGE"), IMAGE_SUBCLASS=np.bytes_("IMAGE_INDEXED"), PALETTE=palette.ref)
    palette.attrs.update(CLASS=np.bytes_("PALETTE"), PAL_VERSION=np.bytes_("1.2"))


def deep(file: h5py.File) -> None:
    """Many small groups, one within another, each with a small compact dataset."""
    group: Any = file
    for level in range(30):
        group = group.create_group(f"level {level:02d}")
        group["value"] = np.float64(level)
        group.attrs["depth"] = np.uint16(level)


def weather(file: h5py.File) -> None:
    """Ten days of hourly maps, 15 MiB, chunked as models write them: one map a chunk. For the notebooks; not in the archive."""
    rng = np.random.default_rng(SEED + 9)
    lengths = {"time": 240, "lat": 90, "lon": 180}
    hours = np.arange(lengths["time"])
    values = {"time": hours, "lat": np.linspace(75, 30.5, 90), "lon": np.arange(180) * 0.5 - 30}
    for number, (name, along) in enumerate(values.items()):
        file.create_dataset(name, data=along).make_scale(name)
        file[name].attrs["_Netcdf4Dimid"] = np.int32(number)
    file["time"].attrs.update(units="hours since 2019-07-01", calendar="standard")
    file["lat"].attrs["units"], file["lon"].attrs["units"] = "degrees_north", "degrees_east"
    day = 4 * np.sin(2 * np.pi * (hours[:, None, None] + values["lon"] / 15 - 9) / 24)
    front = 3 * np.cos(hours[:, None, None] / 40 + np.radians(values["lat"])[:, None] * 9 + np.radians(values["lon"]) * 7)
    field = 35 - 0.4 * values["lat"][:, None] + day + front + rng.normal(0, 0.3, tuple(lengths.values()))
    data = file.create_dataset(
        "t2m", data=np.round(field, 2).astype("f4"), chunks=(1, 90, 180), compression="gzip", compression_opts=4, shuffle=True
    )
    for axis, name in enumerate(lengths):
        data.dims[axis].attach_scale(file[name])
    data.attrs.update(units="degC", long_name="air temperature at 2 m")
    file["stations/of"] = h5py.SoftLink("/t2m")
    file.create_dataset("stations/name", data=np.array(["Oslo", "Zürich", "Kraków"], object), dtype=h5py.string_dtype())
    file.create_dataset("stations/elevation", data=np.array([23, 408, 219], "i2"))
    file.attrs.update(Conventions="CF-1.11", title="Ten days of weather that never was")


ARCHIVE: dict[str, Writer] = {
    "atmosphere/t2m-2019-01.nc": climate,
    "physics/cube.h5": cube,
    "biology/cells.h5ad": cells,
    "biology/recording.nwb": recording,
    "physics/diffraction.nxs": diffraction,
    "analysis/workspace.mat": workspace,
    "physics/events.hdf5": events,
    "diary.h5": diary,
    "links.h5": linked,
    "sparse.h5": sparse,
    "image.h5": image,
    "deep.h5": deep,
}
MODERN = {"physics/cube.h5", "sparse.h5", "deep.h5"}  # in the file format of HDF5 1.10 and later


def write_archive(folder: str | Path, names: Iterable[str] = ARCHIVE) -> list[Path]:
    """Write the archive's files, or those named, below a folder; those that are there are left alone.

    Returns
    -------
    list of Path
        The files.
    """
    paths = []
    for name in names:
        path = Path(folder, name)
        paths.append(path)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        block = 512 if path.suffix == ".mat" else 0
        with h5py.File(draft, "w", libver="latest" if name in MODERN else None, userblock_size=block) as file:
            ARCHIVE[name](file)
        if block:
            with draft.open("r+b") as raw:
                raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        draft.replace(path)
    return paths


def main() -> int:
    """Write the archive into the folder that the command line names."""
    if len(sys.argv) != 2:
        print("usage: python sample_archive.py FOLDER", file=sys.stderr)
        return 2
    paths = write_archive(sys.argv[1])
    total = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} HDF5 files, {total / 2**20:.1f} MiB, below {sys.argv[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
