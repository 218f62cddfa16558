"""Dimension scales: what libhdf5 keeps of their attachment, where no record has it to the letter.

Source: HDF5 Dimension Scale Specification and Design Notes, "Attribute specifications": ``DIMENSION_LIST`` of a dataset holds a
sequence of object references per axis; ``REFERENCE_LIST`` of a scale the datasets and axes that it is attached to.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import cast

from h5z.nodes import ArrayNode, Attribute, Datatype, Json, Tree

OBJECT: Datatype = {"class": "reference", "kind": "object"}
_LIST: Datatype = {"class": "vlen", "base": OBJECT}
_PAIR: Datatype = {"class": "compound", "size": 16, "members": [["dataset", 0, OBJECT], ["dimension", 8, "<i4"]]}


def with_scales(tree: Tree, notes: list[str]) -> Tree:
    """A tree whose datasets and scales have those attributes; notes on references whose objects were gone at the source."""
    attached: dict[str, list[Json]] = defaultdict(list)
    nodes = dict(tree.nodes)
    for array in tree.arrays:
        recorded = array.attribute("DIMENSION_LIST")
        for item in array.attributes:
            if item.name in ("DIMENSION_LIST", "REFERENCE_LIST") and _holds_none(item.value):
                notes.append(f"{array.path}@{item.name}: what some of its references pointed to was gone: they are null now")
                kept = [
                    replace(a, value=_null(a.value)) if a is item else a for a in cast(ArrayNode, nodes[array.path]).attributes
                ]
                nodes[array.path] = replace(cast(ArrayNode, nodes[array.path]), attributes=tuple(kept))
        if recorded is None and any(array.scales):
            value = [list(axis) for axis in array.scales]
            made = Attribute("DIMENSION_LIST", _LIST, (len(value),), value)
            nodes[array.path] = replace(array, attributes=(*array.attributes, made))
            for axis, scales in enumerate(array.scales):
                for scale in scales:
                    attached[scale].append([array.path, axis])
    for path, pairs in attached.items():
        node = nodes.get(path)
        if isinstance(node, ArrayNode) and node.attribute("REFERENCE_LIST") is None:
            made = Attribute("REFERENCE_LIST", _PAIR, (len(pairs),), pairs)
            nodes[path] = replace(node, attributes=(*node.attributes, made))
    return replace(tree, nodes=nodes)


def _holds_none(value: Json) -> bool:
    return any(map(_holds_none, value)) if isinstance(value, list) else value is None


def _null(value: Json) -> Json:
    return [_null(item) for item in value] if isinstance(value, list) else "" if value is None else value
