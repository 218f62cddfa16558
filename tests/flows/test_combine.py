"""The flow that joins files along a dimension, and adds those that have come since."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
import zarr

import h5z
from flows.combine import CombineParameters, settled
from flows.discovery import SourceFile
from flows.server import start, use
from h5z.errors import PlanError

PROJECT = Path(__file__).parents[2]


def write(path: Path, day: int, units: str = "K") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(day * 4.0, day * 4 + 4)
        file["time"].make_scale("time")
        file["temp"] = np.full((4, 3), day, "<f4")
        file["temp"].attrs["units"] = units
        file["temp"].dims[0].attach_scale(file["time"])
    return path


@pytest.mark.flow
@pytest.mark.cluster
def test_each_run_adds_what_has_come(tmp_path: Path, cluster: str) -> None:
    target = tmp_path / "out" / "all.zarr"

    def run() -> Any:
        from flows.combine import combine_archive

        return combine_archive([str(tmp_path / "in")], str(target), "time", scheduler=cluster, verify="full")

    with use(start()):
        for day in range(2):
            write(tmp_path / "in" / f"{day}.h5", day)
        assert (run().status, run().status) == ("converted", "unchanged")
        write(tmp_path / "in" / "2.h5", 2)
        assert run().status == "converted"
        assert zarr.open_group(target, mode="r")["temp"][:, 0].tolist() == np.repeat([0.0, 1, 2], 4).tolist()
        write(tmp_path / "in" / "3.h5", 3, units="degC")
        with pytest.raises(PlanError, match=r"3\.h5: /temp: units: expected \"K\", as the target has, found \"degC\""):
            run()
        with h5py.File(write(tmp_path / "in" / "3.h5", 3), "a", locking=True):  # a writer has it open
            assert run().status == "unchanged"
    assert h5z.verify(target).ok


def test_what_follows_a_file_that_is_being_written_waits_with_it(tmp_path: Path) -> None:
    files = [SourceFile(str(tmp_path / name), name, 1, modified=when) for name, when in (("c", 0.0), ("a", 0.0), ("b", 4e9))]
    ready, waiting = settled(files, 60)
    assert [file.relative for file in ready] == ["a"]
    assert [(file.relative, reason) for file, reason in waiting] == [
        ("b", "it was modified moments ago"),
        ("c", f"it follows {tmp_path / 'b'}"),
    ]


@pytest.mark.skipif(not (PROJECT / "deployments").exists(), reason="no deployments beside the tests")
def test_the_deployments_parameters_are_the_flows_own() -> None:
    text = re.sub(r"{{ \$(\w+) }}", r"/\1", (PROJECT / "deployments" / "combine.yaml").read_text())
    (deployment,) = yaml.safe_load(text)["deployments"]
    assert deployment["entrypoint"] == "flows/combine.py:combine_archive"
    assert json.loads(CombineParameters.check(deployment["parameters"]).model_dump_json())["dim"] == "time"
