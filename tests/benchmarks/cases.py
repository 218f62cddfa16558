"""The cases: an input, the grid and codec wanted, the policy that h5z is given, and who contends."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FULL_NBYTES = 512 * 2**20  # the size that the cases are named for: 512³ float32
BLOCK = (16, 128, 128)
DATASET = "data"  # the cube's name in source and target
SMALL_DATASETS, FILES, DATASETS_IN_A_FILE = 5000, 1000, 10
SEGMENTS = 1_000_000
ARRAY_PEERS = ("h5z", "dask", "xarray", "loop", "gdal", "floor", "cp", "start")


@dataclass(frozen=True)
class Case:
    """One comparison, as it is handed to each contender's process.

    Parameters
    ----------
    name : str
        What ``--cases`` calls it.
    about : str
        The work in one line.
    kind : str
        The input's maker, a key of :data:`tests.benchmarks.inputs.MAKERS`.
    chunks : tuple of int
        The target's chunk shape at full size; empty where the input is of small datasets.
    codec : str
        The target's codec as h5z names it. Peers take Blosc zstd-1 with shuffle in any case.
    contenders : tuple of str
        Keys of :data:`tests.benchmarks.contenders.CONTENDERS`.
    baseline : str
        The contender that ratios are taken against.
    memory : str
        h5z's budget.
    size_nbytes : int
        Bytes of the input, uncompressed; other sizes than 512 MiB scale the shape, or the number of datasets.
    """

    name: str
    about: str
    kind: str
    chunks: tuple[int, ...] = ()
    codec: str = "blosc-zstd:1"
    contenders: tuple[str, ...] = ARRAY_PEERS
    baseline: str = "dask"
    memory: str = "512MiB"
    size_nbytes: int = FULL_NBYTES

    @property
    def side(self) -> int:
        """Edge of the cube of float32.

        >>> Case("a", "", "gzip").side
        512
        """
        return max(8, round(math.cbrt(self.size_nbytes / 4)))

    @property
    def grid(self) -> tuple[int, ...]:
        """The target's chunk shape, no larger than the cube.

        >>> Case("a", "", "gzip", chunks=(64, 256, 256), size_nbytes=4 * 100**3).grid
        (64, 100, 100)
        """
        return tuple(min(edge, self.side) for edge in self.chunks)

    @property
    def files(self) -> int:
        """Files of the input."""
        return self._scaled(FILES) if self.kind == "files" else 1

    @property
    def datasets(self) -> int:
        """Datasets of the input, in all.

        >>> Case("a", "", "small", size_nbytes=FULL_NBYTES // 2).datasets
        2500
        """
        return {"files": self.files * DATASETS_IN_A_FILE, "small": self._scaled(SMALL_DATASETS)}.get(self.kind, 1)

    @property
    def segments(self) -> int:
        """Segments of a session's tables."""
        return self._scaled(SEGMENTS)

    def _scaled(self, full: int) -> int:
        return max(4, full * self.size_nbytes // FULL_NBYTES)

    def source(self, folder: Path) -> Path:
        """Where the input is: one file, or a folder of files."""
        return folder / (f"{self.kind}-source" if self.kind == "files" else f"{self.kind}.h5")

    @property
    def has_many_files(self) -> bool:
        """Whether most of the work is in files, of which there are many."""
        return self.kind in ("small", "files")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for the contender's process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Case:
        """The case that :meth:`to_dict` wrote."""
        tuples = {key: tuple(record[key]) for key in ("chunks", "contenders")}
        return cls(**{**record, **tuples})


CASES = (  # those of many files first: file systems look long for room where others were deleted
    Case(
        "many_small",
        "one file of 5,000 small datasets with attributes",
        "small",
        contenders=("h5z", "small_loop", "bare", "start"),
        baseline="small_loop",
    ),
    Case(
        "thousand_files",
        "1,000 files of 10 small datasets with attributes",
        "files",
        contenders=("h5z", "small_loop", "bare", "start"),
        baseline="small_loop",
    ),
    Case("recode_same_grid", "gzip-4 + shuffle, 16×128×128 → the same grid, Blosc zstd-1", "gzip", BLOCK),
    Case("recode_contiguous", "contiguous → 16×128×128, Blosc zstd-1", "contiguous", BLOCK),
    Case("regrid_64x256x256", "gzip-4 + shuffle, 16×128×128 → 64×256×256, Blosc zstd-1", "gzip", (64, 256, 256)),
    Case(
        "copy",
        "gzip-4 + shuffle, 16×128×128 → the same bytes; peers recode",
        "gzip",
        BLOCK,
        codec="keep",
        contenders=("h5z", "dask", "loop", "gdal", "cp", "start"),
    ),
    Case(
        "columns",
        "gzip-4 + shuffle, slices 1×512×512 → columns 512×32×32, Blosc zstd-1",
        "slices",
        (512, 32, 32),
        contenders=("h5z", "dask", "p2p", "floor", "cp", "start"),
        memory="128MiB",
    ),
    Case(
        "events",
        "tables of 1,000,000 segments, 40,000 elements, 1,000 tasks → one xarray Dataset in Zarr",
        "events",
        contenders=("h5z", "rows", "start"),
        baseline="rows",
    ),
)
