"""What this machine gives a process."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_nbytes() -> int:
    """Bytes of memory: the machine's, or what a container's control group, or a limit on this process, leaves of them."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return min([_machine(), *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


@cache
def _machine() -> int:
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for place in _CGROUPS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found = min(found, int(Path(place).read_text()))
    return found
