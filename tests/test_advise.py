"""Advice: arithmetic against counting, measurements against what a migration then does, and the policy file's way through."""

from __future__ import annotations

import itertools
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore

import flows
import h5z
from h5z.advise import advise
from h5z.advise.access import best, candidates, cost, patterns
from h5z.advise.trials import trials
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError
from h5z.policy import Policy

from .running import Run

_AXES = st.integers(1, 3).flatmap(
    lambda rank: st.tuples(*(st.lists(st.integers(1, n), min_size=rank, max_size=rank).map(tuple) for n in (7, 9, 9)))
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field in time and space, counts, noise, text, and names that look like patterns."""
    path = tmp_path_factory.mktemp("advise") / "in.h5"
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        field = np.cumsum(random.normal(size=(64, 128, 128)), axis=0).astype("f4").round(2)
        file.create_dataset("temp", data=field, chunks=(1, 128, 128), compression="gzip", shuffle=True)
        file["g/counts[0]*"] = random.poisson(3, (600, 500)).astype("i4")
        file["g/counts0"] = random.poisson(3, (600, 500)).astype("i4")
        file["noise"] = random.normal(size=4_000)
        file["names"] = ["a", "b"]
        file["struct"] = np.zeros(1000, [("a", "<i4"), ("b", "<f8")])
        file["scalar"] = 5
    return path


@given(_AXES)
def test_what_a_read_touches_is_what_counting_says(axes: tuple[tuple[int, ...], ...]) -> None:
    chunks, lengths, sizes = axes
    shape = tuple(c * n for c, n in zip(chunks, lengths, strict=True))  # whole chunks
    read = tuple(min(r, n) for r, n in zip(sizes, shape, strict=True))
    touched = []
    for place in itertools.product(*(range(n if r < n else 1) for r, n in zip(read, shape, strict=True))):
        ends = [(p, p + r) for p, r in zip(place, read, strict=True)]
        touched.append(math.prod((end - 1) // c - start // c + 1 for (start, end), c in zip(ends, chunks, strict=True)))
    expected = math.prod(n // c if r >= n else min(n // c, (r + c - 1) / c) for r, n, c in zip(read, shape, chunks, strict=True))
    found = cost(chunks, shape, 4, (read,))
    assert found.reads == pytest.approx(expected)
    mean = sum(touched) / len(touched)  # at places that reach past the end too
    assert found.reads <= mean * (1 + 1e-9) or found.reads == pytest.approx(mean)
    assert found.objects == math.prod(n // c for n, c in zip(shape, chunks, strict=True))


def test_advised_chunks_follow_the_reads() -> None:
    shape = (4096, 512, 512)
    along = best(shape, 4, patterns("time", shape)).chunks
    across = best(shape, 4, patterns("space", shape)).chunks
    both = best(shape, 4, patterns("balanced", shape)).chunks
    blocks = best(shape, 4, patterns("64,*,*", shape)).chunks
    assert along[0] > across[0]
    assert across[0] == 1
    assert along[1] == along[2]
    assert across[0] < both[0] < along[0]
    assert blocks[1:] == (512, 512)
    for found, word in ((along, "time"), (across, "space"), (both, "balanced"), (blocks, "64,*,*")):
        costs = {chunks: cost(chunks, shape, 4, patterns(word, shape)).weight for chunks in (along, across, both, blocks)}
        assert min(costs, key=lambda chunks: costs[chunks]) == found


@pytest.mark.parametrize("shape", [(1,), (10**9,), (3, 10**6), (50, 60, 70, 80), (9, 8, 7, 6, 5, 4, 30, 20), (10**6, 1, 1)])
def test_some_chunk_shape_serves_any_array(shape: tuple[int, ...]) -> None:
    for word in ("time", "space", "balanced"):
        found = best(shape, 8, patterns(word, shape))
        assert all(1 <= c <= n for c, n in zip(found.chunks, shape, strict=True))
    assert sum(1 for _ in candidates(shape, 8, 1 << 18, 1 << 25)) > 0


def test_trials_are_of_the_samples() -> None:
    samples = [np.arange(100_000, dtype="<i4"), np.zeros(1000, "<i4")]
    found = {trial.codec: trial for trial in trials(samples)}
    assert all(trial.nbytes == 404_000 for trial in found.values())
    assert found["none"].ratio == 1
    assert found["blosc-zstd:7"].ratio > found["blosc-lz4:5"].ratio > 1.5
    with pytest.raises(PlanError, match="codec"):
        trials(samples, ("zst",))


def test_what_is_measured_is_what_a_migration_gives(source: Path, tmp_path: Path) -> None:
    found = advise(source, access={"/temp": "time"})
    advised = {array.path: array for array in found.arrays}
    assert set(advised) == {"/temp", "/g/counts[0]*", "/g/counts0"}  # the others are small beside them
    assert {array.access for array in found.arrays} == {"time", "balanced"}
    assert any("names" in problem.path for problem in found.left)
    found.write(tmp_path / "p.yaml")
    report = h5z.convert(source, tmp_path / "x.zarr", policy=Policy.read(tmp_path / "p.yaml"), verify="full")
    assert report.ok
    tree = h5z.explore(tmp_path / "x.zarr")
    for array in found.arrays:
        info = tree.info(array.path)
        assert info["chunks"] == list(array.chunks)
        cut = next(cut for cut in array.cuts if cut.cost.chunks == array.chunks)
        written = [path for path in (tmp_path / f"x.zarr{array.path}").rglob("*") if path.is_file() and path.name != "zarr.json"]
        assert len(written) == cut.cost.objects
        measured = next(trial.ratio for trial in array.codecs if trial.codec == array.codec)
        assert info["ratio"] == pytest.approx(measured, rel=0.2)
    reads = Counting(tmp_path / "x.zarr")
    array: Any = zarr.open_array(reads, path="temp", mode="r")
    Counting.chunks = 0
    array[:, 77, 33]
    assert Counting.chunks == next(cut for cut in advised["/temp"].cuts if "advised" in cut.label).cost.reads


class Counting(LocalStore):
    """A store that counts the chunks it hands out."""

    chunks = 0

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        Counting.chunks += "/c/" in key  # zarr reads through a copy of the store
        return await super().get(key, *arguments, **options)


def test_what_is_shown(source: Path) -> None:
    found = advise(source, include=["/temp"], access="64,*,*", codecs=("none", "zstd:1"), sample="1MiB")
    shown = str(found)
    assert "/temp  <f4 64×128×128" in shown
    assert "the source's" in shown
    assert shown.count("█") > 10
    root = ElementTree.fromstring(found.svg())
    assert sum(item.tag.endswith("circle") for item in root.iter()) == 2
    assert "<table>" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["policy"]["codec"] in ("none", "zstd:1")


def test_the_command_and_the_policy_file_everywhere(source: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("advise", source, "--access", "space", "--plot", tmp_path / "plot.svg", "--codec", "zstd:1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    policy = tmp_path / "in.policy.yaml"
    assert "h5z convert" in done.stdout
    ElementTree.parse(tmp_path / "plot.svg")
    chunks = Policy.read(policy).chunks
    planned = json.loads(cli("plan", source, tmp_path / "a.zarr", "--policy", policy, "--json").stdout)
    assert tuple(next(a["chunks"] for a in planned["arrays"] if a["path"] == "/temp")) == chunks["/temp"]
    done = cli("convert", source, tmp_path / "a.zarr", "--policy", policy, "--codec", "gzip:1", "--verify", "full")
    assert done.returncode == 0, done.stderr
    info = h5z.explore(tmp_path / "a.zarr").info("temp")
    assert (tuple(info["chunks"]), info["filters"]) == (chunks["/temp"], ["gzip:1"])  # what is given beside the file wins
    done = cli("advise", source, cwd=tmp_path)
    assert done.returncode == 4
    assert "in.policy.yaml: expected nothing, found a file" in done.stderr


@pytest.mark.flow
def test_many_files_by_a_policy_file(source: Path, tmp_path: Path) -> None:
    advise(source, include=["/temp"], codecs=("zstd:1",)).write(tmp_path / "p.json")
    report = flows.migrate([str(source)], str(tmp_path / "out"), policy=Policy.read(tmp_path / "p.json"), workers=1)
    assert report.exit_code == 0
    assert h5z.explore(tmp_path / "out" / "in.zarr").info("temp")["filters"] == ["zstd:1"]


FILES = {
    "p.yaml": ("chunks: {/x: [2, 3]}\ncodec: {/x: 'zstd:2', '*': null}\nmemory: 1GiB\n", None),
    "p.json": ('{"chunks": [4, 5], "zarr_format": 2}', None),
    "p.toml": ('codec = "gzip:2"\nstrings = "utf8"\n[chunks]\n"/x" = [1, 2]\n', None),
    "empty.yaml": ("", None),
    "list.yaml": ("- 1\n", "expected fields of Policy"),
    "broken.yaml": ("a: {", "cannot be read as a policy"),
    "broken.json": ("{", "cannot be read as a policy"),
    "unknown.toml": ("chunkz = 1", "expected a field of Policy"),
    "wrong.json": ('{"links": "jump"}', "links: expected one of"),
    "binary.yaml": ("\x00", "cannot be read as a policy"),
    "p.txt": ("{}", "ends in .yaml, .json or .toml"),
    "tag.yaml": ("!!python/object/apply:os.system ['touch hacked']", "cannot be read as a policy"),
}


@pytest.mark.parametrize("name", FILES)
def test_policy_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = FILES[name]
    Path(name).write_text(text)
    if message is None:
        assert Policy.from_dict(Policy.read(name).to_dict()) == Policy.read(name)
    else:
        with pytest.raises(PlanError, match=message) as error:
            Policy.read(name)
        assert str(error.value).startswith(f"{name}: ")
        assert "\n" not in str(error.value)
    assert not Path("hacked").exists()


def test_a_missing_policy_file_is_named(source: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("plan", source, tmp_path / "x.zarr", "--policy", tmp_path / "none.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "none.yaml: cannot be read as a policy" in done.stderr


def test_wrong_calls_in_one_line(source: Path, tmp_path: Path) -> None:
    calls: dict[str, tuple[dict[str, Any], type[Exception]]] = {
        "expected time, space": ({"access": "fast"}, PlanError),
        "found no dataset of that rank": ({"access": "1,1,1,1"}, PlanError),
        "expected time": ({"access": "0,*,*"}, PlanError),
        "has rank 2": ({"access": {"/temp": "1,*"}}, PlanError),
        "matches no dataset": ({"access": {"/tamp": "time"}}, PlanError),
        "codec: expected one of": ({"codecs": ("zst",)}, PlanError),
        "expected a size": ({"sample": "much"}, PlanError),
        "expected a field of Policy": ({"colour": "red"}, PlanError),
    }
    for message, (options, kind) in calls.items():
        with pytest.raises(kind, match=message) as error:
            advise(source, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(SourceError):
        advise(tmp_path / "none.h5")
    found = advise(source, include=["/noise"], codecs=("none",))
    with pytest.raises(PlanError, match=r"ends in \.yaml or \.json"):
        found.write(tmp_path / "p.toml")
    with pytest.raises(TargetError):
        found.write(tmp_path / "none" / "p.yaml")
    found.write(tmp_path / "p.yaml")
    with pytest.raises(TargetExistsError):
        found.write(tmp_path / "p.yaml")
    found.write(tmp_path / "p.yaml", overwrite=True)


def test_nothing_to_measure(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["names"] = ["a"]
        file["scalar"] = 5
        file.create_dataset("empty", (0, 5), "f4")
    found = advise(tmp_path / "x.h5")
    assert found.arrays == ()
    assert "not measured: /names" in str(found)
    assert found.policy == {}
    found.write(tmp_path / "p.yaml")
    assert Policy.read(tmp_path / "p.yaml") == Policy()


def test_damage_is_named_and_the_rest_measured(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["good"] = np.arange(300_000)
        bad = file.create_dataset("bad", data=np.arange(300_000), chunks=(300_000,), compression="gzip")
        info = bad.id.get_chunk_info(0)
    with open(tmp_path / "x.h5", "r+b") as raw:
        raw.seek(info.byte_offset + 10)
        raw.write(b"\x99" * 500)
    found = advise(tmp_path / "x.h5", codecs=("none",))
    assert [array.path for array in found.arrays] == ["/good"]
    assert any(problem.path == "/bad" and "cannot be read" in problem.reason for problem in found.left)
