"""Which file goes where, and which files go together: jobs and batches, plain arithmetic on names and sizes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flows.discovery import SourceFile
from h5z.errors import PlanError

DEFAULT_TEMPLATE = "{parent}/{stem}.zarr"
FIELDS = ("parent", "stem", "suffix", "name")


@dataclass(frozen=True)
class Job:
    """One file to migrate.

    Attributes
    ----------
    relative : str
        Its path below what was named as its source.
    mtime_ns : int
        With its size, what tells whether it has changed since it was found.
    outdated : bool
        Whether its target is of the file as it once was, and shall be replaced.
    """

    source: str
    target: str
    nbytes: int
    relative: str = ""
    mtime_ns: int = 0
    outdated: bool = False


@dataclass(frozen=True)
class Batch:
    """The files of one orchestrated task: many small ones, or one that is large."""

    number: int
    jobs: tuple[Job, ...]
    big: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the source files."""
        return sum(job.nbytes for job in self.jobs)

    @property
    def label(self) -> str:
        """A name for people."""
        what = posixpath.basename(self.jobs[0].source) if self.big else f"{len(self.jobs)} files"
        return f"batch {self.number}: {what}"


def target_name(relative: str, template: str = DEFAULT_TEMPLATE) -> str:
    """Name a file's target below the target root.

    Parameters
    ----------
    relative : str
        The file's path below the folder that was named as its source.
    template : str
        With ``{parent}`` (folder below the source folder), ``{stem}``, ``{suffix}`` and ``{name}`` (stem and suffix).

    Raises
    ------
    PlanError
        If the name is none, or leaves the target root.

    Examples
    --------
    >>> target_name("2019/january.nc"), target_name("a.h5")
    ('2019/january.zarr', 'a.zarr')
    >>> target_name("2019/january.nc", "{parent}/{name}.zarr")
    '2019/january.nc.zarr'
    """
    parent, name = posixpath.split(relative)
    stem, suffix = posixpath.splitext(name)
    try:
        made = template.format(parent=parent, stem=stem, suffix=suffix, name=name)
    except (KeyError, IndexError, ValueError, AttributeError):
        known = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise PlanError(f"name_template: expected text with some of {known}, found {template!r}") from None
    parts = [part for part in made.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise PlanError(f"name_template: {template!r} names {made!r} for {relative}: expected a path below the target root")
    return "/".join(parts)


def pair(files: Iterable[SourceFile], target_root: str, template: str = DEFAULT_TEMPLATE) -> tuple[Job, ...]:
    """Give each file its target, and refuse two files that would meet in one.

    Raises
    ------
    PlanError
        If two files would share a target, or one's target would lie inside another's; both files are named.
    """
    taken: dict[str, str] = {}
    jobs = []
    for file in files:
        name = target_name(file.relative, template)
        if name in taken:
            _refuse(taken[name], file.path, f"would both become {posixpath.join(target_root, name)}")
        taken[name] = file.path
        jobs.append(Job(file.path, posixpath.join(target_root, name), file.nbytes, file.relative, file.mtime_ns))
    for name, source in taken.items():
        folder = posixpath.dirname(name)
        while folder:
            if folder in taken:
                _refuse(taken[folder], source, f"would become {folder} and {name} inside it")
            folder = posixpath.dirname(folder)
    return tuple(jobs)


def _refuse(first: str, second: str, what: str) -> None:
    raise PlanError(
        f"{first} and {second} {what}; a name template (--name-template) such as '{{parent}}/{{name}}.zarr' keeps them apart"
    )


def pack(jobs: Sequence[Job], *, batch_files: int, batch_nbytes: int, big_file_nbytes: int) -> list[Batch]:
    """Pack files into batches: a large file alone and first, the largest ahead; small ones many together, in order.

    Parameters
    ----------
    batch_files, batch_nbytes : int
        How many files and bytes a batch of small files may hold; one file is always let in.
    big_file_nbytes : int
        The size from which a file has a batch of its own.

    Examples
    --------
    >>> jobs = [Job(f"{n}.h5", f"{n}.zarr", n) for n in (1, 9, 2, 3, 8)]
    >>> [[job.nbytes for job in batch.jobs] for batch in pack(jobs, batch_files=2, batch_nbytes=5, big_file_nbytes=8)]
    [[9], [8], [1, 2], [3]]
    """
    big = sorted((job for job in jobs if job.nbytes >= big_file_nbytes), key=lambda job: -job.nbytes)
    small = [job for job in jobs if job.nbytes < big_file_nbytes]
    groups = [(job,) for job in big] + list(_groups(small, batch_files, batch_nbytes))
    return [Batch(number, group, big=number < len(big)) for number, group in enumerate(groups)]


def _groups(jobs: Iterable[Job], files: int, nbytes: int) -> Iterator[tuple[Job, ...]]:
    waiting: list[Job] = []
    weight = 0
    for job in jobs:
        if waiting and (len(waiting) >= files or weight + job.nbytes > nbytes):
            yield tuple(waiting)
            waiting, weight = [], 0
        waiting.append(job)
        weight += job.nbytes
    if waiting:
        yield tuple(waiting)
