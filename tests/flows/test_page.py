"""The report as a page, in a real browser: a phone's and a desk's; and what may stand in it."""

from __future__ import annotations

import html.parser
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5z
from flows.layout import layouts
from flows.page import MOST_PARTS, page
from flows.report import ArchiveReport, FileRecord

EVIL = "/in/<img src=x onerror=alert(1)>\"&'.h5"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ArchiveReport:
    """A migration of real targets, with files of every status and names of every kind."""
    folder = tmp_path_factory.mktemp("page")
    records = []
    for i in range(3):
        with h5py.File(folder / f"{i}.h5", "w") as file:
            data = np.arange(4000.0).reshape(40, 100)
            file.create_dataset("group/temperature", data=data, chunks=(4, 100), compression="gzip")
            file["line"] = np.arange(1000)
            file["empty"] = np.zeros((0, 3))
        target = folder / f"{i}.zarr"
        done = h5z.convert(folder / f"{i}.h5", target, chunks={"/group/temperature": (10, 25)})
        size = os.path.getsize(folder / f"{i}.h5")
        record = FileRecord(str(folder / f"{i}.h5"), str(target), "converted", size, size // 2, 0.5 + i, routes=done.routes)
        records.append(record)
    for i in range(60):
        records.append(FileRecord(f"/in/many/{i}.h5", f"/out/{i}.zarr", "converted", 10**6, 10**5, 0.1, ended=i / 2))
    records.append(FileRecord(EVIL, "/out/evil.zarr", "quarantined", 10, reason="<script>alert(2)</script>"))
    records.append(FileRecord("/in/\udcff\u202e.h5", "/out/odd.zarr", "waiting", 10, reason="a writer holds a lock on it"))
    records.append(FileRecord("/in/lacks.h5", "/out/lacks.zarr", "converted", 10, 5, 0.1, not_carried=("/x: a filter",)))
    vanished = (("/in/gone.h5", "/out/gone.zarr"),)
    return ArchiveReport("/out/ä", tuple(records), "full", {}, (), vanished, "2026-01-01T00:00:00+00:00", 31.0, 3, "id")


@pytest.fixture(scope="module")
def address(report: ArchiveReport, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as a file's URL."""
    place = tmp_path_factory.mktemp("html") / "report.html"
    place.write_text(page(report), encoding="utf-8")
    return place.as_uri()


@pytest.mark.parametrize("width", [360, 1280])
def test_it_reads_on_a_phone_and_at_a_desk(browser: Any, address: str, width: int) -> None:
    """Nothing sticks out, nothing is fetched, nothing of a file's name runs."""
    tab = browser.new_page(viewport={"width": width, "height": 800})
    troubles: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: troubles.append(request.url) if request.url != address else None)
    tab.goto(address)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.get_by_role("heading", level=1).inner_text() == "Migration to /out/ä"
    assert tab.locator(".card.quarantined b").inner_text() == "1"
    assert tab.get_by_text("<script>alert(2)</script>").first.is_visible()
    assert tab.locator("#throughput .bar").count() > 10
    assert tab.get_by_text("/in/gone.h5").is_visible()
    assert tab.get_by_text(r"/in/\udcff\u202e.h5").first.is_visible()
    if os.environ.get("H5Z_SCREENSHOTS"):
        tab.locator("details summary").nth(2).click()
        tab.screenshot(path=f"{os.environ['H5Z_SCREENSHOTS']}/page-{width}.png", full_page=True)
    assert troubles == []
    tab.close()


def test_files_are_found_and_their_parts_unfold(browser: Any, address: str) -> None:
    tab = browser.new_page(viewport={"width": 360, "height": 800})
    tab.goto(address)
    rows = tab.locator("#all tbody tr:visible")
    assert rows.count() == 66
    tab.get_by_label("part of a name").fill("MANY/1")
    assert rows.count() == 11
    tab.get_by_label("part of a name").fill("")
    tab.get_by_label("status").select_option("quarantined")
    assert rows.count() == 1
    rows.get_by_role("link").click()
    part = tab.locator("details:target")
    assert part.evaluate("part => part.open")
    tab.get_by_label("status").select_option("")
    tab.locator("details summary", has_text="2.h5").first.click()
    chunks = tab.locator("details[open] svg.layout").last
    assert chunks.is_visible()
    assert chunks.bounding_box()["width"] <= 360
    assert "source 4×100, 10 chunks; target 10×25, 16 chunks" in tab.locator("details[open]").last.inner_text()
    tab.close()


def test_the_page_is_whole_by_itself(report: ArchiveReport) -> None:
    """Well formed, without a link to anything else; no larger than its bounds for a huge archive."""
    text = page(report)
    assert "http" not in text.replace("http-equiv", "")
    open_tags: list[str] = []

    class Check(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "input", "rect", "path"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("rect", "path"):
                assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

    Check().feed(text)
    assert open_tags == []
    assert text.count("<details") == MOST_PARTS
    many = tuple(FileRecord(f"/in/{i}.h5", f"/out/{i}.zarr", "unchanged", 10) for i in range(100_000))
    assert len(page(ArchiveReport("/out", many))) < 3_000_000


def test_names_are_shown_from_their_common_folder_on(browser: Any, tmp_path: Path) -> None:
    """And on a phone a reason is read without going sideways."""
    reason = "/archive/2019/b.h5: " + "expected an HDF5 file, found one that another program cut short; " * 5
    files = (
        FileRecord("/archive/2019/a.h5", "/out/a.zarr", "converted", 10, 5, 0.1),
        FileRecord("/archive/2019/b.h5", "/out/b.zarr", "quarantined", 10, reason=reason),
    )
    (tmp_path / "report.html").write_text(page(ArchiveReport("/out", files)), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 360, "height": 800})
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.get_by_text("files are named from /archive/2019/ on").is_visible()
    assert tab.locator("#all a").all_inner_texts() == ["a.h5", "b.h5"]
    cell = tab.get_by_role("cell", name="expected an HDF5 file").first.bounding_box()
    assert cell["x"] + cell["width"] <= 360
    tab.close()


def test_an_empty_migration_has_a_page() -> None:
    assert "Migration to /out" in page(ArchiveReport("/out", ()))


def test_pictures_of_any_layout(tmp_path: Path) -> None:
    """As many lines as can be told apart; the rest is a corner, and said to be."""
    fine = h5z.Layout("/x", (10**9, 10**6), "f4", (1, 10), (7, 1000), (70, 10000), "zstd", 4 * 10**15)
    assert len(fine.svg()) < 20_000
    assert "a corner of /x" in fine.svg()
    thin = h5z.Layout("/x", (3, 10**6), "f4", None, (1, 10**5), None, "zstd", 12 * 10**6)
    assert 'class="source"' not in thin.svg()
    assert "contiguous" in str(thin)
    assert h5z.Layout("/x", (), "f4", None, (), None, "none", 4).svg() == ""
    assert h5z.Layout("/x", (0, 3), "f4", None, (1, 3), None, "none", 0).svg() == ""


CONSOLIDATED = (
    '{"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": {"metadata": {"x": {"a": 1}}}}'
)


@pytest.mark.parametrize("document", ["", "{", "[]", '{"zarr_format": 9, "node_type": "group"}', CONSOLIDATED])
def test_what_does_not_open_has_no_pictures(document: str, tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text(document)
    assert layouts(str(tmp_path)) == []
    assert layouts(str(tmp_path / "gone.zarr")) == []
    assert layouts("nothing-of-the-kind://bucket/a.zarr") == []
