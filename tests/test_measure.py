"""Passing over variable-length data: in pieces of bounded size, each element once; what they weigh is never less than they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given
from hypothesis import strategies as st

import h5z
from h5z.grid import Region
from h5z.hdf5.fetch import local_fetch
from h5z.hdf5.files import open_dataset
from h5z.pacing import FIRST_ELEMENTS, PIECE_NBYTES, pieces
from h5z.payload import Run, block_nbytes, heaviest, joined, mean_nbytes

TEXT = h5py.string_dtype()
MIXED = np.dtype([("a", "i1"), ("s", TEXT), ("pair", TEXT, (2,)), ("v", h5py.vlen_dtype("<f8")), ("z", "<f8")])


def words(count: int, most: int) -> list[str]:
    """Words of very different lengths, the long ones together."""
    return ["x" * (most if count // 3 < i < count // 2 else i % 7) for i in range(count)]


def mixed(count: int) -> np.ndarray:
    """A compound of numbers, strings, an array of strings and a sequence."""
    out = np.empty(count, MIXED)
    for i, word in enumerate(words(count, 9000)):
        out[i] = (i % 100, word, ("b" * (i % 3), word), np.arange(float(i % 5)), i)
    return out


WRITTEN: dict[str, Callable[[h5py.File], Any]] = {
    "contiguous": lambda file: file.create_dataset("x", data=words(4000, 9000), dtype=TEXT),
    "chunked": lambda file: file.create_dataset("x", data=words(4000, 9000), dtype=TEXT, chunks=(300,), compression="gzip"),
    "of two dimensions": lambda file: file.create_dataset(
        "x", data=np.array(words(4000, 9000), object).reshape(40, 100), dtype=TEXT, chunks=(7, 30), compression="lzf"
    ),
    "of compounds": lambda file: file.create_dataset("x", data=mixed(2500)),
    "of chunked compounds": lambda file: file.create_dataset("x", data=mixed(2500), chunks=(64,), compression="lzf"),
}


def actual(values: np.ndarray) -> list[int]:
    """Bytes in the heap of each element."""
    if values.dtype.names is None:
        return [len(item) for item in values.ravel()]
    return [len(row["s"]) + sum(map(len, row["pair"])) + 8 * len(row["v"]) for row in values]


def passed(path: Path, *, by_row: bool = False, told: bool = True) -> list[tuple[Region, int]]:
    """Each piece of a pass over ``/x``, with the bytes of its elements; lengths are told, or turn out."""
    out: list[tuple[Region, int]] = []
    runs: list[Run] = []
    with h5py.File(path) as file:
        node = next(node for node in h5z.scan(path).arrays if node.path == "/x")
        fetch = local_fetch(file.filename) if told else None
        for region in pieces(node, open_dataset(file, "/x"), fetch, runs, by_row=by_row):
            weights = actual(np.asarray(file["x"][region]))
            out.append((region, sum(weights)))
            runs.append((len(weights), sum(weights), max(weights, default=0)))
    return out


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", WRITTEN)
def test_pieces_are_of_bounded_size_and_hold_each_element_once(tmp_path: Path, name: str, told: bool) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        shape = WRITTEN[name](file).shape
    found = passed(tmp_path / "in.h5", told=told)
    order = np.arange(np.prod(shape)).reshape(shape)
    assert np.concatenate([order[region].ravel() for region, _ in found]).tolist() == order.ravel().tolist()
    assert len(found) > 1
    longest = 9000 * (2 if "compounds" in name else 100 if "two" in name else 1)
    most = PIECE_NBYTES + longest if told else 64 * PIECE_NBYTES
    assert max(nbytes for _, nbytes in found) <= most


def test_lengths_that_are_told_make_few_pieces(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=["ab"] * 60_000, dtype=TEXT)
    assert len(passed(tmp_path / "in.h5")) == 1
    assert len(passed(tmp_path / "in.h5", told=False)) > 3


def test_elements_that_suddenly_grow_are_read_few_at_a_time(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=["ab"] * 5000 + ["y" * 1_000_000] * 30, dtype=TEXT)
    assert max(nbytes for _, nbytes in passed(tmp_path / "in.h5")) <= PIECE_NBYTES


def test_rows_stay_whole_where_they_must(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", shape=(3, 200_000), dtype=TEXT)[1, :] = "abc"
    assert [region[0] for region, _ in passed(tmp_path / "in.h5", by_row=True)] == [slice(i, i + 1) for i in range(3)]
    assert all(region[1].stop - region[1].start <= 1 << 16 for region, _ in passed(tmp_path / "in.h5"))


def test_chunks_never_written_hold_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("x", shape=(40_000,), dtype=TEXT, chunks=(100,))
        made[300:400] = "z" * 50_000
    found = passed(tmp_path / "in.h5")
    assert max(nbytes for _, nbytes in found) <= PIECE_NBYTES
    assert sum(nbytes for _, nbytes in found) == 100 * 50_000


def test_compact_text_is_read_though_no_lengths_are_told(tmp_path: Path) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.COMPACT)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        tid = h5t.py_create(TEXT, logical=True)
        h5d.create(file.id, b"x", tid, h5s.create_simple((200,)), plist)
        file["x"][:] = words(200, 99)
    found = passed(tmp_path / "in.h5")
    assert found[0][0] == (slice(0, FIRST_ELEMENTS),)
    assert found[-1][0][0].stop == 200


def test_what_is_weighed_travels_with_the_tree(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=["ü" * 5000] * 2000, dtype=TEXT)
        file.create_dataset("sequences", (3,), dtype=h5py.vlen_dtype("<f8"))[1] = np.arange(1000.0)
        file["numbers"] = np.arange(9)
    tree = h5z.scan(tmp_path / "in.h5", measure=True)
    found = {node.path: node.payload for node in h5z.nodes.Tree.from_dict(tree.to_dict()).arrays}
    assert sum(run[0] for run in found["/x"]) == 2000
    assert 10_000 * 2000 <= sum(run[1] for run in found["/x"]) < 10_200 * 2000
    assert found["/sequences"] == ((3, 8000, 8000),)
    assert found["/numbers"] == ()


@st.composite
def weighed(draw: st.DrawFn) -> tuple[list[int], list[Run]]:
    """Elements of all sizes, and the runs that a pass made of them."""
    sizes = draw(st.lists(st.integers(0, 20) | st.integers(0, 10**6), min_size=1, max_size=60))
    cuts = sorted(draw(st.sets(st.integers(1, len(sizes)))) | {len(sizes)})
    parts = [sizes[start:stop] for start, stop in zip([0, *cuts], cuts, strict=False)]
    return sizes, [(len(part), sum(part), max(part)) for part in parts]


@given(weighed(), st.data())
def test_a_range_weighs_no_more_than_is_said(made: tuple[list[int], list[Run]], data: st.DataObject) -> None:
    sizes, runs = made
    ranges = data.draw(st.lists(st.tuples(st.integers(0, len(sizes)), st.integers(0, len(sizes))), min_size=1, max_size=5))
    starts, stops = [min(pair) for pair in ranges], [max(pair) for pair in ranges]
    most = max(sum(sizes[start:stop]) for start, stop in zip(starts, stops, strict=True))
    assert most <= heaviest(runs, starts, stops) <= sum(sizes)
    assert heaviest([(1, size, size) for size in sizes], starts, stops) == most
    assert most <= heaviest(joined(runs, 2), starts, stops)


@given(weighed(), st.data())
def test_a_block_weighs_no_more_than_is_said(made: tuple[list[int], list[Run]], data: st.DataObject) -> None:
    sizes, runs = made
    columns = data.draw(st.sampled_from([n for n in range(1, len(sizes) + 1) if len(sizes) % n == 0]))
    grid = np.array(sizes).reshape(-1, columns)
    block = (data.draw(st.integers(1, len(grid) + 2)), data.draw(st.integers(1, columns + 2)))
    places = [(i, j) for i in range(0, len(grid), block[0]) for j in range(0, columns, block[1])]
    most = max(int(grid[i : i + block[0], j : j + block[1]].sum()) for i, j in places)
    assert most <= block_nbytes(runs, grid.shape, block) <= sum(sizes)
    assert mean_nbytes(runs) >= 64
