"""Plans of random arrays and policies: pure data, whole units, each element once, within the memory given."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import h5z
from h5z.errors import PlanError
from h5z.grid import ChunkGrid, Region
from h5z.nodes import ArrayNode, GroupNode, Tree
from h5z.plan import Plan
from h5z.planner import make_plan

from .oddities import ODDITIES

HOME = Path(h5z.__file__).parents[1]
MIB = 1 << 20
DEFLATE = ((2, "shuffle", 0, (8,)), (1, "deflate", 0, (4,)))
ZSTD = ((32015, "zstd", 0, (3,)),)
LZF = ((32000, "lzf", 0, ()),)


@st.composite
def nodes(draw: st.DrawFn, path: str) -> ArrayNode:
    """Headers of a dataset: numbers of few or many bytes, text or sequences; a few thousand cells at most."""
    rank = draw(st.integers(0, 3))
    shape = tuple(draw(st.integers(0, (1, 90, 30, 12)[rank])) for _ in range(rank))
    chunks = tuple(draw(st.integers(max(1, n // 6), n + 3)) for n in shape)
    chunked = rank > 0 and draw(st.booleans())
    dtype: Any = draw(st.sampled_from(["|u1", "<f4", ">f8", "|S4000", "text", "sequence"]))
    counts: dict[str, list[int]] = {}
    payload: list[tuple[int, int, int]] = []
    if dtype == "text":
        dtype = {"class": "string", "size": None, "charset": "utf-8", "padding": "nullterm"}
        left = math.prod(shape)
        while left:
            count = draw(st.integers(1, left))
            mean, left = draw(st.sampled_from([0, 9, 500, 20_000])), left - count
            payload.append((count, count * mean, mean * draw(st.integers(1, count))))
    elif dtype == "sequence":
        dtype = {"class": "vlen", "base": "<i4"}
        lengths = draw(st.integers(1, 9))
        counts = {"values": [7 * i % lengths for i in range(math.prod(shape))]}
        payload = [(1, 4 * count, 4 * count) for count in counts["values"]]
    elif dtype == "|S4000":
        dtype = {"class": "string", "size": 4000, "charset": "ascii", "padding": "nullpad"}
    return ArrayNode(
        path,
        dtype,
        shape,
        layout="chunked" if chunked else "contiguous",
        chunks=chunks if chunked else None,
        filters=draw(st.sampled_from([(), DEFLATE, ZSTD, LZF])) if chunked else (),
        storage_nbytes=draw(st.integers(0, 1 << 24)),
        counts=counts,
        payload=tuple(payload),
    )


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Headers of a file of a few datasets."""
    arrays = [draw(nodes(f"/x{i}")) for i in range(draw(st.integers(1, 3)))]
    return Tree("in.h5", 1, 1, {"/": GroupNode("/"), **{array.path: array for array in arrays}})


@st.composite
def policies(draw: st.DrawFn, tree: Tree) -> dict[str, Any]:
    """A policy that fits a file: chunks and shards by path, codecs, routes, memory from far too little to plenty."""
    chunks: dict[str, Any] = {}
    shards: dict[str, Any] = {}
    for array in tree.arrays:
        shape = array.shape or ()
        sequence = isinstance(array.dtype, dict) and array.dtype["class"] == "vlen"
        cut = tuple(draw(st.integers(max(1, n // 6), max(1, n))) for n in shape)
        chunks[array.path] = draw(st.sampled_from(["auto", "source", cut] if shape and not sequence else ["auto"]))
        if shape and chunks[array.path] == cut and draw(st.booleans()):
            shards[array.path] = tuple(n * draw(st.integers(1, 4)) for n in cut)
    found: dict[str, Any] = {"chunks": chunks, "unsupported": "report"}
    found["codec"] = draw(st.sampled_from(["auto", "keep", "zstd:3", None]))
    found["route"] = draw(st.sampled_from(["auto", "auto", "staged", "regrid", "library"]))
    found["memory"] = draw(st.none() | st.integers(1, 1 << 25) | st.sampled_from(["64KiB", "2GiB"]))
    found["zarr_format"] = draw(st.sampled_from([2, 3]))
    if shards and found["zarr_format"] == 3:
        found["shards"] = shards
    return found


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan, and so a policy with as much memory as it takes."""
    tree = draw(trees())
    policy = h5z.Policy(**draw(policies(tree)))
    workers = draw(st.integers(1, 9))
    try:
        return make_plan(tree, "out.zarr", policy, workers=workers)
    except PlanError as error:
        return make_plan(tree, "out.zarr", replace(policy, memory=least(error)), workers=workers)


def least(error: PlanError) -> int:
    """What a refusal says would do."""
    found = re.search(r"needs at least (\d+) bytes", str(error))
    assert found, error
    return int(found[1])


def returned(plan: Plan) -> Plan:
    """A plan that has travelled as JSON."""
    return Plan.from_dict(json.loads(json.dumps(plan.to_dict())))


@settings(deadline=None)
@given(plans())
def test_plans_travel_as_json(plan: Plan) -> None:
    back = returned(plan)
    assert back == plan
    assert back.fingerprint == plan.fingerprint
    assert list(back.tasks()) == list(plan.tasks())
    assert (back.peak_nbytes, back.objects, str(back)) == (plan.peak_nbytes, plan.objects, str(plan))


@pytest.mark.parametrize("name", sorted(ODDITIES))
def test_plans_of_oddities_travel_as_json(oddity: Callable[[str], Path], name: str) -> None:
    plan = h5z.plan(oddity(name), "out.zarr", unsupported="report", workers=2)
    assert returned(plan) == plan
    assert returned(plan).fingerprint == plan.fingerprint


def cells(grid: ChunkGrid, region: Region) -> list[tuple[int, ...]]:
    """The cells of a grid that a region holds whole; an error where it cuts one."""
    for part, chunk, length in zip(region, grid.chunks, grid.shape, strict=True):
        assert part.start % chunk == 0
        assert part.stop % chunk == 0 or part.stop == length
        assert part.start < part.stop <= length
    return list(product(*(range(p.start // c, -(-p.stop // c)) for p, c in zip(region, grid.chunks, strict=True))))


@settings(deadline=None)
@given(plans())
def test_tasks_cover_each_write_unit_once(plan: Plan) -> None:
    """And stage each of the source's chunks once, before anything is written."""
    written: list[Counter[tuple[int, ...]]] = [Counter() for _ in plan.arrays]
    staged: list[Counter[tuple[int, ...]]] = [Counter() for _ in plan.arrays]
    tasks = list(plan.tasks())
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert sorted(tasks, key=lambda task: not task.staging) == tasks
    for task in tasks:
        assert task.pieces
        for piece in task.pieces:
            array = plan.arrays[piece.array]
            grid = ChunkGrid(array.shape, (array.source_chunks or ()) + array.extra) if task.staging else array.units
            (staged if task.staging else written)[piece.array].update(cells(grid, piece.region))
    for array, units, chunks in zip(plan.arrays, written, staged, strict=True):
        assert units == Counter(array.units.indices()), array.path
        if array.route == "staged":
            assert chunks == Counter(ChunkGrid(array.shape, (array.source_chunks or ()) + array.extra).indices())
        else:
            assert not chunks


@settings(deadline=None)
@given(st.data())
def test_plans_are_deterministic(data: st.DataObject) -> None:
    tree = data.draw(trees())
    policy = h5z.Policy(**data.draw(policies(tree)))
    try:
        first = make_plan(tree, "out.zarr", policy, workers=3)
    except PlanError:
        assume(False)
    again = make_plan(Tree.from_dict(json.loads(json.dumps(tree.to_dict()))), "elsewhere.zarr", policy, workers=3)
    assert again.fingerprint == first.fingerprint
    assert list(again.tasks()) == list(first.tasks())
    assert make_plan(replace(tree, mtime_ns=2), "out.zarr", policy, workers=3).fingerprint != first.fingerprint


@settings(deadline=None)
@given(st.data())
def test_a_plan_keeps_to_the_memory_or_names_the_least(data: st.DataObject) -> None:
    tree = data.draw(trees())
    policy = h5z.Policy(**data.draw(policies(tree)))
    workers = data.draw(st.integers(1, 9))
    assume(policy.memory is not None)
    try:
        plan = make_plan(tree, "out.zarr", policy, workers=workers)
    except PlanError as error:
        enough = least(error)
        assert enough > int(policy.memory or 0)
        plan = make_plan(tree, "out.zarr", replace(policy, memory=enough), workers=workers)
        assert plan.peak_nbytes <= enough
        with pytest.raises(PlanError, match=rf"needs at least {enough} bytes"):
            make_plan(tree, "out.zarr", replace(policy, memory=enough - 1), workers=workers)
    else:
        assert plan.peak_nbytes <= int(policy.memory or 0)
        assert 1 <= plan.workers <= workers


def test_compounds_are_not_sharded(tmp_path: Path) -> None:
    """As zarr-python 3.1 has it, shards of structured values can be written and not be read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.ones(61, [("a", "<i4"), ("b", "<f8")]), chunks=(4,))
        file.create_dataset("y", data=np.ones(61), chunks=(4,))
    report = h5z.convert(tmp_path / "a.h5", tmp_path / "a.zarr", shards="auto", chunks="source", verify="full")
    assert report.ok
    assert [note for note in report.notes if note.startswith("/x: a compound is not sharded")]
    store = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert (store["x"].shards, store["y"].shards) == (None, (64,))
    assert np.array_equal(store["x"][:], np.ones(61, [("a", "<i4"), ("b", "<f8")]))


def test_shards_fit_arrays_that_are_smaller_than_a_chunk(tmp_path: Path) -> None:
    """Shards that are a multiple of the chunks named stay one where an array is too small for either."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["large"], file["small"] = np.arange(100), np.arange(5)
        file["triples"] = np.zeros(40, "(3,)<i4")
    policy = {"chunks": (8,), "shards": (16,)}
    found = {array.path: array.unit for array in h5z.plan(tmp_path / "in.h5", "out.zarr", **policy).arrays}
    assert found["/large"] == (16,)
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok


MEASURE = """
import json, sys, tempfile
from pathlib import Path
import h5py, numpy as np, h5z

def status(key):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))

folder = Path(tempfile.mkdtemp(dir=sys.argv[2]))
with h5py.File(folder / "warm.h5", "w") as file:
    file.create_dataset("x", data=np.random.default_rng(0).random((64, 64)), chunks=(8, 8), compression="gzip", shuffle=True)
    file["text"] = ["a", "b"]
for route in ("auto", "staged"):
    h5z.convert(folder / "warm.h5", folder / f"{route}.zarr", chunks={"/x": (64, 4)}, route=route, workers=2, verify="full")
base = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
policy = json.loads(sys.argv[3])
report = h5z.convert(sys.argv[1], folder / "out.zarr", workers=2, verify="full", **policy)
print(json.dumps({"base": base, "peak": status("VmHWM"), "ok": report.ok}))
"""


def slices(file: h5py.File) -> None:
    """Slices, to be cut into columns."""
    data = np.random.default_rng(0).integers(0, 1 << 16, (48, 512, 512)).astype("<f4")
    file.create_dataset("x", data=data, chunks=(1, 512, 512), shuffle=True, compression="gzip", compression_opts=1)


def huge_chunks(file: h5py.File) -> None:
    """Chunks larger than all memory that their pieces take, which do not compress."""
    data = np.random.default_rng(0).integers(0, 1 << 63, (3, 3 << 20), dtype="<u8")
    options = {"shuffle": True, "compression": "gzip", "compression_opts": 1, "fletcher32": True}
    file.create_dataset("x", data=data, chunks=(1, 3 << 20), **options)


def contiguous(file: h5py.File) -> None:
    """One piece, to be cut across its order."""
    file["x"] = np.random.default_rng(0).random((64, 256, 512))


def long_words(file: h5py.File) -> None:
    """Text of many kilobytes an element, whose length no header says."""
    file.create_dataset("x", data=["ß" * 20_000] * 3000, dtype=h5py.string_dtype())


def narrow(file: h5py.File) -> None:
    """Chunks of a few hundred bytes, to be joined into one of 16 MiB."""
    file.create_dataset("x", data=np.arange(4 << 20, dtype="<u4").reshape(2048, 2048), chunks=(8, 2048), compression="gzip")


def columns(file: h5py.File) -> None:
    """Columns, to be cut into rows; of the other byte order."""
    data = np.random.default_rng(0).integers(0, 1 << 40, (4096, 1024)).astype(">i8")
    file.create_dataset("x", data=data, chunks=(4096, 16), compression="lzf")


def compound(file: h5py.File) -> None:
    """Rows of a number and a text: each member is an array of its own."""
    dtype = np.dtype([("id", "<i8"), ("values", "<f4", (64,)), ("name", h5py.string_dtype())])
    rows = np.zeros(20_000, dtype)
    rows["name"] = "abc"
    file.create_dataset("x", data=rows, chunks=(1000,))


def wide_table(file: h5py.File) -> None:
    """Rows of a hundred numbers and an array: each member is an array of its own."""
    rows = np.zeros(100_000, np.dtype([*((f"c{i}", "<f8") for i in range(100)), ("xyz", "<f4", (3,))]))
    rows["c7"] = np.arange(len(rows))
    file.create_dataset("x", data=rows)


def sequences(file: h5py.File) -> None:
    """Sequences of very different lengths."""
    data = file.create_dataset("x", (3000,), h5py.vlen_dtype("<f8"), chunks=(100,))
    for i in range(3000):
        data[i] = np.arange(i % 5 if i % 100 else 40_000)


def sparse(file: h5py.File) -> None:
    """Nothing but a corner, of an array far larger than memory."""
    data = file.create_dataset("x", (40_000, 40_000), "<f4", chunks=(500, 500), compression="gzip", fillvalue=-1)
    data[-10:, -10:] = 7


def wide_strings(file: h5py.File) -> None:
    """Fixed-length strings of a thousand bytes."""
    file.create_dataset("x", data=np.full((200, 200), b"text", "S1000"), chunks=(200, 10), compression="gzip")


def deep(file: h5py.File) -> None:
    """Six dimensions, chunked across the target's."""
    data = np.random.default_rng(0).integers(0, 99, (16, 16, 16, 16, 16, 16)).astype("<i2")
    file.create_dataset("x", data=data, chunks=(16, 1, 16, 1, 16, 1), compression="gzip", compression_opts=1)


def many(file: h5py.File) -> None:
    """Hundreds of small arrays, tasks of many."""
    for i in range(600):
        file.create_dataset(f"x{i}", data=np.full(8000, i, "<f8"), chunks=(1000,), compression="gzip")


def tiny(file: h5py.File) -> None:
    """A thousand arrays that take far less than what is known of them."""
    for i in range(1000):
        file[f"x{i}"] = np.arange(4)


def long_attributes(file: h5py.File) -> None:
    """Attributes that are most of the file."""
    for i in range(400):
        file[f"x{i}"] = i
        file[f"x{i}"].attrs["table"] = np.arange(1200) + 0.1


def giant_word(file: h5py.File) -> None:
    """One word larger than all others together, which cost little on average."""
    file.create_dataset("x", data=["ab"] * 50_000 + ["x" * 30_000_000] + ["cd"] * 50_000, dtype=h5py.string_dtype())


def late_words(file: h5py.File) -> None:
    """Short words, then long ones, of characters that take four bytes each once one of them does."""
    file.create_dataset("x", data=["ab"] * 60_000 + ["\N{SNOWMAN}" + "x" * 20_000] * 1000, dtype=h5py.string_dtype())


def texts_in_compounds(file: h5py.File) -> None:
    """Numbers that cannot be had without the long texts beside them."""
    kind = np.dtype([("a", "<i4"), ("s", h5py.string_dtype())])
    data = np.empty(9000, kind)
    data["a"], data["s"] = 7, "q" * 8000
    file["x"] = data


def long_sequences(file: h5py.File) -> None:
    """Sequences, whose lengths alone are a small array."""
    made = file.create_dataset("x", (4000,), dtype=h5py.vlen_dtype("<f8"))
    for i in range(4000):
        made[i] = np.arange(2000.0) + i


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], dict[str, Any]]] = {
    "slices to columns": (slices, {"chunks": [48, 32, 32], "memory": 32 * MIB}),
    "huge chunks to tiny ones": (huge_chunks, {"chunks": [1, 65536], "memory": 160 * MIB}),
    "across the order": (contiguous, {"chunks": [64, 8, 16], "memory": 32 * MIB}),
    "long words": (long_words, {"memory": 32 * MIB}),
    "small chunks into a large one": (narrow, {"chunks": [2048, 2048], "memory": 64 * MIB}),
    "columns into rows, byte order kept": (columns, {"chunks": [16, 1024], "memory": 32 * MIB}),
    "members of a compound": (compound, {"memory": 32 * MIB}),
    "columns of a wide table": (wide_table, {"memory": 32 * MIB}),
    "sequences": (sequences, {"memory": 32 * MIB}),
    "a corner of an empty array": (sparse, {"memory": 32 * MIB}),
    "wide strings": (wide_strings, {"chunks": [10, 200], "memory": 32 * MIB}),
    "six dimensions": (deep, {"chunks": [1, 16, 1, 16, 1, 16], "memory": 32 * MIB}),
    "many arrays": (many, {"memory": 32 * MIB}),
    "tiny arrays": (tiny, {"memory": 8 * MIB}),
    "long attributes": (long_attributes, {"memory": 32 * MIB}),
    "shards of a large array": (slices, {"chunks": [8, 64, 64], "shards": [16, 512, 512], "memory": 64 * MIB}),
    "a giant word": (giant_word, {"memory": 32 * MIB}),
    "long words after short ones": (late_words, {"memory": 32 * MIB}),
    "texts in compounds": (texts_in_compounds, {"memory": 32 * MIB}),
    "long sequences": (long_sequences, {"memory": 32 * MIB}),
}


def measured(folder: Path, case: str) -> tuple[int, int, int]:
    """Bytes of memory given to a hostile case, what its plan takes of them, and what it took beyond the process's base.

    It is given the least that would do where the plan refuses what it should have.
    """
    write, policy = HOSTILE[case]
    with h5py.File(folder / "in.h5", "w") as file:
        write(file)
    try:
        plan = h5z.plan(folder / "in.h5", "out.zarr", workers=2, **policy)
    except PlanError as error:
        policy = {**policy, "memory": least(error)}
        plan = h5z.plan(folder / "in.h5", "out.zarr", workers=2, **policy)
    command = [sys.executable, "-c", MEASURE, str(folder / "in.h5"), str(folder), json.dumps(policy)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    return policy["memory"], plan.peak_nbytes, found["peak"] - found["base"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells the peak of a part of a run")
@pytest.mark.parametrize("case", HOSTILE)
def test_the_peak_is_within_the_memory_given(tmp_path: Path, case: str) -> None:
    """Resident memory beyond that of the process once it has done the like; or it is refused, and the least that would do is."""
    given, planned, taken = measured(tmp_path, case)
    assert planned <= given
    assert taken / MIB < 1.2 * given / MIB + 24


def test_a_plan_shows_its_routes_and_chunks_as_pictures(tmp_path: Path) -> None:
    """Those of the source dashed, the target's solid; well formed, whatever names are in it; many arrays bundled."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("<b>&'", data=np.zeros((40, 60), "f4"), chunks=(10, 60), compression="gzip")
        for i in range(30):
            file[f"small {i}"] = np.arange(3 + i)
    plan = h5z.plan(tmp_path / "a.h5", "a.zarr", chunks={"/<b>&'": (20, 20)})
    routes = ElementTree.fromstring(plan.route_map())
    words = [text.text or "" for text in routes.iter("text")]
    assert words[0].startswith("/<b>&'")
    assert "21 others" in " ".join(words)
    assert {"regrid", "blosc"} <= set(words)
    layout = plan.layouts()[0]
    drawn = ElementTree.fromstring(layout.svg())
    lines = {path.get("class"): path.get("d", "").count("M") for path in drawn.iter("path")}
    assert lines == {"target": 3 + 4, "source": 5 + 2}
    assert str(layout) == "source 10×60, 4 chunks; target 20×20, 6 chunks"
    shown = plan._repr_html_()
    assert shown.count("<figure>") == 1  # the others are of one chunk
    assert "<b>&" not in shown
    assert plan.route_map() in shown
