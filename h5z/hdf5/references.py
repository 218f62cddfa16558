"""Where HDF5's references point, as text: paths, and selections of a dataspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5o, h5r, h5s

from h5z.errors import SourceError, one_line
from h5z.hdf5.libhdf5 import region_of

if TYPE_CHECKING:
    pass


def address(oid: Any) -> tuple[int, int]:
    """What tells an open object from all others: its file's number and its address in it."""
    info = h5o.get_info(oid)
    return info.fileno, info.addr


def lone_paths(fid: Any) -> dict[tuple[int, int], str]:
    """The path of every object of a file to which one path alone leads, by `address`.

    libhdf5 finds a path by walking the file, once for each reference; of these objects it would find none other.
    """
    found: dict[tuple[int, int], str] = {}
    several: set[bytes] = set()

    def note(name: bytes, info: Any) -> None:
        name = b"" if name == b"." else name
        parent = name.rpartition(b"/")[0]
        if info.rc != 1 or parent in several:
            several.add(name)
        elif name:
            found[info.fileno, info.addr] = "/" + name.decode("utf-8", "surrogateescape")

    try:
        h5o.visit(fid, note, info=True)
    except (OSError, RuntimeError, ValueError, KeyError):
        return {}  # a damaged file: each path is looked for by itself
    return found


def reference_text(ref: Any, fid: Any, paths: dict[tuple[int, int], str] | None = None) -> str:
    """The path, and for a region the selection, that a reference points to; empty for a null reference.

    A reference is h5py's, or the bytes of a region reference.
    A region that is all of a dataset, whatever its size, is the path alone.

    Raises
    ------
    SourceError
        If the reference points to nothing, or to what has no path.
    """
    if not (any(ref) if isinstance(ref, bytes) else ref):
        return ""
    try:
        if isinstance(ref, bytes):
            return _region_text(*region_of(fid, ref))
        target = h5r.dereference(ref, fid)
        path = (paths or {}).get(address(target)) or (h5r.get_name(ref, fid) or b"").decode("utf-8", "surrogateescape")
    except (KeyError, OSError, RuntimeError, ValueError, SystemError) as error:
        raise SourceError(f"a reference points to nothing ({one_line(error)})") from None
    if not path:
        raise SourceError("a reference points to an object to which no link leads")
    if not isinstance(ref, h5py.RegionReference):
        return path
    return _region_text(path, h5r.get_region(ref, fid))


def _region_text(path: str, region: Any) -> str:
    return path if region.get_select_type() == h5s.SEL_ALL else f"{path}[{space_text(region)}]"


def space_text(space: Any) -> str:
    """A dataspace's selection as text: ``0:3,4:6`` per block, ``(0,1)`` per point, joined by ``;``.

    >>> space = h5s.create_simple((4, 5)); space.select_hyperslab((0, 1), (1, 1), block=(2, 3)); space_text(space)
    '0:2,1:4'
    """
    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return ",".join(f"0:{n}" for n in space.get_simple_extent_dims())
    if kind == h5s.SEL_NONE:
        return ""
    if kind == h5s.SEL_POINTS:
        return ";".join("({})".format(",".join(map(str, point))) for point in space.get_select_elem_pointlist())
    if space.is_regular_hyperslab():
        start, stride, count, block = space.get_regular_hyperslab()
        if any(c == h5s.UNLIMITED or b == h5s.UNLIMITED for c, b in zip(count, block, strict=True)):
            terms = zip(start, stride, count, block, strict=True)
            return ",".join(f"{a}:{s}:{_limit(c)}:{_limit(b)}" for a, s, c, b in terms)
    blocks = space.get_select_hyper_blocklist()
    return ";".join(",".join(f"{a}:{b + 1}" for a, b in zip(low, high, strict=True)) for low, high in blocks)


def mapping_text(space: Any) -> str:
    """A selection of a virtual dataset's mapping as text: ``all``, ``start:stride:count:block`` per axis, else `space_text`.

    >>> space = h5s.create_simple((4, 5)); space.select_hyperslab((0, 1), (2, 1), (2, 1), (1, 3)); mapping_text(space)
    '0:2:2:1,1:1:1:3'
    """
    if space.get_select_type() == h5s.SEL_ALL:
        return "all"
    if space.get_select_type() == h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        terms = zip(*space.get_regular_hyperslab(), strict=True)
        return ",".join(f"{a}:{s}:{_limit(c)}:{_limit(b)}" for a, s, c, b in terms)
    return space_text(space)


def _limit(count: int) -> str:
    return "inf" if count == h5s.UNLIMITED else str(count)
