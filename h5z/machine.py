"""What this machine gives a process."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def memory_nbytes() -> int:
    """Bytes of memory: the machine's, or what a container's control group leaves of them."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for place in _CGROUPS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(Path(place).read_text()))
    return found
