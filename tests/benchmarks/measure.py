"""Wall time, CPU time and peak memory of a process and its descendants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

SAMPLE_SECONDS = 0.01
TIMEOUT_SECONDS = 600.0


class RunError(RuntimeError):
    """A process of the benchmark failed; its last words."""


@dataclass(frozen=True)
class Sample:
    """One run.

    Parameters
    ----------
    wall : float
        Seconds from start to exit, interpreter and imports included (a floor's own figure instead, where it says one).
    cpu : float
        User and system seconds of the process and the descendants that it waited for.
    peak_nbytes : int
        Most resident memory: of the tree together as sampled (pages that processes share count in each), or of one
        process by the kernel's own high-water mark, whichever is more. 0 where there is no ``/proc``.
    """

    wall: float
    cpu: float
    peak_nbytes: int


class MemorySampler(threading.Thread):
    """Follows the resident memory of a process tree in ``/proc`` until stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_nbytes = 0
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Sample at once, then every 10 ms."""
        while True:
            self._sample()
            if self._stop_event.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> int:
        """End sampling: the peak in bytes."""
        self._stop_event.set()
        self.join()
        return self.peak_nbytes

    def _sample(self) -> None:
        total, waiting = 0, [self.pid]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError, ValueError, KeyError):  # ended in between, or a kernel thread
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines)
                total += int(status["VmRSS"].split()[0]) * 1024
                self.peak_nbytes = max(self.peak_nbytes, int(status["VmHWM"].split()[0]) * 1024)
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (thread / "children").read_text().split())
        self.peak_nbytes = max(self.peak_nbytes, total)


def measure(arguments: list[str], *, folder: Path, timeout: float = TIMEOUT_SECONDS) -> Sample:
    """Run a process to its end; a checkout's modules are compiled once, as installed ones are.

    Raises
    ------
    RunError
        If it exits with another status than 0, or does not exit in `timeout` seconds (it is then killed).
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryFile() as output, TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=output, stderr=errors, start_new_session=True)
        sampler = MemorySampler(process.pid)
        sampler.start()
        killer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = sampler.stop()
        if process.returncode:
            raise RunError(f"{_last_line(errors) or 'no word'} (exit {process.returncode} after {wall:.0f} s)")
        return Sample(_stated_seconds(output) or wall, usage.ru_utime + usage.ru_stime, peak)


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _stated_seconds(stream: IO[bytes]) -> float | None:
    """The ``seconds`` of the JSON that a contender printed last, if it did."""
    with suppress(ValueError, TypeError, KeyError):
        seconds = json.loads(_last_line(stream))["seconds"]
        return None if seconds is None else float(seconds)
    return None
