"""A small sample of what ``python -m tests.fuzz`` does, and every recipe that once found something."""

from __future__ import annotations

from pathlib import Path

import pytest

from .hostile import fuzzing
from .hostile.fuzzing import FINDINGS, Recipe, files, recipes, run
from .running import DATA

pytestmark = [pytest.mark.archive, pytest.mark.skipif(not DATA.exists(), reason="no folder of real files")]
RECIPES = [line.partition(" ") for line in (Path(__file__).parent / "hostile" / "recipes.txt").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where recipes are carried out; what hangs is given up soon."""
    monkeypatch.setattr(fuzzing, "TIMEOUT", 2.0)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_a_sample_of_mutations(folder: Path) -> None:
    """None of them crashes or hangs this process, escapes, leaves anything, or is done and not what libhdf5 reads."""
    outcomes = {recipe.to_text(): run(recipe, folder) for recipe in recipes(files(), seed=20, count=40)}
    assert {text: outcome for text, outcome in outcomes.items() if outcome.kind in FINDINGS} == {}
    kinds = {outcome.kind for outcome in outcomes.values()}
    assert {"refused", "done"} <= kinds


@pytest.mark.parametrize(("found", "text"), [(found, text) for found, _, text in RECIPES], ids=map(str, range(len(RECIPES))))
def test_what_was_found(folder: Path, found: str, text: str) -> None:
    """What libhdf5 crashes or hangs on ends here as one line; what went wrong in h5z does not again.

    What once differed may do so still: of some damaged chunks libhdf5 gives what happens to be in its memory.
    """
    outcome = run(Recipe.from_text(text), folder)
    assert outcome.kind not in FINDINGS or outcome.kind == found == "differs", outcome.detail
    if found in ("crashed", "hung"):
        assert outcome.kind in (found, "refused", "partial")
    assert len(outcome.detail.splitlines()) <= 1 or outcome.detail.startswith("not judged")
