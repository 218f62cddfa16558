"""The direction of imports that the design lays down, read from the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import h5z
import h5z.vault

ROOT = Path(__file__).parents[1]
# Each module may import those of the lines above its own, and of its own line.
LAYERS = (
    {"errors", "symboltable"},
    {"frames", "locks", "shardplaces"},
    {"foreign"},
    {"containerfile"},
    {"container"},
    {"salvage", "shardfolder"},
    {"nodes", "grid", "names"},
    {"dtypes", "attributes", "codecs", "filters"},
    {"direct", "files", "references", "source", "dimensions", "policy", "report"},
    {"scan", "measure", "isolation", "plan", "chunking", "records", "planner", "scheduling"},
    {"documents", "target", "units", "staging"},
    {"verify", "convert"},
    {"shards"},
    {"shardexport"},
    {"shardstore"},
    {"cli_shards", "cli_vault"},
    {"explore", "doctor"},
    {"cli"},
)
VAULT = (
    {"codec", "catalog"},
    {"walk", "report"},
    {"pack"},
    {"header", "hdf5vault"},
    {"archive"},
    {"tasks", "writing"},
    {"extract", "verify", "repair", "images"},
    {"ngff"},
    {"omezarr"},
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


def test_every_module_has_a_layer() -> None:
    modules = {path.stem for path in (ROOT / "h5z").glob("*.py")} - {"__init__"}
    assert modules == set().union(*LAYERS)


def test_modules_import_only_layers_below() -> None:
    check_layers(LAYERS, "h5z")


def test_modules_of_vaults_too() -> None:
    assert {path.stem for path in (ROOT / "h5z" / "vault").glob("*.py")} - {"__init__"} == set().union(*VAULT)
    check_layers(VAULT, "h5z.vault")


def check_layers(layers: tuple[set[str], ...], package: str) -> None:
    rank = {module: level for level, modules in enumerate(layers) for module in modules}
    for module, level in rank.items():
        path = ROOT.joinpath(*package.split("."), f"{module}.py")
        names = {name.removeprefix(f"{package}.").split(".")[0] for name in imported(path) if name.startswith(f"{package}.")}
        above = {name for name in names if rank.get(name, level) > level}
        assert not above, f"{path} imports {above}"


def test_arithmetic_imports_no_io() -> None:
    for module, forbidden in PURE.items():
        names = {name.split(".")[0] for name in imported(ROOT / "h5z" / f"{module}.py")}
        assert not names & forbidden, module


def test_flows_import_public_names_only() -> None:
    public = {f"h5z.{name}" for name in h5z.__all__} | {"h5z.errors", "h5z.vault"}
    public |= {f"h5z.vault.{name}" for name in h5z.vault.__all__}
    for path in (ROOT / "flows").glob("*.py"):
        names = {name for name in imported(path) if name.startswith("h5z.")}
        assert all(name in public or name.startswith("h5z.errors.") for name in names), path.name


def test_importing_h5z_loads_nothing_slow() -> None:
    code = f"import sys, h5z.cli; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert all(callable(getattr(h5z, name)) for name in h5z.__all__)
    assert h5z.__all__ == sorted(h5z.__all__, key=lambda name: (not name[0].isupper(), name))
