"""Run a case: make its input, let the contenders alternate, verify each one's output once."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from h5z.stores.disk import remove

from .cases import Case
from .contenders import CONTENDERS, ROOT, arguments
from .measure import RunError, Sample, measure


@dataclass
class Result:
    """A contender's runs of one case.

    Parameters
    ----------
    name, label : str
        Who.
    samples : list of Sample
        One a round.
    objects, nbytes : int
        Files of its output, and their bytes.
    error : str
        Why it did not contend, or what went wrong; "" where all went well.
    skipped : bool
        It could not run here; no failure.
    """

    name: str
    label: str
    samples: list[Sample] = field(default_factory=list)
    objects: int = 0
    nbytes: int = 0
    error: str = ""
    skipped: bool = False

    def median(self, what: str) -> float | None:
        """Median of ``wall``, ``cpu`` or ``peak_nbytes``; none without a sample."""
        return statistics.median(getattr(sample, what) for sample in self.samples) if self.samples else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: samples and medians."""
        return asdict(self) | {"median": {what: self.median(what) for what in ("wall", "cpu", "peak_nbytes")}}


@dataclass(frozen=True)
class Outcome:
    """A case's results, in the order of its contenders."""

    case: Case
    results: tuple[Result, ...]

    def result(self, name: str) -> Result | None:
        """That contender's, if it ran."""
        return next((r for r in self.results if r.name == name and r.samples), None)

    @property
    def baseline(self) -> str:
        """Who ratios are taken against: the case's choice, or the first who ran where that one did not."""
        ran = [result.name for result in self.results if result.samples]
        return self.case.baseline if self.case.baseline in ran or not ran else ran[0]

    def ratio(self, result: Result, what: str, against: str) -> float | None:
        """Median over the rounds of `what` over that of the contender `against` in the same round; none without both.

        Paired by round, a machine that is slow for a while is slow for both.
        """
        other = self.result(against)
        pairs = zip(result.samples, other.samples if other else (), strict=False)  # who failed has fewer
        ratios = [getattr(ours, what) / getattr(theirs, what) for ours, theirs in pairs if getattr(theirs, what)]
        return statistics.median(ratios) if ratios else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"case": self.case.to_dict(), "results": [result.to_dict() for result in self.results]}


def _child(module: str, *words: str) -> str:
    """Last line that a module of this package prints, run in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{module}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
    return (done.stdout.strip().splitlines() or [""])[-1]


def run_case(case: Case, folder: Path, *, rounds: int, only: Sequence[str] = (), say: Callable[[str], None] = print) -> Outcome:
    """Every contender in each round, every second round backwards.

    Parameters
    ----------
    case : Case
        What to run.
    folder : Path
        Where inputs are kept (those that are there already serve again) and outputs come and go.
    rounds : int
        Runs of each contender.
    only : sequence of str
        Contenders to run; all of the case's where empty.
    say : callable
        Told of each step.
    """
    record = json.dumps(case.to_dict())
    say(f"{case.name}: input")
    _child("inputs", record, str(folder))
    results = [Result(name, CONTENDERS[name].label) for name in case.contenders if not only or name in only]
    for result in results:
        if missing := CONTENDERS[result.name].missing():
            result.error, result.skipped = f"not here: {', '.join(missing)}", True
    for number in range(rounds):
        for result in results if number % 2 == 0 else results[::-1]:
            if not result.error:
                say(f"{case.name}: round {number + 1} of {rounds}, {result.label}")
                target = folder / f"target-{number}-{result.name}"
                _run_once(case, result, folder, target)
                if not case.has_many_files:
                    remove(target)
    for target in folder.glob("target-*"):
        remove(target)
    return Outcome(case, tuple(results))


def _run_once(case: Case, result: Result, folder: Path, target: Path) -> None:
    """One run, timed; its output verified if it is the first."""
    source = case.source(folder)
    try:
        sample = measure(arguments(result.name, case, source, target), folder=ROOT)
        if not result.samples and CONTENDERS[result.name].output != "nothing":
            occupied = json.loads(_child("verify", json.dumps(case.to_dict()), result.name, str(source), str(target)))
            result.objects, result.nbytes = occupied["objects"], occupied["nbytes"]
        result.samples.append(sample)
    except RunError as error:
        result.error = str(error)
