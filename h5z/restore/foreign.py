"""Stores that h5z did not make."""

from __future__ import annotations

from h5z.errors import SourceError
from h5z.restore.headers import Headers
from h5z.restore.stored import StoredNode
from h5z.target import Target


def plain_headers(target: Target, nodes: dict[str, StoredNode]) -> Headers:
    """Not yet."""
    raise SourceError(f"{target.name}: not a store of h5z's")
