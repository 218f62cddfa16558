"""The names of a group's links and of an object's attributes, and whether the tables that hold them are whole.

Where libhdf5 sorts names, it trusts the number of them that a table's header tells, and goes beyond its memory where the nodes
hold another. Here they are met in the order in which they are stored, counted, and only then sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from h5py import h5, h5a, h5p

from h5z import limits
from h5z.errors import one_line

_Iterate: TypeAlias = Callable[[Callable[[bytes], None], int, int], None]


def link_names(gid: Any) -> tuple[list[bytes], str]:
    """The names of an open group's links, and why there may be others; empty where all are found.

    They are in the order of creation where the group has kept it, else sorted.
    """

    def iterate(note: Callable[[bytes], None], index: int, order: int) -> None:
        gid.links.iterate(note, idx_type=index, order=order)

    return _listed(iterate, gid.get_num_objs, lambda: gid.get_create_plist().get_link_creation_order())


def attribute_names(oid: Any, plist: Any) -> tuple[list[bytes], str]:
    """The same of an open object's attributes; a committed datatype has no `plist`."""

    def iterate(note: Callable[[bytes], None], index: int, order: int) -> None:
        h5a.iterate(oid, note, index_type=index, order=order)

    def count() -> int:
        return limits.at_most(limits.MOST_ATTRIBUTES, h5a.get_num_attrs(oid), "attributes")

    return _listed(iterate, count, lambda: 0 if plist is None else plist.get_attr_creation_order())


def _listed(iterate: _Iterate, count: Callable[[], int], order: Callable[[], int]) -> tuple[list[bytes], str]:
    names: list[bytes] = []
    try:
        expected = count()
        tracked = order() & h5p.CRT_ORDER_TRACKED
        index = h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
        iterate(names.append, index, h5.ITER_NATIVE)
        if len(names) != expected:
            return sorted(names), f"expected {expected:,}, found {len(names):,}"
        if not tracked:
            return sorted(names), ""
        names.clear()
        iterate(names.append, index, h5.ITER_INC)
    except Exception as error:
        return names, one_line(error)
    return names, ""
