"""The tour runs as it is told, on S3 too, and tells what is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


def test_the_tour(tmp_path: Path, bucket: Any, options: dict[str, Any]) -> None:
    keys = {"AWS_ENDPOINT_URL": options["client_kwargs"]["endpoint_url"], "AWS_ACCESS_KEY_ID": options["key"]}
    environment = {**os.environ, **keys, "AWS_SECRET_ACCESS_KEY": options["secret"], "PYTHONPATH": str(PROJECT)}
    command = [
        sys.executable,
        str(PROJECT / "notebooks" / "events.py"),
        str(tmp_path),
        "s3://bucket/tour/{session_id}_events.zarr",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-4:] == [
        "session-1 57 speech 157.0",
        "session-1 59 saccade 159.0",
        "session-2 0 speech 200.0",
        "session-2 2 saccade 202.0",
    ]
    assert "[121. 124. 127. 130. 133. 136. 139.]" in lines
    assert bucket.exists("bucket/tour/session-2_events.zarr/zarr.json")
    assert {path.name for path in tmp_path.iterdir()} == {"1.h5", "2.h5"}
