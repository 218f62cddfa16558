"""`H5Explorer`, `ZarrExplorer`, and the functions beside them."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import h5py
import numpy as np

import h5z
from h5z.errors import SourceError, TargetError


class _Both:
    """What the two explorers have in common."""

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self._explorer = h5z.explore(where)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._explorer.close()

    def explore(self, path: str = "/", max_depth: int | None = None) -> None:
        """Print the tree below a path."""
        self.show(path, max_depth)

    def show(self, path: str = "/", max_depth: int | None = None) -> None:
        """Print the tree below a path, of so many levels."""
        self._explorer.show(path, depth=max_depth)

    def keys(self, path: str = "/") -> list[str]:
        """Names of a group's members."""
        return self._explorer.keys(path)

    def find(self, pattern: str, path: str = "/") -> list[str]:
        """Paths of all below `path` with `pattern` in their name, in upper or lower case alike."""
        return self._explorer.find(pattern, path)

    def has_key(self, path: str) -> bool:
        """Whether there is an object at a path."""
        return path in self._explorer

    def __getitem__(self, path: str) -> Any:
        return self._explorer.get(path)

    def __repr__(self) -> str:
        return repr(self._explorer)

    def _repr_html_(self) -> str:
        return self._explorer._repr_html_()


class H5Explorer(_Both):
    """Explore an HDF5 file.

    Parameters
    ----------
    filepath : path
    mode : str
        As h5py's, for what is done through the attribute `file`.
    """

    def __init__(self, filepath: str | os.PathLike[str], mode: str = "r") -> None:
        if os.path.isdir(filepath):
            raise SourceError(f"{os.fspath(filepath)}: expected an HDF5 file, found a directory")
        super().__init__(filepath)
        self.filepath, self.mode = filepath, mode
        self._file: h5py.File | None = None

    def __enter__(self) -> H5Explorer:
        return self

    @property
    def file(self) -> h5py.File:
        """The file as h5py opens it."""
        if not self._file:
            self._explorer.close()
            self._file = h5py.File(self.filepath, self.mode)
        return self._file

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._file:
            self._file.close()
        self._file = None

    def load(self, path: str = "/") -> Any:
        """Read a dataset whole, text as `str`; a group as a dict, with its attributes as ``_attr_NAME``."""
        value = self._explorer.load(path)
        if isinstance(value, dict):
            self._add_attributes(value, self._explorer.info(path)["path"])
        return value

    get = load

    def _add_attributes(self, value: dict[str, Any], start: str) -> None:
        waiting = [(start, value)]
        while waiting:
            path, item = waiting.pop()
            waiting += [(f"{path.rstrip('/')}/{name}", inner) for name, inner in item.items() if isinstance(inner, dict)]
            for name, attribute in _attributes(self._explorer.get(path)).items():
                item[f"_attr_{name}"] = attribute

    def get_info(self, path: str = "/") -> dict[str, Any]:
        """What is known of an object: of a dataset shape, dtype, size, compression, chunks; of a group its keys."""
        found = self._explorer.get(path)
        info: dict[str, Any] = {"path": path, "type": type(found).__name__}
        if isinstance(found, h5py.Dataset):
            info |= {"shape": found.shape, "dtype": str(found.dtype), "size": found.size}
            info |= {"compression": found.compression, "chunks": found.chunks}
        else:
            keys = self.keys(path)
            info |= {"n_items": len(keys), "keys": keys}
        attributes = _attributes(found)
        return {**info, "attributes": attributes} if attributes else info

    def get_shape(self, path: str) -> tuple[int, ...] | None:
        """A dataset's shape; None for anything else."""
        return getattr(self._explorer.get(path), "shape", None)

    def get_dtype(self, path: str) -> np.dtype[Any] | None:
        """A dataset's dtype; None for anything else."""
        found = self._explorer.get(path)
        return found.dtype if isinstance(found, h5py.Dataset) else None


def _attributes(found: Any) -> dict[str, Any]:
    """An object's attributes; of one that h5py cannot read, what h5z reads of it is left to `h5z.explore(…).info`."""
    out = {}
    for name in found.attrs:
        try:
            out[name] = found.attrs[name]
        except (OSError, TypeError, ValueError, KeyError, RuntimeError) as error:
            warnings.warn(f"{found.file.filename}: {found.name}@{name} cannot be read by h5py ({error})", stacklevel=4)
    return out


class ZarrExplorer(_Both):
    """Explore a Zarr store.

    Parameters
    ----------
    storepath : path
    mode : str
        As zarr's, for what is done through the attribute `store`.
    """

    def __init__(self, storepath: str | os.PathLike[str], mode: str = "r") -> None:
        super().__init__(storepath)
        if not self._explorer.is_zarr:
            raise TargetError(f"{os.fspath(storepath)}: expected a Zarr hierarchy, found a file")
        self.storepath, self.mode = storepath, mode

    def __enter__(self) -> ZarrExplorer:
        return self

    @property
    def store(self) -> Any:
        """The root as zarr opens it."""
        import zarr

        return zarr.open(os.fspath(self.storepath), mode=self.mode)  # type: ignore[arg-type]

    def load(self, path: str) -> Any:
        """Read an array whole, a single element as such; what `save` saved as it was."""
        return h5z.load(self.storepath, path.strip("/") or None)


def explore_h5(filepath: str | os.PathLike[str]) -> None:
    """Print what is in an HDF5 file; of one that is not there, a warning says so."""
    if not os.path.exists(filepath):
        warnings.warn(f"{os.fspath(filepath)}: no such file", stacklevel=2)
        return
    with H5Explorer(filepath) as explorer:
        explorer.show()


def explore_zarr(storepath: str | os.PathLike[str]) -> None:
    """Print what is in a Zarr store."""
    with ZarrExplorer(storepath) as explorer:
        explorer.show()


def has_h5_key(h5_path: str | os.PathLike[str], key: str, max_retries: int = 3, action_on_corrupted: str = "report") -> bool:
    """Whether an HDF5 file is there and has an object at a path.

    Parameters
    ----------
    max_retries : int
        How often to try to open a file that another process has locked.
    action_on_corrupted : str
        Taken for SciTeX's sake; nothing is ever deleted.

    Raises
    ------
    SourceError
        If the file cannot be read.
    """
    name = os.fspath(h5_path)
    if not os.path.exists(name):
        return False
    for attempt in range(max(1, max_retries)):
        try:
            with h5z.explore(name) as explorer:
                return key in explorer
        except SourceError as error:
            if "lock" not in str(error) or attempt + 1 >= max_retries:
                raise
            time.sleep(0.1 * 2**attempt)
    return False


def has_zarr_key(zarr_path: str | os.PathLike[str], key: str) -> bool:
    """Whether a Zarr store is there and has an object at a path."""
    try:
        with h5z.explore(zarr_path, sizes=False) as explorer:
            return key in explorer
    except (SourceError, TargetError):
        return False
