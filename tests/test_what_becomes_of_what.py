"""Every oddity, in both Zarr formats: converted, verified, and judged by readers that know nothing of h5z."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import xarray
import zarr

import h5z
from h5z.errors import UnsupportedError

from .oddities import ODDITIES
from .oddities.judge import judge
from .running import Convert

FORMATS = (3, 2)
DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")

# What cannot be carried over, by the oddity's name: paths as the report names them.
NOT_CARRIED: dict[str, set[str]] = {
    "dangling_reference": {"/refs"},
    "external_storage_outside_the_folder": {"/data"},
    "filter_that_is_not_installed": {"/stored"},
}
# What h5py itself cannot read, so that the judge leaves it to the tests of its own.
UNJUDGED: dict[str, set[str]] = {
    "attributes_of_odd_types": {"/@time", "/data@time"},
    "integers_of_odd_sizes": {"/three", "/five", "/sixteen"},
    "bitfields": {"/b8_BE"},
    "bitgroom": {"/rounded"},
    "sequences_of_region_references": {"/@regions", "/rows"},
    "lzo": {"/numbers", "/rows", "/words"},
    "times": {"/D32LE", "/D32BE", "/D64LE", "/D64BE"},
}
# Fill values that Zarr has no word for: their chunks are stored.
DENSE = {"fill_of_an_array_datatype_and_enumeration"}


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", ODDITIES)
def test_nothing_is_lost_in_silence(converted: Convert, name: str, zarr_format: int) -> None:
    """The report names what is not carried over; the judge finds all else in the target, bit for bit."""
    done = converted(name, zarr_format)
    lost = {problem.path for problem in done.report.not_carried}
    assert lost == NOT_CARRIED.get(name, set()), done.report.not_carried
    assert done.report.differences == ()
    assert done.report.ok == (not lost)
    verdict = judge(done.source, done.target, without=lost, dense=name in DENSE)
    assert verdict.wrong == []
    assert verdict.unjudged == UNJUDGED.get(name, set())


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_cannot_be_carried_over_stops_the_call(converted: Convert, name: str, tmp_path: Path) -> None:
    """By default the call names it and writes nothing."""
    source = converted(name).source
    with pytest.raises(UnsupportedError) as caught:
        h5z.convert(source, tmp_path / "out.zarr")
    for path in NOT_CARRIED[name]:
        assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", ODDITIES)
def test_metadata_are_strict_json(converted: Convert, name: str, zarr_format: int) -> None:
    """No NaN, no Infinity, no key twice, valid UTF-8."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    target = converted(name, zarr_format).target
    found = [path for path in target.rglob("*") if path.name in DOCUMENTS and path.is_file()]
    assert found
    for path in found:
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)
        assert path.name == ".zattrs" or "zarr_format" in document or "zarr_consolidated_format" in document


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", ODDITIES)
def test_readers_are_not_disturbed(converted: Convert, name: str, zarr_format: int) -> None:
    """zarr-python opens and reads every array, and xarray every group, without a warning."""
    target = converted(name, zarr_format).target
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # xarray's word on a variable with the same dimension twice, which it has on the source too.
        warnings.filterwarnings("ignore", message="Duplicate dimension names")
        root = zarr.open_group(target, mode="r", use_consolidated=True)
        nodes = dict(root.members(max_depth=None))
        for node in nodes.values():
            if isinstance(node, zarr.Array):
                node[...]
        groups = ["", *(path for path, node in nodes.items() if isinstance(node, zarr.Group))]
        for group in groups[:50]:
            with xarray.open_zarr(target, group=group or None, consolidated=True, decode_cf=False) as dataset:
                dataset.load()
                own = {
                    path.rpartition("/")[2]
                    for path, node in nodes.items()
                    if path.rpartition("/")[0] == group and isinstance(node, zarr.Array)
                }
                assert set(dataset.variables) == own


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("name", ODDITIES)
def test_consolidated_metadata_are_the_nodes_own(converted: Convert, name: str, zarr_format: int) -> None:
    """The root's copy says what each node's own document says."""
    target = converted(name, zarr_format).target
    own = {
        str(path.relative_to(target)): json.loads(path.read_bytes())
        for path in target.rglob("*")
        if path.name in DOCUMENTS and path.name != ".zmetadata" and path.is_file()
    }
    if zarr_format == 2:
        assert json.loads((target / ".zmetadata").read_bytes())["metadata"] == own
    else:
        copies = own.pop("zarr.json")["consolidated_metadata"]["metadata"]
        assert {f"{path}/zarr.json": document for path, document in copies.items()} == own
    root = zarr.open_group(target, mode="r", use_consolidated=True)
    assert {path for path, _ in root.members(max_depth=None)} == {str(Path(key).parent) for key in own} - {"."}
