"""Index arithmetic, property-tested."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5z.chunking import widen
from h5z.grid import ChunkGrid, grow, intersect, region_shape, within


@st.composite
def grids(draw: st.DrawFn) -> ChunkGrid:
    rank = draw(st.integers(0, 3))
    shape = tuple(draw(st.integers(0, 12)) for _ in range(rank))
    return ChunkGrid(shape, tuple(draw(st.integers(1, 15)) for _ in range(rank)))


@given(grids())
def test_cells_cover_each_element_once(grid: ChunkGrid) -> None:
    seen = np.zeros(grid.shape, int)
    for number, index in enumerate(grid.indices()):
        assert grid.index(number) == index
        seen[grid.region(index)] += 1
    assert (seen == 1).all()
    assert grid.size == sum(1 for _ in grid.indices())


@given(grids(), st.data())
def test_overlapping_cells_are_those_that_share_an_element(grid: ChunkGrid, data: st.DataObject) -> None:
    region = tuple(slice(a, data.draw(st.integers(a, n))) for n in grid.shape for a in [data.draw(st.integers(0, n))])
    expected = [index for index in grid.indices() if all(s.start < s.stop for s in intersect(grid.region(index), region))]
    assert list(grid.overlapping(region)) == expected
    for index in expected:
        shared = intersect(grid.region(index), region)
        assert region_shape(within(shared, region)) == region_shape(shared)


@given(grids(), st.integers(1, 500), st.data())
def test_grown_cells_are_multiples_within_the_limit(grid: ChunkGrid, limit: int, data: st.DataObject) -> None:
    align = tuple(data.draw(st.integers(1, 8)) for _ in grid.shape) if data.draw(st.booleans()) else None
    grown = grow(grid.chunks, grid.shape, limit, align)
    assert all(g % c == 0 and g >= c for g, c in zip(grown, grid.chunks, strict=True))
    assert math.prod(grown) <= max(limit, math.prod(grid.chunks))


@given(grids(), st.integers(1, 500))
def test_widened_cells_are_multiples_within_the_limit(grid: ChunkGrid, limit: int) -> None:
    wide = widen(grid.chunks, grid.shape, limit)
    assert all(w % c == 0 for w, c in zip(wide, grid.chunks, strict=True))
    assert math.prod(wide) <= max(limit, math.prod(grid.chunks))
