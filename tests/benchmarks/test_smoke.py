"""The harness runs a case end to end, verifies what was written, and says who failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from .__main__ import main
from .cases import CASES
from .contenders import CONTENDERS, Contender
from .run import run_case
from .vault import main as vault_main

TINY = 2**20


def test_one_case_end_to_end(tmp_path: Path) -> None:
    words = ["--cases", "recode_same_grid", "--only", "h5z,loop,floor,cp", "--rounds", "1", "--size", "1MiB"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    (record,) = json.loads((tmp_path / "benchmarks.json").read_text())["cases"]
    results = {result["name"]: result for result in record["results"]}
    assert set(results) == {"h5z", "loop", "floor", "cp"}
    for name, result in results.items():
        (sample,) = result["samples"]
        assert sample["wall"] > 0
        assert sample["peak_nbytes"] > 0 or name == "cp"  # which may end before it is looked at
    assert results["loop"]["objects"] > 1
    assert "h5py → zarr loop" in (tmp_path / "benchmarks.svg").read_text()


def test_a_wrong_output_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Contender("does nothing", command=lambda case, source, target: ["true"])
    monkeypatch.setitem(CONTENDERS, "loop", lazy)
    case = next(case for case in CASES if case.name == "recode_same_grid")
    outcome = run_case(replace(case, size_nbytes=TINY), tmp_path, rounds=2, only=("loop",))
    (result,) = outcome.results
    assert result.error
    assert not result.samples


def test_events_end_to_end(tmp_path: Path) -> None:
    """Both ways write what the tables hold."""
    assert main(["--cases", "events", "--rounds", "1", "--size", "1MiB", "--out", str(tmp_path)]) == 0
    (record,) = json.loads((tmp_path / "benchmarks.json").read_text())["cases"]
    assert all(result["samples"] for result in record["results"])


def test_vault_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder goes into a vault beside the floor, and is compared with it."""
    words = ["--cases", "small", "--scale", "0.001", "--rounds", "1", "--only", "h5z"]
    assert vault_main([*words, "--out", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["small"]
    assert set(found) == {"h5z", "floor", "floor threads"}
    assert found["floor"]["nbytes"] == found["floor threads"]["nbytes"] < found["h5z"]["nbytes"]
    assert "20,000 at full size" in capsys.readouterr().out
