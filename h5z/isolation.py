"""Scanning in a process of its own: libhdf5 can crash, or never end, on a hostile file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from h5z.errors import H5zError, PlanError, SourceError, UnsupportedError, one_line
from h5z.nodes import Tree


def scan_isolated(
    path: str | os.PathLike[str],
    measure: bool,
    attributes: bool,
    links: str,
    external_roots: Sequence[str],
    storage_options: dict[str, Any] | None,
    timeout: float | None,
) -> Tree:
    """Scan a file as `h5z.scan` does, in a process of its own.

    Raises
    ------
    SourceError
        Also where that process crashes, or takes longer than `timeout` seconds.
    """
    request = {
        "path": os.fspath(path),
        "measure": measure,
        "attributes": attributes,
        "links": links,
        "external_roots": list(map(str, external_roots)),
        "storage_options": storage_options,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "h5z.isolation"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"{path}: reading its headers took more than {timeout:g} s") from None
    if done.returncode < 0:
        raise SourceError(f"{path}: libhdf5 crashed while reading it (signal {-done.returncode}); the file is damaged")
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SourceError(f"{path}: scanning ended with status {done.returncode}: {done.stderr[-300:]}") from None
    if "error" in answer:
        kind = {cls.__name__: cls for cls in (PlanError, SourceError, UnsupportedError)}
        raise kind.get(answer["kind"], SourceError)(answer["error"])
    return Tree.from_dict(answer)


def main() -> None:
    """Answer one request (JSON on standard input) with a Tree or an error (JSON on standard output)."""
    from h5z.scan import scan

    request = json.load(sys.stdin)
    answer: Callable[[], dict[str, Any]] = lambda: scan(request.pop("path"), **request).to_dict()  # noqa: E731
    try:
        document = answer()
    except H5zError as error:
        document = {"error": one_line(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
