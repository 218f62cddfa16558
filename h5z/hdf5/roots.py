"""Where a file may lead: other files that it names are opened only inside the roots that the caller named.

An HDF5 file names others by external links, external storage and virtual datasets, and those may name more. libhdf5 looks for
them in several places, the working folder among them (`H5F_prefix_open_file`; `H5Dset_extfile_prefix` in its reference
manual), and follows whatever it finds. So paths are walked here, link by link, and of each file that is named, every place
where libhdf5 might find it has to lie inside a root, symbolic links resolved.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
from h5py import h5d, h5f, h5g, h5i, h5l, h5o

from h5z.errors import SourceError
from h5z.hdf5.references import address
from h5z.hdf5.tables import link_names

_MOST_LINKS = 16  # on the way to one object, as libhdf5 has it
_VARIABLES = {"external link": "HDF5_EXT_PREFIX", "virtual storage": "HDF5_VDS_PREFIX", "external storage": "HDF5_EXTFILE_PREFIX"}
_BLOCK = re.compile(r"%(.)")  # in the names of virtual sources: %b is the number of a block, %% a percent sign


class Roots:
    """The folders in which all files must lie to which a source leads; keeps those open that it has opened.

    Parameters
    ----------
    source : str
        The HDF5 file; its own folder is a root. A URL has none: it leads nowhere.
    allowed : sequence of str
        Further folders.
    """

    def __init__(self, source: str, allowed: Sequence[str] = ()) -> None:
        self.folders = () if "://" in source else (folder_of(source), *map(os.path.realpath, allowed))
        self._files: dict[str, h5py.File] = {}
        self._sound: set[tuple[int, int]] = set()

    def hold(self, path: str) -> bool:
        """Whether a path lies inside a root, symbolic links resolved.

        >>> Roots("/data/a.h5").hold("/data/b/../c.h5"), Roots("/data/a.h5").hold("/data2/a.h5")
        (True, False)
        """
        real = os.path.realpath(path)
        return any(os.path.commonpath((real, folder)) == folder for folder in self.folders)

    def find(self, kind: str, name: str, owner: Any) -> list[str]:
        """The files that a name may stand for, as libhdf5 would look for them; empty where there are none.

        Parameters
        ----------
        kind : {"external link", "virtual storage", "external storage"}
        owner : h5py identifier
            An object of the file that gives the name.

        Raises
        ------
        SourceError
            If the name leads outside the roots, or anywhere to what is no regular file.
        """
        holder = h5f.get_name(owner).decode("utf-8", "surrogateescape")
        first = os.path.join(folder_of(holder), name)
        if kind == "virtual storage" and "%" in os.path.dirname(name):
            raise SourceError(f"{kind} in {name!r}: folders by the number of a block are not followed")
        if not self.hold(first):
            raise SourceError(f"{kind} in {name!r} lies outside the external roots")
        found = []
        for place in dict.fromkeys([first, *_places(kind, name, holder)]):
            for path in _named(place) if kind == "virtual storage" else [place]:
                if not os.path.lexists(path):
                    continue
                if not self.hold(path):
                    raise SourceError(f"{kind} in {name!r} lies outside the external roots: libhdf5 would look in {path}")
                if os.path.exists(path):
                    if not stat.S_ISREG(os.stat(path).st_mode):
                        raise SourceError(f"{kind} in {name!r}: expected a file at {path}, found none that is regular")
                    found.append(path)
        return found

    def locate(self, start: Any, path: bytes, links: int = _MOST_LINKS) -> tuple[Any, bytes]:
        """Walk a path as libhdf5 does, without leaving the roots.

        Parameters
        ----------
        start : h5py identifier
            The group from which a relative path starts; of an absolute one, any object of the file.

        Returns
        -------
        group, name
            Where the object that the path leads to has a hard link.

        Raises
        ------
        KeyError
            If the path leads nowhere.
        SourceError
            If it leads outside the roots.
        """
        group, name = (h5o.open(h5i.get_file_id(start), b"/") if path.startswith(b"/") else start), b"."
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            group, name = (group if name == b"." else h5o.open(group, name)), part
            if not isinstance(group, h5g.GroupID):
                raise KeyError(f"no group in {path!r}")
            try:
                kind = group.links.get_info(name).type
            except RuntimeError:
                raise KeyError(f"no link {name!r} in {path!r}") from None
            if kind == h5l.TYPE_HARD:
                continue
            if not links or kind not in (h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL):
                raise KeyError(f"no link that can be followed in {path!r}")
            links -= 1
            value = group.links.get_val(name)
            if kind == h5l.TYPE_SOFT:
                group, name = self.locate(group, value, links)
            else:
                group, name = self.locate(self._linked(group, value[0]), b"/" + value[1], links)
        return group, name

    def open(self, start: Any, path: bytes) -> Any:
        """Open the object that a path leads to; raises as `locate` does."""
        return h5o.open(*self.locate(start, path))

    def _linked(self, group: Any, name: bytes) -> Any:
        found = self.find("external link", os.fsdecode(name), group)
        for path in found:
            return h5o.open(self._file(path).id, b"/")
        raise KeyError(f"no file {name!r}")

    def _file(self, path: str) -> h5py.File:
        real = os.path.realpath(path)
        if real not in self._files:
            self._files[real] = h5py.File(real, "r")
        return self._files[real]

    def check(self, did: Any, above: tuple[tuple[int, int], ...] = (), *, plist: Any = None) -> None:
        """Follow a dataset, of the given creation properties, to wherever its values come from.

        Raises
        ------
        SourceError
            If any of it lies outside the roots, or it is its own source, on which libhdf5 would crash.
        """
        here = address(did)
        if here in above:
            raise SourceError("a virtual dataset that is, through others, its own source")
        if here in self._sound:
            return
        plist = plist or did.get_create_plist()
        for i in range(plist.get_external_count()):
            self.find("external storage", os.fsdecode(plist.get_external(i)[0]), did)
        if plist.get_layout() == h5d.VIRTUAL:
            for source in dict.fromkeys(self._sources(did, plist)):
                self._check_source(did, *source, (*above, here))
        self._sound.add(here)

    @staticmethod
    def _sources(did: Any, plist: Any) -> Iterator[tuple[str, str]]:
        for i in range(plist.get_virtual_count()):
            yield plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)

    def _check_source(self, did: Any, file: str, path: str, above: tuple[tuple[int, int], ...]) -> None:
        starts = [h5i.get_file_id(did)] if file == "." else []
        for place in [] if file == "." else self.find("virtual storage", file, did):
            try:
                starts.append(self._file(place).id)
            except OSError:  # no HDF5 file: libhdf5 takes its part of the dataset for missing
                continue
        for start in starts:
            for name in self._paths(start, path):
                try:
                    source = self.open(start, name)
                except SourceError:
                    raise
                except (KeyError, RuntimeError, OSError):  # not there, or not readable: missing too
                    continue
                if isinstance(source, h5d.DatasetID):
                    self.check(source, above)

    def _paths(self, start: Any, path: str) -> Iterator[bytes]:
        """The datasets that a virtual source's name stands for: itself, or with numbers of blocks in its place."""
        raw = path.encode("utf-8", "surrogateescape")
        folder, _, last = path.rpartition("/")
        if "%" not in path:
            yield raw
        elif "%" in folder:
            raise SourceError(f"virtual storage in {path!r}: groups by the number of a block are not followed")
        else:
            pattern = _pattern(last)
            group = self.open(start, (folder or "/").encode("utf-8", "surrogateescape"))
            for name in link_names(group)[0]:
                if pattern.fullmatch(name.decode("utf-8", "surrogateescape")):
                    yield os.fsencode(folder) + b"/" + name


def folder_of(file: str) -> str:
    """The folder in which external storage is looked for: that of the file itself, not of a symbolic link to it."""
    return os.path.dirname(os.path.realpath(file))


def _places(kind: str, name: str, holder: str) -> Iterator[str]:
    """Everywhere that libhdf5 may look for a file, beside the folder of the one that names it."""
    prefixes = os.environ.get(_VARIABLES[kind], "")
    if kind == "external storage":
        if prefixes:
            yield os.path.join(prefixes.replace("${ORIGIN}", folder_of(holder)), name)
        return
    base = os.path.basename(name) if os.path.isabs(name) else name
    for prefix in filter(None, prefixes.split(os.pathsep)):
        yield os.path.join(prefix, base)
    yield os.path.join(os.path.dirname(os.path.abspath(holder)), base)
    yield os.path.abspath(base)
    yield os.path.join(folder_of(holder), base)


def _named(place: str) -> list[str]:
    """The files that the name of a virtual source stands for."""
    if "%" not in place:
        return [place]
    folder, name = os.path.split(place)
    if "%" in name and os.path.isdir(folder):
        pattern = _pattern(name)
        return [place, *(entry.path for entry in os.scandir(folder) if pattern.fullmatch(entry.name))]
    return [place]


def _pattern(name: str) -> re.Pattern[str]:
    """What the names look like that a virtual source's name stands for.

    >>> bool(_pattern("part-%b.h5").fullmatch("part-12.h5")), bool(_pattern("100%%").fullmatch("100%"))
    (True, True)
    """
    parts, at = [], 0
    for found in _BLOCK.finditer(name):
        parts += [re.escape(name[at : found.start()]), r"\d+" if found[1] == "b" else re.escape(found[1])]
        at = found.end()
    return re.compile("".join([*parts, re.escape(name[at:])]))
