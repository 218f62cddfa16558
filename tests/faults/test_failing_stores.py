"""Stores that fail now and then, or for good: tried again, or one clear line, and the rerun goes on."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, WrapperStore

import h5z
from h5z.errors import TargetError, TransientError

from ..forks import HOME
from ..running import Run
from ..s3server import SECRET, Server
from ..stored import stored_in
from .runs import POLICY


class FaultyStore(WrapperStore[MemoryStore]):
    """A store that fails a share of its requests, before or after it did what was asked; or all of them."""

    kinds = (ConnectionResetError("reset"), TimeoutError("too long"), OSError("Internal Error"), OSError(errno.EBUSY, "SlowDown"))

    def __init__(self, store: MemoryStore, rate: float = 0.0) -> None:
        super().__init__(store)
        self.rate, self.chance, self.failed, self.calls = rate, random.Random(1), 0, 0

    def fails(self) -> bool:
        self.calls += 1
        fails = self.chance.random() < self.rate
        self.failed += fails
        return fails

    async def asked(self, request: Any, *arguments: Any) -> Any:
        fails = self.fails()
        answer = await request(*arguments) if not fails or self.chance.random() < 0.5 else None
        if fails:
            raise self.chance.choice(self.kinds)
        return answer

    async def get(self, *arguments: Any) -> Any:  # type: ignore[override]
        return await self.asked(super().get, *arguments)

    async def set(self, key: str, value: Buffer) -> None:
        await self.asked(super().set, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        await self.asked(super().set_if_not_exists, key, value)

    async def delete(self, key: str) -> None:
        await self.asked(super().delete, key)

    async def exists(self, key: str) -> bool:
        found: bool = await self.asked(super().exists, key)
        return found

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        cut = self.chance.randrange(3) if self.fails() else None
        count = 0
        async for key in super().list_prefix(prefix):
            if count == cut:
                break
            yield key
            count += 1
        if cut is not None:
            raise self.chance.choice(self.kinds)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        if self.fails():
            raise self.chance.choice(self.kinds)
        async for key in super().list_dir(prefix):
            yield key


@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
def test_a_store_that_fails_a_tenth_of_its_requests(made: Path, expected: dict[str, bytes], overwrite: bool) -> None:
    """Ends complete, verified, and the same to the byte."""
    inner = MemoryStore()
    if overwrite:
        h5z.convert(made, inner)
    store = FaultyStore(inner, 0.1)
    report = h5z.convert(made, store, verify="full", overwrite=overwrite, attempts=12, **POLICY)
    assert report.ok
    assert store.failed > 20
    assert stored_in(inner) == expected


def test_s3_that_fails_a_tenth_of_its_requests(made: Path, expected: dict[str, bytes], s3: Server) -> None:
    """By answering 500 or 503, or by ending the connection; where the source lies, and the target."""
    s3.filesystem().put_file(str(made), "bucket/in.h5")
    once: dict[str, Any] = {"config_kwargs": {"retries": {"max_attempts": 1}}, **s3.options}  # botocore's own retries aside
    before = s3.fail(0.1)
    try:
        kept = {"storage_options": once, "source_options": once, "attempts": 12}
        report = h5z.convert("s3://bucket/in.h5", "s3://bucket/out.zarr", verify="full", **kept, **POLICY)
    finally:
        after = s3.fail(0)
    assert report.ok
    assert after[1] - before[1] > 10
    found = s3.objects("bucket/out.zarr")
    assert {key for key, _ in found.items() ^ expected.items()} == {"zarr.json"}  # its source's time is not a file's
    assert not any(".h5z" in key for key in found)
    h5z.convert("s3://bucket/in.h5", "s3://bucket/quiet.zarr", verify="full", **{**kept, **POLICY})
    assert s3.objects("bucket/quiet.zarr") == found


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_store_that_fails_for_good(made: Path, expected: dict[str, bytes], attempts: int) -> None:
    """So many attempts, then one line; when the store is back, the rerun goes on."""
    store = FaultyStore(MemoryStore())
    done: list[int] = []

    def breaks(now: int, total: int) -> None:
        done.append(now)
        if now > total / 2:
            store.rate = 1.0

    with pytest.raises(TransientError, match="did not answer") as caught:
        h5z.convert(made, store, progress=breaks, scheduler="sync", attempts=attempts, **POLICY)
    assert "\n" not in str(caught.value)
    store.rate = 0.0
    marks = sum("/done/" in key for key in stored_in(store._store))
    assert marks >= 2
    again: list[int] = []
    assert h5z.convert(made, store, progress=lambda now, _: again.append(now), verify="full", **POLICY).ok
    assert again[0] >= max(done[:-1])
    assert stored_in(store._store) == expected


def test_attempts_are_counted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request that fails is made as often as was asked, and no more."""
    for attempts in (1, 3):
        store = FaultyStore(MemoryStore(), 1.0)
        with pytest.raises(TransientError):
            h5z.convert(made, store, attempts=attempts)
        assert store.calls == attempts


def test_what_will_not_pass_is_not_tried_again(made: Path) -> None:
    store = FaultyStore(MemoryStore(), 1.0)
    store.kinds = (PermissionError("denied"),)  # type: ignore[assignment]
    with pytest.raises(TargetError, match="denied"):
        h5z.convert(made, store)
    assert store.calls == 1


def test_a_reader_of_a_store_that_fails(made: Path) -> None:
    """Verification tries again too."""
    store = FaultyStore(MemoryStore())
    h5z.convert(made, store, **POLICY)
    store.rate = 0.1
    assert h5z.verify(made, store).ok
    assert store.failed


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_that_is_gone(made: Path, s3: Server, tmp_path: Path, cli: Run, which: str) -> None:
    """Status 4 and one line without secrets, from the command as from the library."""
    gone = {**s3.options, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    gone["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    source, target = ("s3://bucket/in.h5", tmp_path / "out.zarr") if which == "source" else (made, "s3://bucket/gone.zarr")
    options = {"source_options" if which == "source" else "storage_options": gone}
    with pytest.raises(TransientError, match="did not answer") as caught:
        h5z.convert(source, target, **options)
    assert SECRET not in str(caught.value)
    code = "import json, sys, h5z.cli, h5z; s, t, o = sys.argv[1:4]; convert = h5z.convert\n"
    code += (
        "h5z.convert = lambda *a, **k: convert(*a, **{**k, **json.loads(o)})\nsys.argv[1:] = ['convert', s, t]\nh5z.cli.main()"
    )
    command = [sys.executable, "-c", code, str(source), str(target), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert SECRET not in done.stderr
