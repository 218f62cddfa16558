"""A server that speaks S3, and a small session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import s3fs

from ..s3server import plain
from .generated import Tables, session

SECRET = "s3cr3tvalue"


@pytest.fixture(scope="session")
def options() -> Iterator[dict[str, Any]]:
    """What s3fs takes to reach the server."""
    with plain() as address:
        yield {"key": "somebody", "secret": SECRET, "client_kwargs": {"endpoint_url": address}}


@pytest.fixture(scope="session")
def bucket(options: dict[str, Any]) -> s3fs.S3FileSystem:
    """The server's file system, with an empty bucket called ``bucket``."""
    filesystem = s3fs.S3FileSystem(**options, use_listings_cache=False)
    filesystem.mkdir("bucket")
    return filesystem


@pytest.fixture(scope="session")
def small() -> Tables:
    """Three tasks, 30 elements, 300 segments."""
    return session(300, elements=30, tasks=3)
