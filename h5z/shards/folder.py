"""The files of a shard store: metadata and loose chunks as plain files, the other chunks in containers; no zarr in it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from h5z.container import Container, forget_all, seal_all
from h5z.container.drafts import PARTIAL
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError, one_line
from h5z.shards.places import LEAST_DEPTH, Coordinates, Layout, layout, outside_place
from h5z.shards.plain import empty, read_plain, scan, write_plain

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
class ShardFolder:
    """A folder of a shard store; picklable. Keys are Zarr's, sizes in bytes.

    Parameters
    ----------
    root : str
        Its absolute path.
    depth : int
        ``consolidate_depth`` of arrays that have no containers yet.
    suffix : str
        Of containers.
    direct : bool
        Whether chunks are written to containers.
    """

    root: str
    depth: int = 3
    suffix: str = ".h5"
    direct: bool = True
    lock_timeout: float = 60.0
    _arrays: dict[str, tuple[tuple[int, ...], Array | None]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_depth(self.depth)
        if len(self.suffix) < 2 or "/" in self.suffix:
            raise PlanError(f"container_ext: expected a suffix such as 'h5', found {self.suffix.lstrip('.')!r}")

    def __getstate__(self) -> dict[str, Any]:
        """The parameters alone."""
        return {name: getattr(self, name) for name in ("root", "depth", "suffix", "direct", "lock_timeout")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the parameters."""
        for name, value in {**state, "_arrays": {}, "_lock": threading.Lock()}.items():
            object.__setattr__(self, name, value)

    def open(self, mode: str) -> None:
        """Do what a mode says: create, refuse, or delete what is there.

        Raises
        ------
        FileNotFoundError
            If the folder must exist and does not.
        TargetExistsError
            If it must not be there, or is a file.
        """
        if os.path.lexists(self.root) and not os.path.isdir(self.root):
            raise TargetExistsError(f"{self.root}: expected a folder, found a file")
        if mode in ("r", "r+"):
            if not os.path.isdir(self.root):
                raise FileNotFoundError(f"{self.root} does not exist")
            return
        if mode == "w-" and os.path.isdir(self.root) and os.listdir(self.root):
            raise TargetExistsError(f"{self.root}: expected nothing there (mode 'w-'), found files")
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise TargetError(f"{self.root}: cannot be created ({error.strerror or one_line(error)})") from None
        if mode == "w":
            self.delete_below("")

    # From keys to files

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
                depth = self._recorded(path)
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
        depth = self._recorded(path)
        return Array(found, depth or self.depth, depth is not None)

    def _recorded(self, path: str) -> int | None:
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
        """Where the original kept chunks of arrays of few dimensions: beside or above the array's folder."""
        array = chunk.array.layout
        for depth in sorted({3, self.depth}):
            found = None
            if array.rank < depth and array.separator == "/":
                found = outside_place(os.path.join(self.root, array.key(chunk.coordinates)), depth)
            if found is not None and not found[0].startswith(os.path.join(self.root, array.path, "")):
                yield Container(found[0] + self.suffix, lock_timeout=self.lock_timeout), found[1]

    # Reading

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Read a value, or a slice of it; None if there is none.

        Raises
        ------
        SourceError
            If there is one that cannot be read, or is damaged.
        """
        data = read_plain(self.path(key), start, stop)
        if data is not None:
            return data
        chunk = self.chunk(key)
        if chunk is not None:
            for container, member in self.places(chunk):
                data = container.get(member, start, stop)
                if data is not None:
                    return data
            return read_plain(self.path(key), start, stop)  # it may have been moved out meanwhile
        return None

    def nbytes(self, key: str) -> int | None:
        """The size of a value, or None."""
        with suppress(FileNotFoundError, NotADirectoryError):
            path = self.path(key)
            if os.path.isfile(path):
                return os.path.getsize(path)
        chunk = self.chunk(key)
        for container, member in self.places(chunk) if chunk is not None else ():
            entry = container.entry(member)
            if entry is not None:
                return entry.nbytes
        return None

    # Writing

    def set(self, key: str, data: Any, *, replace: bool = True) -> None:
        """Store a value, atomically.

        Raises
        ------
        TargetError
            If it cannot be written.
        """
        path = self.path(key)
        chunk = self.chunk(key) if self.direct else None
        if chunk is None:
            if self._is_own(key):
                raise PlanError(f"{self.root}: {key} is a name of the store's own containers")
            write_plain(path, data, replace=replace)
            return
        if not replace and self.nbytes(key) is not None:
            return
        chunk = Chunk(self.settle(chunk.array), chunk.coordinates)
        container, member = next(self.places(chunk))
        container.put(member, data, replace=replace)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)  # it would win over what was written

    def _is_own(self, key: str) -> bool:
        if key.rpartition("/")[2] == RECORD:
            return True
        if not key.endswith(self.suffix):
            return False
        array = self.array_of(key)
        return array is not None and array.layout.outer_coordinates(key.removesuffix(self.suffix)) is not None

    def settle(self, array: Array) -> Array:
        """Fix the depth of an array's containers for all writers, and take in what the original keeps outside of its folder."""
        if array.recorded:
            return array
        path = array.layout.path
        depth = self._recorded(path)
        if depth is None:
            depth = self._found_depth(array.layout) or array.depth
            taken = self._take_in(array, depth)
            write_plain(os.path.join(self.root, path, RECORD), json.dumps({"depth": depth}).encode(), replace=False)
            depth = self._recorded(path) or depth
            with suppress(TargetError):  # they are passed over from now on
                _delete(taken)
        settled = replace(array, depth=depth, recorded=True)
        with self._lock:
            if path in self._arrays:
                self._arrays[path] = self._arrays[path][0], settled
        return settled

    def _found_depth(self, array: Layout) -> int | None:
        """The depth of the first container of an array, its folders looked through level by level, up to a number of them."""
        level = [os.path.join(self.root, array.path)]
        looked = 0
        while level and looked < 1000:
            below = []
            for folder in level:
                looked += 1
                for item in scan(folder):
                    name = os.path.relpath(item.path, self.root)
                    if item.name.endswith(self.suffix):
                        outer = array.outer_coordinates(name.removesuffix(self.suffix))
                        if outer is not None:
                            return array.rank - len(outer) + 1
                    elif item.is_dir(follow_symlinks=False):
                        below.append(item.path)
            level = below
        return None

    def _take_in(self, array: Array, depth: int) -> list[tuple[Container, str]]:
        """Copy members that lie outside of an array's folder into it; return where they were."""
        taken = []
        for container, member, coordinates in self._outside_members(array.layout):
            stem, name = array.layout.place(coordinates, depth)
            data = container.get(member)
            if data is not None:
                self.container(stem).put(name, data, replace=False)
                taken.append((container, member))
        return taken

    def _outside_members(self, array: Layout) -> Iterator[tuple[Container, str, Coordinates]]:
        """Members of containers outside of an array's folder that are chunks of it."""
        origin = Chunk(Array(array, self.depth, recorded=False), (0,) * array.rank)
        for container, first in self._outside(origin):
            lead = first[: len(first) - len(".".join("0" * array.rank))]
            for member in container.entries():
                coordinates = array.inner_coordinates((), member.removeprefix(lead)) if member.startswith(lead) else None
                if coordinates is not None:
                    yield container, member, coordinates

    def delete(self, key: str) -> None:
        """Delete a value, or all below it; nothing happens if there is none."""
        path = self.path(key)
        if os.path.isdir(path):
            self.delete_below(key)
            return
        chunk = self.chunk(key)
        if chunk is not None and self.nbytes(key) is not None:
            chunk = Chunk(self.settle(chunk.array), chunk.coordinates)
        for container, member in self.places(chunk) if chunk is not None else ():
            container.delete(member)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise TargetError(f"{path}: cannot be deleted ({error.strerror or one_line(error)})") from None

    def delete_below(self, prefix: str) -> None:
        """Delete all values below a place of the hierarchy."""
        path = self.path(prefix) if prefix else self.root
        array = self.array_of(prefix)
        if array is not None and array.layout.path != prefix:
            for key, _ in list(self.items(f"{prefix}/")):
                self.delete(key)
            return
        for inside in list(self.arrays(prefix)):
            _delete((container, member) for container, member, _ in self._outside_members(inside.layout))
        for _ in range(100):  # others may write at the same time
            try:
                empty(path)
                if prefix and os.path.isdir(path):
                    os.rmdir(path)
                return
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                failed = error
            finally:
                forget_all(os.path.join(path, ""))
        raise TargetError(f"{path}: cannot be deleted ({failed.strerror or one_line(failed)})")

    # Listing

    def arrays(self, prefix: str = "") -> Iterator[Array]:
        """The arrays at and below a place of the hierarchy."""
        found = self.array(prefix)
        if found is not None:
            yield found
            return
        for item in scan(os.path.join(self.root, prefix)):
            if item.is_dir(follow_symlinks=False):
                yield from self.arrays(f"{prefix}/{item.name}" if prefix else item.name)

    def items(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every key that begins so, with the size of its value."""
        start = prefix.rpartition("/")[0]
        array = self.array_of(start) if start else self.array("")
        if array is not None:
            start = array.layout.path
        for key, nbytes in self._walk(start, array):
            if key.startswith(prefix):
                yield key, nbytes

    def _walk(self, place: str, array: Array | None) -> Iterator[tuple[str, int]]:
        array = array or self.array(place)
        if array is not None and array.layout.path == place and not array.recorded:
            yield from self._outside_items(array)
        for item in scan(os.path.join(self.root, place)):
            key = f"{place}/{item.name}" if place else item.name
            if item.is_dir(follow_symlinks=False):
                yield from self._walk(key, array)
                continue
            if _is_hidden(item.name):
                continue
            stem = key.removesuffix(self.suffix)
            outer = array.layout.outer_coordinates(stem) if array is not None and stem != key else None
            if array is not None and outer is not None:
                yield from self._members(array, stem, outer)
            elif array is not None or stem == key or not self._is_outside(key):
                with suppress(FileNotFoundError):
                    yield key, item.stat().st_size

    def _members(self, array: Array, stem: str, outer: Coordinates) -> Iterator[tuple[str, int]]:
        """Chunks of a container, without those that are loose or in one that takes precedence."""
        container = self.container(stem)
        for member, entry in container.entries().items():
            coordinates = array.layout.inner_coordinates(outer, member)
            if coordinates is None:
                continue
            key = array.layout.key(coordinates)
            if os.path.lexists(self.path(key)):
                continue
            if self._wins(Chunk(array, coordinates), container):
                yield key, entry.nbytes

    def _wins(self, chunk: Chunk, container: Container) -> bool:
        for other, member in self.places(chunk):
            if other == container:
                return True
            if member in other:
                return False
        return False

    def _outside_items(self, array: Array) -> Iterator[tuple[str, int]]:
        for container, member, coordinates in self._outside_members(array.layout):
            entry = container.entry(member)
            key = array.layout.key(coordinates)
            if entry and not os.path.lexists(self.path(key)) and self._wins(Chunk(array, coordinates), container):
                yield key, entry.nbytes

    def _is_outside(self, key: str) -> bool:
        """Whether a file is a container of the original's that holds chunks of an array beside or below it."""
        stem = key.removesuffix(self.suffix)
        return self.array(stem) is not None or os.path.isdir(os.path.join(self.root, stem))

    def children(self, prefix: str) -> list[str]:
        """The next components of the keys below a place, each once."""
        array = self.array_of(prefix) if prefix else self.array("")
        if array is None:
            found = []
            for item in scan(os.path.join(self.root, prefix)):
                key = f"{prefix}/{item.name}" if prefix else item.name
                outside = key.endswith(self.suffix) and self._is_outside(key)
                if not _is_hidden(item.name) and not outside:
                    found.append(item.name)
            return found
        below = f"{prefix}/" if prefix else ""
        return list(dict.fromkeys(key[len(below) :].partition("/")[0] for key, _ in self.items(below)))

    def seal(self) -> None:
        """Have libhdf5 see what this process has written."""
        seal_all(self.root + os.sep)


def _delete(members: Iterable[tuple[Container, str]]) -> None:
    found: dict[Container, list[str]] = {}
    for container, member in members:
        found.setdefault(container, []).append(member)
    for container, names in found.items():
        container.delete(*names)


def check_depth(depth: Any) -> None:
    """Refuse what is no depth.

    Raises
    ------
    PlanError
        Then.
    """
    if not isinstance(depth, int) or depth < LEAST_DEPTH:
        raise PlanError(f"consolidate_depth: expected {LEAST_DEPTH} or more, found {depth!r}")


def _is_hidden(name: str) -> bool:
    return name == RECORD or (name.startswith(".") and name.endswith(PARTIAL))
