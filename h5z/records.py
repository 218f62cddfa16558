"""What goes under a node's ``h5z``: whatever Zarr has no word for, as JSON that UTF-8 can hold."""

from __future__ import annotations

from collections.abc import Mapping

from h5z.dtypes import BOOL, STRING
from h5z.nodes import ArrayNode, Datatype, GroupNode, Json, Link


def json_name(name: str) -> str:
    r"""A name as JSON can hold it: bytes that are not UTF-8 as ``\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def clean(value: Json) -> Json:
    """The same JSON with every text in it as UTF-8 can hold it."""
    if isinstance(value, str):
        return value if value.isascii() else json_name(value)
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list | tuple) else value


def link_record(link: Link) -> dict[str, Json]:
    """A link: where it leads, by kind."""
    target = json_name(link.target)
    return {"external": [json_name(link.file), target]} if link.file is not None else {link.kind: target}


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
