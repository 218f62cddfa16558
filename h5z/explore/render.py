"""A Tree as text and as collapsible HTML: names, types, shapes, chunks, filters, bytes, links."""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import islice

from h5z.explore.facts import line, link_text, short
from h5z.explore.finding import below, found, name_matches, with_above
from h5z.nodes import ArrayNode, Attribute, GroupNode, Tree, TypeNode

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
