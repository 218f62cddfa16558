"""The arrays that carry a dataset, read side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from h5z.grid import Region, region_shape
from h5z.leaves import Leaf, leaves
from h5z.nodes import ArrayNode, Shape
from h5z.restore.headers import Parts
from h5z.restore.image import Steps
from h5z.runs import decode_runs

_SLAB_ELEMENTS = 1 << 16
Slab = tuple[Region, dict[Steps, Any], dict[Steps, Any]]  # region, values per leaf, null strings per leaf


class Columns:
    """The leaves of one dataset.

    Attributes
    ----------
    ragged : bool
        Whether some count the elements of sequences, so that they can only be walked in order.
    """

    def __init__(self, node: ArrayNode, parts: Parts) -> None:
        self.node, self.parts = node, parts
        self.shape: Shape = node.shape or ()
        nested = all(part.node.zarr_format == 3 for part in parts.values()) or () in parts
        self.leaves: list[Leaf] = leaves(node.dtype, nested=nested)
        self.ragged = any(leaf.ragged for leaf in self.leaves)
        self._nulls: dict[Steps, Any] = {}

    def read(self, region: Region) -> Slab:
        """Read a region of a dataset without sequences."""
        values, nulls = {}, {}
        for leaf in self.leaves:
            inner = tuple(slice(0, n) for n in leaf.extra)
            values[leaf.steps] = self.parts[leaf.steps].read((*region, *inner))
            if self._has_nulls(leaf):
                nulls[leaf.steps] = self._mask(leaf).reshape(self.shape + leaf.extra)[(*region, *inner)].ravel()
        return region, values, nulls

    def slabs(self, step: int = 1) -> Iterator[Region]:
        """Regions of whole rows (indices of the first axis), in multiples of `step`, for a pass in bounded pieces."""
        if not self.shape:
            yield ()
            return
        rows = max(1, _SLAB_ELEMENTS // max(1, math.prod(self.shape[1:])))
        rows = rows // step * step or rows
        for start in range(0, self.shape[0], rows):
            yield (slice(start, min(start + rows, self.shape[0])), *(slice(0, n) for n in self.shape[1:]))

    def walk(self, step: int = 1) -> Iterator[Slab]:
        """Read slab by slab, sequences included."""
        at: dict[Steps, int] = {}
        for region in self.slabs(step):
            values: dict[Steps, Any] = {}
            nulls: dict[Steps, Any] = {}
            for leaf in self.leaves:
                if not leaf.ragged:
                    inner = tuple(slice(0, n) for n in leaf.extra)
                    values[leaf.steps] = self.parts[leaf.steps].read((*region, *inner))
                    if self._has_nulls(leaf):
                        nulls[leaf.steps] = self._mask(leaf).reshape(self.shape + leaf.extra)[(*region, *inner)].ravel()
                    continue
                last = max(i for i, name in enumerate(leaf.steps) if name == "values")
                count = int(np.sum(values[(*leaf.steps[:last], "lengths")], dtype=np.int64))
                start = at.get(leaf.steps, 0)
                at[leaf.steps] = start + count
                values[leaf.steps] = self.parts[leaf.steps].read(
                    (slice(start, start + count), *(slice(0, n) for n in leaf.extra))
                )
                if self._has_nulls(leaf):
                    width = math.prod(leaf.extra)
                    nulls[leaf.steps] = self._mask(leaf)[start * width : (start + count) * width]
            yield region, values, nulls

    def _has_nulls(self, leaf: Leaf) -> bool:
        return bool(self.node.nulls) and "/".join(leaf.steps) in self.node.nulls

    def _mask(self, leaf: Leaf) -> Any:
        if leaf.steps not in self._nulls:
            part = self.parts[leaf.steps]
            count = math.prod(part.shape) if leaf.ragged else math.prod(self.shape + leaf.extra)
            self._nulls[leaf.steps] = decode_runs(self.node.nulls["/".join(leaf.steps)], count).astype(bool)
        return self._nulls[leaf.steps]


def count_of(region: Region) -> int:
    """Elements in a region."""
    return math.prod(region_shape(region))
