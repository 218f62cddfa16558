"""How data will be read -> how well a chunk shape serves it; arithmetic only.

An access pattern is the shape of one read: ``time`` reads the whole first axis at one place, ``space`` one index of the first
axis whole, ``balanced`` both alike, ``"64,*,*"`` what it says (``*`` is a whole axis).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from h5z.errors import PlanError
from h5z.nodes import Record, Shape

WORDS = ("time", "space", "balanced")
MIB = 1 << 20
REQUEST_NBYTES = MIB // 2  # decoding this much takes as long as asking for one more object, from a disk or near an object store
LEAST_NBYTES, MOST_NBYTES = MIB // 4, 32 * MIB  # of an advised chunk, decoded
_MOST_CANDIDATES = 200_000


@dataclass(frozen=True)
class Cost(Record):
    """What one read costs, on average over the patterns.

    Attributes
    ----------
    chunks : Shape
    objects : int
        Chunks of the whole array.
    reads : float
        Chunks that one read touches.
    nbytes : float
        Bytes that one read decodes.
    waste : float
        Those bytes over the bytes wanted.
    """

    chunks: Shape
    objects: int
    reads: float
    nbytes: float
    waste: float

    @property
    def weight(self) -> float:
        """What is made least: bytes decoded, and requests in bytes' stead."""
        return self.nbytes + self.reads * REQUEST_NBYTES


def patterns(access: str, shape: Shape) -> tuple[Shape, ...]:
    """The reads that an access pattern stands for, in an array of this shape.

    Raises
    ------
    PlanError
        If it is none, or of another rank than the array.

    Examples
    --------
    >>> patterns("balanced", (100, 20, 30)), patterns("64,*,1", (100, 20, 30))
    (((100, 1, 1), (1, 20, 30)), ((64, 20, 1),))
    """
    along = (shape[0], *(1 for _ in shape[1:])) if shape else ()
    across = (1, *shape[1:]) if len(shape) > 1 else shape
    if access in WORDS:
        return {"time": (along,), "space": (across,), "balanced": (along, across)}[access]
    sizes = access.split(",")
    if not all(size == "*" or (size.isdigit() and int(size) > 0) for size in map(str.strip, sizes)):
        raise PlanError(f"access: expected {', '.join(WORDS)} or the shape of a read such as '64,*,*', found {access!r}")
    if len(sizes) != len(shape):
        raise PlanError(f"access: {access!r} has rank {len(sizes)}, found an array of rank {len(shape)}")
    return (tuple(n if size.strip() == "*" else min(int(size), n) for size, n in zip(sizes, shape, strict=True)),)


def cost(chunks: Shape, shape: Shape, itemsize: int, reads: tuple[Shape, ...]) -> Cost:
    """What reading costs with this chunk shape: geometric means over the patterns.

    >>> found = cost((10, 20, 30), (100, 20, 30), 4, ((100, 1, 1),))
    >>> found.objects, found.reads, found.nbytes, found.waste
    (10, 10.0, 240000.0, 600.0)
    """
    touched, decoded, wasted = [], [], []
    size = math.prod(chunks) * itemsize
    for read in reads:
        count = math.prod(_touched(c, n, r) for c, n, r in zip(chunks, shape, read, strict=True))
        touched.append(count)
        decoded.append(count * size)
        wasted.append(count * size / max(1, math.prod(read) * itemsize))
    objects = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    return Cost(chunks, objects, _mean(touched), _mean(decoded), _mean(wasted))


def _touched(chunk: int, length: int, read: int) -> float:
    """Chunks along an axis that a read at any place touches, on average."""
    count = -(-length // chunk)
    return float(count) if read >= length else min(float(count), (read + chunk - 1) / chunk)


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if len(values) > 1 else values[0]


def best(shape: Shape, itemsize: int, reads: tuple[Shape, ...], *, least: int = LEAST_NBYTES, most: int = MOST_NBYTES) -> Cost:
    """The chunk shape, of at least and at most so many bytes, with which these reads cost least.

    >>> best((1000, 512, 512), 4, ((1000, 1, 1),)).chunks, best((1000, 512, 512), 4, ((1, 512, 512),)).chunks
    ((1000, 8, 16), (1, 512, 512))
    """
    found = [cost(chunks, shape, itemsize, reads) for chunks in candidates(shape, itemsize, least, most)]
    return min(found, key=lambda item: (item.weight, item.objects, sum(item.chunks)))


def candidates(shape: Shape, itemsize: int, least: int, most: int) -> Iterator[Shape]:
    """Chunk shapes of powers of two, or whole axes, of so many bytes; the array itself where it is smaller."""
    whole = math.prod(shape) * itemsize
    if whole <= least:
        yield shape
        return
    step = 1
    while math.prod(n.bit_length() // step + 2 for n in shape) > _MOST_CANDIDATES:
        step += 1
    axes = [sorted({*(1 << i for i in range(0, (n - 1).bit_length(), step)), n}) for n in shape]
    for chunks in product(*axes):
        if least <= math.prod(chunks) * itemsize <= most:
            yield chunks
