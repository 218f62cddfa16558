"""Names of HDF5 links -> names that every Zarr store can hold.

HDF5 forbids only ``/`` in a link's name. Zarr (v3 specification, "Node names") forbids names of periods only, and stores lose or
mangle others: their own documents' names, backslashes, control characters, bytes that are not UTF-8, more than 255 bytes.
Such a name is percent-encoded where it is hard, and the node's ``h5z`` attribute keeps the original.
"""

from __future__ import annotations

import hashlib
import re

RESERVED = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", ".h5z"})
_HARD = re.compile(r"[/\\\x00-\x1f\x7f\udc80-\udcff]")
_LONGEST = 240


def escape(name: str) -> str:
    r"""A name that a store can hold: itself for all but hard names.

    >>> escape("temperature (°C)"), escape("zarr.json"), escape(".."), escape("a\\b")
    ('temperature (°C)', '%7Aarr.json', '%2E%2E', 'a%5Cb')
    >>> escape("ZARR.JSON")  # the document's own name, where a file system takes capitals for small letters
    '%5AARR.JSON'
    """
    if name.casefold() in RESERVED:
        return _percent(name[0]) + name[1:]
    if not name.strip("."):
        return "".join(map(_percent, name)) or "%"
    out = _HARD.sub(lambda found: _percent(found[0]), name)
    raw = out.encode("utf-8")
    if len(raw) > _LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        out = raw[: _LONGEST - 20].decode("utf-8", "ignore") + "%" + digest
    return out


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def unique(name: str, taken: set[str]) -> str:
    """A name that is not taken yet: itself, or with a counter.

    >>> unique("a", {"a", "a%1"})
    'a%2'
    """
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}%{number}"
    return found
