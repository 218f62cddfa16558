"""A small sample of what ``python -m tests.torture`` does."""

from __future__ import annotations

import pytest

from .forks import ForkServer
from .s3server import Server
from .torture import COURSES, Tally, Torture, torture


@pytest.fixture(scope="module")
def prepared(forks: ForkServer, s3: Server, tmp_path_factory: pytest.TempPathFactory) -> Torture:
    """Sources, and what undisturbed runs make of them."""
    return Torture(tmp_path_factory.mktemp("torture"), forks, 1, s3)


@pytest.fixture
def made(prepared: Torture) -> Torture:
    """With a tally of its own."""
    prepared.tally = Tally()
    return prepared


def test_whatever_is_killed_ends_as_if_nothing_had_happened(made: Torture) -> None:
    """In a folder, every course."""
    tally = torture(made, 12, ["folder"])
    assert tally.wrong == []
    assert set(tally.courses) == {f"{kind} folder" for kind in COURSES}
    assert tally.looks["does not open"]


def test_on_s3_too(made: Torture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion, killed a time or two."""
    monkeypatch.setattr("tests.torture.MOST_KILLS", 2)
    tally = torture(made, 1, ["s3"], ["convert"])
    assert tally.wrong == []
    assert tally.looks["does not open"]


def test_it_sees_what_is_wrong(made: Torture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens and is not whole, and what differs in the end."""
    whole = made.whole["plain"]
    monkeypatch.setitem(made.whole, "plain", [{**whole[0], "x/c/7": b"another"}, *whole[1:]])
    torture(made, 1, ["folder"], ["verify"])
    assert any("differs in the end" in text for text in made.tally.wrong)
    assert any("opens, and is neither" in text for text in made.tally.wrong)
