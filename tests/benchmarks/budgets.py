"""Memory that hostile pairs of chunks take, beside what they were given and what the plan says; `tests.test_plan` holds it.

``python -m tests.benchmarks.budgets`` measures each in a process of its own: its peak beyond what the process took after it had
done the like.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.test_plan import HOSTILE, MIB, measured


def table() -> Table:
    """A row a case."""
    out = Table("case", "given MiB", "planned MiB", "taken MiB", "taken ÷ given", title="memory budgets, measured")
    for case in HOSTILE:
        with TemporaryDirectory(prefix="h5z-budgets-") as folder:
            given, planned, taken = (nbytes / MIB for nbytes in measured(Path(folder), case))
        out.add_row(case, f"{given:.0f}", f"{planned:.0f}", f"{taken:.0f}", f"{taken / given:.2f}")
    return out


if __name__ == "__main__":
    Console().print(table())
