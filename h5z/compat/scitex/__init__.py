"""SciTeX's HDF5 and Zarr functions, by its names, parameters and defaults, over h5z.

``from scitex.io import …`` becomes ``from h5z.compat.scitex import …``. What is different on purpose: validation compares every
value; whatever cannot be carried over is an error that names it; nothing is deleted before its successor is complete; relative
paths are relative to the working directory; nothing is unpickled unasked; nested dicts are groups.
"""

from h5z.compat.scitex.batch import BatchResult
from h5z.compat.scitex.explorers import H5Explorer, ZarrExplorer, explore_h5, explore_zarr, has_h5_key, has_zarr_key
from h5z.compat.scitex.files import load, save
from h5z.compat.scitex.migration import migrate_h5_to_zarr, migrate_h5_to_zarr_batch

__all__ = [
    "BatchResult",
    "H5Explorer",
    "ZarrExplorer",
    "explore_h5",
    "explore_zarr",
    "has_h5_key",
    "has_zarr_key",
    "load",
    "migrate_h5_to_zarr",
    "migrate_h5_to_zarr_batch",
    "save",
]
