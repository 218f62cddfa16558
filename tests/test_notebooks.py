"""The notebooks run as they are committed, and are committed with what they put out."""

from __future__ import annotations

import importlib.util
import re
import socket
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need h5z[notebooks]")
pytest.importorskip("nbclient", reason="notebooks need h5z[notebooks]")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_NBYTES = 300_000
MACHINE = re.compile(r"/(?:home|tmp|opt|root|Users|work)/|\x1b\[")
AMOUNT = re.compile(r"[0-9.]+ (?:[KMG]i)?B\b|[0-9.]+:1|[ ]{2,}")  # what libraries' versions and platforms may change


def runner() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_runner", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds(cell: Any) -> set[str]:
    """What a cell put out, by kind; warnings apart."""
    shown = {kind for output in cell.outputs for kind in output.get("data", {})}
    return shown | {output.output_type for output in cell.outputs if output.get("name") != "stderr"}


def test_all_are_here() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number}-" for number in range(1, 8)]
    listed = (FOLDER / "README.md").read_text()
    assert all(f"({path.name})" in listed for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_outputs(path: Path) -> None:
    """Small, free of errors and warnings, silent of the machine; links lead somewhere."""
    assert path.stat().st_size < MOST_NBYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert len(outputs) >= 8
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    texts = [output.get("text", "") for output in outputs]
    texts += [text for output in outputs for kind, text in output.get("data", {}).items() if kind != "image/png"]
    assert not [found for text in texts if (found := MACHINE.search(text) or re.search(rf"\b{socket.gethostname()}\b", text))]
    links = [
        link for cell in notebook.cells if cell.cell_type == "markdown" for link in re.findall(r"\]\(([^)]+)\)", cell.source)
    ]
    assert all("://" in link or (FOLDER / link).exists() for link in links)


@pytest.mark.cluster
@pytest.mark.flow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """From a fresh kernel, in a folder of its own, putting out what is committed; the same text where that is stable."""
    if path.stem == "7-events":
        pytest.importorskip("moto.server", reason="needs moto, which speaks S3")
    run = runner()
    committed = nbformat.read(path, as_version=4)
    told = run.execute(path, tmp_path)
    stable = 0
    for before, after in zip(committed.cells, told.cells, strict=True):
        assert after.source == before.source
        if before.cell_type == "code":
            assert kinds(after) == kinds(before), before.source
            if run.STABLE in before.metadata.get("tags", ()):
                stable += 1
                assert AMOUNT.sub(" ", run.text(after)) == AMOUNT.sub(" ", run.text(before)), before.source
    assert stable
    assert not list(tmp_path.glob("h5z-????????"))  # each cleans up after itself
