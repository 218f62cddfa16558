from __future__ import annotations

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
        ({"scheduler": "tcp://h:1", "workers": 2}, "workers and scheduler: expected one of them"),
        ({"speed": 11}, "speed: extra inputs are not permitted, found 11"),
    ],
)
def test_what_is_wrong_is_named_on_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        check(**given)
    assert "\n" not in str(caught.value)


def test_exit_codes_of_a_report() -> None:
    good = FileRecord("a", "A", "converted", 10, 5)
    kept = FileRecord("b", "B", "unchanged", 10)
    lacking = FileRecord("c", "C", "converted", 10, 5, not_carried=("/x: a filter",))
    differs = FileRecord("d", "D", "converted", 10, 5, differences=("/x: value",))
    bad = FileRecord("e", "E", "quarantined", 10, reason="not HDF5")

    def code(*records: FileRecord) -> int:
        return ArchiveReport("out", records).exit_code

    assert [code(good, kept), code(lacking, kept), code(differs), code(bad, lacking)] == [0, 1, 1, 5]


def test_reports_travel_as_json() -> None:
    record = FileRecord("a", "A", "converted", 10, 5, 1.5, not_carried=("/x: y",), notes=("n",))
    report = ArchiveReport("out", (record,), "full", {"codec": "keep"}, ("t.txt",), "2026-01-01", 2.0, 1, "id")
    assert ArchiveReport.from_dict(report.to_dict()) == report
    assert report.to_dict()["counts"] == {"converted": 1, "unchanged": 0, "quarantined": 0}
