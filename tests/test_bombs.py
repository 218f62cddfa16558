"""Headers that tell of more than any machine holds are refused by plan: in one line, in little memory and CPU time."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import SourceError, UnsupportedError

from .hostile.bombs import BOMBS
from .running import Run

SPACE = 3 << 30  # of addresses, for each process; a machine of that size is not brought down by any of these
SECONDS = 60  # of CPU time, which other processes do not make longer
REFUSED = {1, 2, 3}


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "copies_of_copies"])
def test_plan_refuses(tmp_path: Path, name: str) -> None:
    source = tmp_path / "bomb.h5"
    BOMBS[name](source)
    command = [sys.executable, "-m", "h5z.cli", "plan", str(source), str(tmp_path / "out.zarr")]
    done = subprocess.run(
        [*command, "--memory-limit", "1GiB"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode in REFUSED, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert len(done.stderr) < 1000
    assert "bomb.h5" in done.stderr or "/x" in done.stderr
    assert list(tmp_path.iterdir()) == [source]


def test_plan_refuses_copies_of_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Links are followed no further than to a number of objects, here one that is reached sooner."""
    BOMBS["copies_of_copies"](tmp_path / "bomb.h5")
    monkeypatch.setattr("h5z.limits.MOST_COPIES", 1000)
    with pytest.raises(SourceError, match=r"bomb.h5: expected at most 1,000 copies of objects by links, found more"):
        h5z.plan(tmp_path / "bomb.h5", tmp_path / "out.zarr", links="follow")


def test_what_is_refused_is_named_and_the_rest_carried_over(cli: Run, tmp_path: Path) -> None:
    """With unsupported="report", as anything else that cannot be carried over."""
    BOMBS["two_to_the_sixty_second_elements_in_one_run"](tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["fine"] = [1, 2]
        file.attrs["long"] = np.arange(5000)
    report = h5z.convert(tmp_path / "a.h5", tmp_path / "out.zarr", unsupported="report", verify="full")
    assert [problem.path for problem in report.not_carried] == ["/x"]
    assert np.asarray(zarr.open_group(tmp_path / "out.zarr", mode="r")["fine"][...]).tolist() == [1, 2]


def test_what_is_large_and_real_is_not_refused(tmp_path: Path) -> None:
    """20,000 attributes, an attribute of a megabyte, three hundred levels of groups, a compound of a thousand members."""
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        for i in range(20_000):
            h5py.h5a.create(file.id, b"a%d" % i, h5py.h5t.STD_I8LE, space)
        file.attrs["long"] = np.arange(1 << 17)
        file["/".join(["level"] * 300)] = 1
        file["rows"] = np.zeros(3, [(f"m{i}", "<i4") for i in range(1000)])
        file.create_dataset("sparse", (1 << 30, 1 << 10), "<f8", chunks=(1 << 14, 1 << 10))[7, 7] = 7
    plan = h5z.plan(tmp_path / "a.h5", tmp_path / "out.zarr")
    assert {array.path for array in plan.arrays} >= {"/rows", "/sparse"}
    assert len(plan.groups[""]) >= 20_000


@pytest.mark.parametrize("target", ["{tmp}/out.zarr", "s3://bucket/out.zarr"])
def test_paths_that_a_target_cannot_have(tmp_path: Path, target: str) -> None:
    """A key of an object store has 1,024 bytes at most, a path of a file system 4,096."""
    levels = 30 if "{tmp}" in target else 8
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/".join(["ü" * 100] * levels)] = 1
    with pytest.raises(h5z.errors.PlanError, match=r"expected paths of at most"):
        h5z.plan(tmp_path / "a.h5", target.format(tmp=tmp_path))


def test_a_limit_is_one_number_in_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["a"] = np.arange(100)
    monkeypatch.setattr("h5z.limits.LARGEST_ATTRIBUTE_NBYTES", 799)
    with pytest.raises(UnsupportedError, match=r"/@a: expected at most 799 bytes of an attribute, found 800"):
        h5z.plan(tmp_path / "a.h5", "out.zarr")
