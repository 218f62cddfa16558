"""Files that others wrote, a folder of them: converted and verified, or what is not carried over is named."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pandas as pd
import pytest
import xarray
import zarr

import h5z
from h5z.errors import SourceError

from .oddities.judge import judge
from .running import DATA, Converted, Run

pytestmark = [
    pytest.mark.archive,
    pytest.mark.skipif(
        not (DATA / "MANIFEST.csv").exists(), reason=f"no real files at {DATA} (H5Z_TEST_DATA names their folder)"
    ),
]
ROWS: list[dict[str, str]] = []
if (DATA / "MANIFEST.csv").exists():
    with (DATA / "MANIFEST.csv").open(newline="", encoding="utf-8") as manifest:
        ROWS = list(csv.DictReader(manifest))
GOOD = [row["path"] for row in ROWS if row["h5py_opens"] == "yes"]
CRASHES_H5PY = {"brtnfld+clawhdf5_mirror/crates/clawhdf5-format/tests/fixtures/vds_cyclic.h5"}  # a virtual dataset of itself
BAD = [row["path"] for row in ROWS if row["h5py_opens"] == "no"]
NETCDF = [row["path"] for row in ROWS if row["h5py_opens"] == "yes" and "netcdf4" in row["conventions"].split(";")]
ANNDATA = [row["path"] for row in ROWS if row["path"].endswith(".h5ad")]

# What is not carried over of each file; all others are carried over whole.
NOT_CARRIED: dict[str, dict[str, str]] = {
    "HDFGroup+hdf5-examples/C/H5FLT/tfiles/h5ex_d_jpeg.h5": {"/DS1": "filter 32019"},
    "HDFGroup+hdfview/hdfview/src/test/resources/uitest/trefer_obj.h5": {"/Dataset3": "H5R_ref_t"},
    "PyTables+PyTables/tables/tests/time-table-vlarray-1_x.h5": {"/vlarray4": "time", "/vlarray8": "time"},
    "brtnfld+hdf5/test/testfiles/bad_offset.h5": {"/": "links cannot be listed"},
    "brtnfld+hdf5/test/testfiles/filter_error.h5": {"/dataset_with_filter": "filter 305"},
    "brtnfld+hdf5/test/testfiles/tbogus.h5": {"/Dataset3": "cannot be opened", "/group/Dataset3": "cannot be opened"},
    "brtnfld+hdf5/test/testfiles/tmisc38b.h5": {"/unusual_datatype": "cannot be opened"},
    "brtnfld+hdf5/tools/test/h5copy/testfiles/tudfilter.h5": {"/dynlibud": "filter 300"},
    "brtnfld+hdf5/tools/test/h5dump/testfiles/tCVE_2018_11206_fill_old.h5": {"/dset2": "cannot be opened"},
    "brtnfld+hdf5/tools/test/h5dump/testfiles/tfilters.h5": {
        "/external": "external raw data file",
        "/myfilter": "filter 405",
    },
    "brtnfld+hdf5/tools/test/h5dump/testfiles/tudlink.h5": {
        "/udlink1": "user-defined link",
        "/udlink2": "user-defined link",
    },
    "nanoporetech+ont_fast5_api/test/data/hardlink/single_reads/00031f3e-415c-4ab5-9c16-fb6fe45ff519.fast5": {
        "/Raw/Reads/Read_9786/Signal": "filter 32020"
    },
}
# Files that h5py opens though their root cannot be read.
UNREADABLE = {"brtnfld+hdf5/test/testfiles/corrupt_stab_msg.h5"}
# Files whose links h5py cannot list, so that there is nothing to judge.
UNLISTABLE = {"brtnfld+hdf5/test/testfiles/bad_offset.h5"}
# What h5py cannot read, and h5z carries over as bytes or widened.
UNJUDGED = {
    "HDFGroup+hdf5_plugins/BITGROOM/example/testfiles/h5ex_d_bitgroom.h5": {"/DS1"},
    "HDFGroup+hdf5_plugins/GRANULAR_BITROUND/example/testfiles/h5ex_d_granularbr.h5": {"/DS1"},
    "OPENDAP+hdf5_handler/data/t_unsupported.h5": {"/opaque@value"},
    "PyTables+PyTables/tables/tests/attr-u16.h5": {"/wfm_group0/axes/axis0@ref_time"},
    "PyTables+PyTables/tables/tests/time-table-vlarray-1_x.h5": {"/table"},
    "brtnfld+hdf5/tools/test/h5dump/testfiles/tvms.h5": {"/Array"},
}
# NetCDF-4 files that xarray cannot open at source.
XARRAY_CANNOT = {"Unidata+tds/dap4/d4ts/src/main/webapp/WEB-INF/testfiles/test_vlen11.nc": "sequences with a fill value"}
# Files whose packed variables xarray decodes to another float type: in JSON a scale factor of float32 is just a number.
DECODED_WIDER = {"Unidata+netcdf4-python/test/20171025_2056.Cloud_Top_Height.nc"}
# Fill values of bytes, which xarray takes from no Zarr array: only as stored does a reader see them at source.
FILL_NOT_SHOWN = {"NCAS-CMS+pyfive/tests/data/h5netcdf_test.hdf5": ["z"]}
# Two thousand variables, which take h5netcdf half a minute to open: read by netCDF's own library.
LARGE = {"Unidata+netcdf-c/nc_test4/ref_hdf5_compat1.nc"}
# Files with links, which at source show a variable under each name, on dimensions of either: what is its own is compared.
LINKED = {"fsspec+kerchunk/tests/air_linked.nc": ["air", "lon"]}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Convert a real file, fully verified; once for all tests."""
    made: dict[str, Converted] = {}

    def get(path: str) -> Converted:
        if path not in made:
            target = tmp_path_factory.mktemp("real") / "out.zarr"
            report = h5z.convert(DATA / path, target, verify="full", unsupported="report")
            made[path] = Converted(DATA / path, target, report)
        return made[path]

    return get


@pytest.mark.parametrize("path", GOOD)
def test_a_real_file(migrated: Any, path: str) -> None:
    if path in UNREADABLE:
        with pytest.raises(SourceError):
            migrated(path)
        return
    done = migrated(path)
    lost = {problem.path: problem.reason for problem in done.report.not_carried}
    assert set(lost) == set(NOT_CARRIED.get(path, {}))
    for name, word in NOT_CARRIED.get(path, {}).items():
        assert word in lost[name]
    assert done.report.differences == ()
    assert done.report.exit_code == (1 if lost else 0)
    if path not in UNLISTABLE:
        verdict = judge(done.source, done.target, without=set(lost))
        assert verdict.wrong == []
        assert verdict.unjudged == UNJUDGED.get(path, set())


@pytest.mark.parametrize("path", BAD)
def test_a_real_file_that_h5py_cannot_open(cli_here: Run, tmp_path: Path, path: str) -> None:
    """Status 3, or 1 where only some of it cannot be carried over; one line that names the file, no target."""
    done = cli_here("convert", DATA / path, tmp_path / "out.zarr")
    assert done.returncode == (1 if path in CRASHES_H5PY else 3), done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert Path(path).name in done.stderr
    assert list(tmp_path.iterdir()) == []


def without_record(dataset: xarray.Dataset) -> xarray.Dataset:
    """A dataset without h5z's own attribute."""
    dataset = dataset.copy()
    for holder in (dataset, *dataset.variables.values()):
        holder.attrs.pop("h5z", None)
    return dataset


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::xarray.SerializationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("decode_cf", [True, False], ids=["decoded", "as stored"])
@pytest.mark.parametrize("path", NETCDF)
def test_xarray_opens_source_and_target_alike(migrated: Any, path: str, decode_cf: bool) -> None:
    """Group by group."""
    done = migrated(path)
    with h5netcdf.File(done.source, phony_dims="sort") as file:
        groups = sorted(groups_of(file))
    for group in groups:
        options: dict[str, Any] = {"group": group, "decode_cf": decode_cf}
        options |= {"engine": "netcdf4"} if path in LARGE else {"engine": "h5netcdf", "phony_dims": "sort"}
        chunks = {} if decode_cf and path not in LARGE else None  # as dask arrays, or as they are
        if path in XARRAY_CANNOT:
            with pytest.raises(ValueError, match="size 1"):
                xarray.open_dataset(done.source, **options)
            assert dict(zarr.open_group(done.target, mode="r").groups())
            continue
        with (
            xarray.open_dataset(done.source, **options) as source,
            xarray.open_zarr(done.target, group=group, decode_cf=decode_cf, chunks=chunks) as target,
        ):
            source, target = source.load(), without_record(target.load())
            if path in LINKED:
                for name in LINKED[path]:
                    xarray.testing.assert_identical(source.variables[name], target.variables[name])
                continue
            for name in FILL_NOT_SHOWN.get(path, []) if not decode_cf else []:
                if name in source.variables:
                    source[name].attrs.pop("_FillValue", None)
            if path in DECODED_WIDER and decode_cf:
                xarray.testing.assert_allclose(source.astype("f8"), target.astype("f8"), rtol=1e-6)
            else:
                xarray.testing.assert_identical(source, target)


def groups_of(group: Any) -> Iterator[str]:
    """Paths of a netCDF-4 file's groups, the root's first."""
    yield group.name
    for inner in group.groups.values():
        yield from groups_of(inner)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", ANNDATA)
def test_anndata_reads_source_and_target_alike(migrated: Any, path: str) -> None:
    """Every element: X, obs, var, layers, obsm, varm, obsp, varp, uns, raw."""
    anndata = pytest.importorskip("anndata")
    done = migrated(path)
    source, target = anndata.read_h5ad(done.source), anndata.read_zarr(done.target)
    assert source.shape == target.shape
    for name in ("X", "obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns"):
        assert_same(getattr(source, name), getattr(target, name), name)
    assert (source.raw is None) == (target.raw is None)
    for name in ("X", "var", "varm") if source.raw is not None else ():
        assert_same(getattr(source.raw, name), getattr(target.raw, name), f"raw.{name}")


def assert_same(expected: Any, found: Any, where: str) -> None:
    """The same tables, matrices, mappings and values, with the same types.

    A table of variable-length strings is no Zarr data type: it is a group of columns, which anndata reads as a mapping.
    """
    names = getattr(getattr(expected, "dtype", None), "names", None)
    if names and isinstance(found, Mapping):
        assert set(names) == set(found), where
        for name in names:
            assert expected.dtype[name].kind == "O", where
            assert expected[name].tolist() == np.asarray(found[name]).tolist(), f"{where}/{name}"
    elif isinstance(expected, Mapping):
        assert set(expected) == set(found), where
        for key in expected:
            assert_same(expected[key], found[key], f"{where}/{key}")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(expected, found, obj=where)
    elif hasattr(expected, "toarray"):
        assert type(expected) is type(found), where
        assert_same(expected.toarray(), found.toarray(), where)
    else:
        assert np.asarray(expected).dtype == np.asarray(found).dtype, where
        np.testing.assert_array_equal(expected, found, err_msg=where)
