"""Who holds a lease: a process of a machine, since when, and by which clock; as a claim's text says it."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from h5z.stores.disk import boot

SPAN = 60.0  # seconds that a lease runs unless it is renewed


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: what a claim says."""

    run: str
    span: float
    over: str | None = None
    shared: bool = False
    host: str = ""
    user: str = ""
    pid: int = 0
    machine: str = ""
    started: str = ""
    since: str = ""
    clock: float = 0.0
    renewals: int = 0
    released: bool = False

    @classmethod
    def here(cls, span: float, *, shared: bool) -> Holder:
        """A new run of this process."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError, ImportError):  # a user without a name
            user = str(os.getuid()) if hasattr(os, "getuid") else ""
        return cls(
            uuid.uuid4().hex,
            span,
            shared=shared,
            host=socket.gethostname(),
            user=user,
            pid=os.getpid(),
            machine=_machine(),
            started=_started(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            clock=clock(),
        )

    @classmethod
    def parse(cls, text: bytes) -> Holder:
        """What a claim's text says; of one that cannot be read, as little as is sure."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return cls("", SPAN)

    def text(self) -> bytes:
        """The claim's text."""
        return json.dumps(asdict(self)).encode()

    def same_process(self, other: Holder) -> bool:
        """Whether both are of one process."""
        return bool(self.machine) and (self.machine, self.pid, self.started) == (other.machine, other.pid, other.started)

    def dead(self, here: Holder) -> bool:
        """Whether its process ran on this machine and is no more; a later process of its number is another one."""
        if not self.machine or self.machine != here.machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is another user's
            pass
        started = _started(self.pid)
        return started is not None and started != self.started

    def __str__(self) -> str:
        """For people."""
        who = f"{self.user}@{self.host}, process {self.pid}, since {self.since}"
        return f"run {self.run[:8]} ({who})" if self.run else "a run that has not said who it is"


def _machine() -> str:
    """What names this boot of this machine and this space of process numbers; empty where there is no telling."""
    try:
        return f"{boot()} {os.readlink('/proc/self/ns/pid')}" if boot() else ""
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; empty if it is dead and not yet buried, None where there is no telling."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if stat[0] in "ZX" else stat[19]


def clock() -> float:
    """Seconds by a clock that runs on while a process, or the machine, sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
