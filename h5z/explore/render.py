"""A Tree as text and as collapsible HTML: names, types, shapes, chunks, filters, bytes, links."""

from __future__ import annotations

import fnmatch
import html
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from h5z.dtypes import class_of, plain
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Link, Node, Tree, TypeNode
from h5z.report import size

MOST_HOPS = 64
_LONGEST_VALUE = 100
_MOST_HTML = 5_000  # nodes; a browser does not take much more


def render(
    tree: Tree,
    *,
    path: str = "/",
    attributes: bool = False,
    depth: int | None = None,
    pattern: str | None = None,
    most: int | None = None,
) -> str:
    """A tree as indented text.

    Parameters
    ----------
    path : str
        The group to start from.
    attributes : bool
        Whether to show each node's attributes.
    depth : int, optional
        How many levels below that group to show.
    pattern : str, optional
        Show only what it matches (as `found` does), with the groups above.
    most : int, optional
        How many lines to show at most.
    """
    lines = _lines(tree, path, attributes, depth, pattern)
    out = list(lines if most is None else islice(lines, most))
    if most is not None and next(iter(lines), None) is not None:
        out.append(f"… ({len(tree.nodes)} objects in all)")
    return "\n".join(out).encode("utf-8", "backslashreplace").decode()


def _lines(tree: Tree, path: str, attributes: bool, depth: int | None, pattern: str | None) -> Iterator[str]:
    start = "/" + path.strip("/")
    base = 0 if start == "/" else start.count("/")
    shown = None if pattern is None else with_above(found(tree, pattern, start))
    yield tree.file if start == "/" else f"{tree.file}: {start}"
    for node in below(tree, start):
        level = 0 if node.path == "/" else node.path.count("/") - base
        if (depth is not None and level > depth) or (shown is not None and node.path not in shown):
            continue
        if node.path != start or not isinstance(node, GroupNode):
            yield "  " * max(level, 1) + line(node)
        if attributes:
            yield from ("  " * (level + 1) + f"@{item.name} = {short(item.value)}" for item in node.attributes)
        if isinstance(node, GroupNode) and (depth is None or level < depth):
            for link in node.links:
                if shown is None or name_matches(pattern or "", link.name):
                    yield "  " * (level + 1) + link_text(tree, node, link)
    yield from (f"problem: {problem.path}: {problem.reason}" for problem in tree.problems)


def below(tree: Tree, path: str) -> Iterator[Node]:
    """A node and all below it."""
    inside = path.rstrip("/") + "/"
    return (node for node in tree.nodes.values() if node.path == path or node.path.startswith(inside))


def found(tree: Tree, pattern: str, path: str = "/") -> list[str]:
    """Paths of what a pattern matches below a path, links included.

    A pattern with ``*``, ``?`` or ``[`` is matched with names, or with whole paths where it holds a slash; any other is a part
    of a name, in upper or lower case alike.
    """
    out = []
    for node in below(tree, "/" + path.strip("/")):
        if node.path != "/" and node.path != "/" + path.strip("/") and name_matches(pattern, node.path):
            out.append(node.path)
        for link in node.links if isinstance(node, GroupNode) else ():
            place = f"{node.path.rstrip('/')}/{link.name}"
            if name_matches(pattern, place):
                out.append(place)
    return sorted(out)


def name_matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path's last name, or, with a slash in it, the path.

    >>> name_matches("TEMP", "/a/temperature"), name_matches("t*", "/a/temp"), name_matches("/a/*", "/a/temp")
    (True, True, True)
    >>> name_matches("a", "/a/b")
    False
    """
    if "/" in pattern:
        return fnmatch.fnmatchcase(path, "/" + pattern.strip("/"))
    name = path.rpartition("/")[2]
    return fnmatch.fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern.lower() in name.lower()


def with_above(paths: list[str]) -> set[str]:
    """Paths, and those of the groups above them."""
    out = {"/"}
    for path in paths:
        while path and path not in out:
            out.add(path)
            path = path.rpartition("/")[0]
    return out


def line(node: Node) -> str:
    """A node in a line."""
    name = node.path.rpartition("/")[2]
    if isinstance(node, GroupNode):
        return f"{name}/"
    if not isinstance(node, ArrayNode):
        return f"{name} committed datatype {datatype_text(node.dtype)}"
    return " ".join([name, *facts(node), bytes_text(node)]).rstrip()


def facts(node: ArrayNode) -> list[str]:
    """An array's datatype, shape, chunks and filters."""
    out = [datatype_text(node.dtype), shape_text(node.shape)]
    if node.chunks and (node.layout == "chunked" and node.shape):
        out.append(f"chunks {shape_text(node.chunks)}")
    elif node.layout not in ("contiguous", "chunked"):
        out.append(node.layout)
    if node.shards:
        out.append(f"shards {shape_text(node.shards)}")
    if node.filters:
        out.append(filters_text(node))
    return out


def filters_text(node: ArrayNode) -> str:
    """Filters or codecs, in the order in which they encode."""
    return "+".join(_filter_text(number, name, options) for number, name, _, options in node.filters)


_KNOWN = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 307: "bzip2", 32015: "zstd"}
_LEVELLED = (1, 307, 32015)  # whose first option is the level


def _filter_text(number: int, name: str, options: tuple[int, ...]) -> str:
    """A filter in a word: HDF5's by its number, whose registered name may be a sentence.

    >>> _filter_text(1, "deflate", (6,)), _filter_text(32001, "blosc; see http://blosc.org", ()), _filter_text(0, "zstd:3", ())
    ('deflate:6', 'blosc', 'zstd:3')
    """
    short_name = _KNOWN.get(number) or name.partition(";")[0].strip()[:40] or str(number)
    return f"{short_name}:{options[0]}" if number in _LEVELLED and options else short_name


def shape_text(shape: tuple[int, ...] | None) -> str:
    """A shape.

    >>> shape_text((2, 3)), shape_text(()), shape_text(None)
    ('2×3', 'scalar', 'null')
    """
    return "null" if shape is None else "×".join(map(str, shape)) or "scalar"


def logical_nbytes(node: ArrayNode) -> int | None:
    """Bytes of an array's elements; None where those vary."""
    each = element_nbytes(node.dtype)
    return None if each is None else (0 if node.shape is None else math.prod(node.shape)) * each


def element_nbytes(dtype: Datatype) -> int | None:
    """Bytes of one element; None where they vary.

    >>> element_nbytes("<f4"), element_nbytes({"class": "array", "shape": [2, 3], "base": "<f8"})
    (4, 48)
    """
    found_dtype = numpy_dtype(dtype)
    if found_dtype is not None:
        return found_dtype.itemsize
    if isinstance(dtype, dict) and dtype["class"] == "array":
        inner = element_nbytes(dtype["base"])
        return None if inner is None else inner * math.prod(dtype["shape"])
    if isinstance(dtype, dict) and dtype["class"] == "compound":
        sizes = [element_nbytes(member) for _, _, member in dtype["members"]]
        return None if None in sizes else sum(nbytes for nbytes in sizes if nbytes is not None)
    return None


def numpy_dtype(dtype: Datatype) -> np.dtype[Any] | None:
    """The numpy dtype of a datatype's elements, or None."""
    try:
        return plain(dtype)
    except (TypeError, KeyError, ValueError):
        return None


def bytes_text(node: ArrayNode) -> str:
    """What an array is in memory, what it takes, and the ratio."""
    logical = logical_nbytes(node)
    if logical is None or not node.storage_nbytes:
        return f"{size(node.storage_nbytes)} stored" if node.storage_nbytes else "" if logical is None else size(logical)
    if logical == node.storage_nbytes:
        return size(logical)
    return f"{size(logical)}, {size(node.storage_nbytes)} stored ({logical / node.storage_nbytes:.3g}:1)"


def link_text(tree: Tree, group: GroupNode, link: Link) -> str:
    """A link, and whether it leads in a circle or nowhere."""
    target = f"{link.file}:{link.target}" if link.file is not None else link.target
    kind: str = link.kind
    if kind == "hard" and f"{group.path.rstrip('/')}/".startswith(link.target.rstrip("/") + "/"):
        kind += ", a circle"
    elif kind == "soft":
        reached = follow(tree, group.path, link.target)
        if reached is None:
            kind += ", dangling"
        elif f"{group.path.rstrip('/')}/".startswith(reached.rstrip("/") + "/"):
            kind += ", a circle"
    return f"{link.name} -> {target} ({kind})"


def follow(tree: Tree, group: str, target: str) -> str | None:
    """The path of the object that a soft link's target leads to, through other links too; None where it leads nowhere."""
    place = "" if target.startswith("/") else group.rstrip("/")
    names = [name for name in target.split("/") if name not in ("", ".")][::-1]
    hops = 0
    while names:
        above = tree.nodes.get(place or "/")
        name = names.pop()
        if f"{place}/{name}" in tree.nodes:
            place = f"{place}/{name}"
            continue
        link = next((item for item in above.links if item.name == name), None) if isinstance(above, GroupNode) else None
        hops += 1
        if link is None or link.kind in ("external", "user") or hops > MOST_HOPS:
            return f"{place}/{name}" if link is not None and link.kind == "external" and not names else None
        if link.kind == "hard" or link.target.startswith("/"):
            place = ""
        names += [part for part in link.target.split("/") if part not in ("", ".")][::-1]
    return place or "/"


def datatype_text(dtype: Datatype) -> str:
    """A datatype in a word or two.

    >>> datatype_text("<f4"), datatype_text({"class": "vlen", "base": "<i4"})
    ('float32', 'vlen of int32')
    """
    if isinstance(dtype, str):
        try:
            found_dtype = np.dtype(dtype)
        except TypeError:
            return dtype
        big = dtype.startswith(">") and found_dtype.itemsize > 1
        return ("big-endian " if big else "") + found_dtype.newbyteorder("=").name
    kind = class_of(dtype)
    if kind == "string":
        return "string" if dtype["size"] is None else f"string[{dtype['size']}]"
    if kind == "compound":
        return "{" + ", ".join(f"{name}: {datatype_text(member)}" for name, _, member in dtype["members"]) + "}"
    if kind in ("vlen", "array", "enum"):
        shape = f"[{shape_text(tuple(dtype['shape']))}]" if kind == "array" else ""
        return f"{kind}{shape} of {datatype_text(dtype['base'])}"
    if kind == "complex":
        carried = numpy_dtype(dtype)
        return carried.name if carried is not None and carried.kind == "c" else kind
    return kind


def short(value: Any) -> str:
    """A value in a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def render_html(tree: Tree) -> str:
    """A tree as HTML whose groups fold: nothing but elements that every browser has."""
    out = [f"<div style='font-family:monospace'><b>{html.escape(_clean(tree.file))}</b>"]
    open_levels: list[str] = []
    for count, node in enumerate(tree.nodes.values()):
        if count >= _MOST_HTML:
            out.append(f"<div>… {len(tree.nodes) - count} more objects</div>")
            break
        while open_levels and not (node.path.startswith(open_levels[-1]) and node.path != open_levels[-1]):
            out.append("</details>")
            open_levels.pop()
        if isinstance(node, GroupNode):
            shown = " open" if node.path.count("/") < 2 else ""
            name = node.path.rpartition("/")[2] + "/"
            out.append(f"<details{shown} style='margin-left:1em'><summary>{html.escape(_clean(name))}</summary>")
            out.append(_attributes_html(node.attributes))
            texts = (html.escape(_clean(link_text(tree, node, item))) for item in node.links)
            out += [f"<div style='margin-left:1em'>{text}</div>" for text in texts]
            open_levels.append(node.path.rstrip("/") + "/")
        else:
            out.append(_leaf_html(node))
    out += ["</details>"] * len(open_levels)
    out += [f"<div>problem: {html.escape(_clean(f'{p.path}: {p.reason}'))}</div>" for p in tree.problems[:_MOST_HTML]]
    return "".join([*out, "</div>"])


def _leaf_html(node: ArrayNode | TypeNode) -> str:
    name = node.path.rpartition("/")[2]
    rest = line(node)[len(name) :]
    inner = _attributes_html(node.attributes)
    head = f"<b>{html.escape(_clean(name))}</b>{html.escape(_clean(rest))}"
    if not inner:
        return f"<div style='margin-left:2em'>{head}</div>"
    return f"<details style='margin-left:1em'><summary>{head}</summary>{inner}</details>"


def _attributes_html(attributes: tuple[Attribute, ...]) -> str:
    texts = (html.escape(_clean(f"@{item.name} = {short(item.value)}")) for item in attributes)
    return "".join(f"<div style='margin-left:2em;opacity:.7'>{text}</div>" for text in texts)


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
