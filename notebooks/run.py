"""Run notebooks and keep what they put out: ``python run.py [NAME...]`` runs all beside this file, or those named.

Each runs in a kernel of its own, in a temporary folder. What is kept says nothing of the machine: no paths, times or versions.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HOME = Path(__file__).parent
STABLE = "stable"  # the tag of cells that put out the same text at every run, on every machine
TIMEOUT = 600


def execute(path: Path, folder: Path) -> Any:
    """Run a notebook below a folder, and return it with what it put out.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    importable = os.pathsep.join([str(HOME), str(HOME.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": importable, "TMPDIR": str(folder), "IPYTHONDIR": str(folder / "ipython")}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            _clean(output, folder)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _clean(output: Any, folder: Path) -> None:
    """Take the temporary folder out of an output, wherever it stands."""
    place = re.compile(rf"{re.escape(str(folder.resolve()))}(/h5z-[^/\s'\"<]+)?/?|{re.escape(str(folder))}(/h5z-[^/\s'\"<]+)?/?")
    for holder, key in [(output, "text"), *((output.get("data", {}), key) for key in output.get("data", {}))]:
        if isinstance(holder.get(key), str) and not key.startswith("image/png"):
            holder[key] = place.sub("", holder[key])


def text(cell: Any) -> str:
    """What a cell put out, as text: printed, and the plain form of what it shows."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", ())]
    return "\n".join(part.strip() for part in parts)


def main() -> int:
    """Run notebooks, and write them back."""
    for name in sys.argv[1:] or sorted(path.name for path in HOME.glob("*.ipynb")):
        path = HOME / name
        with tempfile.TemporaryDirectory(prefix="h5z-tour-") as folder:
            nbformat.write(execute(path, Path(folder)), path)
        print(f"{path.name}: {path.stat().st_size >> 10} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
