"""What goes under a node's ``h5z``: whatever Zarr has no word for, as JSON that UTF-8 can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from h5z.dtypes import BOOL, STRING
from h5z.nodes import ArrayNode, Datatype, GroupNode, Json, Link

_WRITTEN = re.compile(r"\\x(5c|[89a-f][0-9a-f])")
_MISTAKABLE = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f]))")


def json_name(name: str) -> str:
    r"""A name as JSON can hold it: bytes that are not UTF-8 as ``\xNN``, and what looks like one of them as ``\x5cxNN``.

    >>> print(json_name("gr\udcfc"), json_name("gr\\xfc"), json_name("gr\\x20"))
    gr\xfc gr\x5cxfc gr\x20
    """
    return shown(name if "\\x" not in name else _MISTAKABLE.sub(r"\\x5c", name))


def hdf5_name(text: str) -> str:
    r"""The name that `json_name` wrote.

    >>> [hdf5_name(json_name(name)) == name for name in ("gr\udcfc", "gr\\xfc", "gr\\x5cxfc", "gr\\\udcfc")]
    [True, True, True, True]
    """
    if "\\x" not in text:
        return text
    raw = _WRITTEN.sub(lambda found: "\\" if found[1] == "5c" else chr(0xDC00 + int(found[1], 16)), text)
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    r"""Text as UTF-8 can hold it: bytes that are not UTF-8 as ``\xNN``."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def clean(value: Json, text: Callable[[str], str] = json_name) -> Json:
    """The same JSON with every text in it as UTF-8 can hold it; names so that they can be told apart."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(key): clean(item, text) for key, item in value.items()}
    return [clean(item, text) for item in value] if isinstance(value, list | tuple) else value


def link_record(link: Link) -> dict[str, Json]:
    """A link: where it leads, by kind."""
    return {"external": [link.file, link.target]} if link.file is not None else {link.kind: link.target}


def attribute_record(node: GroupNode | ArrayNode, exact: dict[str, Json]) -> dict[str, Json]:
    """What JSON alone loses of a node's attributes: datatypes, shapes, values, and their order where it is tracked."""
    record: dict[str, Json] = {"attributes": exact} if exact else {}
    if "attrs" in node.order and len(node.attributes) > 1:
        record["attribute_order"] = [item.name for item in node.attributes]
    if node.comment:
        record["comment"] = node.comment
    return record


def array_record(node: ArrayNode) -> dict[str, Json]:
    """What Zarr has no word for of a dataset's header."""
    keep = ("maxshape", "layout", "chunks", "filters", "fill", "fill_time", "alloc_time", "scales", "committed")
    more = ("sources", "order", "allocated", "nulls", "edges")
    record = {key: value for key, value in node.to_dict().items() if key in (*keep, *more)}
    if not _implied(node.dtype):
        record["dtype"] = node.dtype
    if node.shape is None:
        record["null"] = True
    return record


def _implied(dtype: Datatype) -> bool:
    """Whether the Zarr data type alone says the HDF5 one."""
    return (isinstance(dtype, str) and not dtype.startswith(">")) or dtype in (BOOL, STRING)
