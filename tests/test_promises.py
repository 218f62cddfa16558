"""What the pages promise is held by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
PAGES = ("reliability.md", "security.md")
pytestmark = pytest.mark.skipif(not (HOME / "docs" / PAGES[0]).exists(), reason="no documentation beside the tests")


@pytest.mark.parametrize("page", PAGES)
def test_each_promise_is_held_by_a_test(page: str) -> None:
    text = (HOME / "docs" / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text.partition("| promise | held by |")[2], re.MULTILINE)
    assert len(rows) >= 10
    missing = []
    for promise, held_by in rows[1:]:
        names = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held_by)
        for file, test in names:
            path = HOME / file
            defined = "def test_" if not test else f"def {test}("
            if not path.exists() or defined not in path.read_text(encoding="utf-8"):
                missing.append(f"{file}::{test}")
        if not names:
            missing.append(promise)
    assert missing == []
