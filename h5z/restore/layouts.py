"""What becomes of datasets whose data lay in other files, or elsewhere in their own: rebuilt as recorded, or materialised."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5f

from h5z.hdf5.files import forget
from h5z.hdf5.typeids import build
from h5z.nodes import ArrayNode, GroupNode, Tree
from h5z.restore.check import check_values
from h5z.restore.headers import Headers
from h5z.restore.properties import dataset_creation, dataspace, file_access, materialised
from h5z.restore.routes import plan_move

LAYOUTS = ("auto", "rebuild", "materialise")


def settle(headers: Headers, path: Path, layouts: str) -> set[str]:
    """Settle the layout of each virtual dataset and each of external storage, in the tree.

    ``rebuild`` takes the recorded layout; ``materialise`` gives each data of its own; ``auto`` rebuilds where that shows the
    values that the store has: a virtual dataset of its own file, or where the files that are named lie beside the restored one.

    Returns
    -------
    set of str
        Datasets of external storage whose files are there already: their data are not written.
    """
    kept: set[str] = set()
    nodes: dict[str, Any] = {}
    for name, node in headers.tree.nodes.items():
        if isinstance(node, ArrayNode) and node.layout in ("virtual", "external"):
            reason = _reason(node, headers, path.parent, layouts)
            if reason:
                headers.notes.append(f"{name}: {reason}: its {node.layout} layout is not restored, its data are")
                node = materialised(node)
            elif node.layout == "external" and all((path.parent / file).exists() for file in node.files):
                kept.add(name)
        nodes[name] = node
    headers.tree = replace(headers.tree, nodes=nodes)
    return kept


def _reason(node: ArrayNode, headers: Headers, folder: Path, layouts: str) -> str:
    """Why a layout is not restored; nothing where it is."""
    if layouts == "materialise":
        return "as was asked"
    outside = [file for file in node.files if file != "." and not _inside(file, folder)]
    if node.layout == "external" and outside:
        return f"{outside[0]!r} lies outside the folder of the restored file"
    if layouts == "rebuild":
        there = [(folder / file).exists() for file in node.files] if node.layout == "external" else []
        if any(there) and not (all(there) and _shows_the_same(node, headers, folder)):
            return "files of those names are there and hold other values"
        return ""
    if node.layout == "virtual" and set(node.files) == {"."}:
        lost = [name for _, name, *_ in node.sources if "%" not in name and not _is_there(name, headers.tree)]
        return f"its source {lost[0]!r} is not in the store" if lost else ""
    if outside:
        return f"{outside[0]!r} lies outside the folder of the restored file"
    if "." in node.files or not _shows_the_same(node, headers, folder):
        return "the files that it names, beside the restored one, do not show its values"
    return ""


def _is_there(name: str, tree: Tree) -> bool:
    """Whether a path leads to a dataset of a tree, or through a link that may lead to one."""
    path = "/" + name.strip("/")
    if isinstance(tree.nodes.get(path), ArrayNode):
        return True
    above, _, last = path.rpartition("/")
    group = tree.nodes.get(above or "/")
    return not isinstance(group, GroupNode) or any(link.name == last for link in group.links)


def _inside(file: str, folder: Path) -> bool:
    return (folder / file).resolve().is_relative_to(folder.resolve())


def _shows_the_same(node: ArrayNode, headers: Headers, folder: Path) -> bool:
    """Whether a dataset of that layout, in a file in that folder, has the values that the store has."""
    probe = folder / f".h5z-{uuid.uuid4().hex}"
    try:
        with h5py.File(h5f.create(str(probe).encode(), h5f.ACC_EXCL, None, file_access(headers.tree.creation))) as file:
            alone = replace(node, path="/probe", committed=None)
            h5d.create(file.id, b"probe", build(node.dtype), dataspace(node), dataset_creation(alone, lambda text, kind: b""))
        move = plan_move(
            replace(alone, layout="contiguous", chunks=None, allocated=None), headers.parts[node.path], 1 << 24, 1 << 30
        )
        return not check_values(probe, [move], "full", lambda nbytes: None)[0]
    except (OSError, RuntimeError, ValueError, KeyError):
        return False
    finally:
        forget(str(probe))
        probe.unlink(missing_ok=True)
