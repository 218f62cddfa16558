"""The catalogs of a vault, put in force all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from h5z.container import Container
from h5z.hdf5.symboltable import View
from h5z.vault.catalog import Catalog, Rows
from h5z.vault.hdf5vault import as_hdf5vault
from h5z.vault.header import Header, read_header
from h5z.vault.pack import CATALOG, HDF5VAULT, HEADER, all_rows, catalog_key
from h5z.vault.report import shown
from h5z.vault.walk import Refused

_DESCRIPTION = (
    "A vault of h5z: files in packs (__h5z_vault__/pack), each with a table of its members, and a catalog of all. "
    "h5z vault list, extract and verify read it."
)


def index(containers: Sequence[Container], header: Header, refused: Sequence[Refused]) -> None:
    """Put a catalog into each container, then have the first one's header say so, and HDF5 see all; each on the disk.

    Whoever opens the vault meanwhile sees all members that it had before, or all that it has afterwards.
    """
    generation = header.generation + 1 if header.finished else 0
    everything = _everything(containers)
    quarantined = tuple(dict.fromkeys((shown(item.name), item.reason) for item in refused))
    for number, container in enumerate(containers):
        container.delete(*(key for key in catalogs(container) if key != catalog_key(header.generation)))
        container.put_many([(catalog_key(generation), _own(everything, number, len(containers)).encode())], sync=True)
    for number, container in enumerate(containers):
        finished = replace(header, number=number, finished=True, generation=generation, quarantined=quarantined)
        view = View(root={"description": _DESCRIPTION})
        if header.layout == HDF5VAULT:
            view = as_hdf5vault(everything, number, len(containers), header.split_nbytes)
        container = replace(container, view=view)
        container.put(HEADER, finished.encode())
        container.seal(sync=True, always=True)


def catalogs(container: Container) -> list[str]:
    """The keys of a container's catalogs: of the one in force, and of the one before."""
    return [key for key in container.entries() if key.startswith(CATALOG)]


def is_indexed(containers: Sequence[Container], header: Header) -> bool:
    """Whether all that is in the packs is in the catalogs, too: a call that adds may have been killed in between."""
    everything = _everything(containers)
    return all(
        container.is_sealed()
        and read_header(container) == replace(header, number=number)
        and container.get(catalog_key(header.generation)) == _own(everything, number, len(containers)).encode()
        for number, container in enumerate(containers)
    )


def _everything(containers: Sequence[Container]) -> Rows:
    """The members of all packs, each as it was stored last."""
    return Catalog.of(Rows.joined(all_rows(container, number) for number, container in enumerate(containers))).rows


def _own(everything: Rows, number: int, count: int) -> Rows:
    """The rows of one container."""
    return everything if count == 1 else everything.take(np.flatnonzero(everything.columns["file"] == number))
