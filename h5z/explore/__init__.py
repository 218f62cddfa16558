"""One look at an HDF5 file or a Zarr store, whichever it is and wherever it lies."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5z.credentials import separate
from h5z.dtypes import access
from h5z.errors import H5zError, MissingKeyError, SourceError, TargetError, one_line
from h5z.explore.facts import datatype_text, filters_text, logical_nbytes
from h5z.explore.finding import follow, found, with_above
from h5z.explore.render import render, render_html
from h5z.hdf5.files import open_file
from h5z.hdf5.filters import load_plugins
from h5z.isolation import run_isolated
from h5z.nodes import ArrayNode, GroupNode, Node, Tree, TypeNode
from h5z.scan import node_at, scan
from h5z.source import Dataset

if TYPE_CHECKING:
    import zarr

_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nc", ".nc4", ".nxs", ".h5ad", ".mat")
_MOST_LINES = 1000


def explore(path: Any, *, storage_options: dict[str, Any] | None = None, sizes: bool = True) -> Explorer:
    """Explore an HDF5 file or a Zarr store (format 2 or 3, local or remote, consolidated or not).

    Parameters
    ----------
    path : path, URL or zarr Store
    sizes : bool
        Whether to list what a store holds, for the bytes that each array takes.

    Returns
    -------
    Explorer
        Prints as a tree, folds as one in a notebook; finds, describes and reads what is in it.

    Raises
    ------
    SourceError, TargetError
        If there is neither.

    Examples
    --------
    >>> import tempfile, numpy as np, h5z
    >>> store = tempfile.mkdtemp()
    >>> h5z.save({"events": {"times": np.arange(6.0)}}, store)
    >>> with h5z.explore(store) as found:
    ...     found.find("tim"), found["events/times"][2:4]
    (['/events/times'], array([2., 3.]))
    """
    return Explorer(path, storage_options=storage_options, sizes=sizes)


def is_hierarchy(path: Any, storage_options: dict[str, Any] | None = None) -> bool:
    """Whether a path, URL or store is to be read as Zarr rather than as an HDF5 file."""
    if not isinstance(path, str | os.PathLike):
        return True
    name = os.fspath(path).rstrip("/")
    if "://" not in name or name.startswith("file://"):
        return os.path.isdir(name.removeprefix("file://"))
    if name.endswith(".zarr") or ".zarr/" in name or name.lower().endswith(_SUFFIXES):
        return not name.lower().endswith(_SUFFIXES)
    from h5z.target import Target

    target = Target.of(name, storage_options)
    return any(target.get(key) is not None for key in ("zarr.json", ".zgroup", ".zarray"))


def scan_any(
    path: Any,
    *,
    attributes: bool = True,
    storage_options: dict[str, Any] | None = None,
    sizes: bool = True,
    isolated: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> Tree:
    """The Tree of an HDF5 file, within the limits that `scan` takes, or of a Zarr store."""
    if not is_hierarchy(path, storage_options):
        return scan(
            path,
            attributes=attributes,
            storage_options=storage_options,
            isolated=isolated,
            timeout=timeout,
            memory_limit=memory_limit,
        )
    from h5z.explore.hierarchy import scan_hierarchy

    return scan_hierarchy(path, storage_options=storage_options, sizes=sizes)


def listing(
    path: Any,
    *,
    attributes: bool = False,
    depth: int | None = None,
    pattern: str | None = None,
    sizes: bool = True,
    **limits: Any,
) -> str:
    """A file's or a store's hierarchy as text; a file's is made within the limits, so that text alone leaves the child."""
    if is_hierarchy(path):
        tree = scan_any(path, sizes=sizes)
        return render(tree, attributes=attributes, depth=depth, pattern=pattern)
    name, storage_options = separate(os.fspath(path), None)
    options: dict[str, Any] = {"attributes": attributes, "depth": depth, "pattern": pattern, "storage_options": storage_options}
    limits.pop("isolated", None)
    text: str = run_isolated(_listed, name, subject=name, **limits, **options)
    return text


def _listed(name: str, *, attributes: bool, depth: int | None, pattern: str | None, storage_options: Any) -> str:
    tree = scan(name, attributes=attributes, storage_options=storage_options)
    return render(tree, attributes=attributes, depth=depth, pattern=pattern)


class Explorer:
    """What `explore` returns: a file or store, its hierarchy read when it is first asked for.

    Links are shown and never followed, but for the path that `get` and the like are given.
    """

    def __init__(self, path: Any, *, storage_options: dict[str, Any] | None = None, sizes: bool = True) -> None:
        self.path, self.storage_options, self.sizes = path, storage_options, sizes
        self.is_zarr = is_hierarchy(path, storage_options)
        self._opened: Any = None
        self._root()  # what cannot be opened is refused now
        self.close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if isinstance(self._opened, h5py.File):
            self._opened.close()
        self._opened = None

    def _root(self) -> Any:
        """The open file, or the root of the store."""
        if self._opened is None or (isinstance(self._opened, h5py.File) and not self._opened):
            self._opened = self._zarr_root() if self.is_zarr else open_file(os.fspath(self.path), self.storage_options)
        return self._opened

    def _zarr_root(self) -> zarr.Group | zarr.Array[Any]:
        import zarr

        from h5z.target import Target, reaching

        target = Target.of(self.path, self.storage_options)
        with reaching(target.name):
            try:
                return zarr.open(target.store, mode="r", use_consolidated=False)
            except H5zError:
                raise
            except Exception as error:  # damaged metadata fail in many ways
                raise TargetError(
                    f"{target.name}: expected a Zarr hierarchy, found none that opens ({one_line(error)})"
                ) from None

    @cached_property
    def tree(self) -> Tree:
        """The hierarchy: every object once; attributes of HDF5 objects are read where they are asked for."""
        return scan_any(self.path, attributes=False, storage_options=self.storage_options, sizes=self.sizes)

    @cached_property
    def full_tree(self) -> Tree:
        """The hierarchy with all attributes."""
        return self.tree if self.is_zarr else scan_any(self.path, storage_options=self.storage_options)

    @property
    def name(self) -> str:
        """What is explored."""
        return self.tree.file

    def __repr__(self) -> str:
        return render(self.tree, most=_MOST_LINES)

    def _repr_html_(self) -> str:
        return render_html(self.full_tree)

    def show(self, path: str = "/", *, depth: int | None = None, attributes: bool = False, pattern: str | None = None) -> None:
        """Print the tree below a path."""
        tree = self.full_tree if attributes else self.tree
        print(render(tree, path=self._place(path).path, depth=depth, attributes=attributes, pattern=pattern))

    def find(self, pattern: str, path: str = "/") -> list[str]:
        """Paths of all below `path` whose name matches a pattern.

        One with ``*``, ``?`` or ``[`` is matched with names, or with whole paths where it holds a slash; any other is a part of a
        name, in upper or lower case alike.
        """
        return found(self.tree, pattern, self._place(path).path)

    def keys(self, path: str = "/") -> list[str]:
        """Names of a group's members, links included; of an array, none."""
        node = self._place(path)
        if not isinstance(node, GroupNode):
            return []
        inside = node.path.rstrip("/") + "/"
        names = [p[len(inside) :] for p in self.tree.nodes if p.startswith(inside) and p != "/" and "/" not in p[len(inside) :]]
        return [*names, *(link.name for link in node.links)]

    def __contains__(self, path: object) -> bool:
        try:
            return isinstance(path, str) and self._place(path) is not None
        except MissingKeyError:
            return False

    def __iter__(self) -> Any:
        return iter(self.keys())

    def _place(self, path: str) -> Node:
        """The node at a path, links on the way followed."""
        reached = follow(self.tree, "/", path)
        node = None if reached is None else self.tree.nodes.get(reached)
        if node is None:
            raise MissingKeyError(f"{self.tree.file}: expected an object at {path!r}, found none")
        return node

    def info(self, path: str = "/") -> dict[str, Any]:
        """What is known of an object, as JSON's own types: path, kind, datatype, shape, chunks, filters, bytes, attributes."""
        node = self._place(path)
        out: dict[str, Any] = {"path": node.path, "kind": "group" if isinstance(node, GroupNode) else "datatype"}
        if isinstance(node, GroupNode):
            out["members"] = self.keys(node.path)
            out["links"] = [link.to_dict() for link in node.links]
        elif isinstance(node, ArrayNode):
            out |= array_info(node)
        else:
            out["dtype"] = datatype_text(node.dtype)
        out["attributes"] = self._attributes(node)
        return out

    def _attributes(self, node: Node) -> dict[str, Any]:
        if self.is_zarr:
            return {item.name: item.value for item in node.attributes}
        full = self.full_tree.nodes.get(node.path) if "full_tree" in self.__dict__ else None
        if full is None:
            full = node_at(self._root(), node.path)
        return {item.name: item.value for item in full.attributes}

    def get(self, path: str) -> Any:
        """An object without its data: an `h5py` or `zarr` array or group, which reads what it is sliced for.

        Raises
        ------
        MissingKeyError
            If there is nothing at that path.
        SourceError, TargetError
            If it cannot be opened.
        """
        node = self._place(path)
        try:
            root = self._root()
            if node.path == "/":
                return root
            return root[node.path.lstrip("/")] if self.is_zarr else root[node.path.encode("utf-8", "surrogateescape")]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            kind = TargetError if self.is_zarr else SourceError
            raise kind(f"{self.tree.file}: {node.path} cannot be opened ({one_line(error)})") from None

    __getitem__ = get

    def load(self, path: str = "/", region: Any = ...) -> Any:
        """Read an object: an array whole, or what a slice or a tuple of them selects; a group as a dict, its links left out.

        Text comes as `str`, single elements as such.
        """
        node = self._place(path)
        if not isinstance(node, GroupNode):
            return self._values(node, region)
        made: dict[str, Any] = {node.path: {}}
        inside = node.path.rstrip("/") + "/"
        for place, item in self.tree.nodes.items():
            if place.startswith(inside) and place != node.path:
                above, _, name = place.rpartition("/")
                made[place] = {} if isinstance(item, GroupNode) else self._values(item, ...)
                made[above or "/"][name] = made[place]
        return made[node.path]

    def _values(self, node: Node, region: Any) -> Any:
        if isinstance(node, TypeNode):
            return datatype_text(node.dtype)
        if isinstance(node, GroupNode) or node.shape is None:
            return None
        try:
            if self.is_zarr:
                values = self.get(node.path)[region]
                return values[()] if getattr(values, "shape", None) == () else values
            return self._hdf5_values(node, region)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
            if isinstance(error, SourceError | TargetError | MissingKeyError):
                raise
            kind = TargetError if self.is_zarr else SourceError
            raise kind(f"{self.tree.file}: {node.path} cannot be read ({one_line(error)})") from None

    def _hdf5_values(self, node: ArrayNode, region: Any) -> Any:
        load_plugins()
        if access(node.dtype) != "h5py":
            whole = tuple(slice(0, n) for n in node.shape or ())
            values = Dataset(os.fspath(self.path), node.path, node.dtype, self.storage_options).read(whole)
            return np.asarray(values)[region]
        dataset = self.get(node.path)
        values = dataset[() if region is ... and node.shape == () else region]
        return values if h5py.check_string_dtype(dataset.dtype) is None else _decoded(values)


def _decoded(values: Any) -> Any:
    """Text as `str` where all of it is UTF-8."""
    try:
        if isinstance(values, bytes):
            return values.decode("utf-8")
        flat = [item.decode("utf-8") if isinstance(item, bytes) else item for item in np.asarray(values, object).ravel()]
    except UnicodeDecodeError:
        return values
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(np.shape(values))


def array_info(node: ArrayNode) -> dict[str, Any]:
    """What is known of an array, as JSON's own types."""
    logical = logical_nbytes(node)
    return {
        "kind": "array",
        "dtype": datatype_text(node.dtype),
        "shape": None if node.shape is None else list(node.shape),
        "chunks": list(node.chunks) if node.chunks else None,
        "shards": list(node.shards) if node.shards else None,
        "filters": filters_text(node).split("+") if node.filters else [],
        "dimensions": list(node.names),
        "layout": node.layout,
        "nbytes": logical,
        "stored_nbytes": node.storage_nbytes,
        "ratio": round(logical / node.storage_nbytes, 4) if logical and node.storage_nbytes else None,
    }


def filtered(tree: Tree, depth: int | None = None, pattern: str | None = None) -> Tree:
    """A tree of so many levels, and of what a pattern matches with the groups above it."""
    shown = None if pattern is None else with_above(found(tree, pattern))
    levels = ((path, 0 if path == "/" else path.count("/")) for path in tree.nodes)
    kept = [path for path, level in levels if (depth is None or level <= depth) and (shown is None or path in shown)]
    return replace(tree, nodes={path: tree.nodes[path] for path in kept})
