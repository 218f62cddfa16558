"""Workers that are killed: they cost what they had in hand."""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import h5z
from h5z.errors import TransientError

from ..stored import stored
from .runs import POLICY, until

LOG = """
import importlib, multiprocessing, os, sys, time
import h5z.tasks

tasks = sys.modules["h5z.tasks"]
if multiprocessing.parent_process() is not None and not hasattr(tasks, "unlogged"):  # a worker, for the first time
    tasks.unlogged = tasks.run_task

    def run_task(target, number, work):
        with open({log!r}, "a") as file:
            file.write(f"began {{number}}\\n")
        with open({log!r}) as file:
            wait = file.read().count("ended") >= {free}
        while wait and os.path.exists({held!r}):
            time.sleep(0.01)
        record = tasks.unlogged(target, number, work)
        with open({log!r}, "a") as file:
            file.write(f"ended {{number}}\\n")
        return record

    tasks.run_task = run_task
"""


FREE = 2  # tasks that end before others wait in their workers' hands, while a file says so


def logged(log: Path) -> tuple[list[int], list[int]]:
    """Numbers of the tasks that began and that ended, in order."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [int(n) for what, n in lines if what == "began"], [int(n) for what, n in lines if what == "ended"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """Two workers, which log the tasks that they run, and stop in the midst of one while there is a file "held"."""
    from distributed import Client, LocalCluster

    preload, held = tmp_path / "preload.py", tmp_path / "held"
    preload.write_text(LOG.format(log=str(tmp_path / "log"), held=str(held), free=FREE))
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        LocalCluster(silence_logs=logging.CRITICAL, preload=str(preload), **options) as made,
        Client(made, set_as_default=False) as client,
    ):
        held.touch()
        yield client
        held.unlink(missing_ok=True)


def kill_workers(pids: list[int], folder: Path) -> set[int]:
    """Kill processes once both workers have a task in hand and others have ended; which tasks were in hand."""

    def in_hand() -> set[int]:
        began, ended = logged(folder / "log")
        return set(began) - set(ended)

    until(lambda: len(in_hand()) == 2 and len(logged(folder / "log")[1]) >= FREE, 300)
    found = in_hand()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    (folder / "held").unlink()
    return found


@pytest.mark.cluster
def test_a_killed_worker_reruns_only_what_it_had_in_hand(
    source: Path, tmp_path: Path, cluster: Any, expected: dict[str, bytes]
) -> None:
    """What it had ended, and had not told yet, is found in the target."""
    target, pids = tmp_path / "out.zarr", list(cluster.run(os.getpid).values())
    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill_workers, pids[:1], tmp_path)
        assert h5z.convert(source, target, scheduler=cluster, verify="full", **POLICY).ok
    in_hand = killing.result()
    began, ended = logged(tmp_path / "log")
    again = {number for number in began if began.count(number) > 1}
    assert len(again & in_hand) == 1
    assert again - in_hand <= set(ended[:FREE])  # whose results died with it: looked up, not done again
    assert stored(target) == expected


@pytest.mark.cluster
def test_all_workers_killed(
    source: Path, tmp_path: Path, cluster: Any, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; the rerun, here, does only what they had not done."""
    target = tmp_path / "out.zarr"
    arguments: dict[str, Any] = {"verify": "full", **POLICY}
    pids = list(cluster.run(os.getpid).values())
    cluster.cluster.scheduler.allowed_failures = 0
    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill_workers, pids, tmp_path)
        with pytest.raises(TransientError, match="workers died"):
            h5z.convert(source, target, scheduler=cluster, **arguments)
    assert len(killing.result()) == 2
    marks = {int(path.name) for path in (target / ".h5z" / "done").iterdir()}
    assert len(marks) >= FREE
    module = importlib.import_module("h5z.execution")
    begin, begun = module.run_task, set()

    def run_task(target: Any, number: int, work: Any) -> Any:
        begun.add(number)
        return begin(target, number, work)

    monkeypatch.setattr(module, "run_task", run_task)
    tasks = {task.number for task in h5z.plan(source, target, **POLICY).tasks()}
    assert h5z.convert(source, target, **arguments).ok
    assert begun == tasks - marks
    assert stored(target) == expected
