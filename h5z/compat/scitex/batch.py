"""Many files, one after another or in processes of their own; a crash costs the file that it happened on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from h5z.errors import H5zError, one_line


class BatchResult(list[str]):
    """The stores that are complete, in the order of their sources.

    Attributes
    ----------
    failures : dict
        Why each source that failed did.
    """

    def __init__(self, stores: Sequence[str] = (), failures: dict[str, str] | None = None) -> None:
        super().__init__(stores)
        self.failures = dict(failures or {})

    def summary(self) -> str:
        """What was done, and each failure, a line each."""
        lines = [f"failed: {source}: {reason}" for source, reason in self.failures.items()]
        return "\n".join([*lines, f"migrated {len(self)} of {len(self) + len(self.failures)} files"])

    def __repr__(self) -> str:
        return f"BatchResult({super().__repr__()}, failures={self.failures!r})"


def run_batch(jobs: Sequence[dict[str, Any]], codec: Any, count: int, migrate: Callable[..., str]) -> BatchResult:
    """Migrate files here, or in `count` processes.

    Parameters
    ----------
    jobs : sequence of dict
        The arguments of each call of `migrate`, as JSON's own types.
    codec : list
        The codec chain of all.
    """
    if count <= 1:
        answers = [_here(job, codec, migrate) for job in jobs]
    else:
        local = threading.local()
        workers: list[_Worker] = []

        def one(job: dict[str, Any]) -> dict[str, str]:
            if not hasattr(local, "worker"):
                local.worker = _Worker()
                workers.append(local.worker)
            answer: dict[str, str] = local.worker.run({**job, "compressor": codec})
            return answer

        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(one, jobs))
        for worker in workers:
            worker.end()
    stores = [answer["store"] for answer in answers if "store" in answer]
    failures = {job["h5_path"]: answer["error"] for job, answer in zip(jobs, answers, strict=True) if "error" in answer}
    return BatchResult(stores, failures)


def _here(job: dict[str, Any], codec: Any, migrate: Callable[..., str]) -> dict[str, str]:
    try:
        return {"store": migrate(**job, compressor=codec, show_progress=False)}
    except (H5zError, OSError) as error:
        return {"error": one_line(error)}


class _Worker:
    """A process that migrates files as it is told, line by line; started anew after a crash.

    It is no `multiprocessing` process, which would run the caller's script again where that has no main guard.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, job: dict[str, Any]) -> dict[str, str]:
        """Have one file migrated."""
        process = self._process()
        try:
            process.stdin.write(json.dumps(job) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            line = process.stdout.readline()  # type: ignore[union-attr]
            answer: dict[str, str] = json.loads(line)
            return answer
        except (OSError, ValueError):
            code = process.wait()
            self.process = None
            what = f"signal {-code}" if code < 0 else f"status {code}"
            return {"error": f"{job['h5_path']}: the process that migrated it ended with {what}"}

    def _process(self) -> subprocess.Popen[str]:
        if self.process is None:
            command = [sys.executable, "-m", "h5z.compat.scitex.batch"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self.process

    def end(self) -> None:
        """Have the process end."""
        if self.process is not None:
            self.process.communicate()


def main() -> None:
    """Migrate a file for each line of JSON on standard input; answer each with a line on standard output."""
    from h5z.compat.scitex.migration import migrate_h5_to_zarr

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        job = json.loads(line)
        codec = job.pop("compressor")
        if isinstance(job["chunks"], list):
            job["chunks"] = tuple(job["chunks"])
        print(json.dumps(_here(job, codec, migrate_h5_to_zarr)), file=answers, flush=True)


if __name__ == "__main__":
    main()
