"""What becomes of datasets whose data lay in other files, or elsewhere in their own: rebuilt as recorded, or materialised."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5f

from h5z.files import forget
from h5z.nodes import ArrayNode
from h5z.restore.check import check_values
from h5z.restore.headers import Headers
from h5z.restore.properties import dataset_creation, dataspace, file_access, materialised
from h5z.restore.routes import plan_move
from h5z.typeids import build

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
        there = [(folder / file).exists() for file in node.files]
        partly = node.layout == "external" and any(there) and not all(there)
        return "some of its files are there and some are not" if partly else ""
    if set(node.files) <= {"."}:
        return "" if node.layout == "virtual" else "its files are not there"
    missing = [file for file in node.files if file == "." or not _inside(file, folder) or not (folder / file).is_file()]
    if missing:
        return f"{missing[0]!r} is not beside the restored file"
    return "" if _shows_the_same(node, headers, folder) else "the files that it names hold other values"


def _inside(file: str, folder: Path) -> bool:
    return (folder / file).resolve().is_relative_to(folder.resolve())


def _shows_the_same(node: ArrayNode, headers: Headers, folder: Path) -> bool:
    """Whether a dataset of that layout, in a file in that folder, has the values that the store has."""
    probe = folder / f".h5z-{uuid.uuid4().hex}"
    try:
        with h5py.File(h5f.create(str(probe).encode(), h5f.ACC_EXCL, None, file_access(headers.tree.creation))) as file:
            alone = replace(node, path="/probe", committed=None)
            h5d.create(file.id, b"probe", build(node.dtype), dataspace(node), dataset_creation(alone, lambda text, kind: b""))
        move = plan_move(replace(alone, layout="contiguous", chunks=None, allocated=None), headers.parts[node.path], 1 << 24)
        return not check_values(probe, [move], "full", lambda nbytes: None)[0]
    except (OSError, RuntimeError, ValueError, KeyError):
        return False
    finally:
        forget(str(probe))
        probe.unlink(missing_ok=True)
