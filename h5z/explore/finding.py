"""Nodes of a Tree by path: what lies below one, what a pattern matches, where a soft link leads."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from h5z.nodes import GroupNode, Node, Tree

MOST_HOPS = 64


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
