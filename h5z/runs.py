"""Sequences of small numbers that are mostly the same, as JSON."""

from __future__ import annotations

import base64
from typing import Any, cast

import numpy as np

from h5z.nodes import Json

_MOST_RUNS = 1000


def encode_runs(values: Any) -> Json:
    """Numbers as runs ``[count, number]``; None where all are 0, bits where two numbers alternate too often.

    >>> encode_runs(np.array([0, 0, -1])), encode_runs(np.zeros(3, int))
    ([[2, 0], [1, -1]], None)
    """
    values = np.asarray(values)
    if not values.any():
        return None
    edges = np.flatnonzero(np.diff(values)) + 1
    found = np.unique(values)
    if len(edges) >= _MOST_RUNS and len(found) == 2 and 0 in found:
        bits = np.packbits(values != 0).tobytes()
        return {"bits": base64.b64encode(bits).decode(), "of": int(found[found != 0][0])}
    starts = np.concatenate(([0], edges))
    counts = np.diff(np.concatenate((starts, [len(values)])))
    return [[int(count), int(values[start])] for count, start in zip(counts, starts, strict=True)]


def decode_runs(record: Json, count: int) -> Any:
    """The numbers that `encode_runs` wrote, as an array of that length.

    Raises
    ------
    ValueError
        If the record is of another length.

    >>> decode_runs([[2, 0], [1, -1]], 3).tolist()
    [0, 0, -1]
    """
    if record is None:
        return np.zeros(count, np.int64)
    if isinstance(record, dict):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(record["bits"]), np.uint8), count=count)
        return bits.astype(np.int64) * cast(int, record["of"])
    values = np.repeat([number for _, number in record], [length for length, _ in record]).astype(np.int64)
    if len(values) != count:
        raise ValueError(f"expected runs of {count} numbers, found {len(values)}")
    return values
