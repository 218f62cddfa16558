"""What the tests of faults have in common."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, WrapperStore

import h5z
from h5z.errors import SourceChangedError, TargetError, TargetExistsError, TransientError
from h5z.stores import retries

from ..forks import HOME, PIECES, ForkServer
from ..running import Run
from ..s3server import SECRET, Server
from ..test_bad_input import listing

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
