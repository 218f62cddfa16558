"""The arrays of a shard store, and where the chunks of each may lie; of its files only metadata are read here."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from h5z.container import Container
from h5z.errors import PlanError, SourceError, one_line
from h5z.shards.places import LEAST_DEPTH, Coordinates, Layout, layout, outside_place
from h5z.shards.plain import scan

DOCUMENTS = ("zarr.json", ".zarray")
RECORD = ".h5z-shards"  # in an array's folder: the depth of its containers


class Chunk(NamedTuple):
    """A chunk that a key is of, in its array."""

    array: Array
    coordinates: Coordinates


@dataclass(frozen=True)
class Array:
    """An array of the store.

    Attributes
    ----------
    depth : int
        That of its containers, or where none was recorded the store's.
    recorded : bool
        Whether the depth is in force for all writers.
    """

    layout: Layout
    depth: int
    recorded: bool


@dataclass(frozen=True)
class Hierarchy:
    """The arrays below a folder, and the containers of each; picklable. Keys are Zarr's, sizes in bytes.

    Parameters
    ----------
    root : str
        Its absolute path.
    depth : int
        ``consolidate_depth`` of arrays that have no containers yet.
    suffix : str
        Of containers.
    """

    root: str
    depth: int = 3
    suffix: str = ".h5"
    lock_timeout: float = 60.0
    _arrays: dict[str, tuple[tuple[int, ...], Array | None]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        depth: Any = self.depth
        if not isinstance(depth, int) or depth < LEAST_DEPTH:
            raise PlanError(f"consolidate_depth: expected {LEAST_DEPTH} or more, found {depth!r}")
        if len(self.suffix) < 2 or "/" in self.suffix:
            raise PlanError(f"container_ext: expected a suffix such as 'h5', found {self.suffix.lstrip('.')!r}")

    def __getstate__(self) -> dict[str, Any]:
        """The parameters alone."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the parameters."""
        for name, value in {**state, "_arrays": {}, "_lock": threading.Lock()}.items():
            object.__setattr__(self, name, value)

    def path(self, key: str) -> str:
        """The path of a key's plain file.

        Raises
        ------
        PlanError
            If the key leads out of the store, or to a file of the store's own.
        """
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
            raise PlanError(f"{self.root}: expected a key of names between slashes, found {key!r}")
        return os.path.join(self.root, key)

    def array(self, path: str) -> Array | None:
        """The array at a path of the hierarchy, or None; its metadata are read again when their file has changed."""
        for name in DOCUMENTS:
            where = os.path.join(self.root, path, name)
            try:
                status = os.stat(where)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise SourceError(f"{where}: cannot be read ({error.strerror or one_line(error)})") from None
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._arrays.get(path)
            if known is None or known[0] != stamp:
                known = stamp, self._read_array(path, name, where)
                with self._lock:
                    self._arrays[path] = known
            array = known[1]
            if array is not None and not array.recorded:
                depth = self.recorded_depth(path)
                return array if depth is None else replace(array, depth=depth, recorded=True)
            return array
        with self._lock:
            self._arrays.pop(path, None)
        return None

    def _read_array(self, path: str, name: str, where: str) -> Array | None:
        try:
            with open(where, "rb") as file:
                found = layout(path, name, file.read())
        except OSError as error:
            raise SourceError(f"{where}: cannot be read ({error.strerror or one_line(error)})") from None
        if found is None or found.rank == 0:
            return None
        depth = self.recorded_depth(path)
        return Array(found, depth or self.depth, depth is not None)

    def recorded_depth(self, path: str) -> int | None:
        """The depth that is in force for an array's containers; None if none was recorded."""
        where = os.path.join(self.root, path, RECORD)
        try:
            with open(where, "rb") as file:
                depth = json.loads(file.read())["depth"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{where}: expected the depth of an array's containers ({one_line(error)})") from None
        if not isinstance(depth, int) or depth < LEAST_DEPTH:
            raise SourceError(f"{where}: expected a depth of {LEAST_DEPTH} or more, found {depth!r}")
        return depth

    def array_of(self, key: str) -> Array | None:
        """The array at or above a place in the hierarchy, or None."""
        parts = key.split("/")
        prefixes = ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]
        prefixes.sort(key=lambda path: path not in self._arrays)  # those known before first: most keys are of known arrays
        return next(filter(None, map(self.array, prefixes)), None)

    def chunk(self, key: str) -> Chunk | None:
        """The chunk that a key is of, or None."""
        last = key.rpartition("/")[2]
        if not last[-1:].isdigit():
            return None
        array = self.array_of(key)
        if array is None:
            return None
        coordinates = array.layout.coordinates(key[len(array.layout.below) :])
        return None if coordinates is None else Chunk(array, coordinates)

    def container(self, stem: str) -> Container:
        """The container at a path of the store, given without its suffix."""
        return Container(os.path.join(self.root, stem) + self.suffix, lock_timeout=self.lock_timeout)

    def places(self, chunk: Chunk) -> Iterator[tuple[Container, str]]:
        """Every container in which a chunk may be, and the member that it would be, in order of precedence."""
        array = chunk.array.layout
        for depth in array.depths(chunk.array.depth):
            stem, member = array.place(chunk.coordinates, depth)
            yield self.container(stem), member
        if not chunk.array.recorded:
            yield from self._outside(chunk)

    def _outside(self, chunk: Chunk) -> Iterator[tuple[Container, str]]:
        """Where ``H5_Nested_Store`` keeps chunks of arrays of few dimensions: beside or above the array's folder."""
        array = chunk.array.layout
        for depth in sorted({3, self.depth}):
            found = None
            if array.rank < depth and array.separator == "/":
                found = outside_place(os.path.join(self.root, array.key(chunk.coordinates)), depth)
            if found is not None and not found[0].startswith(os.path.join(self.root, array.path, "")):
                yield Container(found[0] + self.suffix, lock_timeout=self.lock_timeout), found[1]

    def outside_members(self, array: Layout) -> Iterator[tuple[Container, str, Coordinates]]:
        """Members of containers outside of an array's folder that are chunks of it."""
        origin = Chunk(Array(array, self.depth, recorded=False), (0,) * array.rank)
        for container, first in self._outside(origin):
            lead = first[: len(first) - len(".".join("0" * array.rank))]
            for member in container.entries():
                coordinates = array.inner_coordinates((), member.removeprefix(lead)) if member.startswith(lead) else None
                if coordinates is not None:
                    yield container, member, coordinates

    def arrays(self, prefix: str = "") -> Iterator[Array]:
        """The arrays at and below a place of the hierarchy."""
        found = self.array(prefix)
        if found is not None:
            yield found
            return
        for item in scan(os.path.join(self.root, prefix)):
            if item.is_dir(follow_symlinks=False):
                yield from self.arrays(f"{prefix}/{item.name}" if prefix else item.name)
