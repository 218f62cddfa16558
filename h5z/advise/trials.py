"""What codecs make of samples: ratio, and how fast they encode and decode on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
from numcodecs import blosc

from h5z.codecs import encoder, fit, parse
from h5z.errors import PlanError
from h5z.nodes import Record

CODECS = ("none", "blosc-lz4:5", "blosc-zstd:1", "blosc-zstd:3", "blosc-zstd:7", "zstd:3", "gzip:5")
_REPEATS = 3


@dataclass(frozen=True)
class Trial(Record):
    """A codec on samples.

    Attributes
    ----------
    nbytes, encoded_nbytes : int
        Of all samples.
    encode, decode : float
        Decoded bytes a second, on one core; the best of several passes.
    """

    codec: str
    nbytes: int
    encoded_nbytes: int
    encode: float
    decode: float

    @property
    def ratio(self) -> float:
        """Bytes over encoded bytes."""
        return self.nbytes / max(1, self.encoded_nbytes)

    def seconds(self, bandwidth: float) -> float:
        """Seconds to read a GiB of data, stored so, over so many bytes a second, and to decode it."""
        return (1 << 30) * (1 / self.ratio / bandwidth + 1 / self.decode)


def trials(samples: Sequence[Any], codecs: Sequence[str] = CODECS) -> list[Trial]:
    """Try codecs on samples.

    Parameters
    ----------
    samples : sequence of numpy arrays
        Chunks, each encoded by itself.
    codecs : sequence of str
        As Policy's ``codec`` names them.

    Raises
    ------
    PlanError
        For a codec that is not known, or that takes more than bytes.
    """
    raw = [_bytes(sample) for sample in samples]
    with _one_thread():
        return [_trial(codec, raw, samples[0].dtype.itemsize) for codec in codecs]


def _bytes(sample: Any) -> Any:
    return np.ascontiguousarray(sample).reshape(-1).view(np.uint8)


def _trial(codec: str, raw: Sequence[Any], itemsize: int) -> Trial:
    chain = fit(parse(codec), itemsize)
    encode, decode = encoder(chain), _decoder(chain)
    if encode is None:
        raise PlanError(f"codec: expected one that encodes bytes, found {codec!r}")
    nbytes = sum(piece.nbytes for piece in raw)
    encoded: list[Any] = []
    written = min(_timed(encode, raw, encoded) for _ in range(_REPEATS))
    pieces = encoded[: len(raw)]
    read = min(_timed(decode, pieces, []) for _ in range(_REPEATS))
    stored = sum(memoryview(piece).nbytes for piece in pieces)
    return Trial(codec, nbytes, stored, nbytes / max(written, 1e-9), nbytes / max(read, 1e-9))


def _timed(function: Callable[[Any], Any], pieces: Sequence[Any], out: list[Any]) -> float:
    start = time.perf_counter()
    for piece in pieces:
        out.append(function(piece))
    return time.perf_counter() - start


def _decoder(chain: Sequence[dict[str, Any]]) -> Callable[[Any], Any]:
    steps = []
    for document in reversed(chain):
        config = dict(document["configuration"])
        if document["name"] == "blosc":
            config["shuffle"] = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[config["shuffle"]]
        steps.append(numcodecs.get_codec({"id": document["name"].removeprefix("numcodecs."), **config}).decode)

    def decode(data: Any) -> Any:
        for step in steps:
            data = step(data)
        return np.array(data, copy=True) if not steps else data  # without codecs, reading is a copy

    return decode


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have Blosc use one core: the others run other tasks."""
    before = blosc.set_nthreads(1)
    try:
        yield
    finally:
        blosc.set_nthreads(before)
