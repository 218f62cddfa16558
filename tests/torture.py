"""Kill runs of h5z at random moments, run them again, and compare what there is in the end.

A course is a call that is killed (SIGKILL) some times and then left to end: a conversion, one that overwrites, a finalization, a
verification, a repair, a batch of files, files that are joined along a dimension, others that are added to them; into a folder
or S3. What must be so:

- Whenever a target opens, while its run lives and after each kill, it is to the byte what an undisturbed run makes, or what was
  there before and is being replaced.
- In the end it is what an undisturbed run makes, and nothing else is left at its place or beside it.
- No task is begun again but those that were in a run's hands when it was killed: as many as it has workers, at most.

With ``--commands N`` also as many kills of the whole process group of ``h5z migrate``. Exit status 1 if anything was not so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .forks import HOME, ForkServer
from .s3server import Server, running
from .stored import listing
from .tortured import Look, Objects, Place, Tally

WORKERS = 2
POLICY: dict[str, Any] = {"chunks": {"/x": [400], "/slices": [8, 8, 8]}, "memory": "16KiB", "workers": WORKERS}
POLICY["route"] = {"/slices": "staged"}
OLD: dict[str, Any] = {"codec": "zstd:5"}
FILES = 4  # in a batch
COURSES = ("convert", "overwrite", "finalize", "verify", "repair", "batch", "combine", "append")
JOIN: dict[str, Any] = {"dim": "time", "chunks": {"/x": [8, 20], "/time": [8]}, "memory": "16KiB", "workers": WORKERS}
PLACES = ("folder", "s3")
MOST_KILLS = 6  # of one course; by then it is left to end


def write(path: Path, seed: int) -> None:
    """A source of a few dozen small tasks: numbers, some of them staged; text; chunks that are not there."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(seed).random(16_000), chunks=(100,), compression="gzip")
        file.create_dataset("slices", data=np.arange(2048, dtype="<u2").reshape(8, 16, 16) + seed, chunks=(1, 16, 16))
        file["words"] = ["a", "ß", str(seed)]
        file.create_dataset("sparse", (40, 40), "<i2", chunks=(10, 10))[25, 25] = seed


def write_slice(path: Path, number: int) -> str:
    """A source of a few steps in time, which fill no whole number of the target's chunks."""
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(5.0) + 5 * number
        file["time"].make_scale("time")
        file.create_dataset("x", data=np.random.default_rng(number).random((5, 400)), chunks=(5, 20), compression="gzip")
        file["x"].dims[0].attach_scale(file["time"])
    return str(path)


class Torture:
    """Runs courses, and keeps the tally."""

    def __init__(self, folder: Path, forks: ForkServer, seed: int, server: Server | None = None) -> None:
        self.folder, self.forks, self.server = folder, forks, server
        self.chance, self.tally = random.Random(seed), Tally()
        self.lasts: dict[str, float] = {}
        self.sources = [folder / f"in{i}.h5" for i in range(FILES)]
        for i, source in enumerate(self.sources):
            write(source, i)
        self.slices = [write_slice(folder / f"slice{i}.h5", i) for i in range(FILES)]
        self.log, self.output = folder / "log", folder / "output"
        self.whole: dict[str, list[Objects]] = {}
        self.tasks: list[int] = []
        for name, options in {"verified": {"verify": "full", **POLICY}, "plain": POLICY, "old": OLD}.items():
            place, sources = Place(folder / name), self.sources if name == "plain" else self.sources[:1]
            for i, source in enumerate(sources):
                self.log.unlink(missing_ok=True)
                self.call("convert", source=str(source), target=place.name(f"out{i}.zarr"), log=str(self.log), **options)
                if name == "plain":
                    self.tasks.append(len(self.log.read_text().split()))
            self.whole[name] = [place.objects(f"out{i}.zarr") for i in range(len(sources))]
        self.joining: list[int] = []
        for name, count in (("joined", 2), ("grown", FILES)):
            self.log.unlink(missing_ok=True)
            place = Place(folder / "joined")
            self.call("combine", files=self.slices[:count], target=place.name("out0.zarr"), log=str(self.log), **JOIN)
            self.joining.append(len(self.log.read_text().split()))
            self.whole[name] = [place.objects("out0.zarr")]

    def call(self, what: str, **arguments: Any) -> None:
        """Make a call that nothing disturbs."""
        status, text = self.forks.run(what, self.output, **arguments)
        if status:
            raise RuntimeError(f"{what} {arguments}: {text}")

    def course(self, kind: str, where: str) -> None:
        """One course: kills, then an end; and a look at what there is."""
        name = f"{kind} {where}"
        place = Place(Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.folder)), self.server if where == "s3" else None)
        count = FILES if kind == "batch" else 1
        call, arguments, before, after, begun = self.prepare(kind, place)
        self.log.unlink(missing_ok=True)
        kills, most = 0, self.chance.randint(1, MOST_KILLS)
        while True:
            look = Look(place, count, before, after, self.tally, kind == "append")
            killed = self.killed(name, call, arguments, look) if kills < most else self.ended(name, call, arguments)
            if not killed:
                break
            kills += 1
            look.now(f"{name}, after kill {kills}")
        self.tally.kills[name] += kills
        self.tally.courses[name] += 1
        self.account(name, kills, begun)
        for i in range(count):
            if place.objects(f"out{i}.zarr") != after[i]:
                different = sorted({key for key, _ in place.objects(f"out{i}.zarr").items() ^ after[i].items()})
                self.tally.wrong.append(f"{name}: out{i}.zarr differs in the end in {different}")
        left = set(os.listdir(place.folder)) - {f"out{i}.zarr" for i in range(count)}
        if left:
            self.tally.wrong.append(f"{name}: leaves {sorted(left)}")
        shutil.rmtree(place.folder)

    def prepare(self, kind: str, place: Place) -> tuple[str, dict[str, Any], list[Objects], list[Objects], int]:
        """What is there before a course; its call, what may be seen before its end, what must be there then, its tasks."""
        source, target = str(self.sources[0]), place.name("out0.zarr")
        given = {"source": source, "target": target, **place.options}
        logged = {"log": str(self.log)}
        verified, plain, old = self.whole["verified"], self.whole["plain"], self.whole["old"]
        if kind == "batch":
            pairs = [[str(source), place.name(f"out{i}.zarr")] for i, source in enumerate(self.sources)]
            return "many", {"pairs": pairs, **place.options, **POLICY, **logged}, [], plain, sum(self.tasks)
        if kind == "convert":
            return "convert", {**given, "verify": "full", **POLICY, **logged}, [], verified, self.tasks[0]
        if kind == "overwrite":
            self.call("convert", **given, **OLD)
            more = {"verify": "full", "overwrite": True, **POLICY, **logged}
            return "convert", {**given, **more}, old, verified, self.tasks[0]
        if kind in ("combine", "append"):
            joined = {"target": target, **place.options, **JOIN}
            if kind == "combine":
                return "combine", {"files": self.slices[:2], **joined, **logged}, [], self.whole["joined"], self.joining[0]
            self.call("combine", files=self.slices[:2], **joined)
            more = {"files": self.slices, **joined, **logged}
            return "combine", more, self.whole["joined"], self.whole["grown"], self.joining[1]
        if kind == "finalize":
            self.call("graph", **given, finalize=False, **POLICY)
            return "finalize", {"target": target, **place.options}, [], plain, 0
        self.call("convert", **given, **POLICY)
        if kind == "verify":
            return "verify", given, [], plain, 0
        place.spoil("out0.zarr", "x/c/7")
        return "verify", {**given, "repair": True}, [place.objects("out0.zarr")], plain, 0

    def killed(self, name: str, call: str, arguments: dict[str, Any], look: Look) -> bool:
        """Make a call and kill it at a random moment, looking on; False where it had ended before."""
        begin = time.monotonic()
        pid = self.forks.start(call, self.output, **arguments)
        moment = begin + self.chance.random() * self.lasts.get(name, 1.0)
        while time.monotonic() < moment and self.forks.alive(pid):
            look.now(f"{name}, while it runs")
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = self.forks.wait(pid)
        if status == -signal.SIGKILL:
            return True
        self.lasts[name] = time.monotonic() - begin
        self.check(name, status)
        return False

    def ended(self, name: str, call: str, arguments: dict[str, Any]) -> bool:
        """Make a call and let it end."""
        begin = time.monotonic()
        status, _ = self.forks.run(call, self.output, **arguments)
        self.lasts[name] = time.monotonic() - begin
        self.check(name, status)
        return False

    def check(self, name: str, status: int) -> None:
        if status:
            self.tally.wrong.append(f"{name}: ends with status {status}: {self.output.read_text()}")

    def account(self, name: str, kills: int, begun: int) -> None:
        """Count the tasks that were begun more than once."""
        lines = self.log.read_text().split() if self.log.exists() else []
        again = max(0, len(lines) - begun)
        self.tally.tasks += begun
        self.tally.again += again
        if again > WORKERS * kills:
            self.tally.wrong.append(f"{name}: {again} tasks begun again after {kills} kills")


def commands(folder: Path, kills: int, chance: random.Random) -> Iterator[str]:
    """Kill the process group of ``h5z migrate`` so many times; what was wrong with what its reruns make in the end."""
    archive, roots = folder / "archive", [folder / "whole", folder / "migrated"]
    archive.mkdir()
    for i in range(FILES):
        write(archive / f"in{i}.h5", i)
    command = [sys.executable, "-m", "h5z.cli", "migrate", str(archive), "--workers", str(WORKERS), "--verify", "full", "--to"]
    quiet: dict[str, Any] = {"cwd": HOME, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    begin = time.monotonic()
    subprocess.run([*command, str(roots[0])], check=True, **quiet)
    lasts = time.monotonic() - begin
    killed = 0
    for _ in range(2 * kills):
        with subprocess.Popen([*command, str(roots[1])], **quiet) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.2, 1) * lasts)
            killed += process.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for i in range(FILES):
            if (roots[1] / f"in{i}.zarr" / "zarr.json").exists() and stores(roots[1], i) != stores(roots[0], i):
                yield f"h5z migrate, killed: in{i}.zarr opens, and is not whole"
        if killed >= kills:
            break
    subprocess.run([*command, str(roots[1])], check=True, **quiet)
    for i in range(FILES):
        if stores(roots[1], i, marks=True) != stores(roots[0], i, marks=True):
            yield f"h5z migrate: in{i}.zarr differs in the end"
    left = {path.name for path in roots[1].iterdir()} ^ {path.name for path in roots[0].iterdir()}
    if left:
        yield f"h5z migrate: {sorted(left)} are there in one case only"
    print(f"h5z migrate: {killed} kills of its process group, {lasts:.1f} s undisturbed")


def stores(root: Path, i: int, *, marks: bool = False) -> Any:
    """A target's contents, with or without what runs leave in it."""
    found = listing(root / f"in{i}.zarr")
    return found if marks else {key: value for key, value in found.items() if not key.startswith(".h5z")}


def torture(made: Torture, kills: int, places: Sequence[str] = PLACES, courses: Sequence[str] = COURSES) -> Tally:
    """Run courses, each kind at each place in turn, until so many kills have hit."""
    while sum(made.tally.kills.values()) < kills:
        for where in places:
            for kind in courses:
                made.course(kind, where)
    return made.tally


def main(arguments: list[str] | None = None) -> int:
    """Torture, print the tally, and say whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="at least so many; each kind of course, at each place, is run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--commands", type=int, default=0, help="kills of h5z migrate besides")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="h5z-torture-"))
        server = stack.enter_context(running()) if "s3" in options.places else None
        made = Torture(Path(folder), stack.enter_context(ForkServer()), options.seed, server)
        tally = torture(made, options.kills, options.places)
        print(tally, flush=True)
        if options.commands:
            wrong = list(commands(Path(folder), options.commands, random.Random(options.seed)))
            print("\n".join(wrong) or "h5z migrate: nothing wrong")
    return 1 if tally.wrong or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
