"""Who contends: h5z, what users would pick instead, and the floors; each runs in a process of its own.

Peers run at the setting that measured fastest here: dask and xarray in blocks of 16 MiB that are whole write units
(their defaults are up to a third slower), GDAL with threads in its codec.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, cast

from . import events
from .cases import DATASET, Case

if TYPE_CHECKING:
    import h5py
    import zarr

ROOT = Path(__file__).parents[2]
BLOCK_NBYTES = 16 * 2**20

Work = Callable[[Case, Path, Path], float | None]
Command = Callable[[Case, Path, Path], list[str]]


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work.

    Parameters
    ----------
    label : str
        What the table calls it.
    work : callable, optional
        Does it in Python; where it returns seconds, these stand for the wall time.
    command : callable, optional
        The program's arguments instead, run without a Python around it.
    needs : tuple of str
        Modules and programs without which it sits out.
    output : str
        What its target is, and so how it is verified: "zarr", "bytes" or "nothing".
    """

    label: str
    work: Work | None = None
    command: Command | None = None
    needs: tuple[str, ...] = ()
    output: str = "zarr"

    def missing(self) -> list[str]:
        """What it needs and does not find here."""
        return [name for name in self.needs if not (which(name) or _module(name))]


def _module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package of a dotted name
        return False


def arguments(name: str, case: Case, source: Path, target: Path) -> list[str]:
    """The process to start (in :data:`ROOT`) for a contender's run."""
    command = CONTENDERS[name].command
    if command is not None:
        return command(case, source, target)
    module = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.contenders"]
    return [*module, name, json.dumps(case.to_dict()), str(source), str(target)]


def blosc() -> Any:
    """The codec that every peer writes."""
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")


def block(case: Case) -> tuple[int, ...]:
    """A dask block: whole write units, doubled axis by axis up to 16 MiB.

    >>> block(Case("a", "", "gzip", chunks=(16, 128, 128)))
    (64, 256, 256)
    """
    shape, axis = list(case.grid), 0
    while 4 * shape[0] * shape[1] * shape[2] < BLOCK_NBYTES and min(shape) < case.side:
        shape[axis] = min(case.side, 2 * shape[axis])
        axis = (axis + 1) % 3
    return tuple(shape)


def run_h5z(case: Case, source: Path, target: Path) -> None:
    """h5z, threads, in the case's memory; a folder file by file."""
    if case.kind == "events":
        events.run_h5z(source, target)
        return
    import h5z

    convert: Callable[..., object] = h5z.convert
    options: dict[str, object] = {"codec": case.codec, "memory": case.memory, "scheduler": "threads"}
    options["chunks"] = case.grid or "auto"
    if source.is_file():
        convert(source, target, **options)
        return
    target.mkdir()
    for file in sorted(source.iterdir()):
        convert(file, target / f"{file.stem}.zarr", **options)


def run_dask(case: Case, source: Path, target: Path) -> None:
    """``from_array``, rechunked where blocks of write units would decode a source chunk many times, ``to_zarr``."""
    import h5py

    with h5py.File(source) as file:
        _to_zarr(_blocks(case, file), case, target)


def run_p2p(case: Case, source: Path, target: Path) -> None:
    """The same, its rechunk peer to peer over two worker processes."""
    import h5py
    from dask.distributed import Client

    cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    connect = cast("Callable[..., Any]", Client)
    with connect(**cluster, local_directory=str(target.parent)), h5py.File(source) as file:
        _to_zarr(_blocks(case, file, method="p2p"), case, target)


def _blocks(case: Case, file: h5py.File, method: str = "tasks") -> Any:
    import dask.array as da

    dataset, from_array = file[DATASET], cast("Callable[..., Any]", da.from_array)
    if case.kind != "slices":
        return from_array(dataset, chunks=block(case))
    slab = (16, *dataset.shape[1:])
    return from_array(dataset, chunks=slab).rechunk(block(case), method=method)


def _to_zarr(array: Any, case: Case, target: Path) -> None:
    array.to_zarr(str(target), component=DATASET, chunks=case.grid, compressors=blosc())


def run_xarray(case: Case, source: Path, target: Path) -> None:
    """``open_dataset`` with h5netcdf, ``to_zarr``."""
    import xarray as xr

    chunks = {f"phony_dim_{axis}": edge for axis, edge in enumerate(block(case))}
    with xr.open_dataset(source, engine="h5netcdf", phony_dims="sort", chunks=chunks) as dataset:
        dataset.to_zarr(target, encoding={DATASET: {"chunks": case.grid, "compressors": [blosc()]}})


def run_loop(case: Case, source: Path, target: Path) -> None:
    """h5py to zarr-python by slabs of whole write units along axis 0."""
    import h5py
    import zarr

    with h5py.File(source) as file:
        dataset, rows = file[DATASET], case.grid[0]
        array = zarr.open_group(target, mode="w").create_array(
            DATASET, shape=dataset.shape, dtype=dataset.dtype, chunks=case.grid, compressors=blosc()
        )
        for start in range(0, dataset.shape[0], rows):
            array[start : start + rows] = dataset[start : start + rows]


def run_small_loop(case: Case, source: Path, target: Path) -> None:
    """h5py to zarr-python dataset by dataset, attributes given with the array."""
    import h5py
    import zarr

    def visit(root: zarr.Group, name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            attributes = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in node.attrs.items()}
            root.create_array(name, data=node[...], chunks=node.shape, compressors=blosc(), attributes=attributes)

    for path in [source] if source.is_file() else sorted(source.iterdir()):
        with h5py.File(path) as file:
            output = target if source.is_file() else target / f"{path.stem}.zarr"
            file.visititems(partial(visit, zarr.open_group(output, mode="w")))


def run_rows(case: Case, source: Path, target: Path) -> None:
    """h5py to dicts to numpy to xarray."""
    events.run_plain(source, target)


def run_floor(case: Case, source: Path, target: Path) -> float:
    """CPU time of decoding the source's and encoding the target's chunks, over the cores."""
    from .floor import codec_seconds

    return codec_seconds(case, source)


def run_start(case: Case, source: Path, target: Path) -> None:
    """Python and the imports that any run needs."""
    import h5py  # noqa: F401
    import zarr  # noqa: F401


def run_bare(case: Case, source: Path, target: Path) -> None:
    """What no Python can leave out of a small dataset: its values, its attributes, two files, each written whole."""
    import h5py
    from numcodecs import Blosc

    target.mkdir()
    codec, draft = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE), target / "draft"

    def put(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.rename(path)

    def visit(root: Path, name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            attributes = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in node.attrs.items()}
            put(root / name / "c" / "0" / "0", codec.encode(node[...]))
            put(root / name / "zarr.json", json.dumps({"shape": node.shape, "attributes": attributes}).encode())

    for path in [source] if source.is_file() else sorted(source.iterdir()):
        with h5py.File(path) as file:
            file.visititems(partial(visit, target / path.stem))


def gdal_command(case: Case, source: Path, target: Path) -> list[str]:
    """GDAL's ``gdalmdimtranslate``."""
    options = {"COMPRESS": "BLOSC", "BLOSC_CNAME": "zstd", "BLOSC_CLEVEL": "1", "BLOSC_SHUFFLE": "BYTE"}
    options |= {"BLOSC_NUM_THREADS": "ALL_CPUS", "BLOCKSIZE": ",".join(map(str, case.grid))}
    pairs = [part for key, value in options.items() for part in ("-co", f"ARRAY:{key}={value}")]
    return ["gdalmdimtranslate", "-q", "-of", "Zarr", "-array", f"/{DATASET}", *pairs, str(source), str(target)]


def cp_command(case: Case, source: Path, target: Path) -> list[str]:
    """The bytes, as they are."""
    return ["cp", "-r", "--reflink=never", str(source), str(target)]


CONTENDERS = {
    "h5z": Contender("h5z", run_h5z, needs=("h5z.convert",)),
    "dask": Contender("dask → to_zarr", run_dask),
    "p2p": Contender("dask P2P → to_zarr", run_p2p),
    "xarray": Contender("xarray → to_zarr", run_xarray, needs=("h5netcdf",)),
    "loop": Contender("h5py → zarr loop", run_loop),
    "small_loop": Contender("h5py → zarr loop", run_small_loop),
    "bare": Contender("bare loop: its floor in Python", run_bare, output="nothing"),
    "rows": Contender("h5py → dicts → xarray", run_rows),
    "gdal": Contender("gdalmdimtranslate", command=gdal_command, needs=("gdalmdimtranslate",)),
    "floor": Contender("codec floor, CPU ÷ cores", run_floor, needs=("isal",), output="nothing"),
    "cp": Contender("cp", command=cp_command, needs=("cp",), output="bytes"),
    "start": Contender("start-up: h5py, zarr", run_start, output="nothing"),
}


def main() -> None:
    """Run the contender named, on the case given as JSON; the last line printed is JSON."""
    name, record, source, target = sys.argv[1:]
    work = CONTENDERS[name].work
    if work is None:
        raise SystemExit(f"{name} is a program, not a function")
    seconds = work(Case.from_dict(json.loads(record)), Path(source), Path(target))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
