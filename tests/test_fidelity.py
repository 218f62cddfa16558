"""The table of what comes back: it has every feature, its counts agree, and what judges a file can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import fidelity
from .features import FEATURES
from .fidelity import TABLE, judge
from .restored import TOOLS
from .running import DATA

NAMES = {feature.name: number for number, feature in enumerate(FEATURES) if feature.part != "Attributes of"}


def _rows() -> list[tuple[str, list[str]]]:
    """The part and the cells of each row of the committed page."""
    found, part = [], ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        part = line[3:] if line.startswith("## ") else part
        if line.startswith("| ") and not line.startswith("| |") and not line.startswith("| ---"):
            found.append((part, [cell.strip() for cell in line.strip("|").split("|")]))
    return found


def test_the_page_has_every_feature() -> None:
    wanted = [(feature.part, feature.name) for feature in FEATURES]
    assert [(part, cells[0]) for part, cells in _rows()] == wanted, "python -m tests.fidelity writes it anew"


def test_its_counts_agree() -> None:
    """Whatever a file has is carried over or named: none is lost in silence."""
    counted = 0
    for part, (name, files, *ways, restored, _generated) in _rows():
        if files != "0":
            assert sum(map(int, ways)) == int(files) >= int(restored), (part, name)
            counted += 1
    assert counted > 100


@pytest.mark.skipif(not (DATA / "MANIFEST.csv").exists(), reason=f"no real files at {DATA} (H5Z_TEST_DATA names their folder)")
def test_it_tells_of_all_real_files() -> None:
    count = len(list(fidelity.corpus()))
    assert f"Each of {count} real HDF5 files" in TABLE.read_text(encoding="utf-8"), "python -m tests.fidelity writes it anew"


@pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)")
def test_how_a_file_crosses_is_told(oddity: Callable[[str], Path], tmp_path: Path) -> None:
    done = judge(oddity("enumerations"), "x", tmp_path)
    assert done.clean
    assert done.remarks == []
    assert (done.features[NAMES["enumerations"]], done.features[NAMES["contiguous"]]) == ("h5z", "natively")


@pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)")
def test_what_cannot_cross_is_named_and_not_clean(oddity: Callable[[str], Path], tmp_path: Path) -> None:
    done = judge(oddity("filter_that_is_not_installed"), "x", tmp_path)
    assert not done.clean
    assert done.features[NAMES["others"]] == "named"
    assert done.remarks[0].startswith("`/stored`: HDF5 filter 31999 (nobody) is not available here")


@pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)")
def test_what_is_lost_in_silence_is_seen(
    oddity: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(fidelity, "recorded_headers", fidelity.plain_headers)
    assert judge(oddity("enumerations"), "x", tmp_path).features[NAMES["enumerations"]] == "lost"
