"""What of real HDF5 files comes back: ``python -m tests.fidelity`` writes ``docs/fidelity.md``.

Each file is migrated, restored from its Zarr store alone, and compared with its source by ``h5diff -v -c`` and ``h5dump -p``.
A feature crosses *natively* where the store still tells of it with all that is under ``h5z`` taken away.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5z
from h5z.errors import H5zError
from h5z.nodes import ArrayNode, Tree
from h5z.restore.foreign import plain_headers
from h5z.restore.headers import recorded_headers
from h5z.restore.stored import read_nodes
from h5z.scan import scan
from h5z.target import Target

from .features import FEATURES, plainly
from .oddities import ODDITIES
from .restored import TOOLS, diff_difference, dump_difference
from .running import DATA

TABLE = Path(__file__).parents[1] / "docs" / "fidelity.md"


@dataclass
class Outcome:
    """What became of one file.

    Attributes
    ----------
    features : mapping
        Number of a feature that it has -> ``natively``, ``h5z`` or ``named``: how all of it crossed.
    clean : bool
        Whether HDF5's tools find no difference.
    remarks : list of str
        What the reports name, and what the tools find.
    """

    path: str
    features: dict[int, str] = field(default_factory=dict)
    clean: bool = False
    remarks: list[str] = field(default_factory=list)


def judge(source: Path, label: str, folder: Path, *, codec: str = "keep", zarr_format: int = 3) -> Outcome:
    """Migrate a file, restore it in a copy of its own folder, and compare."""
    out = _judge(source, label, folder, codec, zarr_format)
    for name, shown in ((source.parent, "."), (source.parent.parent, "..")):  # no path of this machine
        out.remarks = [remark.replace(f"{name}/", f"{shown}/") for remark in out.remarks]
    return out


def _judge(source: Path, label: str, folder: Path, codec: str, zarr_format: int) -> Outcome:
    out = Outcome(label)
    target, back = folder / "out.zarr", folder / "f" / source.name
    shutil.copytree(source.parent, back.parent, ignore=_folders_of)
    try:
        there = h5z.convert(source, target, unsupported="report", codec=codec, zarr_format=zarr_format)
        again = h5z.restore(target, back, verify="full", overwrite=True)
    except H5zError as error:
        out.remarks.append(str(error).replace(f"{source}: ", ""))
        return out
    lost = {problem.path for problem in again.not_carried}
    out.features = _crossed(source, target, lost)
    out.remarks += [f"`{problem.path}`: {problem.reason}" for problem in again.not_carried]
    out.remarks += [str(item) for item in (*again.differences, *again.notes)]
    if there.not_carried != again.not_carried:
        out.remarks.append(f"the reports differ: {there.not_carried} there, {again.not_carried} back")
    if back.exists():
        found = diff_difference(source, back, folder / "copy.h5", without=lost)
        found = found or ("" if lost else dump_difference(source, back, sizes=False))
        out.remarks += [f"HDF5's tools: {found}"] if found else []
        out.clean = not (found or lost or again.differences)
    return out


def _folders_of(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_dir()]


def _crossed(source: Path, target: Path, lost: set[str]) -> dict[int, str]:
    """How each feature that a file has got across."""
    place = Target.of(target)
    nodes = read_nodes(place)
    tree, kept, plain = scan(source, measure=True), recorded_headers(place, nodes).tree, _without_records(source, target)
    out = {}
    for number, feature in enumerate(FEATURES):
        here = feature.places(tree)
        if here:
            missing = here - feature.places(kept)
            named = all(
                any(f"{place}/".startswith((f"{item}/", f"{item}@")) or place == item for item in lost) for place in missing
            )
            told = feature.told and here <= feature.places(plain)
            out[number] = "natively" if told else "h5z" if not missing else "named" if named else "lost"
    return out


def _without_records(source: Path, target: Path) -> Tree:
    """The hierarchy as a store tells of it with all that is under ``h5z`` taken away."""
    place = Target.of(target)
    nodes = {path: replace(node, attributes={**node.attributes, "h5z": {}}) for path, node in read_nodes(place).items()}
    headers, known = plain_headers(place, nodes), scan(source).nodes
    found = dict(headers.tree.nodes)
    for path, parts in headers.parts.items():
        node, was = found[path], known.get(path)
        if isinstance(node, ArrayNode) and () in parts:
            found[path] = replace(node, filters=plainly(node, parts[()], was if isinstance(was, ArrayNode) else None))
    return replace(headers.tree, nodes=found)


def corpus() -> Iterator[tuple[str, Path]]:
    """The real files that h5py opens, by the name that the table has for them."""
    with (DATA / "MANIFEST.csv").open(newline="", encoding="utf-8") as manifest:
        yield from ((row["path"], DATA / row["path"]) for row in csv.DictReader(manifest) if row["h5py_opens"] == "yes")


def generated(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that the tests make, one for each oddity."""
    for name in sorted(ODDITIES):
        place = folder / name / f"{name}.h5"
        place.parent.mkdir()
        ODDITIES[name](place)
        yield name, place


def judged(files: Iterable[tuple[str, Path]], **policy: object) -> Iterator[Outcome]:
    """Judge files one by one, each in a folder of its own; what falls short is told as it is met."""
    for label, source in files:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            done = judge(source, label, Path(folder), **policy)  # type: ignore[arg-type]
        state = "clean" if done.clean else "; ".join(done.remarks)
        print(f"{label}: {state} ({time.perf_counter() - start:.1f} s)", file=sys.stderr, flush=True)
        yield done


def table(real: list[Outcome], made: list[Outcome]) -> str:
    """The page: a table of features, and what of which file does not come back."""
    lines = [_HEAD.format(real=len(real), clean=sum(item.clean for item in real), made=len(made)).rstrip()]
    part = ""
    for number, feature in enumerate(FEATURES):
        if feature.part != part:
            part = feature.part
            lines += ["", f"## {part}", "", "| | files | natively | under `h5z` | named | restored | generated |"]
            lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        having, others = ([item for item in outcomes if number in item.features] for outcomes in (real, made))
        ways = [item.features[number] for item in having]
        counts = [len(having), ways.count("natively"), ways.count("h5z"), ways.count("named"), sum(i.clean for i in having)]
        cells = [str(count) for count in counts] if having else ["0", "", "", "", ""]
        lines.append(f"| {feature.name} | {' | '.join(cells)} | {_of(others)} |")
    lines += ["", _TAIL.rstrip(), ""]
    for item in (*real, *made):
        if not item.clean or item.remarks:
            lines.append(f"- `{item.path}`: " + "; ".join(dict.fromkeys(item.remarks)).replace("\n", " ").replace("|", "\\|"))
    return "\n".join(lines) + "\n"


def _of(outcomes: list[Outcome]) -> str:
    clean = sum(item.clean for item in outcomes)
    return "" if not outcomes else str(clean) if clean == len(outcomes) else f"{clean} of {len(outcomes)}"


_HEAD = """\
# What comes back

`python -m tests.fidelity` has written this page. Each of {real} real HDF5 files was migrated (`--codec keep`), restored from
its Zarr store alone, and compared with its source by the HDF Group's own tools: `h5diff -v -c`, and `h5dump -p` as text
without addresses and stored sizes. {clean} of them come back with no difference; the last section names the others.

- **files**: how many have the feature.
- **natively**: in how many of them Zarr tells of all of it, so that any reader sees it, whatever is under the attribute `h5z`.
- **under `h5z`**: in how many some or all of it is kept there, exactly, and `restore` brings it back.
- **named**: in how many some of it cannot be carried over, which the reports of `convert` and of `restore` both say.
- **restored**: how many of them come back, whole, with no difference.
- **generated**: how many of the {made} files that the tests generate, one for each oddity, have the feature and come back so.
"""
_TAIL = """\
## What does not come back, and notes

A file that is not listed comes back with no difference and nothing to say.
"""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fidelity", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--codec", default="keep", help="codec of the stores")
    parser.add_argument("--zarr-format", type=int, choices=(2, 3), default=3)
    parser.add_argument("--only", default="", help="judge the files whose names have this in them, and write nothing")
    chosen = parser.parse_args()
    if not TOOLS or not (DATA / "MANIFEST.csv").exists():
        parser.error(f"needs h5diff and h5dump (Debian: hdf5-tools) and real files at {DATA} (H5Z_TEST_DATA names their folder)")
    policy = {"codec": chosen.codec, "zarr_format": chosen.zarr_format}
    with tempfile.TemporaryDirectory() as folder:
        files = ([pair for pair in found if chosen.only in pair[0]] for found in (corpus(), generated(Path(folder))))
        real, made = (list(judged(found, **policy)) for found in files)
    if not chosen.only and policy == {"codec": "keep", "zarr_format": 3}:
        TABLE.write_text(table(real, made), encoding="utf-8")
    lost = [item for item in (*real, *made) if "lost" in item.features.values()]
    for item in lost:
        names = [FEATURES[number].name for number, way in item.features.items() if way == "lost"]
        print(f"{item.path}: lost in silence: {', '.join(names)}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
