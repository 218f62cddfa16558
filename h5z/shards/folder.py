"""The files of a shard store: metadata and loose chunks as plain files, the other chunks in containers; no zarr in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from h5z.container import Container
from h5z.container.openfiles import forget_all, seal_all
from h5z.errors import PlanError, TargetError, TargetExistsError, one_line
from h5z.shards.arrays import RECORD, Array, Chunk, Hierarchy
from h5z.shards.listing import children, items
from h5z.shards.places import Layout
from h5z.shards.plain import empty, read_plain, scan, write_plain


@dataclass(frozen=True)
class ShardFolder(Hierarchy):
    """The values of a shard store by key: read, written whole, deleted and listed.

    Parameters
    ----------
    direct : bool
        Whether chunks are written to containers.
    """

    direct: bool = True

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
        depth = self.recorded_depth(path)
        if depth is None:
            depth = self._found_depth(array.layout) or array.depth
            taken = self._take_in(array, depth)
            write_plain(os.path.join(self.root, path, RECORD), json.dumps({"depth": depth}).encode(), replace=False)
            depth = self.recorded_depth(path) or depth
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
        for container, member, coordinates in self.outside_members(array.layout):
            stem, name = array.layout.place(coordinates, depth)
            data = container.get(member)
            if data is not None:
                self.container(stem).put(name, data, replace=False)
                taken.append((container, member))
        return taken

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
            _delete((container, member) for container, member, _ in self.outside_members(inside.layout))
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

    def items(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every key that begins so, with the size of its value."""
        return items(self, prefix)

    def children(self, prefix: str) -> list[str]:
        """The next components of the keys below a place, each once."""
        return children(self, prefix)

    def seal(self) -> None:
        """Have libhdf5 see what this process has written."""
        seal_all(self.root + os.sep)


def _delete(members: Iterable[tuple[Container, str]]) -> None:
    found: dict[Container, list[str]] = {}
    for container, member in members:
        found.setdefault(container, []).append(member)
    for container, names in found.items():
        container.delete(*names)
