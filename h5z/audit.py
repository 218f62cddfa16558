"""Whether a finished target still holds the bytes that were written: by its own record, without the source."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from h5z.errors import TargetError
from h5z.report import Difference, Report


def audit(target: Any, *, storage_options: dict[str, Any] | None = None) -> Report:
    """Read every stored unit of a finished target and compare each array's checksum with the one taken at its writing.

    Returns
    -------
    Report
        With a difference for each array of which units are missing, additional or changed; `checked_nbytes` as stored.

    Raises
    ------
    TargetError, TransientError
        If there is no finished target of h5z, or it cannot be read.
    """
    from h5z.target import Target
    from h5z.units import checksum

    start = time.perf_counter()
    place = Target.of(target, storage_options)
    root = place.root()
    record = (root or {}).get("h5z")
    if not isinstance(record, dict) or "checksums" not in record:
        found = "none" if root is None else "a Zarr hierarchy without its record"
        raise TargetError(f"{place.name}: expected a finished target of h5z, found {found}")
    separator = "/" if record.get("policy", {}).get("zarr_format", 3) == 3 else "."
    found_sums: dict[str, int] = {}
    nbytes = 0
    for path, index, key in _units(place.listing(), separator):
        data = place.get(key)
        if separator == "." and index == (0,) and not json.loads(place.get(f"{path[1:]}/.zarray") or b"{}").get("shape"):
            index = ()  # format 2 has no other key for a scalar
        if data is not None:
            found_sums[path] = (found_sums.get(path, 0) + checksum(index, data).checksum) % (1 << 64)
            nbytes += len(data)
    wanted = record["checksums"]
    got = {path: f"{value:016x}" for path, value in found_sums.items()}
    differences = tuple(
        Difference(path, "checksum of stored bytes", str(wanted.get(path, "none")), got.get(path, f"{0:016x}"))
        for path in sorted({*wanted, *got})
        if wanted.get(path) != got.get(path, f"{0:016x}")
    )
    status = "differs" if differences else "verified"
    rest: dict[str, Any] = {"arrays": len(wanted), "nbytes": nbytes, "checked_nbytes": nbytes, "level": "digest"}
    seconds = time.perf_counter() - start
    return Report(record["source"]["name"], place.name, status, seconds=seconds, differences=differences, **rest)


def _units(keys: list[str], separator: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """The stored units among a target's keys: array, index and key."""
    for key in sorted(keys):
        if key.startswith(".h5z/") or key.rpartition("/")[2] in ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"):
            continue
        if separator == "/":
            path, _, rest = key.rpartition("/c/") if "/c/" in key else (key.removesuffix("/c"), "", "")
        else:
            path, _, rest = key.rpartition("/")
        parts = rest.split(separator) if rest else []
        if all(part.isdigit() for part in parts):
            yield f"/{path}", tuple(map(int, parts)), key
