"""Random datasets there and back: any datatype, layout, filters and policy; h5diff and h5dump find no difference."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import h5z
from h5z.hdf5.datatypes import describe
from h5z.hdf5.references import mapping_text, space_text
from h5z.hdf5.typeids import build
from h5z.restore.selections import selection
from h5z.runs import decode_runs, encode_runs

from .restored import TOOLS, diff_difference, dump_difference

NUMBERS = [
    f"{order}{kind}" for order in "<>" for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
]
names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name.strip(".")
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@st.composite
def fixed(draw: st.DrawFn, depth: int = 2) -> np.dtype[Any]:
    """A numpy dtype of fixed size."""
    kind = draw(st.sampled_from(["number", "number", "bool", "bytes", "enum", "compound" if depth else "number"]))
    if kind == "number":
        return np.dtype(draw(st.sampled_from(NUMBERS)))
    if kind == "bool":
        return np.dtype(bool)
    if kind == "bytes":
        return np.dtype(f"S{draw(st.integers(1, 9))}")
    if kind == "enum":
        values = draw(st.lists(st.integers(-100, 100), min_size=1, max_size=4, unique=True))
        return h5py.enum_dtype(
            {f"n{i}": value for i, value in enumerate(values)}, basetype=draw(st.sampled_from(["<i2", ">i4", "i1"]))
        )
    return _compound(draw, fixed(depth - 1))


@st.composite
def any_dtype(draw: st.DrawFn, depth: int = 2) -> np.dtype[Any]:
    """A dtype with strings and sequences of variable length."""
    kind = draw(st.sampled_from(["fixed", "text", "ascii", "rows", "compound" if depth else "fixed"]))
    if kind == "text":
        return h5py.string_dtype()
    if kind == "ascii":
        return h5py.string_dtype("ascii")
    if kind == "rows":
        return h5py.vlen_dtype(np.dtype(draw(st.sampled_from(NUMBERS[:22]))))
    return _compound(draw, any_dtype(depth - 1)) if kind == "compound" else draw(fixed())


def _compound(draw: st.DrawFn, inner: st.SearchStrategy[np.dtype[Any]]) -> np.dtype[Any]:
    members = []
    for i, member in enumerate(draw(st.lists(inner, min_size=1, max_size=3))):
        plain = member.kind != "O" and not member.names and draw(st.booleans())
        members.append((f"m{i}", member, draw(st.sampled_from([(2,), (2, 3)]))) if plain else (f"m{i}", member))
    packed = np.dtype(members)
    if packed.hasobject or draw(st.booleans()):
        return packed
    gap = draw(st.integers(1, 5))  # before each member, and after the last
    places = [packed.fields[name][1] + gap * (i + 1) for i, name in enumerate(packed.names)]
    formats = [packed.fields[name][0] for name in packed.names]
    size = packed.itemsize + gap * (len(places) + 1)
    return np.dtype({"names": packed.names, "formats": formats, "offsets": places, "itemsize": size})


def values_of(dtype: np.dtype[Any], shape: tuple[int, ...], random: np.random.Generator, words: list[str]) -> Any:
    """Arbitrary elements of a dtype."""
    count = int(np.prod(shape, dtype=int))
    base = h5py.check_vlen_dtype(dtype)
    if dtype.names:
        out = np.zeros(shape, dtype)
        for name in dtype.names:
            out[name] = values_of(dtype[name], shape, random, words)
        return out
    if dtype.subdtype is not None:
        return values_of(dtype.base, shape + dtype.shape, random, words)
    if h5py.check_string_dtype(dtype) is not None and dtype.kind == "O":
        charset = h5py.check_string_dtype(dtype).encoding
        found = [word.encode(charset, "ignore") for word in words] or [b""]
        return np.array([found[i % len(found)] for i in range(count)], dtype).reshape(shape)
    if base is not None:
        rows = np.empty(count, dtype)
        for i in range(count):
            rows[i] = values_of(base, (int(random.integers(0, 4)),), random, words)
        return rows.reshape(shape)
    if h5py.check_enum_dtype(dtype):
        return random.choice(np.array(list(h5py.check_enum_dtype(dtype).values()), dtype), shape)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "S":
        return np.array([bytes(random.integers(65, 90, dtype.itemsize, dtype="u1")) for _ in range(count)], dtype).reshape(shape)
    return np.frombuffer(random.bytes(count * dtype.itemsize), dtype).reshape(shape).copy()


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """A shape, and how a dataset of it is laid out."""
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=0, max_size=3)))
    out: dict[str, Any] = {"shape": shape}
    if not shape or draw(st.booleans()):
        return out
    out["chunks"] = tuple(draw(st.integers(1, max(1, n))) for n in shape)
    limits = [draw(st.sampled_from([n, n + 3, None])) for n in shape]
    out["maxshape"] = tuple(None if m is not None and m < c else m for m, c in zip(limits, out["chunks"], strict=True))
    if draw(st.booleans()):
        out |= {"compression": "gzip", "compression_opts": draw(st.integers(0, 9))}
    out["shuffle"], out["fletcher32"] = draw(st.booleans()), draw(st.booleans())
    return out


policies = st.fixed_dictionaries(
    {"codec": st.sampled_from(["keep", "auto", "gzip:1", None]), "zarr_format": st.sampled_from([3, 3, 2])},
    optional={"chunks": st.just("source")},
)


@pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)")
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.explicit, Phase.generate))
@given(
    dtypes=st.lists(any_dtype(), min_size=1, max_size=3),
    layout=layouts(),
    labels=st.lists(names, min_size=3, max_size=3, unique=True),
    words=st.lists(texts, max_size=5),
    written=st.sampled_from(["all", "half", "none"]),
    track=st.booleans(),
    policy=policies,
    seed=st.integers(0, 1000),
)
def test_any_dataset_comes_back(
    dtypes: list[np.dtype[Any]],
    layout: dict[str, Any],
    labels: list[str],
    words: list[str],
    written: str,
    track: bool,
    policy: dict[str, Any],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, back = folder / "a" / "x.h5", folder / "b" / "x.h5"
        source.parent.mkdir(), back.parent.mkdir()
        with h5py.File(source, "w", track_order=track) as file:
            for label, dtype in zip(labels, dtypes, strict=False):
                try:
                    made = file.create_dataset(label, dtype=dtype, **layout)
                except (TypeError, ValueError):  # what HDF5 does not take: a filter for a scalar, say
                    made = file.create_dataset(label, dtype=dtype, shape=layout["shape"])
                data = values_of(dtype, layout["shape"], random, words)
                count = {"all": made.size, "half": made.size // 2, "none": 0}[written]
                for index in list(np.ndindex(made.shape))[:count]:  # one at a time: h5py takes equal sequences for a table
                    made[index] = data[index]
                made.attrs.create(label, values_of(dtype, (2,), random, words), dtype=dtype)
        h5z.convert(source, folder / "a.zarr", **policy)
        report = h5z.restore(folder / "a.zarr", back, verify="full")
        assert report.differences == ()
        assert report.ok
        assert diff_difference(source, back, folder / "copy.h5") == ""
        assert dump_difference(source, back, sizes=policy["codec"] == "keep" and not any(d.hasobject for d in dtypes)) == ""


@given(fixed(3))
@settings(max_examples=100, deadline=None)
def test_a_datatype_is_built_as_it_is_described(dtype: np.dtype[Any]) -> None:
    tid = h5py.h5t.py_create(dtype, logical=True)
    again = build(describe(tid))
    assert again == tid
    assert describe(again) == describe(tid)


@given(st.lists(st.integers(-1, 2), max_size=60))
def test_runs_are_exact(values: list[int]) -> None:
    assert decode_runs(encode_runs(np.array(values, int)), len(values)).tolist() == values


def test_many_runs_are_bits() -> None:
    values = np.arange(5000) % 2 * -1
    record = encode_runs(values)
    assert set(record) == {"bits", "of"}
    assert (decode_runs(record, 5000) == values).all()


@st.composite
def selections(draw: st.DrawFn) -> Any:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    space = h5py.h5s.create_simple(shape)
    kind = draw(st.sampled_from(["all", "none", "points", "block", "regular", "blocks"]))
    if kind == "none":
        space.select_none()
    elif kind == "points":
        points = draw(st.lists(st.tuples(*(st.integers(0, n - 1) for n in shape)), min_size=1, max_size=4, unique=True))
        space.select_elements(np.array(points, "u8"))
    elif kind == "regular":
        start = tuple(draw(st.integers(0, n - 1)) for n in shape)
        count = tuple(draw(st.integers(1, -(-(n - s) // 2))) for n, s in zip(shape, start, strict=True))
        space.select_hyperslab(start, count, (2,) * len(shape), (1,) * len(shape))
    elif kind != "all":
        space.select_none()
        for _ in range(1 if kind == "block" else 3):
            start = tuple(draw(st.integers(0, n - 1)) for n in shape)
            block = tuple(draw(st.integers(1, n - s)) for n, s in zip(shape, start, strict=True))
            space.select_hyperslab(start, (1,) * len(shape), None, block, h5py.h5s.SELECT_OR)
    return shape, space


@given(selections())
@settings(max_examples=150, deadline=None)
def test_a_selection_is_its_text(found: tuple[tuple[int, ...], Any]) -> None:
    shape, space = found
    for text in (space_text(space), mapping_text(space)):
        assert _chosen(selection(text, shape), shape) == _chosen(space, shape)
    assert mapping_text(selection(mapping_text(space), shape)) == mapping_text(space)


def _chosen(space: Any, shape: tuple[int, ...]) -> list[int]:
    """The numbers of the selected elements: points in their own order."""
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset("x", data=np.arange(int(np.prod(shape))).reshape(shape))
        count = space.get_select_npoints()
        out = np.empty(count, np.int64)
        if count:
            data.id.read(h5py.h5s.create_simple((count,)), space, out)
        return out.tolist()
