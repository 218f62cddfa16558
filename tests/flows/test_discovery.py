from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from flows.batches import Job, pack, pair, target_name
from flows.discovery import SourceFile, check_root, discover, missing
from h5z.errors import PlanError, SourceError, TargetError

MAGIC = b"\x89HDF\r\n\x1a\n"


def names(*sources: str | Path, leave_out: str = "") -> list[str]:
    return [file.relative for file in discover(map(str, sources), leave_out=leave_out).files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("x/one.h5", "x/y/two.nc", "x/three.dat", "x/four.bin", "x/five.txt", "x/out.zarr/six.h5"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"text")
    (tmp_path / "x/three.dat").write_bytes(MAGIC + b"rest")
    (tmp_path / "x/four.bin").write_bytes(b"\0" * 2048 + MAGIC)
    return tmp_path


def test_folder_takes_files_by_suffix_and_by_signature_behind_user_blocks(folder: Path) -> None:
    found = discover([str(folder)])
    assert sorted(file.relative for file in found.files) == ["x/four.bin", "x/one.h5", "x/three.dat", "x/y/two.nc"]
    assert [os.path.basename(path) for path in found.passed_over] == ["five.txt"]
    assert all(os.path.isabs(file.path) for file in found.files)
    assert {file.nbytes for file in found.files} == {4, 12, 2056}


def test_target_root_inside_a_source_is_not_looked_into(folder: Path) -> None:
    assert "y/two.nc" not in names(folder / "x", leave_out=str(folder / "x" / "y"))


def test_glob_keeps_what_is_below_its_fixed_part(folder: Path) -> None:
    assert names(folder / "x" / "**" / "*.nc") == ["y/two.nc"]
    assert names(folder / "*" / "one.h5") == ["x/one.h5"]


def test_one_file_is_its_name_whatever_it_is_called(folder: Path) -> None:
    odd = folder / "x" / "run [3].weird"
    odd.write_bytes(MAGIC)
    assert names(odd) == ["run [3].weird"]
    assert names(folder / "x" / "five.txt") == ["five.txt"]


def test_listing_names_files_from_its_own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = folder / "elsewhere.h5"
    outside.write_bytes(MAGIC)
    listing = folder / "x" / "files.lst"
    listing.write_text(f"# the archive\n\none.h5\ny/two.nc\ngone.h5\n{outside}\n")
    monkeypatch.chdir("/")
    assert names(f"@{listing}") == ["one.h5", "y/two.nc", "gone.h5", str(outside).lstrip("/")]


def test_a_file_named_twice_is_taken_once(folder: Path) -> None:
    assert names(folder / "x" / "y", folder / "x" / "y" / "two.nc") == ["two.nc"]


def test_urls_are_listed_through_fsspec() -> None:
    system = fsspec.filesystem("memory")
    for name in ("/bucket/2019/a.h5", "/bucket/2019/b.txt", "/bucket/c.nc", "/bucket/d.zarr/c.h5"):
        system.pipe(name, b"text")
    found = discover(["memory://bucket"])
    assert [file.relative for file in found.files] == ["2019/a.h5", "c.nc"]
    assert [file.path for file in found.files] == ["memory:///bucket/2019/a.h5", "memory:///bucket/c.nc"]
    assert names("memory://bucket/c.nc") == ["c.nc"]
    assert names("memory://bucket/*/*.h5") == ["2019/a.h5"]


def test_what_holds_nothing_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(PlanError, match=r"empty: expected HDF5 files, found none"):
        discover([str(folder / "empty")])
    with pytest.raises(PlanError, match=r"\*\.nope: expected HDF5 files"):
        discover([str(folder / "*.nope")])


def test_what_is_not_there_is_refused(folder: Path) -> None:
    for source in (folder / "gone.h5", f"@{folder}/gone.lst", f"@{folder}/*.lst"):
        with pytest.raises(SourceError, match="found nothing there"):
            missing([str(source)])
    missing([str(folder), str(folder / "*.h5"), "s3://bucket/key"])


def test_target_root_must_be_a_writable_folder(folder: Path) -> None:
    check_root(str(folder / "new" / "deep"))
    with pytest.raises(TargetError, match="found a file"):
        check_root(str(folder / "x" / "one.h5" / "root"))
    assert not (folder / "new").exists()


@pytest.mark.parametrize("template", ["{relative}", "{0}", "{stem", "../{stem}.zarr", "{parent}", "{stem.x}"])
def test_wrong_templates_are_refused(template: str) -> None:
    with pytest.raises(PlanError, match="name_template"):
        target_name("a.h5", template)


def test_two_sources_of_one_target_are_refused_by_name() -> None:
    files = [SourceFile("/in/a.h5", "a.h5", 1), SourceFile("/in/a.nc", "a.nc", 1)]
    with pytest.raises(PlanError, match=r"/in/a\.h5 and /in/a\.nc would both become /out/a\.zarr"):
        pair(files, "/out")
    assert [job.target for job in pair(files, "/out", "{parent}/{name}.zarr")] == ["/out/a.h5.zarr", "/out/a.nc.zarr"]


def test_a_target_inside_another_is_refused() -> None:
    files = [SourceFile("/in/a.zarr/x/b.h5", "a.zarr/x/b.h5", 1), SourceFile("/in/a.h5", "a.h5", 1)]
    with pytest.raises(PlanError, match="inside it"):
        pair(files, "/out")


def test_a_thousand_small_files_are_a_few_batches() -> None:
    jobs = [Job(f"/in/{i}.h5", f"/out/{i}.zarr", 1000) for i in range(1000)]
    jobs.insert(500, Job("/in/big.h5", "/out/big.zarr", 10**9))
    batches = pack(jobs, batch_files=500, batch_nbytes=1 << 30, big_file_nbytes=128 << 20)
    assert [(len(batch.jobs), batch.big) for batch in batches] == [(1, True), (500, False), (500, False)]
    assert [job for batch in batches for job in batch.jobs if not batch.big] == [*jobs[:500], *jobs[501:]]
    assert len(pack(jobs[:500], batch_files=500, batch_nbytes=100_000, big_file_nbytes=128 << 20)) == 5
