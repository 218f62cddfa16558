"""What the command line does with a call or a source that is wrong: one line, the right status, nothing left behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5z

from .running import BAD_SOURCE, BAD_TARGET, DONE, FALLS_SHORT, WRONG_CALL, Run, expect_one_line
from .stored import listing


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with one chunked dataset of two dimensions, in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    with h5py.File(folder / "good.h5", "w") as file:
        file.create_dataset("group/data", data=np.arange(600, dtype="<f4").reshape(20, 30), chunks=(5, 10), compression="gzip")
    return folder / "good.h5"


def refused(cli: Run, folder: Path, status: int, *arguments: str | Path, words: tuple[str, ...]) -> None:
    """Expect a refusal that leaves the folder as it was."""
    before = listing(folder)
    done = cli(*arguments)
    expect_one_line(done, status, *words)
    assert listing(folder) == before


def test_a_missing_file(cli_here: Run, tmp_path: Path) -> None:
    """The source's name is in the message."""
    refused(cli_here, tmp_path, BAD_SOURCE, "convert", tmp_path / "none.h5", tmp_path / "out.zarr", words=("none.h5",))


def test_a_directory(cli_here: Run, tmp_path: Path) -> None:
    """A folder is no HDF5 file, whatever its name."""
    (tmp_path / "folder.h5").mkdir()
    words = ("folder.h5", "directory")
    refused(cli_here, tmp_path, BAD_SOURCE, "convert", tmp_path / "folder.h5", tmp_path / "out.zarr", words=words)


@pytest.mark.parametrize("content", [b"", b"just a text\n", b"CDF\x01" + bytes(40), b"\x89HDF\r\n\x1a\n" + b"\xff" * 100])
def test_what_is_no_hdf5_file(cli_here: Run, tmp_path: Path, content: bytes) -> None:
    """An empty file, a text file, a netCDF-3 file, a signature with nothing behind it."""
    path = tmp_path / "text.h5"
    path.write_bytes(content)
    refused(cli_here, tmp_path, BAD_SOURCE, "convert", path, tmp_path / "out.zarr", words=("text.h5",))


def test_a_file_of_a_family(cli_here: Run, tmp_path: Path) -> None:
    """Files that HDF5's family driver wrote are parts of one."""
    with h5py.File(tmp_path / "a%d.h5", "w", driver="family", memb_size=1024) as file:
        file["x"] = np.arange(1000)
    for name, words in (("a0.h5", ("family", "h5repart")), ("a1.h5", ("without the HDF5 signature",))):
        refused(cli_here, tmp_path, BAD_SOURCE, "convert", tmp_path / name, tmp_path / "out.zarr", words=(name, *words))


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file(cli_here: Run, source: Path, kept: float) -> None:
    """Cut within its metadata, and within its data."""
    raw = source.read_bytes()
    cut = source.with_name("cut.h5")
    cut.write_bytes(raw[: int(len(raw) * kept)])
    refused(cli_here, source.parent, BAD_SOURCE, "convert", cut, source.parent / "out.zarr", words=("cut.h5",))


def test_a_corrupt_chunk(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A chunk that does not decode is the source's fault; the message names file, dataset and what cannot be read."""
    with h5py.File(source, "r+") as file:
        offset = file["group/data"].id.get_chunk_info(7).byte_offset
    with source.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\0" * 16)
    done = cli_here("convert", source, tmp_path / "out.zarr")
    expect_one_line(done, BAD_SOURCE, "good.h5", "/group/data")
    assert not (tmp_path / "out.zarr" / "zarr.json").exists()


def test_a_source_that_may_not_be_read(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """Permission is the system's word."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    source.chmod(0)
    refused(cli_here, tmp_path / "out", BAD_SOURCE, "convert", source, tmp_path / "out.zarr", words=("good.h5",))


def test_the_same_migration_again(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A finished target of the same plan and source is left alone, and said to be so."""
    target = tmp_path / "out.zarr"
    assert cli_here("convert", source, target).returncode == DONE
    before = listing(target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    again = cli_here("convert", source, target, "--json")
    assert again.returncode == DONE
    assert json.loads(again.stdout)["status"] == "unchanged"
    assert listing(target) == before
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times


@pytest.mark.parametrize("what", ["another plan", "another source", "a foreign store", "a folder", "a file"])
def test_a_target_that_is_something_else(cli_here: Run, source: Path, tmp_path: Path, what: str) -> None:
    """Refused without --overwrite, and not touched."""
    target = tmp_path / "out.zarr"
    if what == "another plan":
        assert cli_here("convert", source, target, "--chunks", "4,4").returncode == DONE
    elif what == "another source":
        with h5py.File(source.with_name("other.h5"), "w") as file:
            file["x"] = 1
        assert cli_here("convert", source.with_name("other.h5"), target).returncode == DONE
    elif what == "a foreign store":
        target.mkdir()
        (target / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"mine": 1}}')
    elif what == "a folder":
        target.mkdir()
        (target / "thesis.txt").write_text("the only copy")
    else:
        target.write_text("the only copy")
    refused(cli_here, tmp_path, BAD_TARGET, "convert", source, target, words=("out.zarr",))


def test_overwrite_replaces_a_target(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """With --overwrite nothing of the old target remains."""
    target = tmp_path / "out.zarr"
    with h5py.File(source.with_name("other.h5"), "w") as file:
        file["only/in/the/old"] = np.arange(5)
    assert cli_here("convert", source.with_name("other.h5"), target).returncode == DONE
    assert (target / "only").exists()
    assert cli_here("convert", source, target, "--overwrite", "--verify", "full").returncode == DONE
    assert (target / "group" / "data" / "zarr.json").exists()
    assert not (target / "only").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out.zarr"}


def test_overwrite_keeps_the_old_target_when_the_new_one_fails(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """The old one is replaced only when the new one is finalized."""
    target = tmp_path / "out.zarr"
    assert cli_here("convert", source, target).returncode == DONE
    before = listing(target)
    bad = source.with_name("bad.h5")
    bad.write_bytes(source.read_bytes())
    with h5py.File(bad, "r") as file:
        offset = file["group/data"].id.get_chunk_info(7).byte_offset
    with bad.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\0" * 16)
    expect_one_line(cli_here("convert", bad, target, "--overwrite"), BAD_SOURCE, "bad.h5")
    assert listing(target) == before


def test_overwrite_refuses_to_delete_what_is_no_zarr_store(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A folder of other things is nobody's old target."""
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "thesis.txt").write_text("the only copy")
    refused(cli_here, tmp_path, BAD_TARGET, "convert", source, target, "--overwrite", words=("thesis",))


def test_a_target_inside_the_source(cli_here: Run, source: Path) -> None:
    """A path below a file, and the file itself."""
    for target in (source / "out.zarr", source):
        refused(cli_here, source.parent, WRONG_CALL, "convert", source, target, words=("good.h5",))


def test_a_target_that_is_the_source_by_another_name(cli_here: Run, source: Path) -> None:
    """A symbolic link leads to the same file: refused, by the call or by the file that is there."""
    alias = source.with_name("alias.h5")
    alias.symlink_to(source)
    before = listing(source.parent)
    done = cli_here("convert", source, alias, "--overwrite")
    assert done.returncode in (WRONG_CALL, BAD_TARGET)
    expect_one_line(done, done.returncode, "alias.h5")
    assert listing(source.parent) == before


def test_a_target_that_may_not_be_written(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A folder without permission, where the system holds one to it; else a parent that is a file."""
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        refused(cli_here, tmp_path, BAD_TARGET, "convert", source, tmp_path / "file" / "out.zarr", words=("out.zarr",))
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        refused(cli_here, tmp_path, BAD_TARGET, "convert", source, folder / "out.zarr", words=("out.zarr",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chunks", "4,4,4"), ("(4, 4, 4)",)),
        (("--chunks", "/group/data=4"), ("/group/data", "(4,)")),
        (("--chunks", "0,4"), ("chunks",)),
        (("--chunks", "-1,4"), ("chunks",)),
        (("--chunks", "four"), ("chunks", "four")),
        (("--chunks", "/nowhere=4,4"), ("/nowhere",)),
        (("--shards", "7,7"), ("shards",)),
        (("--codec", "middle-out:11"), ("codec", "middle-out")),
        (("--codec", "gzip:fast"), ("codec", "gzip:fast")),
        (("--codec", "gzip:99"), ("gzip", "99")),
        (("--codec", "blosc-lz4:10"), ("blosc", "10")),
        (("--codec", "/nowhere=zstd"), ("/nowhere",)),
        (("--include", "/nowhere"), ("/nowhere",)),
        (("--exclude", "/nowhere/*"), ("/nowhere/*",)),
        (("--memory", "a lot"), ("a lot",)),
        (("--memory", "1KiB"), ("memory",)),
        (("--zarr-format", "4"), ("4",)),
        (("--links", "maybe"), ("maybe",)),
        (("--unsupported", "ignore"), ("ignore",)),
        (("--verify", "deeply"), ("deeply",)),
    ],
    ids=lambda value: " ".join(value) if value and str(value[0]).startswith("--") else "",
)
def test_a_policy_that_is_wrong(
    cli_here: Run, source: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Each field's wrong values; the message names the field or what was found."""
    refused(cli_here, tmp_path, WRONG_CALL, "convert", source, tmp_path / "out.zarr", *options, words=words)


def test_what_cannot_be_carried_over_stops_before_writing(cli_here: Run, tmp_path: Path) -> None:
    """unsupported="error" is the default: the object and the reason in one line, no target."""
    with h5py.File(tmp_path / "udl.h5", "w") as file:
        file["fine"] = np.arange(3)
        file["gone"] = np.arange(3)
        file.create_dataset("refs", data=[file["gone"].ref], dtype=h5py.ref_dtype)
        del file["gone"]
    refused(cli_here, tmp_path, FALLS_SHORT, "convert", tmp_path / "udl.h5", tmp_path / "out.zarr", words=("udl.h5", "/refs"))


def test_what_cannot_be_carried_over_is_reported_on_demand(cli_here: Run, tmp_path: Path) -> None:
    """unsupported="report" carries the rest over, names what is missing, and still ends with 1."""
    with h5py.File(tmp_path / "udl.h5", "w") as file:
        file["fine"] = np.arange(3)
        file["gone"] = np.arange(3)
        file.create_dataset("refs", data=[file["gone"].ref], dtype=h5py.ref_dtype)
        del file["gone"]
    done = cli_here(
        "convert", tmp_path / "udl.h5", tmp_path / "out.zarr", "--unsupported", "report", "--verify", "full", "--json"
    )
    assert done.returncode == FALLS_SHORT, done.stderr
    assert [problem["path"] for problem in json.loads(done.stdout)["not_carried"]] == ["/refs"]
    assert (tmp_path / "out.zarr" / "fine" / "zarr.json").exists()
    assert not (tmp_path / "out.zarr" / "refs").exists()


@pytest.mark.parametrize("verb", ["tree", "plan", "verify"])
def test_other_verbs_name_a_missing_source(cli_here: Run, tmp_path: Path, verb: str) -> None:
    """Each in one line, with the source's status."""
    arguments = [tmp_path / "none.h5"] + ([tmp_path / "out.zarr"] if verb != "tree" else [])
    refused(cli_here, tmp_path, BAD_SOURCE, verb, *arguments, words=("none.h5",))


def test_verify_names_a_missing_or_unfinished_target(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A target that is not there, and one without its commit record."""
    refused(cli_here, tmp_path, BAD_TARGET, "verify", source, tmp_path / "out.zarr", words=("out.zarr",))
    assert cli_here("convert", source, tmp_path / "out.zarr").returncode == DONE
    (tmp_path / "out.zarr" / "zarr.json").unlink()
    refused(cli_here, tmp_path, BAD_TARGET, "verify", source, tmp_path / "out.zarr", words=("out.zarr",))


def test_verify_names_what_differs(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """Status 1, and the array by its path."""
    assert cli_here("convert", source, tmp_path / "out.zarr", "--codec", "none").returncode == DONE
    chunk = next(
        path for path in (tmp_path / "out.zarr" / "group" / "data").rglob("*") if path.is_file() and path.name != "zarr.json"
    )
    raw = bytearray(chunk.read_bytes())
    raw[3] ^= 1
    chunk.write_bytes(raw)
    done = cli_here("verify", source, tmp_path / "out.zarr", "--level", "full", "--json")
    assert done.returncode == FALLS_SHORT
    assert [item["path"] for item in json.loads(done.stdout)["differences"]] == ["/group/data"]


def test_plan_writes_nothing(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """What would be done is printed, and that is all."""
    before = listing(tmp_path)
    done = cli_here("plan", source, tmp_path / "out.zarr")
    assert done.returncode == DONE
    assert "/group/data" in done.stdout
    assert listing(tmp_path) == before


def test_debug_shows_the_traceback(cli_here: Run, tmp_path: Path) -> None:
    """Only with --debug."""
    done = cli_here("convert", tmp_path / "none.h5", tmp_path / "out.zarr", "--debug")
    assert done.returncode == BAD_SOURCE
    assert "Traceback" in done.stderr


def test_a_command_without_a_verb_shows_its_help(cli_here: Run) -> None:
    """On lines of its own, and as a call that is wrong."""
    for arguments in ((), ("vault",)):
        done = cli_here(*arguments)
        assert done.returncode == WRONG_CALL
        assert "\nCommands:\n" in done.stderr


def test_the_version(cli_here: Run) -> None:
    """Of the command and of the package."""
    done = cli_here("--version")
    assert (done.returncode, done.stdout) == (DONE, f"h5z {h5z.__version__}\n")


@pytest.mark.parametrize("what", ["nothing", "the root", "a dangling link", "a place in a file", "a long name"])
def test_a_target_that_cannot_be(cli_here: Run, source: Path, tmp_path: Path, what: str) -> None:
    """The fault is the target's, which is named, not the source's."""
    (tmp_path / "link").symlink_to("no/where")
    (tmp_path / "file").touch()
    long = tmp_path / ("x" * 300)
    places = {"nothing": "", "the root": "/", "a dangling link": tmp_path / "link", "a place in a file": tmp_path / "file/x"}
    target = places.get(what, long)
    status = WRONG_CALL if what == "nothing" else BAD_TARGET
    refused(cli_here, tmp_path, status, "convert", source, target, words=(str(target)[:40] or "''",))


def test_a_restored_file_takes_no_devices_place(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """A pipe or a device is not a file that --overwrite may replace; a local file may be given by URL."""
    assert cli_here("convert", source, tmp_path / "out.zarr").returncode == DONE
    os.mkfifo(tmp_path / "pipe")
    expect_one_line(
        cli_here("restore", tmp_path / "out.zarr", tmp_path / "pipe", "--overwrite"),
        BAD_TARGET,
        "found a pipe, a socket or a device",
    )
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert cli_here("restore", tmp_path / "out.zarr", f"file://{tmp_path}/back.h5").returncode == DONE
    assert h5py.is_hdf5(tmp_path / "back.h5")


@pytest.mark.parametrize(("name", "words"), [("none.h5", "no such file"), ("odd://x/y.h5", "Protocol not known")])
def test_files_to_combine_that_are_not_there(cli_here: Run, tmp_path: Path, name: str, words: str) -> None:
    """In the words that other verbs have for it."""
    refused(cli_here, tmp_path, BAD_SOURCE, "combine", name, "--to", tmp_path / "x.zarr", "--dim", "t", words=(name, words))


def test_a_plot_that_cannot_be_written(cli_here: Run, source: Path, tmp_path: Path) -> None:
    """The fault is what it shall be written to."""
    where = tmp_path / "no" / "x.svg"
    done = cli_here("advise", source, "-o", tmp_path / "x.yaml", "--plot", where, "--sample", "1KiB")
    expect_one_line(done, BAD_TARGET, str(where))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--workers", "0"), ("--timeout", "-1"), ("--timeout", "nan"), ("--memory", "1XB"), ("--memory-limit", "x")],
)
def test_numbers_that_say_nothing(cli_here: Run, source: Path, tmp_path: Path, option: str, value: str) -> None:
    """Refused before anything is read, by the option's name."""
    refused(cli_here, tmp_path, WRONG_CALL, "convert", source, tmp_path / "x.zarr", option, value, words=(option.strip("-"),))


def test_no_end_of_time(cli_here: Run, source: Path) -> None:
    """A time limit may be infinite."""
    assert cli_here("tree", source, "--timeout", "inf").returncode == DONE


@pytest.mark.parametrize(
    ("streams", "status", "words"),
    [
        ("<&-", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 4, "No space left on device"),
        ("--attributes | head -n 1", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(source: Path, streams: str, status: int, words: str) -> None:
    """What a daemon closes is not missed; what cannot be printed is not the source's fault; who reads on no more is not told."""
    command = f'set -o pipefail; "{sys.executable}" -m h5z.cli tree "{source}" {streams}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, words in done.stderr, done.stderr.count("\n")) == (status, True, bool(words)), done


def test_what_a_terminal_cannot_show(source: Path, cli: Run) -> None:
    """Names beyond its encoding are shown as escapes."""
    named = source.with_name("größe.h5")
    source.rename(named)
    done = cli("tree", named, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, "gr\\xf6\\xdfe.h5" in done.stdout) == (DONE, True), done
