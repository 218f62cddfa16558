"""The files that a vault, or an archive of HDF5Vault, is in."""

from __future__ import annotations

import os

from h5z.container import Container
from h5z.errors import SourceError
from h5z.vault import hdf5vault
from h5z.vault.header import UNFINISHED, read_header
from h5z.vault.pack import HEADER


def container_files(path: str) -> list[str]:
    """All files of the vault that a path is of, or names without ``.h5``, in the order of their numbers.

    Raises
    ------
    SourceError
        If there is none, or one of them is missing.
    """
    path = _first(path)
    if path.lower().endswith(".zip") or not is_own(path):
        return hdf5vault.siblings(path)
    header = read_header(Container(path))
    if header.count == 1:
        return [path]
    bare = path.removesuffix(UNFINISHED)
    unfinished = path[len(bare) :]
    stem = bare.removesuffix(".h5")
    width = len(str(header.count))
    base = stem.removesuffix(f"_{header.number:0{width}d}")
    if base == stem:
        raise SourceError(
            f"{path}: container {header.number} of {header.count}: expected its name to end in _{header.number:0{width}d}.h5"
        )
    paths = [f"{base}_{i:0{width}d}.h5{unfinished}" for i in range(header.count)]
    for other in paths:
        if not os.path.exists(other):
            raise SourceError(f"{other}: no such file, a container of the vault that {path} is of")
    return paths


def _first(path: str) -> str:
    """The file that a path, or a vault's name, stands for."""
    if os.path.isdir(path):
        raise SourceError(f"{path}: expected a vault, found a folder")
    if os.path.exists(path):
        return path
    folder, name = os.path.split(os.path.abspath(path))
    stem = name.removesuffix(".h5")
    try:
        found = sorted(os.listdir(folder))
    except OSError:
        found = []
    for candidate in found:
        rest = candidate.removeprefix(stem)
        if rest != candidate and (rest in (".h5", ".zip") or (rest.startswith("_") and rest[1:].rstrip("ziph5.").isdigit())):
            return os.path.join(folder, candidate)
    if any(candidate.startswith(stem) and candidate.endswith(UNFINISHED) for candidate in found):
        raise SourceError(f"{path}: expected a vault, found an unfinished one: the call that creates it has yet to end")
    raise SourceError(f"{path}: no such vault")


def is_own(path: str) -> bool:
    """Whether a file is a container of a vault of h5z's."""
    if path.lower().endswith(".zip"):
        return False
    return HEADER in Container(path)
