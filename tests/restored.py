"""What the HDF Group's own tools say of a source and of the file restored from its target."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import h5py

from h5z import Report

TOOLS = all(shutil.which(name) for name in ("h5diff", "h5dump"))
# Where HDF5's tools look for plugins: nowhere, so that what they can read does not depend on the machine.
_ENVIRONMENT = {**os.environ, "HDF5_PLUGIN_PATH": "/nonexistent", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Restored:
    """A source, the file restored from its target, and the reports of both ways."""

    source: Path
    file: Path
    there: Report
    back: Report


def run_tool(*command: str | Path, cwd: Path) -> tuple[int, str]:
    """Exit status and output of a program; bytes that are no text one letter each."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=_ENVIRONMENT,
        capture_output=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout.decode("latin-1")


def dump(path: Path, *, sizes: bool = True, values: bool = True) -> str | None:
    """``h5dump -p`` of a file, without addresses; None where the tool cannot read it.

    Parameters
    ----------
    sizes : bool
        Whether stored sizes count: where other software compressed, they are another's.
    values : bool
        Whether datasets' values are printed, or those of attributes alone.
    """
    status, text = run_tool("h5dump", "-p", *([] if values else ["-A"]), path.name, cwd=path.parent)
    if status:
        return None
    text = re.sub(r'^HDF5 ".*"', "HDF5", text)
    text = re.sub(r"OFFSET \d+", "OFFSET", text)  # of a dataset in one piece
    text = re.sub(r"(DATASET|GROUP|DATATYPE) \d+ ", r"\1 ", text)  # what an object reference points to
    text = re.sub(r'"/#\d+(:\d+)?"', '"/#"', text)  # a committed datatype without a link
    return text if sizes else re.sub(r"SIZE \d+( \([0-9.]+:1 COMPRESSION\))?", "SIZE", text)


def dump_difference(source: Path, file: Path, *, sizes: bool = True, values: bool = True) -> str:
    """The first lines in which two dumps differ; nothing where they do not, or the source cannot be dumped."""
    wanted, found = dump(source, sizes=sizes, values=values), dump(file, sizes=sizes, values=values)
    if wanted is None or wanted == found:
        return ""
    lines = difflib.unified_diff(wanted.splitlines(), (found or "").splitlines(), lineterm="", n=1)
    return "\n".join(line[:160] for line in list(lines)[:30])


def diff_difference(source: Path, file: Path, copy: Path, *, without: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """What ``h5diff -v -c`` says of source and file that it does not say of source and its own copy: of those it cannot tell
    all either (times, say, or filters that it has not)."""
    excluded = [part for path in sorted(without) for part in ("--exclude-path", path)]

    def judge(other: Path) -> tuple[int, str]:
        status, text = run_tool("h5diff", "-v", "-c", *excluded, source.absolute(), other.absolute(), cwd=source.parent)
        return status, text.replace(str(other.absolute()), "OTHER")

    shutil.copyfile(source, copy)
    wanted, found = judge(copy), judge(file)
    if found == wanted:
        return ""
    lines = [line for line in found[1].splitlines() if line not in wanted[1].splitlines()]
    return f"status {found[0]}, of a copy {wanted[0]}\n" + "\n".join(lines[:20])


def chunk_bytes(path: Path) -> dict[str, list[tuple[tuple[int, ...], int, bytes]]]:
    """The stored bytes of every chunk of every dataset: offset, filter mask, bytes."""
    out: dict[str, list[tuple[tuple[int, ...], int, bytes]]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            chunks = [item.id.get_chunk_info(i).chunk_offset for i in range(item.id.get_num_chunks())]
            out[name] = sorted((offset, *item.id.read_direct_chunk(offset)) for offset in chunks)

    with h5py.File(path) as file:
        file.visititems(visit)
    return out
