"""Routes: which one a plan picks, that encoded chunks cross unchanged where it says so, that readers find the values."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import zarr

import h5z
from h5z.errors import PlanError

from .oddities.layouts import filtered
from .oddities.stored import unit_path

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
SHAPE, CHUNKS = (100, 80), (40, 30)
FORMATS = (3, 2)
GZIP = {"shuffle": True, "compression": "gzip"}
PIPELINES: dict[str, dict[str, Any]] = {
    "none": {},
    "deflate": {"compression": "gzip", "compression_opts": 9},
    "shuffle_deflate": GZIP,
    "shuffle_deflate_fletcher32": {**GZIP, "fletcher32": True},
    "fletcher32": {"fletcher32": True},
    "bzip2": dict(hdf5plugin.BZip2()),
    "zstd": dict(hdf5plugin.Zstd(clevel=5)),
    "shuffle_zstd": {"shuffle": True, **hdf5plugin.Zstd()},
    **{f"blosc_{name}": dict(hdf5plugin.Blosc(cname=name)) for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")},
    **{f"blosc_shuffle_{i}": dict(hdf5plugin.Blosc(cname="zstd", shuffle=i)) for i in (0, 1, 2)},
}
NO_CODEC = {"lz4": dict(hdf5plugin.LZ4()), "lzf": {"compression": "lzf"}, "scaleoffset": {"scaleoffset": 0}}
NO_CODEC |= {"zfp": dict(hdf5plugin.Zfp(reversible=True))}  # nor anything else but libhdf5 that decodes it
DTYPES = ("u1", "<f4", ">i2", "<f8", "<c8", "S3", "(3,)<i4", [("a", "<i4"), ("b", "<f8")])
PORTABLE = {"zstd", *(name for name in PIPELINES if name.startswith("blosc"))}
KEEP = {"codec": "keep", "chunks": "source"}


def data(dtype: Any) -> np.ndarray:
    """Values that compress somewhat, in no chunk zeros alone."""
    numbers = np.random.default_rng(1).integers(1, 100, SHAPE)
    kind = np.dtype(dtype)
    if kind.subdtype:
        return np.repeat(numbers[..., None], kind.shape[0], axis=-1).astype(kind.base)
    out = np.empty(SHAPE, kind)
    for name in kind.names or (...,):
        out[name] = numbers
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every pipeline that Zarr has codecs for, over every kind of number; and those for which it has none."""
    path = tmp_path_factory.mktemp("routes") / "in.h5"
    with h5py.File(path, "w") as file:
        for name, options in PIPELINES.items():
            for i, dtype in enumerate(DTYPES):
                file.create_dataset(f"{name}/{i}", shape=SHAPE, dtype=np.dtype(dtype), chunks=CHUNKS, **options)[...] = data(
                    dtype
                )
        for name, options in NO_CODEC.items():
            file.create_dataset(f"without/{name}", data=data("<i4"), chunks=CHUNKS, **options)
        file.create_dataset("other/contiguous", data=data("<i4"))
        file.create_dataset("other/words", data=["a", "b"])
        sparse = file.create_dataset("other/sparse", shape=SHAPE, dtype="<f4", chunks=CHUNKS, fillvalue=7, **GZIP)
        sparse[50, 50] = 1
    return path


def routes(source: Path, target: Any = "out.zarr", **policy: Any) -> dict[str, str]:
    """The route of each array of a plan."""
    return {array.path: array.route for array in h5z.plan(source, target, **policy).arrays}


@pytest.fixture(scope="module")
def kept(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The target with the source's grid and codecs, verified; one for each format."""
    made: dict[int, Path] = {}

    def get(zarr_format: int) -> Path:
        if zarr_format not in made:
            target = tmp_path_factory.mktemp("kept") / "out.zarr"
            assert h5z.convert(source, target, verify="full", zarr_format=zarr_format, **KEEP).ok
            made[zarr_format] = target
        return made[zarr_format]

    return get


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_the_same_grid_and_codecs_are_copied(source: Path, zarr_format: int) -> None:
    found = routes(source, zarr_format=zarr_format, **KEEP)
    chosen = {route: {path for path in found if found[path] == route} for route in set(found.values())}
    wanted = {f"/{name}/{i}" for name in PIPELINES for i in range(len(DTYPES))}
    assert chosen["copy"] >= wanted - {path for path in wanted if path.endswith(f"/{len(DTYPES) - 1}") and zarr_format == 2}
    assert chosen["recode"] >= {"/without/lz4", "/without/lzf", "/without/scaleoffset"}
    assert chosen["library"] == {"/without/zfp", "/other/words"}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_copied_chunks_are_the_source_s_bytes(source: Path, kept: Callable[[int], Path], zarr_format: int) -> None:
    """Every chunk of every copied array, those at the array's edges too; none where none is allocated."""
    target = kept(zarr_format)
    root = zarr.open_group(target, mode="r")
    compared = 0
    with h5py.File(source) as file:
        for path, route in routes(source, zarr_format=zarr_format, **KEEP).items():
            if route != "copy":
                continue
            dataset, array = file[path], root[path]
            counts = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
            extra = (0,) * (array.ndim - dataset.ndim)
            for index in product(*map(range, counts)):
                place = unit_path(target, array, index + extra)
                corner = tuple(i * c for i, c in zip(index, dataset.chunks, strict=True))
                info = dataset.id.get_chunk_info_by_coord(corner)
                assert place.exists() == (info.byte_offset is not None), (path, index)
                mask, raw = dataset.id.read_direct_chunk(corner) if place.exists() else (0, b"")
                if raw and mask == 0:  # HDF5 stores what Blosc cannot shrink as it is
                    stored = raw[:-4] if dataset.fletcher32 else raw  # a checksum at the end is checked and left out
                    assert place.read_bytes() == stored, (path, index)
                    compared += 1
    assert compared > 500


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("policy", [KEEP, {"chunks": "source"}, {"chunks": (33, 47)}, {"codec": "gzip:1"}], ids=str)
def test_zarr_python_reads_the_same_values(
    source: Path, kept: Callable[[int], Path], tmp_path: Path, zarr_format: int, policy: dict[str, Any]
) -> None:
    """By every route."""
    target = kept(zarr_format) if policy is KEEP else tmp_path / "out.zarr"
    assert h5z.convert(source, target, zarr_format=zarr_format, **policy).ok
    root = zarr.open_group(target, mode="r")
    with h5py.File(source) as file:
        for path in routes(source, zarr_format=zarr_format, **policy):
            expected, found = file[path][...], np.asarray(root[path][...])
            if path == "/other/words":
                assert found.tolist() == ["a", "b"]
            else:
                assert found.astype(expected.dtype.base).tobytes() == expected.tobytes(), path


@pytest.mark.parametrize(
    ("policy", "route"),
    [
        ({"chunks": "source"}, "recode"),
        ({"chunks": "source", "codec": "gzip:5"}, "recode"),
        ({"chunks": "source", "codec": None}, "recode"),
        ({"chunks": (40, 31)}, "regrid"),
        ({"chunks": (20, 30), "codec": "keep"}, "regrid"),
        ({**KEEP, "shards": {"/shuffle_deflate/1": (80, 60)}}, "regrid"),
    ],
    ids=str,
)
def test_another_grid_or_codec_decides_the_route(source: Path, policy: dict[str, Any], route: str) -> None:
    found = routes(source, **policy)
    assert found["/shuffle_deflate/1"] == route
    assert found["/other/contiguous"] == "regrid"
    assert found["/without/zfp"] == found["/other/words"] == "library"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_chunks_are_kept_unasked_where_their_codec_is(tmp_path: Path, source: Path, zarr_format: int) -> None:
    """However small an object they make; but not thousands of tiny ones, which the plan says."""
    asked = routes(source, zarr_format=zarr_format, **KEEP)
    found = routes(source, codec="keep", zarr_format=zarr_format)
    assert {path for path in asked if asked[path] != found[path]} == {f"/without/{name}" for name in NO_CODEC} - {"/without/zfp"}
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name, count, chunk in (("few", 1000, 8), ("tiny", 1001, 8), ("blocks", 1001, 1024)):
            file.create_dataset(name, data=np.arange(1, count * chunk + 1, dtype="<i4"), chunks=(chunk,), **GZIP)
        file.create_dataset("only", data=np.arange(1, 9), chunks=(8,), **GZIP)
    plan = h5z.plan(tmp_path / "in.h5", "out.zarr", codec="keep", zarr_format=zarr_format)
    assert {array.path: array.route for array in plan.arrays} == {
        "/few": "copy",
        "/tiny": "regrid",
        "/blocks": "copy",
        "/only": "copy",
    }
    assert [note for note in plan.notes if "joined" in note] == [
        "/tiny: more than 1,000 chunks of less than 4,096 bytes are joined and encoded anew, not copied; "
        "chunks='source' copies them"
    ]
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", codec="keep", zarr_format=zarr_format).ok
    named = h5z.plan(tmp_path / "in.h5", "out.zarr", zarr_format=zarr_format, **KEEP)
    assert {array.route for array in named.arrays} == {"copy"}
    assert not any("joined" in note for note in named.notes)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_text_is_encoded_as_zarr_encodes_it(tmp_path: Path, zarr_format: int) -> None:
    """Of one dimension and two, cut chunks at the end of both axes; what is not UTF-8 as bytes."""
    words = np.array([f"wörd {i}" * (i % 4) for i in range(35)], object)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("flat", data=words, dtype=h5py.string_dtype())
        file.create_dataset("table", data=words.reshape(5, 7), dtype=h5py.string_dtype())
        latin = [b"gr\xfcn" * (i % 3) for i in range(35)]
        file.create_dataset("latin", data=latin, dtype=h5py.string_dtype("ascii"))
    chunks = {"/flat": (8,), "/table": (2, 3), "/latin": (8,)}
    target, again = tmp_path / "out.zarr", tmp_path / "again.zarr"
    assert h5z.convert(tmp_path / "in.h5", target, verify="full", chunks=chunks, zarr_format=zarr_format).ok
    shutil.copytree(target, again)
    for path in stored_chunks(again).values():
        path.unlink()
    for name in chunks:
        array = zarr.open_array(target, path=name, mode="r")
        zarr.open_array(again, path=name, mode="r+")[...] = array[...]
    found, expected = stored_chunks(target), stored_chunks(again)
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: path.read_bytes() for name, path in expected.items()
    }
    assert len(found) > 15


def stored_chunks(target: Path) -> dict[str, Path]:
    """Files of a store that are no metadata."""
    files = (path for path in target.rglob("*") if path.is_file() and not path.name.startswith(("z", ".z")))
    return {str(path.relative_to(target)): path for path in files}


def test_slices_to_columns_in_little_memory_are_staged(tmp_path: Path) -> None:
    """Regridding would decode each slice many times."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        values = np.arange(32 * 256 * 256, dtype="<f4").reshape(32, 256, 256)
        file.create_dataset("x", data=values, chunks=(1, 256, 256), compression="gzip", compression_opts=1)
    policy = {"chunks": (32, 64, 64), "memory": "5MiB", "workers": 2}
    found = h5z.plan(tmp_path / "in.h5", tmp_path / "out.zarr", **policy)
    assert [(array.route, array.reads) for array in found.arrays] == [("staged", 1)]
    roomy = h5z.plan(tmp_path / "in.h5", tmp_path / "out.zarr", chunks=(32, 64, 64), memory="1GiB", workers=2)
    assert [(array.route, array.reads) for array in roomy.arrays] == [("regrid", 1)]
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok
    assert (zarr.open_group(tmp_path / "out.zarr", mode="r")["x"][...] == values).all()
    assert not (tmp_path / "out.zarr" / ".h5z").exists()


@pytest.mark.parametrize("route", ["library", "regrid", "recode", "copy", "staged"])
@pytest.mark.parametrize("chunks", ["source", (33, 47)], ids=str)
def test_a_route_is_taken_where_it_serves(source: Path, tmp_path: Path, route: str, chunks: Any) -> None:
    """Any route stores the same values; all that encode, the same bytes."""
    policy = {"chunks": chunks, "codec": "keep", "include": ["/shuffle_deflate", "/without", "/other"]}
    found = routes(source, route=route, **policy)
    serves = {"source": ("library", "regrid", "recode", "copy"), (33, 47): ("library", "regrid", "staged")}
    usual = "copy" if chunks == "source" else "regrid"
    assert found["/shuffle_deflate/1"] == (route if route in serves[chunks] else usual)
    assert found["/without/zfp"] == "library"
    assert h5z.convert(source, tmp_path / "out.zarr", verify="full", route=route, **policy).ok
    h5z.convert(source, tmp_path / "usual.zarr", **policy)
    if usual != "copy":
        stored = [
            {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("c/**/*") if path.is_file()}
            for target in (tmp_path / "out.zarr", tmp_path / "usual.zarr")
        ]
        assert stored[0] == stored[1]


def test_a_route_that_cannot_serve_what_is_named_is_refused(source: Path) -> None:
    for path, route in (("/other/contiguous", "copy"), ("/without/zfp", "recode"), ("/zstd", "staged")):
        with pytest.raises(PlanError, match=rf"{path}.*{route}"):
            h5z.plan(source, "out.zarr", route={path: route}, **KEEP)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_portable_codecs_are_copied_unasked(tmp_path: Path, source: Path, zarr_format: int) -> None:
    """By "auto" what every Zarr v3 reader decodes crosses as it is, also to a grid chosen by itself where objects are large."""
    found = routes(source, chunks="source", zarr_format=zarr_format)
    for name in PIPELINES:
        assert found[f"/{name}/1"] == ("copy" if name in PORTABLE else "recode"), name
    noise = np.random.default_rng(2).random((4, 1 << 16))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in ("zstd", "blosc_lz4", "shuffle_deflate"):
            file.create_dataset(name, data=noise, chunks=(1, 1 << 16), **PIPELINES[name])
    found = routes(tmp_path / "in.h5", zarr_format=zarr_format)
    assert (found["/zstd"], found["/blosc_lz4"]) == ("copy", "copy")
    assert found["/shuffle_deflate"] != "copy"


def test_notes_name_the_readers_that_are_shut_out(source: Path, tmp_path: Path) -> None:
    shut_out = [note for note in h5z.plan(source, "out.zarr", **KEEP).notes if "readers" in note]
    assert len(shut_out) == 1
    for codec in ("numcodecs.zlib", "numcodecs.shuffle", "numcodecs.bz2"):
        assert codec in shut_out[0]
    assert not any(name in shut_out[0].split(":")[0] for name in ("zstd", "blosc"))
    report = h5z.convert(source, tmp_path / "out.zarr", include=["/deflate"], **KEEP)
    assert any("numcodecs.zlib" in note for note in report.notes)
    assert not any("readers" in note for note in h5z.plan(source, "out.zarr", chunks="source").notes)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_chunks_that_skipped_a_filter_are_recoded(oddity: Callable[[str], Path], tmp_path: Path, zarr_format: int) -> None:
    """The others of the same array cross unchanged."""
    path, target = oddity("filter_masks"), tmp_path / "out.zarr"
    assert routes(path, zarr_format=zarr_format, **KEEP) == {"/data": "copy"}
    assert h5z.convert(path, target, verify="full", zarr_format=zarr_format, **KEEP).ok
    array = zarr.open_group(target, mode="r")["data"]
    assert np.asarray(array[...]).tolist() == np.arange(24).reshape(6, 4).tolist()
    with h5py.File(path) as file:
        for i in range(3):
            mask, raw = file["data"].id.read_direct_chunk((2 * i, 0))
            assert (unit_path(target, array, (i, 0)).read_bytes() == raw) == (mask == 0)


@pytest.mark.parametrize("policy", [KEEP, {"chunks": "source"}, {"codec": "keep", "chunks": (20, 20)}], ids=str)
def test_negative_levels_of_zstd(tmp_path: Path, policy: dict[str, Any]) -> None:
    """HDF5 keeps them as unsigned numbers; Zarr's levels end at 22."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        filtered(file, "x", data("<i4")[:10, :13], (32015, (2**32 - 5,)))
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok


@pytest.mark.parametrize("policy", [KEEP, {"chunks": "source"}, {"chunks": (20, 20)}], ids=str)
def test_blosc_with_snappy(tmp_path: Path, policy: dict[str, Any]) -> None:
    """HDF5's plugin has it, numcodecs need not."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=data("<i4"), chunks=CHUNKS, **hdf5plugin.Blosc(cname="snappy"))
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok


@pytest.mark.parametrize("policy", [KEEP, {"chunks": "source"}, {"chunks": (20,)}], ids=str)
def test_checksums_of_old_libraries_cross(tmp_path: Path, policy: dict[str, Any]) -> None:
    """Swapped in pairs, as HDF5 up to 1.6.2 wrote them and libhdf5 still reads them: copied, no Zarr reader would."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("x", data=np.arange(1, 41, dtype="u1"), chunks=(40,), fletcher32=True)
        file.flush()
        raw = made.id.read_direct_chunk((0,))[1]
        a, b, c, d = raw[-4:]
        made.id.write_direct_chunk((0,), raw[:-4] + bytes((b, a, d, c)))
    assert h5z.convert(tmp_path / "in.h5", tmp_path / "out.zarr", verify="full", **policy).ok
