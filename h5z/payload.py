"""How much memory variable-length data take: arithmetic on what a pass over them weighed.

A run is a number of consecutive elements, the bytes of their variable-length parts in memory, and those of the largest element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Run = tuple[int, int, int]
ASSUMED_NBYTES = 64  # of a text in memory, where nothing was measured; and of one that is shorter


def mean_nbytes(runs: Sequence[Run]) -> int:
    """Bytes of a text in memory on average.

    >>> mean_nbytes([(2, 600, 500), (2, 200, 100)]), mean_nbytes([])
    (200, 64)
    """
    count = sum(run[0] for run in runs)
    return max(ASSUMED_NBYTES, -(-sum(run[1] for run in runs) // count)) if count else ASSUMED_NBYTES


def summed(runs: Sequence[Run]) -> tuple[Run, ...]:
    """One run in place of all.

    >>> summed([(2, 600, 500), (2, 200, 100)])
    ((4, 800, 500),)
    """
    if not runs:
        return ()
    counts, totals, largest = zip(*runs, strict=True)
    return ((sum(counts), sum(totals), max(largest)),)


def joined(runs: Sequence[Run], most: int) -> list[Run]:
    """Few enough runs to travel: neighbours become one.

    >>> joined([(2, 600, 500), (2, 200, 100), (1, 9, 9)], 2)
    [(4, 800, 500), (1, 9, 9)]
    """
    out = list(runs)
    while len(out) > most:
        out = [summed(out[i : i + 2])[0] for i in range(0, len(out), 2)]
    return out


def heaviest(runs: Sequence[Run], starts: Sequence[int], stops: Sequence[int]) -> int:
    """Bytes of the heaviest of some ranges of elements, at most: of a part of a run, each as heavy as the largest may be.

    >>> heaviest([(10, 100, 20), (10, 1000, 900)], [0, 8, 19], [10, 11, 20])
    940
    """
    count, total, largest = np.array(runs, np.int64).reshape(-1, 3).T
    if not len(count) or not len(starts):
        return 0
    ends = np.cumsum(count)
    stop = np.minimum(np.asarray(stops, np.int64), ends[-1])
    start = np.minimum(np.asarray(starts, np.int64), stop)
    first = np.searchsorted(ends, start, side="right").clip(max=len(ends) - 1)
    last = np.searchsorted(ends, stop, side="left").clip(max=len(ends) - 1)
    head = np.minimum((ends[first] - start) * largest[first], total[first])
    tail = np.minimum((stop - (ends - count)[last]) * largest[last], total[last])
    between = (np.cumsum(total) - total)[last] - np.cumsum(total)[first]
    alone = np.minimum((stop - start) * largest[first], total[first])
    return int(np.where(first >= last, alone, head + between + tail).max())


def block_nbytes(runs: Sequence[Run], shape: tuple[int, ...], block: tuple[int, ...]) -> int:
    """Bytes of the heaviest block of an array at most, blocks of one shape covering it.

    >>> block_nbytes([(10, 100, 20), (10, 1000, 900)], (20,), (5,))
    1000
    >>> block_nbytes([(10, 100, 20), (10, 1000, 900)], (2, 10), (1, 1))
    900
    """
    if not runs or 0 in block:
        return 0
    if not shape:
        return sum(run[1] for run in runs)
    row = math.prod(shape[1:])
    starts = range(0, shape[0] * row, block[0] * row)
    found = heaviest(runs, starts, [start + block[0] * row for start in starts])
    return min(found, math.prod(map(min, block, shape)) * max(run[2] for run in runs))
