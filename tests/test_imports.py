"""The direction of imports that the design lays down, read from the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import h5z

ROOT = Path(__file__).parents[1]
# Each module may import those of the lines above its own, and of its own line.
LAYERS = (
    {"errors"},
    {"nodes", "grid", "names", "access"},
    {"dtypes", "attributes", "codecs", "filters", "trials"},
    {"direct", "files", "references", "source", "dimensions", "policy", "report"},
    {"scan", "measure", "isolation", "plan", "chunking", "records", "planner", "scheduling"},
    {"documents", "target", "units", "staging", "metadata", "render"},
    {"verify", "convert", "hierarchy", "compare"},
    {"explore", "doctor", "objects", "advise"},
    {"compat"},
    {"cli"},
)
PURE = {"grid": {"h5py", "zarr", "dask"}, "plan": {"h5py", "zarr", "dask"}, "chunking": {"h5py", "zarr", "dask"}}
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
    private = {"h5z.errors"}
    for path in (ROOT / "flows").glob("*.py"):
        names = {name for name in imported(path) if name.startswith("h5z.")}
        public = {f"h5z.{name}" for name in h5z.__all__}
        assert all(name in public or name in private or name.startswith("h5z.errors.") for name in names), path.name


def test_importing_h5z_loads_nothing_slow() -> None:
    code = f"import sys, h5z.cli; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert all(callable(getattr(h5z, name)) for name in h5z.__all__)
    assert h5z.__all__ == sorted(h5z.__all__, key=lambda name: (not name[0].isupper(), name))
