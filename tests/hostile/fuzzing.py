"""Mutated copies of real files, and what becomes of each: refused, reported, or migrated so that libhdf5 itself agrees."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5z
from h5z.errors import H5zError, IsolationError
from h5z.isolation import run_isolated

from ..oddities.judge import judge
from ..running import DATA

TIMEOUT, MEMORY = 20.0, 1 << 30
LARGEST = 1 << 20  # of the files that are mutated
# What is wrong, and what may happen to a damaged file.
FINDINGS = frozenset({"wrong", "differs", "escaped", "left", "parent"})
_SIGNATURES = re.compile(
    rb"TREE|SNOD|HEAP|GCOL|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|FADB|FAHD|EAHD|EAIB|EADB|EASB|FSHD|\x89HDF"
)
_NUMBERS = (0, 1, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1, 1 << 40, 1 << 62)
_POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"codec": "keep"},
    {"codec": None},
    {"zarr_format": 2},
    {"route": "library"},
    {"memory": "32MiB", "chunks": "source"},
    {"links": "follow"},
)

Edit = tuple[int, bytes]  # place, new bytes; at a place of -1, the number of bytes that are kept


@dataclass(frozen=True)
class Recipe:
    """How a file is made from a real one."""

    file: str
    edits: tuple[Edit, ...]
    policy: int = 0

    def apply(self) -> bytes:
        """The mutated file's bytes."""
        raw = bytearray((DATA / self.file).read_bytes())
        for place, new in self.edits:
            if place < 0:
                del raw[int.from_bytes(new, "little") :]
            else:
                raw[place : place + len(new)] = new[: max(0, len(raw) - place)]
        return bytes(raw)

    def to_text(self) -> str:
        """On one line, for the list of those to remember."""
        edits = [[place, new.hex()] for place, new in self.edits]
        return json.dumps({"file": self.file, "edits": edits, "policy": self.policy})

    @classmethod
    def from_text(cls, text: str) -> Recipe:
        """What `to_text` wrote."""
        data = json.loads(text)
        edits = tuple((place, bytes.fromhex(new)) for place, new in data["edits"])
        return cls(data["file"], edits, data.get("policy", 0))


@dataclass(frozen=True)
class Outcome:
    """What became of a mutated file.

    Attributes
    ----------
    kind : str
        ``refused`` (before anything was written), ``unreadable`` (while data were read), ``crashed``, ``hung``, ``starved``,
        ``unverifiable`` (verification cannot read the source, whose chunks had crossed undecoded), ``partial`` (right but
        for what the report names) or ``done``; or one of FINDINGS: ``wrong`` (done, and not what libhdf5 reads),
        ``differs`` (verification says so: two readings of the same bytes do not agree), ``escaped`` (an error that is none
        of h5z's), ``left`` (something is left behind), ``parent`` (the process that watched is gone).
    """

    kind: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def files(pattern: str = "*") -> list[str]:
    """The real files that are mutated."""
    found = (path for path in sorted(DATA.rglob(pattern)) if path.is_file() and path.stat().st_size <= LARGEST)
    return [str(path.relative_to(DATA)) for path in found if b"\x89HDF" in path.read_bytes()[: 1 << 12]]


def recipes(names: list[str], seed: int, count: int) -> Iterator[Recipe]:
    """So many recipes, the same for the same seed."""
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        name = chance.choice(names)
        raw = (DATA / name).read_bytes()
        yield Recipe(name, tuple(_edits(raw, chance)), chance.randrange(len(_POLICIES)))


def _edits(raw: bytes, chance: random.Random) -> Iterator[Edit]:
    kind = chance.choice(("bits", "bits", "bits", "number", "number", "number", "bytes", "page", "splice", "cut"))
    for _ in range(1 if kind == "cut" else chance.choice((1, 1, 1, 2, 4))):
        at = _place(raw, chance)
        if kind == "bits":
            yield at, bytes([raw[at] ^ 1 << chance.randrange(8)])
        elif kind == "number":
            width = chance.choice((1, 2, 4, 8))
            number = chance.choice((*_NUMBERS, len(raw), len(raw) - 1, chance.randrange(len(raw))))
            order = chance.choice("<<<>")
            yield at, struct.pack(f"{order}Q", number)[:width] if order == "<" else struct.pack(">Q", number)[-width:]
        elif kind == "bytes":
            yield at, chance.randbytes(chance.choice((1, 2, 4, 16)))
        elif kind == "page":
            size = chance.choice((64, 512, 4096))
            yield at // size * size, bytes([chance.choice((0, 0, 0xFF))]) * size
        elif kind == "splice":
            size, origin = chance.choice((8, 64, 512)), chance.randrange(len(raw))
            yield at, raw[origin : origin + size]
        else:
            yield -1, chance.randrange(len(raw)).to_bytes(8, "little")


def _place(raw: bytes, chance: random.Random) -> int:
    """A place to change: anywhere, near the file's beginning, or, most often, in what describes the data."""
    near = chance.random()
    if near < 0.25:
        return chance.randrange(len(raw))
    if near < 0.45:
        return chance.randrange(min(len(raw), 4096))
    marks = [found.start() for found in _SIGNATURES.finditer(raw)]
    return min(len(raw) - 1, chance.choice(marks) + chance.randrange(256)) if marks else chance.randrange(len(raw))


def run(recipe: Recipe, folder: Path) -> Outcome:
    """Carry a recipe out in a folder, which is empty again afterwards."""
    source, target = folder / "mutated.h5", folder / "out.zarr"
    source.write_bytes(recipe.apply())
    try:
        policy = _POLICIES[recipe.policy]
        limits: dict[str, Any] = {"timeout": TIMEOUT, "memory_limit": MEMORY}
        return Outcome(**run_isolated(probe, source, target, policy, subject="mutated.h5", **limits))
    except IsolationError as error:
        kinds = {"no progress": "hung", "bytes of memory": "starved"}
        return Outcome(next((kind for text, kind in kinds.items() if text in str(error)), "crashed"), str(error))
    finally:
        shutil.rmtree(folder)
        folder.mkdir()


def probe(source: Path, target: Path, policy: dict[str, Any]) -> Outcome:
    """Scan, plan, convert and verify a file; ask an independent judge about what is said to be done."""
    kind = "refused"
    try:
        tree = h5z.scan(source, measure=True, links=policy.get("links", "record"))
        h5z.plan(tree, target, unsupported="report", **policy)
        kind = "unreadable"
        report = h5z.convert(source, target, unsupported="report", scheduler="sync", **policy)
        kind = "unverifiable"
        checked = h5z.verify(source, target, level="full", scheduler="sync")
    except H5zError as error:
        if len(str(error).splitlines()) > 1:
            return Outcome("escaped", f"more than one line: {error}")
        if target.exists() and kind != "unverifiable":
            return Outcome("left", f"after {error}: {sorted(path.name for path in target.iterdir())}")
        return Outcome(kind, str(error))
    except MemoryError:
        raise
    except Exception:
        return Outcome("escaped", traceback.format_exc())
    if checked.differences:
        return Outcome("differs", str(checked.differences[0]))
    lost = {problem.path: problem.reason for problem in report.not_carried}
    return _judged(source, target, lost, policy)


def _judged(source: Path, target: Path, lost: dict[str, str], policy: dict[str, Any]) -> Outcome:
    kind = "partial" if lost else "done"
    words = ("cannot be listed", "levels of groups", "several links")
    unlisted = any(word in reason for reason in lost.values() for word in words)
    if unlisted or policy.get("links") == "follow":
        return Outcome(kind, "not judged: what h5py cannot list, the judge cannot walk")
    try:
        verdict = judge(source, target, without=set(lost), dense=True)  # what a damaged index says is allocated, who knows
    except Exception as error:
        return Outcome(kind, f"not judged: {type(error).__name__}: {error} {traceback.format_exc()}")
    return Outcome("wrong", "; ".join(verdict.wrong[:3])) if verdict.wrong else Outcome(kind)
