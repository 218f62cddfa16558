"""Every block of Python and bash in README and docs runs, and prints what the page says it prints."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from .pages import HOME, Block, blocks
from .s3server import SECRET, running

pytestmark = pytest.mark.skipif(not (HOME / "mkdocs.yml").exists(), reason="no documentation beside the tests")
MOST_LEFT_OUT = 12


class _Loader(yaml.SafeLoader):
    """Of mkdocs.yml, whose tags for Python objects are not ours to build."""


_Loader.add_multi_constructor("!", lambda *_: None)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def _named(nav: object) -> Iterator[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        yield nav
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _named(item)


def _pages() -> list[Path]:
    config = HOME / "mkdocs.yml"
    nav = yaml.load(config.read_text(encoding="utf-8"), _Loader)["nav"] if config.exists() else []
    return [HOME / "README.md", *(HOME / "docs" / name for name in _named(nav))]


PAGES = [page for page in _pages() if blocks(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples work on, and what of a checkout they name."""
    folder = tmp_path_factory.mktemp("samples")
    runpy.run_path(str(HOME / "docs" / "samples.py"))["write"](folder)
    for name in ("docs", "notebooks", "deployments", "tests", "flows"):
        (folder / name).symlink_to(HOME / name)
    return folder


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path, Path], str]]:
    """Runs a page in a folder, in a process for all pages; returns what failed. ``s3://bucket`` is there, and credentials."""
    home = tmp_path_factory.mktemp("home")
    with running() as server:
        keys = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        places = {"HOME": str(home), "PATH": path, "PYTHONPATH": str(HOME), "COLUMNS": "100", "AWS_DEFAULT_REGION": "us-east-1"}
        with subprocess.Popen(
            [sys.executable, "-m", "tests.pages"],
            cwd=HOME,
            env={**kept, **keys, **places},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            asked, answers = process.stdin, process.stdout

            def run(page: Path, folder: Path) -> str:
                asked.write(json.dumps({"page": str(page), "folder": str(folder)}) + "\n")
                asked.flush()
                return str(json.loads(answers.readline())["failed"])

            yield run
            asked.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, samples: Path, run_page: Callable[[Path, Path], str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(samples, folder, symlinks=True)
    failed = run_page(page, folder)
    assert not failed, failed


def test_few_blocks_are_left_out() -> None:
    """Each with its reason, on the page."""
    left_out: dict[str, Block] = {
        f"{page.name}:{block.line}": block
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.left_out
    }
    print(*(f"{where}: {block.left_out}" for where, block in left_out.items()), sep="\n")
    assert len(left_out) <= MOST_LEFT_OUT, list(left_out)


def test_links_lead_somewhere_in_a_checkout() -> None:
    """The pages are read as plain Markdown too."""
    broken = [
        f"{page.name}: {link}"
        for page in _pages()
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_blocks_are_found_and_marked() -> None:
    page = "\n".join(
        ["```python", "print(1)", "```", "", "```text", "1", "```", "<!-- not run: a cluster -->", "```bash", "sbatch x", "```"]
    )
    first, second = blocks(page)
    assert first == Block("python", "print(1)\n", 2, "", "1\n")
    assert second == Block("bash", "sbatch x\n", 10, "a cluster")


@pytest.mark.parametrize(
    "block",
    [
        "```python\n1 / 0\n```",
        "```bash\nfalse\n```",
        "```bash\nh5z tree no-such.h5\n```",
        "```python\nprint(2)\n```\n\n```text\n3\n```",
    ],
)
def test_what_goes_wrong_in_a_block_fails_its_page(block: str, tmp_path: Path, run_page: Callable[[Path, Path], str]) -> None:
    (tmp_path / "page.md").write_text(f"# A page\n\n{block}\n")
    assert run_page(tmp_path / "page.md", tmp_path).startswith("page.md:4: ")
