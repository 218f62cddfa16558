"""The direction of imports that the design lays down, read from the code."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import h5py
import numpy as np

import h5z
from h5z import events, vault

ROOT = Path(__file__).parents[1]
# Each module, or package, may import those of the lines above its own, and of its own line.
LAYERS = (
    {"columns", "credentials", "errors", "grid", "limits", "names", "nodes", "payload", "runs"},
    {"bars", "digest", "dimensions", "pictures", "report", "stores"},
    {"dtypes", "leaves", "scheduling"},
    {"attributes", "hdf5", "isolation", "records"},
    {"arrayplan", "codecs", "container", "doctor", "pacing", "source"},
    {"measure", "policy", "shards"},
    {"headers", "plan"},
    {"chunking", "documents", "scan", "target"},
    {"choices", "staging", "state", "units"},
    {"joining", "planner"},
    {"planning", "tasks"},
    {"commit"},
    {"prepare", "verify"},
    {"execution"},
    {"combining", "convert"},
    {"advise", "events", "explore", "objects", "restore", "vault"},
    {"compat"},
    {"cli"},
)
# The same within packages. Those of the last lines import what is below them, and none of each other.
SATELLITES = ("events", "vault")
PACKAGES = {
    "hdf5": (
        {
            "bitshuffle",
            "blosc2frames",
            "bounded",
            "fetch",
            "libhdf5",
            "listing",
            "ranged",
            "references",
            "scaleoffset",
            "shuffle",
        },
        {"chunkindex", "datatypes", "fetch", "symboltable", "tables", "terminated", "typeids"},
        {"filters", "identity", "nulls", "roots"},
        {"direct"},
        {"files"},
    ),
    "stores": ({"claims", "disk", "remote", "retries", "sharding"}, {"holder", "objects", "storeclaims"}, {"lease"}),
    "isolation": ({"heartbeat", "machine", "processes"}, {"child"}),
    "container": ({"drafts", "frames", "locks"}, {"foreign", "index"}, {"file"}, {"openfiles", "salvage"}),
    "shards": ({"places", "plain", "report"}, {"arrays"}, {"listing"}, {"folder"}, {"moving"}, {"export"}, {"store"}),
    "joining": ({"epochs", "promotion"}, {"arrays", "trees"}, {"growth"}),
    "combining": ({"constants"}, {"plans"}),
    "verify": ({"differences"}, {"audit", "checking"}, {"repair"}),
    "explore": ({"finding", "metadata"}, {"facts"}, {"compare", "hierarchy", "render"}),
    "events": (
        {"schema"},
        {"recorded_session"},
        {"values"},
        {"identifiers", "problems", "layout", "records"},
        {"tables", "places", "content"},
        {"dataset", "readers", "publish"},
        {"stored", "files"},
        {"queries"},
    ),
    "vault": (
        {"codec", "catalog"},
        {"walk", "report"},
        {"pack"},
        {"header", "hdf5vault"},
        {"files", "indexing"},
        {"archive"},
        {"tasks", "writing"},
        {"extract", "verify", "repair", "tiffs"},
        {"images"},
        {"ngff"},
        {"pyramids"},
        {"omezarr"},
    ),
}
PURE = {
    "grid": {"h5py", "zarr", "dask"},
    "payload": {"h5py", "zarr", "dask"},
    "columns": {"h5py", "zarr", "dask"},
    "arrayplan": {"h5py", "zarr", "dask"},
    "plan": {"h5py", "zarr", "dask"},
    "chunking": {"h5py", "zarr", "dask"},
}
SLOW = ("zarr", "dask.array", "distributed", "prefect", "xarray", "s3fs")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(module: str) -> list[Path]:
    """A module's file, or all files of a package."""
    folder = ROOT / "h5z" / module
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_every_module_has_a_layer() -> None:
    modules = {path.stem for path in (ROOT / "h5z").glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in (ROOT / "h5z").glob("*/__init__.py")}
    assert modules == set().union(*LAYERS)


def test_packages_import_only_layers_below() -> None:
    for package, layers in PACKAGES.items():
        modules = {path.stem for path in (ROOT / "h5z" / package).glob("*.py")} - {"__init__", "__main__"}
        assert modules == set().union(*layers), package
        rank = {module: level for level, modules in enumerate(layers) for module in modules}
        for module, level in rank.items():
            names = {name for name in imported(ROOT / "h5z" / package / f"{module}.py") if name.startswith(f"h5z.{package}.")}
            inner = {name.split(".")[2] for name in names} & set(rank)
            assert not {name for name in inner if rank[name] > level}, f"h5z/{package}/{module}.py"


def test_satellites_import_none_of_each_other() -> None:
    spine = set().union(*LAYERS[: next(i for i, line in enumerate(LAYERS) if "combining" in line) + 1])
    for package in SATELLITES:
        for path in files(package):
            found = {name.split(".")[1] for name in imported(path) if name.startswith("h5z.")}
            assert found <= spine | {package}, path.name


def test_no_modules_import_each_other() -> None:
    modules = set().union(*LAYERS)
    found = {m: {name.split(".")[1] for path in files(m) for name in imported(path) if name.startswith("h5z.")} for m in modules}
    TopologicalSorter({module: names & modules - {module} for module, names in found.items()}).prepare()


def test_modules_import_only_layers_below() -> None:
    rank = {module: level for level, modules in enumerate(LAYERS) for module in modules}
    for module, level in rank.items():
        names = {name.split(".")[1] for path in files(module) for name in imported(path) if name.startswith("h5z.")}
        above = {name for name in names if rank.get(name, level) > level}
        assert not above, f"h5z/{module}.py imports {above}"


def test_arithmetic_imports_no_io() -> None:
    for module, forbidden in PURE.items():
        names = {name.split(".")[0] for name in imported(ROOT / "h5z" / f"{module}.py")}
        assert not names & forbidden, module


def test_flows_import_public_names_only() -> None:
    private = {"h5z.errors", "h5z.credentials", "h5z.hdf5.listing"}  # what listings say of files, which is no one's main concern
    for path in (ROOT / "flows").glob("*.py"):
        names = {name for name in imported(path) if name.startswith("h5z.")}
        public = {f"h5z.{name}" for name in h5z.__all__} | {f"h5z.events.{name}" for name in events.__all__}
        public |= {f"h5z.vault.{name}" for name in vault.__all__} | {"h5z.events", "h5z.vault"}
        assert all(name in public or name.startswith(tuple(private)) for name in names), path.name


def test_importing_h5z_loads_nothing_slow() -> None:
    code = f"import sys, h5z.cli; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_converting_to_a_folder_loads_neither_zarr_nor_dask(tmp_path: Path) -> None:
    """Their import takes longer than to copy a file of 100 MB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(12, dtype=">i2").reshape(3, 4), chunks=(2, 4), compression="gzip", fillvalue=-1)
        file.create_dataset("y", data=np.float32(1.5))
    convert = "h5z.convert('a.h5', 'a.zarr'); h5z.convert('a.h5', 'b.zarr', chunks=(3, 3), unmatched='report')"
    code = f"import sys, h5z; {convert}; print([name for name in ('zarr', 'dask', 'asyncio') if name in sys.modules])"
    command, place = [sys.executable, "-P", "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=place)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert all(callable(getattr(h5z, name)) for name in h5z.__all__)
    assert h5z.__all__ == sorted(h5z.__all__, key=lambda name: (not name[0].isupper(), name))
