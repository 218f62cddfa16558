"""What is installed here, and which HDF5 filters and stores can be read and written."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from h5z.hdf5.filters import NBIT, at_hand, filter_available

PACKAGES = (
    "h5z",
    "h5py",
    "zarr",
    "numcodecs",
    "numpy",
    "dask",
    "distributed",
    "xarray",
    "prefect",
    "hdf5plugin",
    "imagecodecs",
    "isal",
)
STORES = {
    "local": "zarr",
    "s3 (s3fs)": "s3fs",
    "s3 (obstore)": "obstore",
    "gs": "gcsfs",
    "abfs": "adlfs",
    "http": "aiohttp",
}
FILTERS = {
    "deflate": 1,
    "shuffle": 2,
    "fletcher32": 3,
    "szip": 4,
    "nbit": 5,
    "scaleoffset": 6,
    "lzo": 305,
    "bzip2": 307,
    "lzf": 32000,
    "blosc": 32001,
    "lz4": 32004,
    "bitshuffle": 32008,
    "zfp": 32013,
    "zstd": 32015,
    "sz": 32017,
    "bitgroom": 32022,
    "granular bitround": 32023,
    "sz3": 32024,
    "blosc2": 32026,
    "sperr": 32028,
}


def examine() -> dict[str, str]:
    """Look at the installation.

    Returns
    -------
    dict
        Versions of packages, filters and stores that can be used here and those that cannot.
    """
    import h5py

    out = {name: _version(name) for name in PACKAGES}
    out["libhdf5"] = h5py.version.hdf5_version
    usable = {name: filter_available(number) or at_hand(number) for name, number in FILTERS.items()}
    out["HDF5 filters readable"] = ", ".join(name for name, found in usable.items() if found)
    out["HDF5 filters missing"] = ", ".join(name for name, found in usable.items() if not found) or "none"
    past = (name for name, number in FILTERS.items() if at_hand(number) and number != NBIT)  # whose values have odd widths
    out["HDF5 filters read past libhdf5"] = ", ".join(past)
    stores = {name: find_spec(module) is not None for name, module in STORES.items()}
    out["stores usable"] = ", ".join(name for name, found in stores.items() if found)
    out["stores missing"] = ", ".join(name for name, found in stores.items() if not found) or "none"
    return out


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
