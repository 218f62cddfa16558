"""A program for tests: forks a call once for each of its writes, kills it there, looks at what it leaves, and calls again.

``python -m tests.killed_writes CASE FOLDER`` prints one line of JSON, or fails. Kills come before a write, a sync, a rename or
a deletion, and in the middle of a write.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import zarr
from zarr.storage import LocalStore

from h5z import H5ShardStore, shards, vault
from h5z.container.openfiles import forget_all
from h5z.errors import SourceError
from h5z.vault import Vault

STEPS = ("pwritev", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "replace", "link", "unlink")
NOT_TORN = 77  # exit status: the step is not one that can be killed in its middle


@dataclass(frozen=True)
class Case:
    """A call on a folder: what must be there before, the call, and what must hold once it was killed and once it ended."""

    before: Callable[[Path], None]
    call: Callable[[Path], Any]
    killed: Callable[[Path], None]
    ended: Callable[[Path], None]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def kill_at(number: int, *, torn: bool) -> None:
    """Have this process die at one of its steps from now on."""
    left = number

    def wrapped(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if torn and step != "pwritev":
                    os._exit(NOT_TORN)
                if torn:
                    data = b"".join(map(bytes, arguments[1]))
                    os.pwrite(arguments[0], data[: len(data) // 2], arguments[2])
                die()
            return function(*arguments, **options)

        return stepping

    for step in STEPS:
        setattr(os, step, wrapped(step, getattr(os, step)))


def run(case: Case, folder: Path) -> int:
    """Kill the call at its first step, its second, and so on, until it ends before it is killed; return how many kills."""
    case.before(folder / "before")
    number, kills, torn = 1, 0, True
    while True:
        place = folder / f"{number}{'torn' * torn}"
        shutil.copytree(folder / "before", place, symlinks=True)
        forget_all("")
        pid = os.fork()
        if not pid:
            kill_at(number, torn=torn)
            try:
                case.call(place)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == NOT_TORN:
            torn = False
            shutil.rmtree(place)
            continue
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f"step {number}: exit {status}")
        if status:
            kills += 1
            case.killed(place)
            case.call(place)
        case.ended(place)
        shutil.rmtree(place)
        if not status:
            return kills
        number, torn = (number, False) if torn else (number + 1, True)


# Vaults


def sources(folder: Path) -> None:
    """Files for a vault, and for the same to be added: one changed, one new."""
    for name in ("old", "new"):
        (folder / name / "a").mkdir(parents=True)
        for i in range(3):
            (folder / name / "a" / str(i)).write_bytes(f"{i}".encode() * 3000)
            os.utime(folder / name / "a" / str(i), ns=(1, 10**18))
        (folder / name / "link").symlink_to("a/0")
    (folder / "new" / "a" / "1").write_bytes(b"changed" * 500)
    (folder / "new" / "more").write_bytes(b"more")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    }


def held(place: Path) -> dict[str, bytes]:
    """The files of a vault."""
    forget_all("")
    found = Vault(place)
    return {name: found[name] for name in found if found.info(name).kind == "file"}


def create(folder: Path) -> None:
    made = vault.create(folder / "old", folder / "v", writers=2, codec="blosc2-zstd:1", scheduler="sync")
    if not made.ok:
        raise AssertionError(made)


def created_or_not_there(folder: Path) -> None:
    try:
        found = held(folder / "v")
    except SourceError:
        return
    if found != contents(folder / "old"):
        raise AssertionError("half a vault was opened")


def created(folder: Path) -> None:
    forget_all("")
    if held(folder / "v") != contents(folder / "old") or not vault.verify(folder / "v", folder / "old", scheduler="sync").ok:
        raise AssertionError("the vault is not its folder")
    if sorted({*os.listdir(folder)} - {"v_0.h5.lock"}) != ["new", "old", "v_0.h5", "v_1.h5"]:
        raise AssertionError(os.listdir(folder))


def before_adding(folder: Path) -> None:
    sources(folder)
    create(folder)


def add(folder: Path) -> None:
    vault.add(folder / "v_0.h5", folder / "new", scheduler="sync")


def old_or_new(folder: Path) -> None:
    if held(folder / "v") not in (contents(folder / "old"), contents(folder / "new")):
        raise AssertionError("the vault is neither as it was nor as it shall be")


def added(folder: Path) -> None:
    if held(folder / "v") != contents(folder / "new") or not vault.verify(folder / "v", folder / "new", scheduler="sync").ok:
        raise AssertionError("what was added is not there")


def damaged(folder: Path) -> None:
    sources(folder)
    vault.create(folder / "old", folder / "v", codec="blosc2-zstd:1", scheduler="sync")
    row = Vault(folder / "v").parts("link")[0]
    raw = bytearray((folder / "v.h5").read_bytes())
    raw[row.at] ^= 1
    (folder / "v.h5").write_bytes(raw)


def repair(folder: Path) -> None:
    vault.repair(folder / "v.h5")


def still_there(folder: Path) -> None:
    """Nothing but the damaged member is lost; if the index is not there yet, repairing is called again."""
    repair(folder)
    mended(folder)


def mended(folder: Path) -> None:
    if held(folder / "v") != contents(folder / "old") or not vault.verify(folder / "v", scheduler="sync").ok:
        raise AssertionError("repairing lost what was whole")


# Shards

VALUES = np.arange(2 * 6 * 6, dtype="i4").reshape(2, 6, 6)


def loose(folder: Path) -> None:
    array = zarr.create_array(LocalStore(folder / "a.zarr"), shape=VALUES.shape, chunks=(1, 2, 3), dtype="i4", compressors=None)
    array[...] = VALUES


def sharded(folder: Path) -> None:
    loose(folder)
    shards.consolidate(folder / "a.zarr", scheduler="sync")


def consolidate(folder: Path) -> None:
    shards.consolidate(folder / "a.zarr", scheduler="sync")


def unconsolidate(folder: Path) -> None:
    shards.unconsolidate(folder / "a.zarr", scheduler="sync")


def values(folder: Path) -> Any:
    forget_all("")
    return zarr.open_array(H5ShardStore(folder / "a.zarr", mode="r"))[...]


def all_there(folder: Path) -> None:
    np.testing.assert_array_equal(values(folder), VALUES)
    if not shards.check(folder / "a.zarr", scheduler="sync").ok:
        raise AssertionError("a container is damaged")


def in_containers(folder: Path) -> None:
    all_there(folder)
    names = {path.suffix for path in (folder / "a.zarr" / "c").rglob("*") if path.is_file()}
    if names - {".partial"} != {".h5"}:
        raise AssertionError(names)


def in_files(folder: Path) -> None:
    np.testing.assert_array_equal(zarr.open_array(LocalStore(folder / "a.zarr"), mode="r")[...], VALUES)
    if list(folder.rglob("*.h5")):
        raise AssertionError("a container is left")


def write(folder: Path) -> None:
    store = H5ShardStore(folder / "a.zarr")
    for i in range(2):
        store.set_sync(f"c/0/0/{i}", store_bytes(-VALUES[:1, :2, 3 * i : 3 * i + 3]))
    store.close()


def store_bytes(array: Any) -> Any:
    from zarr.buffer import cpu

    return cpu.Buffer.from_bytes(np.ascontiguousarray(array).tobytes())


def each_old_or_new(folder: Path) -> None:
    found = values(folder)
    for i in range(2):
        place = np.s_[:1, :2, 3 * i : 3 * i + 3]
        if not (np.array_equal(found[place], VALUES[place]) or np.array_equal(found[place], -VALUES[place])):
            raise AssertionError("a chunk is neither the old one nor the new one")
    np.testing.assert_array_equal(found[:, 2:], VALUES[:, 2:])


def written(folder: Path) -> None:
    np.testing.assert_array_equal(values(folder)[0, :2], -VALUES[0, :2])
    all_whole = shards.check(folder / "a.zarr", scheduler="sync")
    if not all_whole.ok:
        raise AssertionError(all_whole)


CASES = {
    "create": Case(sources, create, created_or_not_there, created),
    "add": Case(before_adding, add, old_or_new, added),
    "repair": Case(damaged, repair, still_there, mended),
    "consolidate": Case(loose, consolidate, all_there, in_containers),
    "unconsolidate": Case(sharded, unconsolidate, all_there, in_files),
    "write": Case(sharded, write, each_old_or_new, written),
}


def main(arguments: Sequence[str]) -> None:
    name, folder = arguments
    print(json.dumps({"kills": run(CASES[name], Path(folder))}))


if __name__ == "__main__":
    main(sys.argv[1:])
