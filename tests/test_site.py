"""The documentation's site: it builds without a warning, and a real browser reads it without a network."""

from __future__ import annotations

import functools
import http.server
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (HOME / "mkdocs.yml").exists(), reason="no documentation beside the tests")
PAGES = {360: ["", "planner/", "one-file/", "cli/"], 1280: ["planner/", "api/"]}  # by the window's width


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning, such as of a link that leads nowhere, is an error."""
    pytest.importorskip("material", reason="mkdocs-material is not installed (extra docs)")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOME),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on the loopback interface."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_the_reference_is_generated(site: Path) -> None:
    """Of the command's own help and the docstrings."""
    command = (site / "cli" / "index.html").read_text(encoding="utf-8")
    assert "Path pattern of what to leave out; repeatable." in command
    assert "h5z vault to-zarr" in command
    python = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert 'id="h5z.convert.convert"' in python
    assert "Nothing is left behind that opens as a finished target." in python


@pytest.mark.parametrize("width", PAGES)
def test_pages_read_on_a_phone_and_at_a_desk(browser: Any, address: str, width: int) -> None:
    """Nothing sticks out, nothing fails to load or is fetched from elsewhere, no script errs."""
    tab = browser.new_page(viewport={"width": width, "height": 800})
    troubles: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    tab.on("response", lambda answer: troubles.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    tab.on("request", lambda request: None if request.url.startswith((address, "data:")) else troubles.append(request.url))
    for page in PAGES[width]:
        tab.goto(address + page)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
        assert tab.get_by_role("heading", level=1).first.is_visible()
        loaded = "[...document.images].every(image => image.complete && image.naturalWidth)"
        tab.wait_for_function(loaded)
        if os.environ.get("H5Z_SCREENSHOTS"):
            tab.screenshot(path=f"{os.environ['H5Z_SCREENSHOTS']}/site-{width}-{page.strip('/') or 'index'}.png", full_page=True)
    assert troubles == []
    tab.close()


def test_the_site_is_searched_without_a_network(browser: Any, address: str) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.goto(address)
    tab.locator("input.md-search__input").click()
    tab.locator("input.md-search__input").press_sequentially("quarantine")
    found = tab.locator(".md-search-result__link").first
    found.wait_for()
    found.click()
    tab.wait_for_url(f"{address}*/**")
    assert "uarantine" in tab.locator("article").inner_text()
    tab.close()


def test_pictures_are_those_that_are_drawn(tmp_path: Path) -> None:
    """What is committed beside the pages is what the library draws today."""
    runpy.run_path(str(HOME / "docs" / "pictures.py"))["write"](tmp_path)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in (HOME / "docs" / "images").glob("*.svg")}
    assert kept == drawn, "python docs/pictures.py draws them anew"
