"""Where a chunk is: from its key in a Zarr hierarchy to a container and the member in it, and back; arithmetic of names.

``H5_Nested_Store``'s layout: of a chunk's path, the last ``depth - 1`` components, joined by dots, name a member of the container
whose path is the rest. So that everything of an array lies within its folder, arrays of too few dimensions have one container,
``c.h5``, there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Coordinates: TypeAlias = tuple[int, ...]
WHOLE = "c"  # the stem of the container that holds all of an array
LEAST_DEPTH = 2
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """How an array's chunks are named.

    Attributes
    ----------
    path : str
        The array's, from the root of its store; empty for the root itself.
    rank : int
        Number of dimensions.
    separator : str
        Between a chunk's indices in its key, ``/`` or ``.``.
    prefixed : bool
        Whether keys begin with ``c``, as is Zarr v3's default.
    """

    path: str
    rank: int
    separator: str
    prefixed: bool

    def coordinates(self, rest: str) -> Coordinates | None:
        """The indices of the chunk that a key below the array is of; None if it is of none.

        >>> Layout("a", 3, "/", True).coordinates("c/0/10/2"), Layout("a", 2, ".", False).coordinates("0.01")
        ((0, 10, 2), None)
        """
        if self.rank == 0:
            return None  # its one chunk is a plain file
        if self.prefixed:
            if not rest.startswith(f"c{self.separator}"):
                return None
            rest = rest[2:]
        parts = rest.split(self.separator)
        if len(parts) != self.rank or not all(map(_INTEGER.fullmatch, parts)):
            return None
        return tuple(map(int, parts))

    def key(self, coordinates: Coordinates) -> str:
        """A chunk's key."""
        rest = self.separator.join(map(str, coordinates))
        return f"{self.below}{'c' + self.separator if self.prefixed else ''}{rest}"

    @property
    def below(self) -> str:
        """What keys below the array begin with."""
        return f"{self.path}/" if self.path else ""

    def place(self, coordinates: Coordinates, depth: int) -> tuple[str, str]:
        """The path of a chunk's container from the root of the store, without its suffix, and the member in it.

        >>> Layout("", 5, "/", False).place((0, 0, 3, 1, 0), 3), Layout("a", 3, "/", True).place((0, 1, 2), 3)
        (('0/0/3', '1.0'), ('a/c/0', '1.2'))
        >>> Layout("a", 2, "/", False).place((4, 5), 3)
        ('a/c', '4.5')
        """
        count = max(0, self.rank - depth + 1)
        member = ".".join(map(str, coordinates[count:]))
        if count == 0:
            return f"{self.below}{WHOLE}", member
        return f"{self.below}{'c/' if self.prefixed else ''}{'/'.join(map(str, coordinates[:count]))}", member

    def outer_coordinates(self, stem: str) -> Coordinates | None:
        """The indices that the path of a container, without its suffix, stands for; None if it is no container of the array."""
        rest = stem[len(self.below) :]
        if rest == WHOLE:
            return ()
        if self.prefixed:
            if not rest.startswith("c/"):
                return None
            rest = rest[2:]
        parts = rest.split("/")
        if not 0 < len(parts) < self.rank or not all(map(_INTEGER.fullmatch, parts)):
            return None
        return tuple(map(int, parts))

    def inner_coordinates(self, outer: Coordinates, member: str) -> Coordinates | None:
        """The indices of the chunk that a container's member is; None if it is none."""
        parts = member.split(".")
        if len(outer) + len(parts) != self.rank or not all(map(_INTEGER.fullmatch, parts)):
            return None
        return outer + tuple(map(int, parts))

    def depths(self, preferred: int) -> Iterator[int]:
        """Every depth at which containers of the array may be, the preferred one first; depths above the rank are one."""
        first = min(preferred, self.rank + 1)
        yield first
        yield from (depth for depth in range(LEAST_DEPTH, self.rank + 2) if depth != first)


def layout(path: str, name: str, text: bytes) -> Layout | None:
    """Read the layout of a node from its metadata document; None if it is no array, or no document that zarr could read."""
    try:
        document: dict[str, Any] = json.loads(text)
        if name == ".zarray":
            return Layout(path, len(document["shape"]), document.get("dimension_separator", "."), False)
        if document.get("node_type") != "array":
            return None
        encoding = document["chunk_key_encoding"]
        encoding = {"name": encoding} if isinstance(encoding, str) else encoding
        prefixed = encoding["name"] == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if prefixed else ".")
        return Layout(path, len(document["shape"]), separator, prefixed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def outside_place(chunk_path: str, depth: int) -> tuple[str, str] | None:
    """Where the original kept a chunk of an array of fewer than `depth` dimensions, from the whole path of its loose file.

    >>> outside_place("/data/x.zarr/arr/3", 3)
    ('/data/x.zarr', 'arr.3')
    """
    parts = chunk_path.split("/")
    if len(parts) <= depth:
        return None
    return "/".join(parts[: 1 - depth]), ".".join(parts[1 - depth :])
