"""What `tests.torture` kills runs of: targets in a folder or on S3, and how a reader sees them meanwhile."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .s3server import Server
from .stored import stored

Objects = dict[str, bytes]


@dataclass
class Place:
    """Where targets are put: a folder, or a prefix on S3."""

    folder: Path
    server: Server | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What calls take besides a target's name."""
        return {"storage_options": self.server.options} if self.server else {}

    def name(self, target: str) -> str:
        """A target's name, for calls."""
        return f"s3://bucket/{self.folder.name}/{target}" if self.server else str(self.folder / target)

    def objects(self, target: str) -> Objects:
        """All that a target is made of."""
        if self.server:
            return self.server.objects(f"bucket/{self.folder.name}/{target}")
        return stored(self.folder / target)

    def root(self, target: str) -> bytes | None:
        """The document by which a target opens."""
        with suppress(FileNotFoundError):
            if self.server:
                return bytes(self.server.filesystem().cat_file(f"bucket/{self.folder.name}/{target}/zarr.json"))
            return (self.folder / target / "zarr.json").read_bytes()
        return None

    def spoil(self, target: str, key: str) -> None:
        """Flip a bit of an object."""
        raw = self.objects(target)[key]
        spoiled = raw[:-1] + bytes([raw[-1] ^ 1])
        if self.server:
            self.server.filesystem().pipe_file(f"bucket/{self.folder.name}/{target}/{key}", spoiled)
        else:
            (self.folder / target / key).write_bytes(spoiled)


@dataclass
class Tally:
    """What was done and seen."""

    kills: Counter[str] = field(default_factory=Counter)
    courses: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)
    tasks: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills, courses = sum(self.kills.values()), sum(self.courses.values())
        share = self.again / max(1, self.tasks)
        lines = [f"{name}: {self.courses[name]} courses, {count} kills" for name, count in sorted(self.kills.items())]
        lines.append(f"{kills} kills in {courses} courses; looked at targets: {dict(sorted(self.looks.items()))}")
        lines.append(f"{self.tasks} tasks to do, {self.again} begun again ({share:.1%}; {self.again / max(1, kills):.2f} a kill)")
        return "\n".join([*lines, *self.wrong, f"{len(self.wrong)} wrong"])


@dataclass
class Look:
    """Looks at targets as a reader does: what opens must be whole.

    A target that grows is what it was as long as its root is: readers see nothing of what lies past the ends that it tells.
    """

    place: Place
    count: int
    before: list[Objects]
    after: list[Objects]
    tally: Tally
    grows: bool = False
    known: set[str] = field(default_factory=set)  # seen whole, with its root as it is

    def now(self, when: str) -> None:
        """See what opens, and that it is whole; on S3 only between runs: requests would outlast them."""
        if self.place.server and "kill" not in when:
            return
        for i in range(self.count):
            target = f"out{i}.zarr"
            root = self.place.root(target)
            if target in self.known and "kill" not in when:
                continue
            try:
                found = self.place.objects(target)
            except FileNotFoundError:  # a draft that was there is gone
                continue
            if root is None or self.place.root(target) != root:
                self.tally.looks["does not open" if root is None else "changes while looked at"] += 1
                continue
            seen = {key: value for key, value in found.items() if not key.startswith(".h5z/")}
            states = {"as before": self.before, "as after": self.after}
            state = next((name for name, whole in states.items() if whole and seen == whole[i]), "")
            if self.grows and seen["zarr.json"] == self.before[i]["zarr.json"] and not self.before[i].keys() - seen.keys():
                state = "as before"
            self.tally.looks[state or "half"] += 1
            if state == "as after":
                self.known.add(target)
            elif not state:
                self.tally.wrong.append(f"{when}: {target} opens, and is neither what was there nor what is to be")
