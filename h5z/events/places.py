"""An open HDF5 file's objects by path, with wildcards; what another file holds is not reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from h5z.errors import SourceError, one_line
from h5z.events.layout import capture
from h5z.hdf5.files import open_dataset


@dataclass(frozen=True)
class Place:
    """An object, and what the wildcards of its path matched."""

    path: str
    node: Any
    captured: dict[str, str]


@dataclass(frozen=True)
class SourceFile:
    """An open file, and the name by which errors call it."""

    name: str
    file: h5py.File

    def find(self, components: tuple[str, ...], kind: type) -> Iterator[Place]:
        """Every object that a path of names, ``*`` and ``{attribute}`` leads to.

        Parameters
        ----------
        kind : type
            h5py.Dataset or h5py.Group: what a wildcard at the path's end matches.

        Raises
        ------
        SourceError
            If a name leads to nothing, or out of the file. A wildcard may match nothing.
        """
        yield from self._find(Place("", self.file, {}), components, kind)

    def _find(self, place: Place, components: tuple[str, ...], kind: type) -> Iterator[Place]:
        if not components:
            yield place
            return
        component, rest = components[0], components[1:]
        attribute = capture(component)
        wild = attribute is not None or component == "*"
        if not isinstance(place.node, h5py.Group):
            if wild:
                return
            raise SourceError(f"{self.name}: {place.path}: expected a group, found a dataset")
        for name in self.members(place.node) if wild else [component]:
            node = self.open(place.node, place.path, name)
            if wild and not rest and not isinstance(node, kind):
                continue
            captured = {**place.captured, attribute: name} if attribute else place.captured
            yield from self._find(Place(f"{place.path}/{name}", node, captured), rest, kind)

    def members(self, group: h5py.Group) -> list[str]:
        """Names in a group."""
        with self.reading(group.name):
            return list(group)

    def open(self, group: h5py.Group, path: str, name: str) -> Any:
        """Open a group's member, whose path is given without its name.

        Raises
        ------
        SourceError
            If there is none, or it is in another file.
        """
        label = f"{path.rstrip('/')}/{name}"
        with self.reading(label):
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise SourceError(f"{self.name}: {label}: expected rows in this file, found a link into another")
            return group[name]

    def dataset(self, path: str, node: Any) -> h5py.Dataset:
        """A dataset with its filters loaded.

        Raises
        ------
        SourceError
            If it is none, or keeps its values in other files.
        """
        if not isinstance(node, h5py.Dataset):
            raise SourceError(f"{self.name}: {path}: expected a dataset, found a group")
        with self.reading(path):
            if node.is_virtual or node.external:
                raise SourceError(f"{self.name}: {path}: expected values in this file, found them in others")
            return h5py.Dataset(open_dataset(self.file, path))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turn what h5py raises into a `SourceError` that names file and object."""
        try:
            yield
        except SourceError:
            raise
        except KeyError:
            raise SourceError(f"{self.name}: {path}: expected in the file, found nothing there") from None
        except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise SourceError(f"{self.name}: {path}: cannot be read ({one_line(error)})") from None


def scalar(value: Any) -> Any:
    """One value as h5py gives it, out of numpy's scalars and arrays of one element; None for a null dataspace."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufSU" else value
