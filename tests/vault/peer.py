"""HDF5Vault 0.3.3 itself, put into a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


class AbsentError(RuntimeError):
    """It cannot be had here; the message says why."""


def install(place: Path, ranks: int = 2) -> list[str]:
    """Install it, and return the start of a command that runs one of its modules on some MPI ranks.

    Raises
    ------
    AbsentError
        If MPI, a package or a registry is missing.
    """
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        raise AbsentError("Open MPI is not installed")
    missing = [name for name in ("blosc2", "h5py", "pandas") if find_spec(name) is None]
    if missing:
        raise AbsentError(f"HDF5Vault needs {', '.join(missing)}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    done = subprocess.run(
        [*command, "hdf5vault==0.3.3", "mpi4py", "humanize"], capture_output=True, text=True, timeout=500, check=False
    )
    if done.returncode:
        raise AbsentError(f"HDF5Vault cannot be installed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    start = [mpirun, *root, "--oversubscribe", "-n", str(ranks), "env", f"PYTHONPATH={place}", sys.executable]
    trial = subprocess.run([*start, "-c", "import mpi4py.MPI"], capture_output=True, text=True, timeout=100, check=False)
    if trial.returncode:
        raise AbsentError(f"MPI does not run here: {(trial.stderr.strip().splitlines() or ['no word'])[-1]}")
    return start
