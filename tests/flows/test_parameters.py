from __future__ import annotations

import json
from typing import Any

import pytest

import h5z
from flows.parameters import ArchiveParameters
from flows.report import ArchiveReport, FileRecord
from h5z.errors import PlanError


def check(**given: Any) -> ArchiveParameters:
    return ArchiveParameters.check({"sources": "a.h5", "target_root": "out", **given})


def test_defaults_and_forms() -> None:
    made = check(batch_nbytes="256MiB", verify=None, policy=h5z.Policy(codec="zstd:3"))
    assert made.sources == ["a.h5"]
    assert made.batch_nbytes == 256 << 20
    assert made.verify == "none"
    assert h5z.Policy.from_dict(made.policy) == h5z.Policy(codec="zstd:3")
    assert ArchiveParameters.check(made.model_dump()) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sources": []}, "sources: list should have at least 1 item"),
        ({"sources": 3}, r"sources: input should be a valid list, found 3"),
        ({"target_root": ""}, "target_root: string should have at least 1 character"),
        ({"verify": "fully"}, "verify: input should be 'none', 'structure', 'sample' or 'full', found 'fully'"),
        ({"batch_nbytes": "many"}, "batch_nbytes: expected a size such as '256MiB', found 'many'"),
        ({"batch_files": 0}, "batch_files: input should be greater than 0, found 0"),
        ({"policy": {"links": "perhaps"}}, "policy: links: expected one of 'record', 'follow', found 'perhaps'"),
        ({"policy": {"colour": 1}}, "policy: expected a field of Policy"),
        ({"name_template": "{what}"}, r"name_template: expected text with some of \{parent\}"),
        ({"scheduler": "here"}, "scheduler: string should match pattern"),
        ({"scheduler": "tcp://h:1", "workers": 2}, "workers, scheduler and cluster: expected one of them"),
        ({"cluster": {"class": "LocalCluster"}, "workers": 2}, "workers, scheduler and cluster: expected one of them"),
        ({"cluster": {"class": "no class"}}, "cluster.class: string should match pattern"),
        ({"cluster": {"class": "A", "scale": 1, "adapt": {}}}, "cluster: scale and adapt: expected one of them"),
        ({"cluster": {"class": "A", "nodes": 1}}, "cluster.nodes: extra inputs are not permitted"),
        ({"on_error": "ignore"}, "on_error: input should be 'continue', 'fail' or 'stop', found 'ignore'"),
        ({"since": "yesterday"}, "since"),
        ({"policies": {"*.nc": {"colour": 1}}}, r"policies\.\*\.nc: expected a field of Policy"),
        ({"settle_seconds": -1}, "settle_seconds: input should be greater than or equal to 0, found -1"),
        ({"speed": 11}, "speed: extra inputs are not permitted, found 11"),
    ],
)
def test_what_is_wrong_is_named_on_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        check(**given)
    assert "\n" not in str(caught.value)


def test_a_cluster_is_taken_from_the_environment_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H5Z_CLUSTER", "tcp://host:8786")
    assert check().where == {"workers": None, "scheduler": "tcp://host:8786", "cluster": None}
    assert check(workers=2).where == {"workers": 2, "scheduler": None, "cluster": None}
    spec = {"class": "dask_jobqueue.SLURMCluster", "keywords": {"cores": 4}, "scale": 3}
    assert check(cluster=spec).where["cluster"] == spec
    monkeypatch.setenv("H5Z_CLUSTER", json.dumps(spec))
    assert check().where["cluster"] == spec
    monkeypatch.setenv("H5Z_CLUSTER", '{"scale": 3}')
    with pytest.raises(PlanError, match=r"H5Z_CLUSTER: expected an address, or a cluster as JSON: class: expected it"):
        check().where  # noqa: B018


def test_exit_codes_of_a_report() -> None:
    good = FileRecord("a", "A", "converted", 10, 5)
    kept = FileRecord("b", "B", "unchanged", 10)
    lacking = FileRecord("c", "C", "converted", 10, 5, not_carried=("/x: a filter",))
    bad = FileRecord("e", "E", "quarantined", 10, reason="not HDF5")

    def code(*records: FileRecord) -> int:
        return ArchiveReport("out", records).exit_code

    assert [code(good, kept), code(lacking, kept), code(bad, lacking)] == [0, 1, 5]


def test_reports_travel_as_json() -> None:
    record = FileRecord("a", "A", "converted", 10, 5, 1.5, not_carried=("/x: y",), notes=("n",))
    report = ArchiveReport("out", (record,), "full", {"codec": "keep"}, ("t.txt",), (("gone", "G"),), "2026-01-01", 2.0, 1, "id")
    assert ArchiveReport.from_dict(report.to_dict()) == report
    assert report.to_dict()["counts"]["converted"] == 1
