"""Runs what stands in a Markdown page: its blocks of Python and bash, in order, in one session, in one folder.

- ``python`` is executed in the page's namespace.
- ``bash`` is executed command by command: plain calls of h5z by its `main` in this process, which need no interpreter's start;
  ``export`` for what follows; everything else by bash; the HDF
  Group's programs where they are installed.
- ``text`` right after a block that ran is what it printed; ``...`` stands for what is another each time.
- After the comment ``<!-- not run: why -->`` a block is left out, and listed.
- Other languages (``json``, ``yaml``) are not run.

As a program, ``python -m tests.pages``: requests (page and folder) and answers are lines of JSON.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
OF_HDF5 = ("h5diff", "h5dump")  # programs of the HDF Group's that not every machine has
_FENCE = re.compile(r"^(```+)(\w*)[^\n]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"[^\"$`]*\"|#.*")
_SHELL = re.compile(r"[|<>&;$*`~?(]")
_EXPORT = re.compile(r"export (\w+)=(\S*)\Z")
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and first line; why it is not run; what it shall print, where the page says so."""

    language: str
    text: str
    line: int
    left_out: str = ""
    output: str | None = None


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are run, or are marked as left out."""
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(page):
        between, end = page[end : match.start()], match.end()
        language, text = match[2], match[3]
        if language == "text" and found and not between.strip():
            last = found.pop()
            found.append(Block(last.language, last.text, last.line, last.left_out, text))
        reason = _LEFT_OUT.search(between)
        line = page.count("\n", 0, match.start()) + 2
        found.append(Block(language, text, line, reason[1] if reason else ""))
    return [block for block in found if block.language in ("python", "bash")]


def commands(text: str) -> Iterator[str]:
    """A bash block's commands; lines that belong together stay so.

    >>> list(commands("# why\\nh5z tree a.h5  # what\\nls &&\\n    pwd\\n"))
    ['h5z tree a.h5  # what', 'ls &&\\n    pwd']
    """
    if "<<" in text or re.search(r"^(for|if|while) ", text, re.MULTILINE):
        yield text
        return
    held: list[str] = []
    for line in text.splitlines():
        held.append(line)
        if not line.rstrip().endswith(("\\", "&&", "|")):
            whole = "\n".join(held)
            held = []
            if whole.strip() and not whole.startswith("#"):
                yield whole


def is_plain(command: str) -> bool:
    """Whether a command is a call of h5z that needs nothing of a shell.

    >>> is_plain("h5z migrate 'in/*.h5' --to out  # all"), is_plain("h5z tree a.h5 | head")
    (True, False)
    """
    return command.startswith("h5z ") and not _SHELL.search(_QUOTED.sub("", command.replace("\\\n", " ")))


def run(page: Path, folder: Path) -> None:
    """Run a page's blocks in a folder.

    Raises
    ------
    AssertionError
        Naming the page, the line and what went wrong.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    before = dict(os.environ)
    os.chdir(folder)
    try:
        for block in blocks(page.read_text(encoding="utf-8")):
            if not block.left_out:
                _run(block, f"{page.name}:{block.line}", namespace)
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Said(io.TextIOWrapper):
    """What is printed, as text or as bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="", write_through=True)

    def getvalue(self) -> str:
        """All of it until now."""
        whole: Any = self.buffer
        return str(whole.getvalue().decode("utf-8", "backslashreplace"))


def _run(block: Block, where: str, namespace: dict[str, Any]) -> None:
    said, errors = _Said(), _Said()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.text, where, "exec", dont_inherit=True), namespace)
            else:
                for command in commands(block.text):
                    said.write(_command(command, errors))
    except BaseException as error:
        raise AssertionError(f"{where}: {traceback.format_exc(limit=-4)}\n{said.getvalue()[-2000:]}") from error
    if block.output is not None and not doctest.OutputChecker().check_output(block.output, said.getvalue(), _OPTIONS):
        raise AssertionError(f"{where}: expected\n{block.output}\nfound\n{said.getvalue()}")


def _command(command: str, errors: _Said) -> str:
    """Run one command; what it printed, where `print` did not see it."""
    if exported := _EXPORT.match(command):
        os.environ[exported[1]] = exported[2].strip("'\"")
        return ""
    if (program := command.split()[0]) in OF_HDF5 and shutil.which(program) is None:
        return ""
    if not is_plain(command):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: exit status {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout
    from h5z.cli import main

    code: Any = 0
    arguments, sys.argv = sys.argv, shlex.split(command.replace("\\\n", " "), comments=True)
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = arguments
    assert not code, f"{command}: exit status {code}: {errors.getvalue()[-2000:]}"
    return ""


def serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print past `sys.stdout` is not for who asked
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            run(Path(asked["page"]), Path(asked["folder"]))
            failed = ""
        except AssertionError as error:
            failed = str(error)
        print(json.dumps({"failed": failed}), file=answers, flush=True)


if __name__ == "__main__":
    serve()
