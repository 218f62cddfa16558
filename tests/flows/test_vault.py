"""Acquisitions become vaults, verified, and OME-Zarr, on Prefect's embedded server; what is done stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
import zarr

from flows import server
from flows.acquisitions import VaultsReport, is_complete
from h5z.errors import PlanError, SourceError
from h5z.vault import Vault

pytestmark = pytest.mark.flow
PROJECT = Path(__file__).parents[2]
PATTERN = "{well}/F{field}C{channel}.tif"


def run(*arguments: Any, **parameters: Any) -> VaultsReport:
    embedded = server.start()
    from flows.vault import archive_acquisitions

    with server.use(embedded):
        report: VaultsReport = archive_acquisitions(*map(str, arguments), **parameters)
        return report


def acquire(folder: Path, *, wells: tuple[str, ...] = ("A1", "B2"), age: float = 5000) -> None:
    for well in wells:
        (folder / well).mkdir(parents=True, exist_ok=True)
        for c in (1, 2):
            tifffile.imwrite(folder / well / f"F1C{c}.tif", np.full((30, 40), 10 * c, "u2"))
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - age,) * 2)


def statuses(report: VaultsReport) -> dict[str, str]:
    return {record.name: record.status for record in report.records}


def test_new_acquisitions_are_archived_verified_and_converted(tmp_path: Path) -> None:
    watch, vaults, stores = tmp_path / "watch", tmp_path / "vaults", tmp_path / "zarr"
    acquire(watch / "run1")
    acquire(watch / "run2")
    acquire(watch / "running", age=0)
    (watch / "broken" / "A1").mkdir(parents=True)
    (watch / "broken" / "A1" / "F1C1.tif").write_bytes(b"no image")
    os.mkfifo(watch / "run2" / "pipe")
    for path in (*(watch / "broken").rglob("*"), watch / "broken", watch / "run2", watch / "run2" / "pipe"):
        os.utime(path, (1, 1))
    (watch / "a file").touch()
    options: dict[str, Any] = {"zarr_root": str(stores), "pattern": PATTERN, "settle_seconds": 60.0}

    report = run(watch, vaults, **options)
    assert statuses(report) == {"run1": "archived", "run2": "archived", "running": "waiting", "broken": "failed"}
    assert report.exit_code == 5
    by_name = {record.name: record for record in report.records}
    assert by_name["run1"].verified
    assert by_name["run2"].quarantined == ("pipe: expected a file, a folder or a link, found a pipe",)
    assert "A1/F1C1.tif: expected a TIFF image" in by_name["broken"].reason
    assert Vault(vaults / "broken")["A1/F1C1.tif"] == b"no image"  # archived, though no image
    assert len(Vault(vaults / "run1")) == 6
    assert zarr.open_array(stores / "run1.ome.zarr" / "B" / "2" / "0" / "0", mode="r")[0, 1].max() == 20
    written = json.loads((vaults / "h5z-vaults.json").read_text())
    assert {item["name"]: item["status"] for item in written["acquisitions"]} == statuses(report)

    acquire(watch / "running")
    (watch / "run1" / "A1" / "late.txt").write_text("late")
    for path in (watch / "run1" / "A1" / "late.txt", watch / "run1" / "A1"):
        os.utime(path, (2, 2))
    before = (vaults / "run2.h5").stat().st_mtime_ns
    again = run(watch, vaults, **options)
    assert statuses(again) == {"run1": "added", "run2": "unchanged", "running": "archived", "broken": "failed"}
    assert (vaults / "run2.h5").stat().st_mtime_ns == before
    assert Vault(vaults / "run1")["A1/late.txt"] == b"late"


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected both"):
        run(tmp_path, tmp_path / "v", pattern=PATTERN)
    with pytest.raises(SourceError, match="expected a folder of acquisitions"):
        run(tmp_path / "nowhere", tmp_path / "v")


def test_complete_is_what_has_come_to_rest_or_is_marked(tmp_path: Path) -> None:
    acquire(tmp_path / "a", age=100)
    assert is_complete(str(tmp_path / "a"), 50, None)
    assert not is_complete(str(tmp_path / "a"), 200, None)
    assert not is_complete(str(tmp_path / "a"), 50, "done")
    (tmp_path / "a" / "done").touch()
    assert is_complete(str(tmp_path / "a"), 50, "done")
    assert not is_complete(str(tmp_path / "a"), 50, None)


def test_the_deployment_names_a_flow_and_parameters_that_it_has() -> None:
    (deployment,) = yaml.safe_load((PROJECT / "deployments" / "vault.yaml").read_text())["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    code = f"""
import inspect, json
from flows.vault import {name}
print(json.dumps(sorted(inspect.signature({name}.fn).parameters)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert (PROJECT / path).exists()
    assert set(deployment["parameters"]) <= set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_the_deployment_runs(tmp_path: Path) -> None:
    """Deployed to a process pool of a server, triggered, and run by a worker of that pool."""
    embedded = server.start()
    if embedded is None:
        pytest.skip("a server of the user's own is configured, which is left alone")
    acquire(tmp_path / "watch" / "run1")
    local = {
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": embedded.url,
    }
    places = {"H5Z_HOME": str(PROJECT), "H5Z_ACQUISITIONS": str(tmp_path / "watch"), "H5Z_VAULTS": str(tmp_path / "vaults")}
    env = {**os.environ, **local, **places}
    for words in (
        ["work-pool", "create", "h5z", "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", "deployments/vault.yaml"],
        ["deployment", "run", "archive-acquisitions/acquisitions"],
        ["worker", "start", "--pool", "h5z", "--run-once"],
    ):
        command = [sys.executable, "-m", "prefect", *words]
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "vaults" / "h5z-vaults.json").read_text())
    assert [(item["name"], item["status"], item["verified"]) for item in written["acquisitions"]] == [("run1", "archived", True)]
    assert len(Vault(tmp_path / "vaults" / "run1")) == 6
