"""What keys a shard store has: of plain files, and of the chunks in containers, each key once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from h5z.container import Container
from h5z.container.drafts import PARTIAL
from h5z.shards.arrays import RECORD, Array, Chunk, Hierarchy
from h5z.shards.places import Coordinates
from h5z.shards.plain import scan


def items(hierarchy: Hierarchy, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every key that begins so, with the size of its value."""
    start = prefix.rpartition("/")[0]
    array = hierarchy.array_of(start) if start else hierarchy.array("")
    if array is not None:
        start = array.layout.path
    for key, nbytes in _walk(hierarchy, start, array):
        if key.startswith(prefix):
            yield key, nbytes


def children(hierarchy: Hierarchy, prefix: str) -> list[str]:
    """The next components of the keys below a place, each once."""
    array = hierarchy.array_of(prefix) if prefix else hierarchy.array("")
    if array is None:
        found = []
        for item in scan(os.path.join(hierarchy.root, prefix)):
            key = f"{prefix}/{item.name}" if prefix else item.name
            outside = key.endswith(hierarchy.suffix) and _is_outside(hierarchy, key)
            if not _is_hidden(item.name) and not outside:
                found.append(item.name)
        return found
    below = f"{prefix}/" if prefix else ""
    return list(dict.fromkeys(key[len(below) :].partition("/")[0] for key, _ in items(hierarchy, below)))


def _walk(hierarchy: Hierarchy, place: str, array: Array | None) -> Iterator[tuple[str, int]]:
    array = array or hierarchy.array(place)
    if array is not None and array.layout.path == place and not array.recorded:
        yield from _outside_items(hierarchy, array)
    for item in scan(os.path.join(hierarchy.root, place)):
        key = f"{place}/{item.name}" if place else item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(hierarchy, key, array)
            continue
        if _is_hidden(item.name):
            continue
        stem = key.removesuffix(hierarchy.suffix)
        outer = array.layout.outer_coordinates(stem) if array is not None and stem != key else None
        if array is not None and outer is not None:
            yield from _members(hierarchy, array, stem, outer)
        elif array is not None or stem == key or not _is_outside(hierarchy, key):
            with suppress(FileNotFoundError):
                yield key, item.stat().st_size


def _members(hierarchy: Hierarchy, array: Array, stem: str, outer: Coordinates) -> Iterator[tuple[str, int]]:
    """Chunks of a container, without those that are loose or in one that takes precedence."""
    container = hierarchy.container(stem)
    for member, entry in container.entries().items():
        coordinates = array.layout.inner_coordinates(outer, member)
        if coordinates is None:
            continue
        key = array.layout.key(coordinates)
        if os.path.lexists(hierarchy.path(key)):
            continue
        if _wins(hierarchy, Chunk(array, coordinates), container):
            yield key, entry.nbytes


def _wins(hierarchy: Hierarchy, chunk: Chunk, container: Container) -> bool:
    for other, member in hierarchy.places(chunk):
        if other == container:
            return True
        if member in other:
            return False
    return False


def _outside_items(hierarchy: Hierarchy, array: Array) -> Iterator[tuple[str, int]]:
    for container, member, coordinates in hierarchy.outside_members(array.layout):
        entry = container.entry(member)
        key = array.layout.key(coordinates)
        if entry and not os.path.lexists(hierarchy.path(key)) and _wins(hierarchy, Chunk(array, coordinates), container):
            yield key, entry.nbytes


def _is_outside(hierarchy: Hierarchy, key: str) -> bool:
    """Whether a file is a container of ``H5_Nested_Store`` that holds chunks of an array beside or below it."""
    stem = key.removesuffix(hierarchy.suffix)
    return hierarchy.array(stem) is not None or os.path.isdir(os.path.join(hierarchy.root, stem))


def _is_hidden(name: str) -> bool:
    return name == RECORD or (name.startswith(".") and name.endswith(PARTIAL))
