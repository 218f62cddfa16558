"""One look at files and stores: what is shown, found, described and read, and two of them side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import h5z
from h5z.errors import MissingKeyError, SourceError, TargetError
from h5z.explore.compare import compare
from h5z.explore.finding import follow
from h5z.explore.hierarchy import scan_hierarchy
from h5z.explore.render import render, render_html

from .oddities import ODDITIES
from .running import Convert, Run

GRID = np.arange(6000, dtype="<f4").reshape(60, 100)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays, text, attributes, and links of all kinds, some in a circle, some to nothing."""
    path = tmp_path_factory.mktemp("explore") / "in.h5"
    with h5py.File(path, "w") as file:
        grid = file.create_dataset("run/grid", data=GRID, chunks=(10, 30), compression="gzip", compression_opts=6, shuffle=True)
        grid.attrs["units"] = "K"
        file["run/names"] = ["a", "ß"]
        file["run"].attrs["bias"] = np.float32(0.5)
        file["scalar"] = 7
        file["struct"] = np.zeros(3, [("a", "<i4"), ("b", "<f8", (2,))])
        file["kind"] = np.dtype("<f4")
        file["run/back"] = file["/"]
        file["run/self"] = h5py.SoftLink("/run")
        file["run/again"] = h5py.SoftLink("grid")
        file["run/nowhere"] = h5py.SoftLink("gone")
        file["to/a"] = h5py.SoftLink("/to/b")
        file["to/b"] = h5py.SoftLink("/to/a")
        file["out"] = h5py.ExternalLink("other.h5", "/x")
        file["to/same grid"] = grid
    return path


@pytest.fixture(scope="module")
def stores(source: Path) -> dict[str, Any]:
    """The same in stores of all kinds."""
    made: dict[str, Any] = {}
    for name, options in {"v3": {}, "v2": {"zarr_format": 2}, "plain": {"consolidate": False}, "old": {}}.items():
        if name == "old":
            options = {"zarr_format": 2, "consolidate": False}
        made[name] = source.parent / f"{name}.zarr"
        h5z.convert(source, made[name], chunks={"/run/grid": (20, 50)}, **options)
    made["memory"] = MemoryStore()
    h5z.convert(source, made["memory"], chunks={"/run/grid": (20, 50)})
    return made


def test_what_a_file_shows(source: Path) -> None:
    shown = str(h5z.explore(source)).replace(str(source), "in.h5")
    assert shown.splitlines()[0] == "in.h5"
    lines = [text.strip() for text in shown.splitlines()]
    for expected in (
        "run/",
        "names string 2 32 B stored",
        "scalar int64 scalar 8 B",
        "struct {a: int32, b: array[2] of float64} 3 60 B",
        "kind committed datatype float32",
        "back -> / (hard, a circle)",
        "self -> /run (soft, a circle)",
        "again -> grid (soft)",
        "nowhere -> gone (soft, dangling)",
        "a -> /to/b (soft, dangling)",
        "out -> other.h5:/x (external)",
        "same grid -> /run/grid (hard)",
    ):
        assert expected in lines
    (grid,) = [text for text in lines if text.startswith("grid ")]
    assert grid.startswith("grid float32 60×100 chunks 10×30 shuffle+deflate:6 23.4 KiB, ")
    assert grid.endswith(":1)")


@pytest.mark.parametrize("kind", ["v3", "v2", "plain", "old", "memory"])
def test_what_a_store_shows(kind: str, stores: dict[str, Any], source: Path) -> None:
    explorer = h5z.explore(stores[kind])
    assert explorer.tree.problems == ()
    info = explorer.info("/run/grid")
    assert (info["dtype"], info["shape"], info["chunks"], info["nbytes"]) == ("float32", [60, 100], [20, 50], 24000)
    assert 0 < info["stored_nbytes"] < 24000
    assert info["ratio"] == round(24000 / info["stored_nbytes"], 4)
    if isinstance(stores[kind], Path):
        chunks = [path for path in (stores[kind] / "run" / "grid").rglob("*") if path.is_file() and path.name[0] not in "z."]
        assert info["stored_nbytes"] == sum(path.stat().st_size for path in chunks)
    assert info["filters"] == ["blosc-zstd:1(shuffle)"]
    assert info["attributes"]["units"] == "K"
    assert "nowhere -> gone (soft, dangling)" in str(explorer)
    assert explorer.keys("run") == ["grid", "names", "again", "back", "nowhere", "self"]
    assert np.array_equal(explorer["run/grid"][5:9, ::7], GRID[5:9, ::7])
    assert compare(h5z.scan(source), explorer.tree).same


def test_find_keys_info(source: Path, stores: dict[str, Any]) -> None:
    for place in (source, stores["v3"]):
        explorer = h5z.explore(place)
        assert explorer.find("GR") == ["/run/grid", "/to/same grid"]
        assert explorer.find("gr*") == ["/run/grid"]
        assert explorer.find("/run/n*") == ["/run/names", "/run/nowhere"]
        assert explorer.find("a", "run") == ["/run/again", "/run/back", "/run/names"]
        assert explorer.find("nothing") == []
        assert "run/grid" in explorer
        assert "run/grud" not in explorer
        assert set(explorer) >= {"run", "scalar", "struct", "to"}
        assert explorer.keys("scalar") == []
        assert explorer.info("run/self/again")["path"] == "/run/grid"  # through links
        assert explorer.info("run")["attributes"]["bias"] == 0.5
        assert json.loads(json.dumps(explorer.info("struct")))["kind"] in ("array", "group")
        with pytest.raises(MissingKeyError, match="expected an object at 'run/nowhere', found none"):
            explorer.info("run/nowhere")


def test_read(source: Path, stores: dict[str, Any]) -> None:
    for place in (source, stores["v3"], stores["v2"]):
        with h5z.explore(place) as explorer:
            assert np.array_equal(explorer.load("run/grid"), GRID)
            assert np.array_equal(explorer.load("run/grid", (slice(2), 5)), GRID[:2, 5])
            assert np.array_equal(explorer.get("run/again")[3], GRID[3])
            assert (explorer.load("scalar"), list(explorer.load("run/names"))) == (7, ["a", "ß"])
            assert set(explorer.load("run")) == {"grid", "names"}
            assert explorer.load("/")["run"]["names"][1] == "ß"
            assert type(explorer.get("run")).__name__ == "Group"
            with pytest.raises((SourceError, TargetError), match=r"/run/grid cannot be read"):
                explorer.load("run/grid", "nonsense")
    h5py.File(source, "r+").close()  # nothing keeps the file


def test_unusual_datatypes_are_read(oddity: Callable[[str], Path]) -> None:
    for name in ODDITIES:
        try:
            explorer = h5z.explore(oddity(name))
            nodes = explorer.tree.nodes
        except SourceError:
            continue
        for path in nodes:
            with suppress(SourceError):  # such as chunks that are damaged
                explorer.load(path)
            with suppress(SourceError):  # such as storage outside of the file's folder
                assert explorer.info(path)["path"] == path


def test_consolidated_metadata_that_are_stale_are_named(stores: dict[str, Any], tmp_path: Path) -> None:
    for kind, format_ in (("v3", 3), ("v2", 2)):
        store = tmp_path / f"{kind}.zarr"
        shutil.copytree(stores[kind], store)
        shutil.rmtree(store / "scalar")
        zarr.open_group(store, use_consolidated=False).create_array("added", data=np.arange(3))
        explorer = h5z.explore(store)
        assert {(p.path, p.reason.split(": ")[1]) for p in explorer.tree.problems} == {
            ("/added", "this node is not in them"),
            ("/scalar", "this node is in them, and is not there"),
        }, format_
        assert "problem: /added: consolidated metadata are stale" in str(explorer)
        assert explorer.load("added").tolist() == [0, 1, 2]


def test_metadata_that_are_damaged_are_named(stores: dict[str, Any], tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    shutil.copytree(stores["plain"], store)
    document = json.loads((store / "scalar" / "zarr.json").read_text())
    (store / "scalar" / "zarr.json").write_text(json.dumps({**document, "shape": None}))
    (store / "run" / "grid" / "zarr.json").write_text(
        (store / "run" / "grid" / "zarr.json").read_text().replace('"blosc"', '"unheard"').replace('"float32"', '"float7x"')
    )
    shown = str(h5z.explore(store))
    assert "problem: /scalar: its metadata are damaged" in shown
    assert "grid float7x 60×100 chunks 20×50 unheard" in shown
    (store / "zarr.json").write_text("[1]")
    with pytest.raises(TargetError, match="found none that opens"):
        h5z.explore(store)


@pytest.mark.parametrize("what", ["nothing", "text", "folder"])
def test_what_is_neither_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 100)
    (tmp_path / "folder").mkdir()
    with pytest.raises((SourceError, TargetError)) as error:
        h5z.explore(tmp_path / what)
    assert "\n" not in str(error.value)


def test_shards_and_other_writers_stores(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "x.zarr", mode="w")
    root.create_array("a", shape=(100, 100), chunks=(10, 10), shards=(50, 50), dtype="i2", dimension_names=("y", "x"))
    root["a"][:] = 1  # type: ignore[index]
    info = h5z.explore(tmp_path / "x.zarr").info("a")
    assert (info["chunks"], info["shards"], info["filters"], info["dimensions"]) == ([10, 10], [50, 50], ["zstd:0"], ["y", "x"])
    zarr.create_array(tmp_path / "lone.zarr", data=np.arange(5))
    explorer = h5z.explore(tmp_path / "lone.zarr")
    assert explorer.load("/").tolist() == [0, 1, 2, 3, 4]
    assert explorer.get("/")[2] == 2


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "x.zarr", mode="w")
    root.create_group("a").create_array("b", data=np.arange(3))
    (tmp_path / "x.zarr" / "a" / "up").symlink_to(tmp_path / "x.zarr")
    assert set(h5z.explore(tmp_path / "x.zarr").tree.nodes) == {"/", "/a", "/a/b", "/a/up"}


def test_depth_costs_nothing(tmp_path: Path, cli_here: Run) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        group = file
        for i in range(550):  # two calls a level, were they nested, would be more than Python allows
            group = group.create_group(f"g{i}")
        group["x"] = np.arange(3)
    explorer = h5z.explore(tmp_path / "deep.h5")
    (path,) = explorer.find("x")
    assert explorer.load(path).tolist() == [0, 1, 2]
    assert render_html(explorer.tree).count("<details") == 551
    done = cli_here("tree", tmp_path / "deep.h5")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 552


def test_the_command(source: Path, stores: dict[str, Any], cli_here: Run, tmp_path: Path) -> None:
    done = cli_here("tree", source, "--pattern", "grid", "--depth", "2")
    assert [text.split()[0] for text in done.stdout.splitlines()[1:]] == ["run/", "grid", "to/", "same"]
    done = cli_here("tree", stores["v3"], "-a", "--pattern", "grid")
    assert "@units = 'K'" in done.stdout
    done = cli_here("tree", source, "--json", "--depth", "1")
    assert {node["path"] for node in json.loads(done.stdout)["nodes"]} == {"/", "/run", "/scalar", "/struct", "/kind", "/to"}
    done = cli_here("tree", source, stores["v3"])
    assert done.returncode == 0, done.stderr
    assert "0 differ" in done.stdout
    changed = tmp_path / "changed.zarr"
    shutil.copytree(stores["plain"], changed)
    root = zarr.open_group(changed)
    root["run/grid"].attrs["units"] = "C"
    root.create_array("added", data=np.arange(3))
    shutil.rmtree(changed / "scalar")
    done = cli_here("tree", source, changed)
    assert done.returncode == 1
    marked = {text.split()[1]: text for text in done.stdout.splitlines() if text.startswith("≠")}
    assert set(marked) == {"/run/grid", "/added", "/scalar"}
    assert "@units differs" in marked["/run/grid"]
    rows = json.loads(cli_here("tree", source, changed, "--json").stdout)["rows"]
    assert {row["path"]: row["why"] for row in rows if row["mark"] == "≠"}["/added"] == ["only in the target"]


@pytest.mark.parametrize("name", ODDITIES)
def test_a_migration_differs_only_in_what_it_names(name: str, converted: Convert) -> None:
    try:
        made = converted(name)
    except h5z.errors.H5zError:
        pytest.skip("refused")
    comparison = compare(h5z.scan(made.source), scan_hierarchy(made.target))
    assert {row.path for row in comparison.rows if row.mark == "≠"} == {
        problem.path for problem in made.report.not_carried if problem.path in h5z.scan(made.source).nodes
    }
    assert comparison._repr_html_().count("<tr") == len(comparison.rows) + 1


def test_links_that_lead_far(source: Path) -> None:
    tree = h5z.scan(source)
    assert follow(tree, "/", "run/self/self/self/grid") == "/run/grid"
    assert follow(tree, "/run", "back/scalar") == "/scalar"
    assert follow(tree, "/to", "a") is None
    assert follow(tree, "/", "out/x") is None


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_browser_folds_the_tree(source: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    script = "<script>document.title = document.querySelectorAll('details details summary').length</script>"
    page.write_text(f"<meta charset=utf-8>{h5z.explore(source)._repr_html_()}{script}")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>3</title>" in done.stdout  # /run, /run/grid with its attribute, /to
    assert "nowhere -&gt; gone (soft, dangling)" in done.stdout


def test_hostile_names_cannot_break_the_page(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["<script>alert(1)<"] = 1
        file.attrs["<b>"] = "</details><script>"
        file[b"\xff\xfe"] = 2
    explorer = h5z.explore(tmp_path / "x.h5")
    assert "<script>" not in explorer._repr_html_()
    assert explorer._repr_html_().encode()
    assert repr(explorer).encode()
    assert render(explorer.tree, most=2).splitlines()[-1] == "… (3 objects in all)"
