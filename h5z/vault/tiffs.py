"""TIFFs in a folder or a vault, and their pixels."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from h5z.errors import PlanError, SourceError, one_line
from h5z.vault.archive import Vault
from h5z.vault.report import shown
from h5z.vault.tasks import opened

_CACHED_NBYTES = 64 << 20


@dataclass(frozen=True)
class Folder:
    """A folder of files, as a source of images; picklable."""

    path: str

    def names(self) -> Iterable[str]:
        """Names of all files below it, with slashes."""
        for place, folders, files in os.walk(self.path):
            folders.sort()
            for name in sorted(files):
                yield os.path.relpath(os.path.join(place, name), self.path)

    def read(self, name: str) -> Any:
        """What tifffile opens a file by."""
        return os.path.join(self.path, name)

    def stamp(self, name: str) -> tuple[int, ...]:
        """What tells whether a file is still the same."""
        try:
            status = os.stat(os.path.join(self.path, name))
        except OSError as error:
            raise SourceError(f"{self.path}: {shown(name)}: cannot be read ({error.strerror or one_line(error)})") from None
        return status.st_size, status.st_mtime_ns, status.st_ino

    def identity(self, names: Sequence[str]) -> tuple[int, int]:
        """Sizes of files together, and the time of the last change."""
        status = [os.stat(os.path.join(self.path, name)) for name in names]
        return sum(s.st_size for s in status), max((s.st_mtime_ns for s in status), default=0)


@dataclass(frozen=True)
class Archive:
    """A vault, as a source of images; picklable, opened once in each process."""

    path: str

    def names(self) -> Iterable[str]:
        """Names of its files."""
        return (member.name for member in opened(self.path).members() if member.kind == "file")

    def read(self, name: str) -> Any:
        """A member as a file."""
        return opened(self.path).open(name)

    def stamp(self, name: str) -> tuple[int, ...]:
        """What tells whether a member is still the same."""
        first = opened(self.path).parts(name)[0]
        return first.file, first.at, first.crc

    def identity(self, names: Sequence[str]) -> tuple[int, int]:
        """Sizes of members together, and the time of the last change; of an archive that tells none, the file's."""
        found = [opened(self.path).info(name) for name in names]
        times = [member.mtime_ns or 0 for member in found]
        return sum(m.size for m in found), max(times, default=0) or os.stat(opened(self.path).files[0]).st_mtime_ns


def source_of(source: str | os.PathLike[str] | Vault) -> Folder | Archive:
    """A folder or a vault as a source of images.

    Raises
    ------
    SourceError
        If there is neither.
    """
    if isinstance(source, Vault):
        return Archive(source.path)
    path = os.path.abspath(source)
    if os.path.isdir(path):
        return Folder(path)
    return Archive(opened(path).path)


class _Cache:
    """The planes that this process decoded last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planes: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._nbytes = 0

    def get(self, source: Folder | Archive, name: str) -> Any:
        key = (source, name, source.stamp(name))
        with self._lock:
            if key in self._planes:
                self._planes.move_to_end(key)
                return self._planes[key]
        values = decoded(source, name)[0]
        with self._lock:
            if key not in self._planes:
                self._planes[key] = values
                self._nbytes += values.nbytes
            while self._nbytes > _CACHED_NBYTES and len(self._planes) > 1:
                self._nbytes -= self._planes.popitem(last=False)[1].nbytes
        return values


cache = _Cache()


def decoded(source: Folder | Archive, name: str) -> tuple[Any, str, tuple[float, float] | None]:
    """A TIFF's first series, its axes in lower case, and the size of a pixel along y and x in µm if the file tells.

    Raises
    ------
    SourceError
        If it is none, or cannot be decoded.
    """
    tifffile = import_tifffile()
    where = f"{source.path}: {shown(name)}"
    try:
        with tifffile.TiffFile(source.read(name)) as file:
            series = file.series[0]
            values = np.asarray(series.asarray())
            return values, series.axes.lower(), _pixel(file.pages[0])
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{where}: no such file") from None
    except Exception as error:  # tifffile and its codecs have errors of many kinds
        raise SourceError(f"{where}: expected a TIFF image ({one_line(error)})") from None


def import_tifffile() -> Any:
    """The package tifffile.

    Raises
    ------
    PlanError
        If it is not installed.
    """
    try:
        import tifffile
    except ImportError:
        raise PlanError("images: expected the package tifffile (pip install 'h5z[vault]'), found none") from None
    return tifffile


def _pixel(page: Any) -> tuple[float, float] | None:
    per_unit = {3: 1e4, 2: 25_400.0}.get(int(getattr(page, "resolutionunit", 0) or 0))  # centimetres, inches
    try:
        x, y = page.resolution
        return (per_unit / y, per_unit / x) if per_unit and x > 1 and y > 1 and per_unit / x < 1e3 else None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None
