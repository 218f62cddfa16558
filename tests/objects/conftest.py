"""An S3-speaking server for saving where nothing can be renamed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import s3fs


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """What s3fs takes to reach a server of its own, which holds a bucket ``objects``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert running.poll() is None, "moto's server did not start"
                    time.sleep(0.05)
            options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}
            s3fs.S3FileSystem(**options).mkdir("objects")
            yield options
        finally:
            running.terminate()
