"""Processes that cost no interpreter's start: a server that has imported everything forks one for each call of h5z.

As a program: ``python -m tests.forks``; requests and answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
PIECES = 4  # of small arrays in a task here, so that small files take many


class ForkServer:
    """Starts processes, and buries them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.forks"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOME), os.environ.get("PYTHONPATH", "")])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=HOME, env=environment, text=True, **pipes)
        self.ask("hello")

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, what: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, call: str, output: Path, **arguments: Any) -> int:
        """Fork a process that makes a call; what it returns, or how it fails, is in `output` once it has ended."""
        pid: int = self.ask("start", call=call, output=str(output), arguments=arguments)
        return pid

    def wait(self, pid: int) -> int:
        """Wait for a process's end: its exit status, or its signal as a negative number."""
        status: int = self.ask("wait", pid=pid)
        return status

    def alive(self, pid: int) -> bool:
        """Whether a process has not ended yet."""
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"

    def run(self, call: str, output: Path, **arguments: Any) -> tuple[int, str]:
        """Make a call and wait for its end: status and text."""
        status = self.wait(self.start(call, output, **arguments))
        return status, output.read_text()


def log_tasks(log: str | None) -> None:
    """Have each task that this process begins from now on write its number on a line of a file."""
    if log is None:
        return
    module = importlib.import_module("h5z.execution")
    begin = module.run_task

    def run_task(target: Any, number: int, work: Any) -> Any:
        with open(log, "a") as file:
            file.write(f"{number}\n")
        return begin(target, number, work)

    vars(module)["run_task"] = run_task


def convert(
    span: float = 60.0,
    pause: float = 0.0,
    free: int = 0,
    told: str | None = None,
    log: str | None = None,
    **arguments: Any,
) -> str:
    """h5z.convert; `told` names a file that gets a line of (bytes done, bytes in all) at each step, after a pause.

    The first steps may be free of pauses.
    """
    import h5z
    from h5z.stores import holder, lease

    holder.SPAN = lease.SPAN = span
    log_tasks(log)

    steps = itertools.count()

    def progress(done: int, total: int) -> None:
        if next(steps) >= free:
            time.sleep(pause)
        if told:
            with open(told, "a") as file:
                file.write(f"{done} {total}\n")

    return h5z.convert(progress=progress, **arguments).status


def combine(log: str | None = None, **arguments: Any) -> str:
    """h5z.combine."""
    import h5z

    log_tasks(log)
    return h5z.combine(scheduler="threads", **arguments).status


def graph(
    source: str, target: str, storage_options: Any = None, finalize: bool = True, log: str | None = None, **policy: Any
) -> str:
    """h5z.graph, computed, and h5z.finalize."""
    import h5z

    log_tasks(log)
    plan = h5z.plan(source, target, **policy)
    ran = h5z.graph(plan, storage_options=storage_options).compute(scheduler="threads", num_workers=2)
    if finalize:
        h5z.finalize(target, storage_options=storage_options)
    return str(ran)


def finalize(target: str, storage_options: Any = None) -> str:
    """h5z.finalize."""
    import h5z

    h5z.finalize(target, storage_options=storage_options)
    return "finalized"


def verify(**arguments: Any) -> str:
    """h5z.verify."""
    import h5z

    return h5z.verify(**arguments).status


def many(pairs: list[list[str]], log: str | None = None, **arguments: Any) -> str:
    """h5z.convert of many files, two at a time."""
    from concurrent.futures import ThreadPoolExecutor

    import h5z

    log_tasks(log)

    def one(pair: list[str]) -> str:
        return h5z.convert(*pair, scheduler="sync", **arguments).status

    with ThreadPoolExecutor(2) as pool:
        return " ".join(pool.map(one, pairs))


def race(target: str, start: str, stop: str, storage_options: Any = None) -> str:
    """Wait until a file is there, then try to hold a target; hold it until another file is there."""
    from h5z.target import Target

    place = Target.of(target, storage_options)
    place.names()  # what opens connections has opened them
    while not os.path.exists(start):
        time.sleep(0.001)
    held = place.hold()
    while not os.path.exists(stop):
        time.sleep(0.01)
    held.check(now=True)
    held.release()
    return "held"


CALLS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (convert, combine, graph, finalize, verify, many, race)
}


def child(call: str, output: str, arguments: dict[str, Any]) -> None:
    """Make a call in a forked process, and end it."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status, text = 0, ""
    try:
        text = CALLS[call](**arguments)
    except BaseException as error:
        status = getattr(error, "exit_code", 99)
        text = f"{type(error).__name__}: {error}" if status != 99 else traceback.format_exc()
    draft = f"{output}.{os.getpid()}"
    Path(draft).write_text(text)
    os.replace(draft, output)
    os._exit(status)


def main() -> None:
    """Serve until the requests end."""
    import dask.threaded
    import s3fs

    import h5z.combining
    import h5z.commit
    import h5z.execution
    import h5z.prepare
    import h5z.staging

    setattr(importlib.import_module("h5z.plan"), "BATCH_PIECES", PIECES)  # noqa: B010 (the function of its name hides it)
    assert all((dask.threaded, s3fs, h5z))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = "hello"
        if request["what"] == "start":
            answer = os.fork()
            if answer == 0:
                child(request["call"], request["output"], request["arguments"])
        elif request["what"] == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
