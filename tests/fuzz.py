"""Mutate real files and migrate each: ``python -m tests.fuzz --count 2000``.

No mutation may take down the process that watches, hang, escape as an error that is none of h5z's, leave anything behind,
or end as done with values that are not those that libhdf5 reads. What does is printed as a recipe, for
``tests/hostile/recipes.txt``, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .hostile.fuzzing import FINDINGS, TIMEOUT, Outcome, Recipe, files, recipes, run


def work(pipe: Connection, folder: str) -> None:
    """Carry out recipes as they come."""
    while True:
        try:
            recipe = pipe.recv()
        except EOFError:
            return
        place = Path(folder, "work")
        place.mkdir(exist_ok=True)
        pipe.send(run(recipe, place))


class Worker:
    """A process that carries out recipes, and is itself under suspicion."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.recipe: Recipe | None = None
        self.start()

    def start(self) -> None:
        """Begin, or begin again."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, str(self.folder)), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, recipe: Recipe) -> None:
        """Hand it a recipe."""
        self.recipe, self.since = recipe, time.monotonic()
        self.pipe.send(recipe)

    def take(self) -> Outcome | None:
        """What became of its recipe; None while that is not known."""
        late = time.monotonic() - self.since > 20 * TIMEOUT
        if not self.pipe.poll() and not late:
            return None
        try:
            if not late:
                return Outcome(**self.pipe.recv().to_dict())
            detail = "it hangs"
        except EOFError:
            self.process.join()
            detail = f"it ended with status {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return Outcome("parent", detail)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and say whether anything was found."""
    options = _options(arguments)
    if options.recipe:
        todo = [Recipe.from_text(options.recipe)]
    else:
        names = [name for name in files() if options.files in name]
        todo = list(recipes(names, options.seed, options.count))
    counts: Counter[str] = Counter()
    found = 0
    with tempfile.TemporaryDirectory(prefix="h5z-fuzz-", dir=options.folder) as folder:
        for recipe, outcome in carry_out(todo, min(options.jobs, len(todo)), Path(folder)):
            counts[outcome.kind] += 1
            if outcome.kind in FINDINGS or outcome.kind in options.show or options.recipe:
                found += outcome.kind in FINDINGS
                print(f"{outcome.kind}: {outcome.detail}\n  {recipe.to_text()}", flush=True)
    print(f"{sum(counts.values())} mutations of seed {options.seed}: {dict(sorted(counts.items()))}; {found} findings")
    return 1 if found else 0


def carry_out(todo: list[Recipe], jobs: int, folder: Path) -> Any:
    """Recipes with their outcomes, as they end."""
    waiting = iter(todo)
    workers = [Worker(folder) for _ in range(jobs)]
    busy = []
    for worker, recipe in zip(workers, waiting, strict=False):
        worker.give(recipe)
        busy.append(worker)
    while busy:
        wait([worker.pipe for worker in busy], timeout=1)
        for worker in list(busy):
            outcome = worker.take()
            if outcome is None:
                continue
            yield worker.recipe, outcome
            recipe = next(waiting, None)
            if recipe is None:
                busy.remove(worker)
                worker.pipe.close()
                worker.process.join()
            else:
                worker.give(recipe)


def _options(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--files", default="", help="only files with this in their path")
    parser.add_argument("--folder", default=None, help="where to work")
    parser.add_argument("--show", action="append", default=[], help="an outcome to print too; repeatable")
    parser.add_argument("--recipe", help="carry out this one alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
