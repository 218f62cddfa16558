"""What is written reaches the disk: every file and folder of a tree, whoever of the threads takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from h5z.stores import disk


def test_a_tree_is_flushed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [tmp_path / f"a{i}" / "c" / str(j) for i in range(5) for j in range(4)]
    left = tmp_path / "left" / "out"
    for path in (*made, left, tmp_path / "a0" / "left"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    flushed: list[str] = []
    monkeypatch.setattr(disk, "flush", flushed.append)
    disk.flush_tree(tmp_path, leave_out=["left"])
    wanted = {path for path in (tmp_path, *tmp_path.rglob("*")) if left.parent not in (path, *path.parents)}
    assert sorted(flushed) == sorted(map(str, wanted))


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(50):
        (tmp_path / str(i)).touch()

    def flush(path: str) -> None:
        if path.endswith("/7"):
            raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(disk, "flush", flush)
    with pytest.raises(OSError, match="Input/output"):
        disk.flush_tree(tmp_path)
