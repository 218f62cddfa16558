"""Files that others wrote, there and back: judged by the HDF Group's tools and by the readers of the field."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import h5z
from h5z.errors import SourceError

from .restored import TOOLS, Restored, diff_difference, dump_difference, run_tool
from .running import DATA

pytestmark = [
    pytest.mark.archive,
    pytest.mark.skipif(
        not (DATA / "MANIFEST.csv").exists(), reason=f"no real files at {DATA} (H5Z_TEST_DATA names their folder)"
    ),
    pytest.mark.skipif(not TOOLS, reason="needs h5diff and h5dump (Debian: hdf5-tools)"),
]
ROWS: list[dict[str, str]] = []
if (DATA / "MANIFEST.csv").exists():
    with (DATA / "MANIFEST.csv").open(newline="", encoding="utf-8") as manifest:
        ROWS = [row for row in csv.DictReader(manifest) if row["h5py_opens"] == "yes"]
ALL = [row["path"] for row in ROWS]
NETCDF = [row["path"] for row in ROWS if "netcdf4" in row["conventions"].split(";")]
ANNDATA = [path for path in ALL if path.endswith(".h5ad")]
NWB = [row["path"] for row in ROWS if "nwb" in row["conventions"].split(";")]
LARGE = {"Unidata+netcdf-c/nc_test4/ref_hdf5_compat1.nc"}  # two thousand variables: compared by ncdump
UNREADABLE = {"brtnfld+hdf5/test/testfiles/corrupt_stab_msg.h5"}
# Compressed chunks of variable-length data hold addresses in the file, so that their size differs with them.
SIZES_VARY = {
    "biocore+biom-format/examples/rich_sparse_otu_table_hdf5.biom",
    "scverse+anndata/tests/data/archives/v0.7.8/adata.h5ad",
    "scverse+mudata/tests/data/archives/v0.2.4/mdata_axis0.h5mu",
    "PyTables+PyTables/tables/tests/b2nd-no-chunkshape.h5",
    "silx-kit+hdf5plugin/test/sz3.h5",  # lossy: chunks that would not come back as they are stay as they are
}
NOTES = {
    "HDFGroup+hdf5_plugins/BITGROOM/example/testfiles/h5ex_d_bitgroom.h5": "filter 32022",
    "HDFGroup+hdf5_plugins/GRANULAR_BITROUND/example/testfiles/h5ex_d_granularbr.h5": "filter 32023",
    "HDFGroup+hdf5-examples/C/H5FLT/tfiles/h5ex_d_mafisc.h5": "filter 32002",
    "silx-kit+hdf5plugin/test/sperr.h5": "unfiltered",
    "silx-kit+hdf5plugin/test/sz3.h5": "unfiltered",
}


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Restored]:
    """Restore a real file into a copy of its folder, fully verified; once for all tests."""
    made: dict[str, Restored] = {}
    folders: dict[Path, Path] = {}

    def get(path: str) -> Restored:
        if path not in made:
            source, target = DATA / path, tmp_path_factory.mktemp("real") / "out.zarr"
            if source.parent not in folders:
                folders[source.parent] = tmp_path_factory.mktemp("folder") / "f"
                shutil.copytree(source.parent, folders[source.parent], ignore=_folders_of)
            there = h5z.convert(source, target, unsupported="report", codec="keep")
            file = folders[source.parent] / source.name
            made[path] = Restored(source, file, there, h5z.restore(target, file, verify="full", overwrite=True))
        return made[path]

    return get


def _folders_of(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_dir()]


@pytest.mark.parametrize("path", ALL)
def test_a_real_file_comes_back(restored: Callable[[str], Restored], tmp_path: Path, path: str) -> None:
    """No difference that h5diff finds, the same dump, and nothing lost but what the conversion named."""
    if path in UNREADABLE:
        with pytest.raises(SourceError):
            restored(path)
        return
    done = restored(path)
    assert done.back.differences == ()
    assert done.back.not_carried == done.there.not_carried
    assert all(NOTES.get(path, "nothing") in note for note in done.back.notes)
    lost = {problem.path for problem in done.back.not_carried}
    assert diff_difference(done.source, done.file, tmp_path / "copy.h5", without=lost) == ""
    if not lost:  # many values, which h5diff has compared, are as much text again as hundreds of files
        few = done.there.nbytes < 1 << 20
        assert dump_difference(done.source, done.file, sizes=path not in SIZES_VARY, values=few) == ""


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="needs ncdump (Debian: netcdf-bin)")
@pytest.mark.parametrize("path", NETCDF)
def test_ncdump_prints_the_same(restored: Callable[[str], Restored], path: str) -> None:
    """Values, and the special attributes: chunks, filters, byte order, version of the superblock."""
    done = restored(path)
    wanted, found = (run_tool("ncdump", "-s", "-n", "x", file.name, cwd=file.parent) for file in (done.source, done.file))
    assert wanted == found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [path for path in NETCDF[::4] if path not in LARGE])
def test_netcdf4_and_h5netcdf_open_it_alike(restored: Callable[[str], Restored], path: str) -> None:
    xarray = pytest.importorskip("xarray")
    done = restored(path)
    for options in ({"engine": "netcdf4"}, {"engine": "h5netcdf", "phony_dims": "sort"}):
        try:
            source = xarray.open_dataset(done.source, decode_times=False, **options)
        except (ValueError, TypeError, OSError, KeyError) as error:
            with pytest.raises(type(error)):
                xarray.open_dataset(done.file, decode_times=False, **options)
            continue
        with source, xarray.open_dataset(done.file, decode_times=False, **options) as file:
            xarray.testing.assert_identical(source.load(), file.load())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", ANNDATA)
def test_anndata_reads_it_alike(restored: Callable[[str], Restored], path: str) -> None:
    anndata = pytest.importorskip("anndata")
    done = restored(path)
    assert str(anndata.read_h5ad(done.source)) == str(anndata.read_h5ad(done.file))
    wanted, found = anndata.read_h5ad(done.source), anndata.read_h5ad(done.file)
    for name in ("obs", "var"):
        assert getattr(wanted, name).equals(getattr(found, name))
    dense: Any = [item.X.toarray() if hasattr(item.X, "toarray") else item.X for item in (wanted, found)]
    assert (dense[0] == dense[1]).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NWB)
def test_pynwb_validates_it_alike(restored: Callable[[str], Restored], path: str) -> None:
    pynwb = pytest.importorskip("pynwb")
    done = restored(path)
    wanted, found = ([str(error) for error in pynwb.validate(path=str(file))] for file in (done.source, done.file))
    assert wanted == found
    with pynwb.NWBHDF5IO(str(done.file), "r", load_namespaces=True) as file:
        assert file.read().identifier
