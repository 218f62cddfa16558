"""Create a vault of a folder, or add to one: a task a pack, containers that appear when all is in them, resumable."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from h5z.container import Container
from h5z.container.drafts import remove_drafts
from h5z.container.locks import exclusive
from h5z.errors import PlanError, SourceError, TargetError, TargetExistsError, one_line
from h5z.scheduling import Job, run, watching
from h5z.vault.catalog import FILE, Catalog, Row, Rows
from h5z.vault.codec import DIGESTS, LARGEST, VaultCodec
from h5z.vault.files import container_files
from h5z.vault.header import SPLIT_NBYTES, UNFINISHED, Header, read_header
from h5z.vault.indexing import index, is_indexed
from h5z.vault.pack import HDF5VAULT, HEADER, LAYOUTS, OWN, PACKS, Packed, Recipe, all_rows, packs, store
from h5z.vault.report import Flaw, VaultReport, shown
from h5z.vault.walk import LINKS, Found, Refused, Walk, batches, units

LOCK = ".lock"
PACK_NBYTES, PACK_COUNT = 4 << 20, 1000
_MOST_CONTAINERS = 1000  # of a vault: each is a file, and open while it is written
_WINDOW = 32  # tasks that are known to the scheduler at once


def container_paths(folder: str, basename: str, writers: int) -> list[str]:
    """Where a vault's containers are: ``BASENAME.h5``, or ``BASENAME_{i}.h5`` of several, as HDF5Vault names them.

    >>> container_paths("/a", "b", 1), container_paths("/a", "b", 10)[3]
    (['/a/b.h5'], '/a/b_03.h5')
    """
    if writers == 1:
        return [os.path.join(folder, f"{basename}.h5")]
    width = len(str(writers))
    return [os.path.join(folder, f"{basename}_{i:0{width}d}.h5") for i in range(writers)]


def create(
    directory: str | os.PathLike[str],
    basename: str | os.PathLike[str],
    *,
    codec: str = "blosc2-zstd:5",
    writers: int = 1,
    split_nbytes: int = SPLIT_NBYTES,
    links: str = "keep",
    digest: str = "xxh3-128",
    layout: str = OWN,
    scheduler: Any = None,
    workers: int | None = None,
    progress: Any = False,
) -> VaultReport:
    """Archive a folder's files in containers.

    Files are read and compressed in parallel, a pack of about `PACK_NBYTES` a task; who has one ready appends it to its
    container. The containers have their names once all is in them. After a kill, the same call goes on: packs that are in
    stay. What cannot be read, or changes while it is, is left out and named.

    Parameters
    ----------
    directory : path
        What to archive; names in the vault are relative to it.
    basename : path
        ``DIR/NAME`` for a vault ``DIR/NAME.h5``, or of several containers ``DIR/NAME_0.h5`` and so on.
    codec : str
        ``blosc2-zstd:5``, another of Blosc2's codecs and a level, or ``none``.
    writers : int
        How many containers.
    split_nbytes : int
        Files larger than this are stored in parts; a task's memory follows it.
    links : {"keep", "follow", "skip"}
        What becomes of symbolic links.
    digest : {"xxh3-128", "sha256"}
        The checksum of content.
    layout : {"h5z", "hdf5vault"}
        h5z's own, or one that HDF5Vault 0.3's tools read too, which takes some 400 bytes more for each file.
    scheduler, workers, progress
        As for `h5z.convert`.

    Returns
    -------
    VaultReport
        Its ``quarantined`` names each file that is not in the vault.

    Raises
    ------
    PlanError
        If the call is wrong.
    SourceError
        If the folder is not there.
    TargetExistsError, TargetError
        If there is another vault, or it cannot be written.
    """
    start = time.perf_counter()
    root = _source(directory)
    paths = _paths(basename, writers)
    _check(split_nbytes, {"links": (links, LINKS), "digest": (digest, DIGESTS), "layout": (layout, LAYOUTS)})
    wanted = Header("", 0, writers, VaultCodec(codec).name, digest, layout, shown(root), links, split_nbytes)
    if all(map(os.path.exists, paths)):
        return _existing(root, paths, wanted, start)
    with alone(paths[0]):
        containers = _begin(paths, wanted)
        header = read_header(containers[0])
        outcome = _archive(root, containers, header, scheduler, workers, progress)
        _finish(containers, paths, header, outcome.refused)
    return _report("created", paths, outcome, start)


def add(
    vault: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    scheduler: Any = None,
    workers: int | None = None,
    progress: Any = False,
) -> VaultReport:
    """Add to a vault what is new, or has changed, in a folder; names are relative to it. What is gone there stays in the vault.

    The vault is as it was until all is in.

    Raises
    ------
    SourceError, TargetError, PlanError
        If the vault or the folder is not there, or the vault is another tool's.
    """
    start = time.perf_counter()
    root = _source(directory)
    paths = container_files(os.path.abspath(vault))
    containers = [Container(os.path.abspath(path), indexing=False) for path in paths]
    with alone(paths[0]):
        header = read_header(containers[0])
        if not header.finished:
            raise TargetError(f"{paths[0]}: expected a finished vault; the call that creates it has yet to end")
        outcome = _archive(root, containers, header, scheduler, workers, progress)
        unchanged = not outcome.members and is_indexed(containers, header)
        if not unchanged:
            index(containers, header, outcome.refused)
    return _report("unchanged" if unchanged else "added", paths, outcome, start)


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Keep other calls from writing to the same vault; the lock ends with the process."""
    place = path + LOCK
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise TargetError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None
    try:
        with exclusive(descriptor, path, 0):
            if not os.path.exists(place) or not os.path.samestat(os.stat(place), os.fstat(descriptor)):
                raise TargetError(f"{path}: another call has just ended; call again")
            try:
                yield
            finally:
                with suppress(OSError):
                    os.unlink(place)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Outcome:
    members: int
    nbytes: int
    stored_nbytes: int
    refused: tuple[Refused, ...]


def _source(directory: str | os.PathLike[str]) -> bytes:
    if not os.fspath(directory):
        raise PlanError("directory: expected the folder to archive, found ''")
    root = os.path.abspath(os.fsencode(directory))
    if not os.path.isdir(root):
        raise SourceError(f"{shown(root)}: expected a folder, found {'a file' if os.path.lexists(root) else 'nothing'}")
    return root


def _paths(basename: str | os.PathLike[str], writers: int) -> list[str]:
    if not 1 <= writers <= _MOST_CONTAINERS:
        raise PlanError(f"writers: expected 1 to {_MOST_CONTAINERS:,}, found {writers}")
    folder, name = os.path.split(os.path.abspath(basename))
    name = name.removesuffix(".h5") if os.fspath(basename) else ""
    if not name:
        raise PlanError(f"basename: expected a name for the vault, found {os.fspath(basename)!r}")
    return container_paths(folder, name, writers)


def _check(split_nbytes: int, choices: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    if not 1 <= split_nbytes <= LARGEST:
        raise PlanError(f"split_nbytes: expected 1 to {LARGEST}, found {split_nbytes}")
    for name, (found, known) in choices.items():
        if found not in known:
            raise PlanError(f"{name}: expected one of {', '.join(map(repr, known))}, found {found!r}")


def _existing(root: bytes, paths: Sequence[str], wanted: Header, start: float) -> VaultReport:
    """A vault that is there already: of this folder, and all of it, there is nothing to do."""
    containers = [Container(path) for path in paths]
    try:
        header = read_header(containers[0])
    except SourceError:
        raise TargetExistsError(f"{paths[0]}: expected nothing there, found a file that is no vault of h5z's") from None
    if header.source != wanted.source:
        raise TargetExistsError(f"{paths[0]}: expected nothing there, found a vault of {header.source}")
    if header.count != wanted.count:
        raise TargetExistsError(f"{paths[0]}: expected {wanted.count} containers, found a vault of {header.count}")
    missing = {item.name for item in _missing(root, containers, header) if isinstance(item, Found)}
    missing -= {os.fsencode(name) for name, _ in header.quarantined}
    if missing:
        raise TargetExistsError(f"{paths[0]}: there already, and {len(missing)} files are new since: h5z vault add puts them in")
    refused = tuple(Refused(os.fsencode(name), reason) for name, reason in header.quarantined)
    return _report("unchanged", paths, _Outcome(0, 0, 0, refused), start)


def _begin(paths: Sequence[str], wanted: Header) -> list[Container]:
    """Containers to write to: new, or those of a call that did not end."""
    vault = uuid.uuid4().hex
    containers = []
    for number, path in enumerate(paths):
        draft = path if os.path.exists(path) else path + UNFINISHED
        remove_drafts(draft, older_seconds=0)  # nobody else is at work
        container = Container(draft, indexing=False)
        if container.exists() and HEADER in container:
            header = read_header(container)
            found = replace(header, vault="", finished=False, generation=0, quarantined=())
            if found != replace(wanted, number=number):
                raise TargetExistsError(f"{draft}: expected the same vault, unfinished; found another; delete it to begin anew")
            vault = header.vault if number == 0 else vault
            if header.vault != vault:
                raise TargetExistsError(f"{draft}: expected a container of vault {vault}, found one of {header.vault}")
        elif os.path.exists(path):
            raise TargetExistsError(f"{path}: expected nothing there, found a file that is no vault of h5z's")
        else:
            container.put(HEADER, replace(wanted, vault=vault, number=number).encode())
        containers.append(container)
    return containers


def _missing(root: bytes, containers: Sequence[Container], header: Header) -> Iterator[Found | Refused]:
    """What is in the folder, and not in the containers as it is there."""
    own = {os.fsencode(container.path.removesuffix(UNFINISHED)) for container in containers}
    own |= {path + os.fsencode(suffix) for path in own for suffix in (UNFINISHED, LOCK)}
    known = Catalog.of(Rows.joined(all_rows(container, number) for number, container in enumerate(containers)))
    for item in Walk(root, header.links, own):
        rows = known.find(item.name) if isinstance(item, Found) else []
        if isinstance(item, Refused) or not rows:
            yield item
        elif _differs(rows[0], item):
            changed = header.finished and header.layout == HDF5VAULT and item.kind == FILE
            reason = "has changed since it was stored, and HDF5Vault's format cannot replace it"
            yield Refused(item.name, reason) if changed else item


def _differs(row: Row, item: Found) -> bool:
    if (row.kind, row.mode, row.mtime) != (item.kind, item.mode, item.mtime):
        return True
    return item.kind == FILE and row.size != item.nbytes


def _archive(
    root: bytes, containers: Sequence[Container], header: Header, scheduler: Any, workers: int | None, progress: Any
) -> _Outcome:
    """Store what is missing; a pack a task, round the containers."""
    recipe = Recipe(root, VaultCodec(header.codec), header.digest, header.layout, header.links == "follow")
    refused: list[Refused] = []
    first = 1 + max((int(key.removeprefix(PACKS)) for container in containers for key in packs(container)), default=-1)

    def missing() -> Iterator[Found]:
        refused.clear()
        for item in _missing(root, containers, header):
            if isinstance(item, Found):
                yield item
            else:
                refused.append(item)

    def jobs() -> Iterator[Job]:
        for number, batch in enumerate(batches(units(missing(), header.split_nbytes), PACK_NBYTES, PACK_COUNT), first):
            yield store, (recipe, containers[number % len(containers)], number, batch), sum(unit.nbytes for unit in batch)

    total = sum(item.nbytes for item in missing()) if progress else 0
    with watching(progress, total) as advance:
        done: list[Packed] = run(jobs(), scheduler, workers or os.cpu_count() or 1, advance, window=_WINDOW)
    refused += [item for packed in done for item in packed.refused]
    return _Outcome(
        sum(packed.members for packed in done),
        sum(packed.nbytes for packed in done),
        sum(packed.stored_nbytes for packed in done),
        tuple(dict.fromkeys(refused)),
    )


def _finish(containers: Sequence[Container], paths: Sequence[str], header: Header, refused: Sequence[Refused]) -> None:
    index(containers, header, refused)
    for container, path in zip(containers, paths, strict=True):
        if container.path != path:
            os.rename(container.path, path)
            with suppress(OSError):
                folder = os.open(os.path.dirname(path), os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)


def _report(action: str, paths: Sequence[str], outcome: _Outcome, start: float) -> VaultReport:
    return VaultReport(
        action,
        paths[0],
        outcome.members,
        outcome.nbytes,
        outcome.stored_nbytes,
        round(time.perf_counter() - start, 3),
        tuple(Flaw(shown(item.name), item.reason) for item in outcome.refused),
    )
