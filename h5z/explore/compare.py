"""A source and its target side by side, by their headers alone, with what differs marked."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h5z.attributes import DIMENSION_ATTRIBUTES, SCALE_ATTRIBUTES
from h5z.dtypes import class_of
from h5z.explore.facts import bytes_text, datatype_text, facts, line, numpy_dtype, shape_text
from h5z.names import escape
from h5z.nodes import ArrayNode, GroupNode, Json, Node, Record, Tree, TypeNode
from h5z.report import table_text

SAME, CUT, DIFFERS = "=", "~", "≠"
_SHOWN = 60


@dataclass(frozen=True)
class Row(Record):
    """One object of both sides.

    Attributes
    ----------
    path : str
        In the source; in the target where only that has it.
    mark : str
        ``=`` the same, ``~`` cut or encoded otherwise, ``≠`` another type, shape or attributes, or not on both sides.
    why : tuple of str
        What differs.
    """

    path: str
    mark: str
    left: str
    right: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison(Record):
    """A source's and a target's objects side by side."""

    source: str
    target: str
    rows: tuple[Row, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs but how arrays are cut and encoded."""
        return all(row.mark != DIFFERS for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON's own types, `same` included."""
        return {**super().to_dict(), "same": self.same}

    def table(self) -> list[tuple[str, ...]]:
        """The rows as a table, the first its head."""
        head = ("", "path", self.source, self.target, "what differs")
        return [head, *((row.mark, row.path, row.left, row.right, "; ".join(row.why)) for row in self.rows)]

    def __str__(self) -> str:
        """The table, and a summary."""
        counts = {mark: sum(row.mark == mark for row in self.rows) for mark in (SAME, CUT, DIFFERS)}
        words = {SAME: "the same", CUT: "cut or encoded otherwise", DIFFERS: "differ"}
        summary = ", ".join(f"{counts[mark]} {words[mark]}" for mark in words)
        text = "\n".join([table_text([tuple(map(_shortened, row)) for row in self.table()]), summary])
        return text.encode("utf-8", "backslashreplace").decode()

    def _repr_html_(self) -> str:
        head, *body = self.table()
        shades = {SAME: "", CUT: "background:#f6edc8;color:#222", DIFFERS: "background:#f6cfcf;color:#222"}
        rows = "".join(f"<tr style='{shades[row[0]]}'>{_cells('td', row)}</tr>" for row in body)
        return f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(tag: str, cells: tuple[str, ...]) -> str:
    return "".join(f"<{tag}>{html.escape(cell.encode('utf-8', 'backslashreplace').decode())}</{tag}>" for cell in cells)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def compare(source: Tree, target: Tree) -> Comparison:
    """Put two hierarchies side by side.

    What a migration by h5z moves elsewhere (types, links and hidden attributes, noted under ``h5z``; sequences and compounds that
    become groups; names that no store can hold) is found where it went.
    """
    rows = []
    places = _places(source, target)
    for path, node in source.nodes.items():
        place = places.get(path)
        other = None if place is None else target.nodes.get(place)
        rows.append(_row(path, node, other, target))
    met = set(places.values())
    for place, other in target.nodes.items():
        if place not in met and not _is_part(other):
            rows.append(Row(place, DIFFERS, "", _text(other), ("only in the target",)))
    return Comparison(source.file, target.file, tuple(rows))


def _places(source: Tree, target: Tree) -> dict[str, str]:
    """Where each object of the source is in the target, by its original name where the target notes one."""
    named: dict[str, dict[str, str]] = {}
    for place, node in target.nodes.items():
        above, _, name = place.rpartition("/")
        named.setdefault(above, {})[str(_record(node).get("name", name))] = place
    out = {"/": "/"}
    for path in source.nodes:
        above, _, name = path.rpartition("/")
        place = out.get(above or "/", "/").rstrip("/")
        inside = named.get(place, {})
        if path != "/":
            out[path] = inside.get(name, f"{place}/{escape(name)}")
    return out


def _record(node: Node | None) -> Mapping[str, Json]:
    """What a migration noted under a node's ``h5z``."""
    found = next((item.value for item in node.attributes if item.name == "h5z"), None) if node is not None else None
    return found if isinstance(found, dict) else {}


def _is_part(node: Node) -> bool:
    return "part" in _record(node)


def _row(path: str, node: Node, other: Node | None, target: Tree) -> Row:
    left = _text(node)
    if other is None:
        noted = _noted(path, node, target)
        return Row(path, SAME if noted else DIFFERS, left, noted, () if noted else ("only in the source",))
    why: list[str] = []
    cut: list[str] = []
    if isinstance(node, ArrayNode) and isinstance(other, ArrayNode):
        why += _array_differences(node, other)
        cut = _cuts(node, other)
    elif isinstance(node, ArrayNode) and isinstance(other, GroupNode) and "dataset" in _record(other):
        cut = ["a group of arrays"]
    elif type(node) is not type(other):
        why.append("another kind of object")
    why += _attribute_differences(node, other)
    return Row(path, DIFFERS if why else CUT if cut else SAME, left, _text(other), (*why, *cut))


def _noted(path: str, node: Node, target: Tree) -> str:
    """Where a migration notes what is no node of its own; empty where it does not."""
    above, _, name = path.rpartition("/")
    record = _record(target.nodes.get(above or "/"))
    kind = "types" if isinstance(node, TypeNode) else "dimensions"
    return f"noted with its group ({kind})" if name in record.get(kind, {}) else ""


def _array_differences(node: ArrayNode, other: ArrayNode) -> list[str]:
    out = []
    if _kind(node) != _kind(other):
        out.append(f"dtype {datatype_text(node.dtype)} and {datatype_text(other.dtype)}")
    extra = _extra(node)
    shape = None if node.shape is None else node.shape + extra
    found = None if _record(other).get("null") else other.shape
    recorded = _record(other).get("shape")
    if shape != found and list(node.shape or ()) != recorded:
        out.append(f"shape {shape_text(shape)} and {shape_text(found)}")
    return out


def _kind(node: ArrayNode) -> str:
    """A datatype as far as it matters to values: not the byte order."""
    dtype = node.dtype
    while isinstance(dtype, dict) and dtype["class"] == "array":
        dtype = dtype["base"]
    found = numpy_dtype(dtype)
    if found is None:
        return "string" if class_of(dtype) in ("string", "reference") else datatype_text(dtype)
    return repr(_native(found))


def _native(dtype: Any) -> Any:
    if dtype.names is not None:
        return [(name, _native(dtype[name])) for name in dtype.names]
    return dtype.str[1:]


def _extra(node: ArrayNode) -> tuple[int, ...]:
    out: tuple[int, ...] = ()
    dtype = node.dtype
    while isinstance(dtype, dict) and dtype["class"] == "array":
        out += tuple(dtype["shape"])
        dtype = dtype["base"]
    return out


def _cuts(node: ArrayNode, other: ArrayNode) -> list[str]:
    out = []
    if (node.chunks or node.shape) != other.chunks or other.shards:
        out.append("chunks")
    if [item[1] for item in node.filters] != [item[1] for item in other.filters]:
        out.append("codecs")
    return out


def _attribute_differences(node: Node, other: Node) -> list[str]:
    hidden = DIMENSION_ATTRIBUTES | SCALE_ATTRIBUTES | {"h5z", "_ARRAY_DIMENSIONS"}
    record = _record(other).get("attributes", {})
    left = {item.name: item.value for item in node.attributes if item.name not in hidden}
    right = {item.name: item.value for item in other.attributes if item.name not in hidden}
    added = _record(other).get("added", ())
    out = [f"@{name} only in the source" for name in left if name not in right and "value" not in record.get(name, {})]
    out += [f"@{name} only in the target" for name in right if name not in left and name not in added]
    for name in left.keys() & right.keys():
        noted = record.get(name, {})
        found = noted.get("value", right[name])
        if left[name] != found and left[name] != [found]:
            out.append(f"@{name} differs")
    return sorted(out)


def _text(node: Node) -> str:
    if isinstance(node, ArrayNode):
        return " ".join([*facts(node), bytes_text(node)]).rstrip()
    return "group" if isinstance(node, GroupNode) else line(node).partition(" ")[2]
