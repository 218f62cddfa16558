"""TIFFs in a vault, or a folder, become OME-Zarr that other readers open; every pixel where it belongs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from h5z import vault
from h5z.errors import PlanError, SourceError, TargetExistsError
from h5z.vault.images import Pattern, halved

from ..running import DATA, Run
from ..stored import stored

PATTERN = "{plate}/{well}/T{time}F{field}Z{z}C{channel}.tif"
SHAPE = (300, 520)


def plane(*numbers: int) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(numbers).integers(0, 4000, SHAPE, dtype="u2")
    values[0, :5] = numbers
    return values


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three wells of two fields, two channels, two z; one plane is missing, and a text lies about."""
    root = tmp_path_factory.mktemp("plate") / "in"
    for w, well in enumerate(("B02", "B10", "C2")):
        folder = root / "P1" / well
        folder.mkdir(parents=True)
        for f in (1, 2):
            for z in (1, 2):
                for c in (1, 10):
                    tifffile.imwrite(folder / f"T0001F{f:03d}Z{z:02d}C{c:02d}.tif", plane(w, f, z, c, 7))
    (root / "P1" / "C2" / "T0001F002Z02C10.tif").unlink()
    (root / "P1" / "notes.txt").write_text("about the plate")
    tifffile.imwrite(root / "P1" / "overview.tif", plane(0))
    return root


@pytest.fixture(scope="module")
def archive(plate: Path) -> Path:
    vault.create(plate, plate.parent / "v", writers=2)
    return plate.parent / "v"


def test_a_plate_from_a_vault(plate: Path, archive: Path, tmp_path: Path) -> None:
    scale = {"y": 0.5, "x": 0.25, "z": 2.0}
    report = vault.to_zarr(archive, tmp_path / "p.zarr", PATTERN, scale=scale, verify=True, chunk=128)
    assert report.ok
    assert report.notes == (
        "/C/2/1: 1 planes have no file, and read as zeros",
        f"1 TIFFs do not match {PATTERN!r}, and are left out",
    )
    root = zarr.open_group(tmp_path / "p.zarr", mode="r", zarr_format=3)
    listed = root.attrs["ome"]["plate"]
    assert [well["path"] for well in listed["wells"]] == ["B/02", "B/10", "C/2"]
    assert [(well["rowIndex"], well["columnIndex"]) for well in listed["wells"]] == [(0, 0), (0, 2), (1, 1)]
    assert [column["name"] for column in listed["columns"]] == ["02", "2", "10"]
    assert (listed["name"], listed["field_count"]) == ("P1", 2)
    assert root["B/02"].attrs["ome"]["well"]["images"] == [{"path": "0"}, {"path": "1"}]
    for w, well in enumerate(("B/02", "B/10", "C/2")):
        for f in (1, 2):
            array = root[f"{well}/{f - 1}/0"]
            assert array.shape == (1, 2, 2, *SHAPE)
            assert array.shards is not None
            for z in (1, 2):
                for c, channel in enumerate((1, 10)):
                    absent = (well, f, z, channel) == ("C/2", 2, 2, 10)
                    expected = np.zeros(SHAPE) if absent else plane(w, f, z, channel, 7)
                    assert np.array_equal(array[0, c, z - 1], expected)
    image = root["B/10/1"]
    levels = image.attrs["ome"]["multiscales"][0]["datasets"]
    assert [level["coordinateTransformations"][0]["scale"] for level in levels] == [
        [1, 1, 2, 0.5, 0.25],
        [1, 1, 2, 1, 0.5],
        [1, 1, 2, 2, 1],
    ]
    assert levels[1]["coordinateTransformations"][1]["translation"] == [0, 0, 0, 0.25, 0.125]
    assert image["1"].shape[3:] == (150, 260)
    full = image["0"][0, 1, 0].astype("f8")
    assert np.array_equal(image["1"][0, 1, 0], np.rint(full.reshape(150, 2, 260, 2).mean((1, 3))))
    assert image["0"].metadata.dimension_names == ("t", "c", "z", "y", "x")
    assert [channel["label"] for channel in image.attrs["ome"]["omero"]["channels"]] == ["01", "10"]
    assert vault.to_zarr(archive, tmp_path / "p.zarr", PATTERN, scale=scale, chunk=128).status == "unchanged"
    with pytest.raises(TargetExistsError):
        vault.to_zarr(archive, tmp_path / "p.zarr", PATTERN, chunk=64)


def test_ome_zarr_py_opens_it(archive: Path, tmp_path: Path) -> None:
    vault.to_zarr(archive, tmp_path / "p.zarr", PATTERN)
    (node, *_) = list(Reader(parse_url(str(tmp_path / "p.zarr")))())
    assert [type(spec).__name__ for spec in node.specs] == ["Plate"]
    assert node.data[0].shape[:3] == (1, 2, 2)
    (image, *_) = list(Reader(parse_url(str(tmp_path / "p.zarr" / "B" / "02" / "0")))())
    assert {type(spec).__name__ for spec in image.specs} == {"Multiscales", "OMERO"}
    assert [level.shape[3:] for level in image.data] == [SHAPE, (150, 260), (75, 130)]
    assert np.array_equal(image.data[0][0, 0, 0].compute(), plane(0, 1, 1, 1, 7))
    assert image.metadata["channel_names"] == ["01", "10"]


VALIDATE = """
import sys, zarr
from ome_zarr_models import open_ome_zarr
print(*(type(open_ome_zarr(zarr.open_group(path, mode="r"))).__name__ for path in sys.argv[1:]))
"""


def test_it_is_valid_by_the_models_of_ngff(plate: Path, tmp_path: Path) -> None:
    """ome-zarr-models pins other packages than we have, which serve as well: it is installed aside, without them."""
    place = tmp_path / "models"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    done = subprocess.run(
        [*command, "ome-zarr-models==1.7", "pydantic-zarr==0.9.2"], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f"ome-zarr-models cannot be installed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    vault.to_zarr(plate, tmp_path / "p.zarr", PATTERN, scale={"y": 0.5, "x": 0.5})
    vault.to_zarr(plate, tmp_path / "i.zarr", "P1/B02/T{time}F001Z{z}C{channel}.tif")
    paths = [str(tmp_path / name) for name in ("p.zarr", "p.zarr/B/02", "p.zarr/B/02/1", "i.zarr")]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run([sys.executable, "-c", VALIDATE, *paths], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["HCS", "Well", "Image", "Image"], done.stderr


def test_a_folder_does_as_well_and_gives_the_same(plate: Path, archive: Path, tmp_path: Path) -> None:
    vault.to_zarr(archive, tmp_path / "a.zarr", PATTERN)
    vault.to_zarr(plate, tmp_path / "b.zarr", PATTERN, scheduler="processes", workers=2)
    first, second = stored(tmp_path / "a.zarr"), stored(tmp_path / "b.zarr")
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"zarr.json"}  # where it was made of


def test_images_of_other_forms(tmp_path: Path, cli: Run) -> None:
    root = tmp_path / "in"
    root.mkdir()
    stack = np.random.default_rng(0).random((2, 3, 33, 65)).astype("f4")
    for i in range(2):
        tifffile.imwrite(
            root / f"stack_{i}.ome.tif", stack[i], metadata={"axes": "ZYX"}, resolution=(1e4, 2e4), resolutionunit="CENTIMETER"
        )
        tifffile.imwrite(root / f"colour_{i}.tif", np.full((20, 30, 3), [i, 50, 255], "u1"), photometric="rgb")
        tifffile.imwrite(root / f"big_endian_{i}.tif", np.full((5, 7), i + 1000, ">i4"), byteorder=">")
    vault.create(root, tmp_path / "v")
    done = cli(
        "vault",
        "to-zarr",
        tmp_path / "v",
        tmp_path / "s.ome.zarr",
        "--pattern",
        "stack_{time}.ome.tif",
        "--z-step",
        "3",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    array = zarr.open_array(tmp_path / "s.ome.zarr" / "0", mode="r")
    assert np.array_equal(array[:, 0], stack)
    ome = zarr.open_group(tmp_path / "s.ome.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert ome["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 1, 3, 0.5, 1]
    assert [axis.get("unit") for axis in ome["axes"]] == [None, None, "micrometer", "micrometer", "micrometer"]
    assert ome["name"] == "s"
    vault.to_zarr(tmp_path / "v", tmp_path / "c.zarr", "colour_{time}.tif", levels=3, method="nearest")
    colour = zarr.open_group(tmp_path / "c.zarr", mode="r")
    assert colour["0"].shape == (2, 3, 1, 20, 30)
    assert colour["2"].shape == (2, 3, 1, 5, 8)
    assert colour["2"][1, :, 0, 4, 7].tolist() == [1, 50, 255]
    vault.to_zarr(tmp_path / "v", tmp_path / "e.zarr", "big_endian_{field}.tif")
    assert zarr.open_group(tmp_path / "e.zarr", mode="r").attrs["ome"]["bioformats2raw.layout"] == 3
    assert (zarr.open_array(tmp_path / "e.zarr" / "1" / "0", mode="r")[...] == 1001).all()


def test_lazy_arrays_are_the_images(plate: Path, archive: Path) -> None:
    found = vault.lazy_images(archive, PATTERN)
    assert list(found) == ["B/02/0", "B/02/1", "B/10/0", "B/10/1", "C/2/0", "C/2/1"]
    array = found["B/10/1"]
    assert isinstance(array, da.Array)
    assert array.shape == (1, 2, 2, *SHAPE)
    assert np.array_equal(array[0, 1, 0].compute(), plane(1, 2, 1, 10, 7))
    assert np.array_equal(array[..., 5:20:3, -1].compute(), array.compute()[..., 5:20:3, -1])
    assert np.array_equal(array[0, -1, ::-1, :2, 3:4].compute(scheduler="processes"), array.compute()[0, -1, ::-1, :2, 3:4])


def test_halving() -> None:
    values = np.arange(35, dtype="u1").reshape(5, 7)
    assert halved(values).shape == (3, 4)
    assert halved(values)[-1, -1] == 34
    assert halved(np.full((2, 2), 2**63 - 1024, "i8"))[0, 0] == 2**63 - 1024
    assert halved(np.array([[True, True], [True, False]])).tolist() == [[True]]
    assert halved(np.array([[1, 2], [3, 6 + 4j]])).tolist() == [[3 + 1j]]


def test_wrong_patterns_and_files(plate: Path, tmp_path: Path) -> None:
    for text in ("no place", "{well}{well}", "{row}", "{well:[}", "{x}{y}"):
        with pytest.raises(PlanError, match="pattern"):
            Pattern(text)
    target = tmp_path / "out.zarr"
    with pytest.raises(PlanError, match="expected files that match"):
        vault.to_zarr(plate, target, "{field}.png")
    with pytest.raises(PlanError, match="are the same plane"):
        vault.to_zarr(plate, target, "{plate}/{well}/T{time}F*Z{z}C{channel}.tif")
    with pytest.raises(PlanError, match="expected a row's letters and a column's number"):
        vault.to_zarr(plate, target, "{well:.*}/T{time}F{field}Z{z}C{channel}.tif")
    with pytest.raises(SourceError, match="no such vault"):
        vault.to_zarr(tmp_path / "nowhere", target, PATTERN)
    for wrong in ({"method": "max"}, {"levels": 0}, {"chunk": 0}, {"codec": "keep"}, {"scale": {"c": 1.0}}):
        with pytest.raises(PlanError, match=next(iter(wrong))):
            vault.to_zarr(plate, target, PATTERN, **wrong)  # type: ignore[arg-type]
    broken = tmp_path / "in"
    shutil.copytree(plate, broken)
    path = broken / "P1" / "B10" / "T0001F002Z02C01.tif"
    for data in (b"", b"II*\0 no image", path.read_bytes()[:5000]):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"P1/B10/T0001F002Z02C01\.tif: expected a TIFF image"):
            vault.to_zarr(broken, target, PATTERN)
    tifffile.imwrite(path, np.zeros((10, 10), "u2"))
    with pytest.raises(
        SourceError, match=r"T0001F002Z02C01\.tif: expected an image of \(300, 520\) of <u2 as the others, found \(10, 10\)"
    ):
        vault.to_zarr(broken, target, PATTERN)
    assert not (target / "zarr.json").exists()
    tifffile.imwrite(
        broken / "P1" / "B02" / "T0001F001Z01C01.tif",
        np.zeros((4, *SHAPE), "u2"),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    with pytest.raises(SourceError, match="expected only axes that its name does not tell"):
        vault.to_zarr(broken, tmp_path / "other.zarr", PATTERN)


CALL = """
import sys, h5z.plan
from h5z import vault
h5z.plan.BATCH_PIECES = 1  # more tasks than so few images would be
vault.to_zarr(sys.argv[1], sys.argv[2], sys.argv[3], chunk=64, shard_nbytes=100_000)
"""


def test_killed_the_same_call_ends_it(plate: Path, tmp_path: Path) -> None:
    def call(target: Path) -> list[str]:
        return [sys.executable, "-c", CALL, str(plate), str(target), PATTERN]

    subprocess.run(call(tmp_path / "whole.zarr"), check=True)
    done = tmp_path / "killed.zarr" / ".h5z" / "done"
    kills = 0
    for wanted in (1, 40):
        process = subprocess.Popen(call(tmp_path / "killed.zarr"))
        while process.poll() is None and not (done.is_dir() and len(os.listdir(done)) >= wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        assert not (tmp_path / "killed.zarr" / "zarr.json").exists()
    assert kills
    subprocess.run(call(tmp_path / "killed.zarr"), check=True)
    expected, found = stored(tmp_path / "whole.zarr"), stored(tmp_path / "killed.zarr")
    assert expected.keys() == found.keys()
    assert len(expected) > 20
    assert all(found[name] == expected[name] for name in expected if "/c/" in name)


@pytest.mark.skipif(not (DATA / "containers" / "vault").is_dir(), reason="the archives of HDF5Vault are not here")
@pytest.mark.parametrize("name", ["v021_multi_0.h5", "v033_split.h5", "v033_zip_0.zip"])
def test_archives_of_hdf5vault(name: str, tmp_path: Path) -> None:
    archives = DATA / "containers" / "vault"
    report = vault.to_zarr(archives / name, tmp_path / "p.zarr", "{plate}/{well}/T{time}F{field}Z{z}C{channel}.tif")
    root = zarr.open_group(tmp_path / "p.zarr", mode="r")
    expected = tifffile.imread(archives / "source" / "plate1" / "B02" / "T0001F001Z01C02.tif")
    assert np.array_equal(root["B/02/0/0"][0, 1, 0], expected)
    assert any("planes have no file" in note for note in report.notes)
