"""What the tests of faults have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

POLICY: dict[str, Any] = {"chunks": {"/x": [50], "/slices": [8, 4, 4]}, "memory": "16KiB", "workers": 2}
POLICY["route"] = {"/slices": "staged"}
SLOW: dict[str, Any] = {**POLICY, "scheduler": "sync", "pause": 0.05}


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    for _ in range(int(seconds * 200)):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("never")
