"""Render a Tree as text, and take the Tree of a Zarr store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from h5z.credentials import joined, separate
from h5z.dtypes import class_of
from h5z.errors import TargetError, one_line
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Node, Tree
from h5z.report import size


def scan_zarr(where: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None) -> Tree:
    """Read the metadata of a Zarr hierarchy (format 2 or 3).

    Raises
    ------
    TargetError
        If no hierarchy opens there.
    """
    import zarr

    name, options = separate(os.fspath(where), storage_options)
    try:
        url, options = joined(name, options)
        root = zarr.open(url, mode="r", storage_options=options or None)
        members = list(root.members(max_depth=None)) if isinstance(root, zarr.Group) else []
    except (OSError, ValueError, KeyError) as error:
        raise TargetError(f"{name}: expected a Zarr hierarchy, found none that opens ({one_line(error)})") from None
    nodes: dict[str, Node] = {"/": _zarr_node("/", root)}
    for path, member in sorted(members, key=lambda item: item[0]):
        nodes[f"/{path}"] = _zarr_node(f"/{path}", member)
    return Tree(name, 0, 0, nodes)


def _zarr_node(path: str, member: Any) -> Node:
    import zarr

    attributes = tuple(Attribute(name, "", (), value) for name, value in dict(member.attrs).items())
    if isinstance(member, zarr.Group):
        return GroupNode(path, attributes)
    codecs = tuple((0, type(codec).__name__, 0, ()) for codec in (*member.filters, *member.compressors))
    return ArrayNode(path, str(member.dtype), member.shape, None, "chunked", member.chunks, codecs, attributes=attributes)


def render(tree: Tree, *, attributes: bool = False, depth: int | None = None) -> str:
    """A tree as indented text: names, types, shapes, chunks, filters, links.

    Parameters
    ----------
    attributes : bool
        Whether to show each node's attributes.
    depth : int, optional
        How many levels below the root to show.
    """
    lines = [tree.file]
    for path, node in tree.nodes.items():
        level = 0 if path == "/" else path.count("/")
        if depth is not None and level > depth:
            continue
        if path != "/":
            lines.append("  " * level + _line(path.rpartition("/")[2], node))
        if attributes:
            lines += ["  " * (level + 1) + f"@{item.name} = {_short(item.value)}" for item in node.attributes]
        if isinstance(node, GroupNode) and (depth is None or level < depth):
            lines += ["  " * (level + 1) + text for text in _links(node)]
    lines += [f"problem: {problem.path}: {problem.reason}" for problem in tree.problems]
    text = "\n".join(lines)
    return text.encode("utf-8", "backslashreplace").decode()


def _links(node: GroupNode) -> Iterator[str]:
    for link in node.links:
        target = f"{link.file}:{link.target}" if link.file is not None else link.target
        yield f"{link.name} -> {target} ({link.kind})"


def _line(name: str, node: Node) -> str:
    if isinstance(node, GroupNode):
        return f"{name}/"
    if not isinstance(node, ArrayNode):
        return f"{name} committed datatype {datatype_text(node.dtype)}"
    shape = "null" if node.shape is None else "×".join(map(str, node.shape)) or "scalar"
    text = f"{name} {datatype_text(node.dtype)} {shape}"
    if node.chunks:
        text += f" chunks {'×'.join(map(str, node.chunks))}"
    elif node.layout not in ("contiguous", "chunked"):
        text += f" {node.layout}"
    if node.filters:
        text += " " + "+".join(filter_name or str(number) for number, filter_name, _, _ in node.filters)
    return text + (f" {size(node.storage_nbytes)}" if node.storage_nbytes else "")


def datatype_text(dtype: Datatype) -> str:
    """A datatype in a word or two.

    >>> datatype_text("<f4"), datatype_text({"class": "vlen", "base": "<i4"})
    ('float32', 'vlen of int32')
    """
    import numpy as np

    if isinstance(dtype, str):
        try:
            found = np.dtype(dtype)
        except TypeError:
            return dtype
        return ("big-endian " if dtype.startswith(">") and found.itemsize > 1 else "") + found.newbyteorder("=").name
    kind = class_of(dtype)
    if kind == "string":
        return "string" if dtype["size"] is None else f"string[{dtype['size']}]"
    if kind == "compound":
        return "{" + ", ".join(f"{name}: {datatype_text(member)}" for name, _, member in dtype["members"]) + "}"
    if kind in ("vlen", "array", "enum"):
        shape = f"[{'×'.join(map(str, dtype['shape']))}]" if kind == "array" else ""
        return f"{kind}{shape} of {datatype_text(dtype['base'])}"
    return kind


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
