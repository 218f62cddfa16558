"""The staged route: through a scratch, where reading each write unit from the source would decode its chunks too often.

Each source block is read once and cut along the target's blocks; the pieces lie as objects of their own in the target's store
under ``.h5z/scratch/``, where every worker reaches them, until the target block that they make up is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from h5z.arrayplan import ArrayPlan
from h5z.grid import ChunkGrid, Region, intersect, region_shape, within
from h5z.target import Target


@dataclass(frozen=True)
class Scratch:
    """The scratch of one array, by its number in the plan."""

    target: Target
    plan: ArrayPlan
    number: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return cast("np.dtype[Any]", self.plan.leaf().dtype)

    def put(self, region: Region, values: Any) -> None:
        """Cut a source block's values along the target's blocks and keep the pieces."""
        for block, part in self._pieces(self.plan.blocks, region):
            data = np.ascontiguousarray(values[within(part, region)])
            self.target.put({self._key(self.plan.blocks.region(block), part): data.reshape(-1).view(np.uint8)})

    def read(self, region: Region) -> Any:
        """Put a target block together from the pieces of all source blocks."""
        out = np.empty(region_shape(region), self.dtype)
        for _, part in self._pieces(self._sources, region):
            raw = self.target.get(self._key(region, part))
            if raw is None:
                raise FileNotFoundError(f"{self.target.name}: a piece of {self.plan.path} is not in the scratch")
            out[within(part, region)] = np.frombuffer(raw, self.dtype).reshape(region_shape(part))
        return out

    def drop(self, region: Region) -> None:
        """Delete the pieces of a target block that is written."""
        self.target.delete([self._key(region, part) for _, part in self._pieces(self._sources, region)])

    @property
    def _sources(self) -> ChunkGrid:
        return ChunkGrid(self.plan.shape, self.plan.stage or self.plan.block)

    @staticmethod
    def _pieces(grid: ChunkGrid, region: Region) -> Iterator[tuple[tuple[int, ...], Region]]:
        for index in grid.overlapping(region):
            yield index, intersect(grid.region(index), region)

    def _key(self, block: Region, part: Region) -> str:
        places = ("-".join(str(s.start) for s in region) for region in (block, part))
        return "/".join((".h5z/scratch", str(self.number), *places))
