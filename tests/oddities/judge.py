"""An independent judge: walks an HDF5 file with h5py and a Zarr store with zarr-python, and tells what the store lacks.

It knows the table "What becomes of what" and nothing of how h5z works. What h5py itself cannot read it leaves unjudged,
by path, for tests that say the bytes themselves.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from h5py import h5a, h5d, h5l, h5o, h5t

from .stored import expected_units, stored_units
from .values import address, difference, in_order, read, refuse

NETCDF_HIDES = {
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_nc3_strict",
    "_NCProperties",
}
NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


@dataclass
class Verdict:
    """What was found: `wrong` sentences, and paths of what h5py cannot read."""

    wrong: list[str] = field(default_factory=list)
    unjudged: set[str] = field(default_factory=set)
    datasets: int = 0

    def expect(self, truth: object, path: str, sentence: str) -> None:
        """Note a sentence where something does not hold."""
        if not truth:
            self.wrong.append(f"{path}: {sentence}")


def judge(source: Path, target: Path, *, without: frozenset[str] | set[str] = frozenset(), dense: bool = False) -> Verdict:
    """Compare a source with its target.

    Parameters
    ----------
    without : set of str
        Paths of the source that the report names as not carried over.
    dense : bool
        Whether chunks may be stored that the source has not allocated.
    """
    # h5py looks for external files where it is, HDF5 itself beside the file that names them.
    with contextlib.chdir(source.parent), h5py.File(source.name, "r") as file:
        walk = _Walk(file, target, frozenset(without), dense)
        walk.group(file, zarr.open_group(target.resolve(), mode="r"), "/")
        missing = walk.reachable(file) - set(walk.met) - walk.hidden
        for place in missing:
            walk.verdict.wrong.append(f"the object at {place} is reachable by hard links, and in the target nowhere")
        return walk.verdict


def shown(text: str | bytes) -> str:
    """A name as JSON holds it: a backslash that would be taken for the escape of a byte is one itself."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))", rb"\\x5c", raw).decode("utf-8", "backslashreplace")


def unshown(text: str) -> str:
    """The name that is shown so, if it has bytes that are not UTF-8."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)


class _Walk:
    def __init__(self, file: h5py.File, target: Path, without: frozenset[str], dense: bool) -> None:
        self.file, self.target, self.without, self.dense = file, target, without, dense
        self.lost = set(self._addresses(without))  # which other paths may lead to as well
        self.met: dict[tuple[int, int], str] = {}
        self.hidden: set[tuple[int, int]] = set()
        self.verdict = Verdict()

    def _addresses(self, paths: Iterable[str]) -> Iterator[tuple[int, int]]:
        for path in paths:
            with contextlib.suppress(KeyError, OSError, RuntimeError, ValueError):
                info = h5o.get_info(h5o.open(self.file.id, path.encode("utf-8", "surrogateescape")))
                yield info.fileno, info.addr

    def reachable(self, group: h5py.Group) -> set[tuple[int, int]]:
        """Addresses of all that hard links lead to, but for what `without` names."""
        seen, stack = {address(group)}, [("/", group)]
        while stack:
            path, found = stack.pop()
            for name, child in self._children(found, path):
                inner = f"{path.rstrip('/')}/{name}"
                if isinstance(child, h5py.HLObject) and inner not in self.without and address(child) not in seen:
                    seen.add(address(child))
                    if isinstance(child, h5py.Group):
                        stack.append((inner, child))
        return seen

    def _children(self, group: h5py.Group, path: str) -> list[tuple[str, Any]]:
        names: list[bytes] = []
        group.id.links.iterate(names.append)
        out: list[tuple[str, Any]] = []
        for raw in names:
            name = raw.decode("utf-8", "surrogateescape")
            if f"{path.rstrip('/')}/{name}" in self.without:
                continue
            kind = group.id.links.get_info(raw).type
            if kind == h5l.TYPE_HARD:
                oid = h5o.open(group.id, raw)
                info = h5o.get_info(oid)
                if (info.fileno, info.addr) in self.lost:
                    continue
                wrap = {h5d.DatasetID: h5py.Dataset, h5t.TypeID: h5py.Datatype}
                out.append((name, next((w(oid) for k, w in wrap.items() if isinstance(oid, k)), None) or h5py.Group(oid)))
            elif kind == h5l.TYPE_SOFT:
                out.append((name, {"soft": shown(group.id.links.get_val(raw))}))
            elif kind == h5l.TYPE_EXTERNAL:
                out.append((name, {"external": [shown(part) for part in group.id.links.get_val(raw)]}))
        return out

    def group(self, source: h5py.Group, target: zarr.Group, path: str) -> None:
        """Judge a group and all below it."""
        stack = [(source, target, path)]
        while stack:
            stack += self._group(*stack.pop())

    def _group(self, source: h5py.Group, target: zarr.Group, path: str) -> list[tuple[h5py.Group, zarr.Group, str]]:
        self.met[address(source)] = path
        record = target.attrs.get("h5z", {})
        self.attributes(source, dict(target.attrs), path)
        nodes = {node.attrs.get("h5z", {}).get("name", name): node for name, node in target.members()}
        known, below = set(), []
        for name, child in self._children(source, path):
            inner, key = f"{path.rstrip('/')}/{name}", shown(name)
            if isinstance(child, dict):
                self.verdict.expect(record.get("links", {}).get(key) == child, inner, f"expected the link {child} recorded")
            elif isinstance(child, h5py.Datatype) and key in record.get("types", {}):
                self.met[address(child)] = inner
            elif key in nodes:
                known.add(key)
                self.verdict.expect(address(child) not in self.met, inner, "expected an object stored once")
                if isinstance(child, h5py.Group):
                    below.append((child, nodes[key], inner))
                else:
                    self.dataset(child, nodes[key], inner)
            elif key in record.get("dimensions", {}):
                self.hidden.add(address(child))
                named = child.attrs.get("NAME", b"").startswith(NOT_A_VARIABLE)
                kept = "content" in record["dimensions"][key] or not child.id.get_storage_size() or not child[...].any()
                bare = named and kept
                self.verdict.expect(bare, inner, "expected only a dimension without a variable to have no array")
            else:
                link = record.get("links", {}).get(key)
                where = link.get("hard") if isinstance(link, dict) else None
                same = isinstance(where, str) and address(child) in self._addresses([where, unshown(where)])
                self.verdict.expect(same, inner, f"expected a node, or a hard link recorded; found {link!r}")
        for name in set(nodes) - known:
            self.verdict.wrong.append(f"{path}: the target has {name!r}, the source has not")
        return below

    def attributes(self, source: Any, seen: dict[str, Any], path: str) -> None:
        """Every attribute is seen, or recorded; what is seen but not recorded is implied by JSON alone."""
        record = seen.get("h5z", {}).get("attributes", {})
        names: list[bytes] = []
        h5a.iterate(source.id, names.append)
        for raw in names:
            name = shown(raw)
            if f"{path}@{name}" in self.without or name in ("DIMENSION_LIST", "REFERENCE_LIST"):
                continue
            visible = name in seen and name != "h5z"
            self.verdict.expect(visible or name in record, path, f"expected the attribute {name!r}")
            if visible and name not in record:
                attribute = h5a.open(source.id, raw)
                self.verdict.expect(_implied(attribute, seen[name]), path, f"expected the exact type of {name!r} recorded")
            replaced = name == "_ARRAY_DIMENSIONS" and "value" in record.get(name, {})
            if visible and name != "_FillValue" and not replaced:
                self._value(source, raw, seen[name], f"{path}@{name}")

    def _value(self, source: Any, raw: bytes, value: Any, path: str) -> None:
        try:
            refuse(h5a.open(source.id, raw).get_type())
            expected = source.attrs[raw]
        except (TypeError, OSError, ValueError, KeyError):
            self.verdict.unjudged.add(path)
            return
        array = np.asarray(expected)
        if not isinstance(expected, h5py.Empty) and array.dtype.kind in "iub" and not h5py.check_ref_dtype(array.dtype):
            plain = array.tolist()
        elif array.dtype.kind == "f" and array.dtype.itemsize <= 8 and np.isfinite(array).all():
            plain = array.astype(float).tolist()
        elif isinstance(expected, str) and expected.isprintable():
            plain = expected
        else:
            return
        alone = isinstance(plain, list) and len(plain) == 1 and [value] == plain
        self.verdict.expect(value == plain or alone, path, f"expected {plain!r:.80}, found {value!r:.80}")

    def dataset(self, source: h5py.Dataset, target: zarr.Array | zarr.Group, path: str) -> None:
        """Judge a dataset's values, dtype, shape, fill value and missing chunks."""
        self.met[address(source)] = path
        self.verdict.datasets += 1
        self.attributes(source, dict(target.attrs), path)
        try:
            values = None if source.shape is None else read(source)
        except (TypeError, OSError, ValueError, KeyError):
            self.verdict.unjudged.add(path)
            return
        if source.shape is None:
            null = target.attrs["h5z"].get("null") or target.attrs["h5z"].get("dataset", {}).get("null")
            self.verdict.expect(null is True, path, "expected a null dataspace marked so")
        elif isinstance(target, zarr.Group):
            self._parts(values, target, path)
        else:
            self._array(source, values, target, path)

    def _parts(self, values: Any, target: zarr.Group, path: str) -> None:
        """A compound's members, or a sequence's lengths and values, as the arrays of a group."""
        nodes = dict(target.members())
        if values.dtype.names:
            self.verdict.expect(set(nodes) == set(values.dtype.names), path, f"expected its members, found {sorted(nodes)}")
            parts = {name: values[name] for name in values.dtype.names}
        else:
            base = h5py.check_vlen_dtype(values.dtype)
            items = [np.zeros(0, base) if item is None else in_order(np.asarray(item), base) for item in values.ravel()]
            filled = [item for item in items if len(item)]
            lengths = np.array([len(item) for item in items], "<u8").reshape(values.shape)
            parts = {"lengths": lengths, "values": np.concatenate(filled) if filled else np.zeros(0, base)}
        for name, part in parts.items():
            node = nodes.get(name)
            if isinstance(node, zarr.Group):
                self._parts(part, node, f"{path}/{name}")
            else:
                self.verdict.expect(node is not None, path, f"expected a part {name!r}")
                if node is not None:
                    self._same(part, node, f"{path}/{name}")

    def _array(self, source: h5py.Dataset, values: Any, target: zarr.Array, path: str) -> None:
        grown = "shape" in target.attrs.get("h5z", {})
        shape = target.shape
        self.verdict.expect(grown or shape == values.shape, path, f"expected shape {values.shape}, found {shape}")
        if grown:
            recorded = tuple(target.attrs["h5z"]["shape"])
            self.verdict.expect(recorded == values.shape, path, f"expected {values.shape} recorded, found {recorded}")
        self._same(values, target, path)
        if not grown:
            self._chunks(source, target, path)
        if source.maxshape != source.shape:
            limits = target.attrs["h5z"]["maxshape"]
            self.verdict.expect(limits == list(source.maxshape), path, f"expected maxshape {source.maxshape}, found {limits}")

    def _chunks(self, source: h5py.Dataset, target: zarr.Array, path: str) -> None:
        expected = expected_units(source, target)
        found = stored_units(self.target, target)
        if expected is not None:
            more = sorted(found - expected)[:5]
            allowed = self.dense or target.metadata.zarr_format == 2
            self.verdict.expect(allowed or not more, path, f"stored {more}, which the source has not allocated")

    def _same(self, values: Any, target: zarr.Array, path: str) -> None:
        found = np.asarray(target[tuple(slice(0, n) for n in values.shape)])
        reason = difference(values, found, self.file)
        self.verdict.expect(reason is None, path, reason or "")


def _implied(attribute: h5a.AttrID, value: Any) -> bool:
    """Whether JSON says an attribute's type and shape: bool, int64, float64 or UTF-8 text; one, or a list."""
    tid = attribute.get_type()
    first = value[0] if isinstance(value, list) and value else value
    shapes = attribute.shape == () if not isinstance(value, list) else attribute.shape == (len(value),) and len(value) > 0
    if isinstance(first, bool):
        return shapes and tid.equal(h5t.py_create(np.dtype(bool), logical=True))
    if isinstance(first, str):
        return shapes and tid.get_class() == h5t.STRING and tid.is_variable_str() and tid.get_cset() == h5t.CSET_UTF8
    kinds = {int: h5t.STD_I64LE, float: h5t.IEEE_F64LE}
    return shapes and type(first) in kinds and tid.equal(kinds[type(first)])
