"""An S3-speaking server for saving where nothing can be renamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import s3fs

from ..s3server import plain


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """What s3fs takes to reach a server of its own, which holds a bucket ``objects``."""
    with plain() as url:
        options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": url}}
        s3fs.S3FileSystem(**options).mkdir("objects")
        yield options
