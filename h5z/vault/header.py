"""What a container of a vault says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass

from h5z.container import Container
from h5z.errors import SourceError
from h5z.nodes import Json
from h5z.vault.pack import HEADER

UNFINISHED = ".unfinished"  # ends the names of containers until all is in them
SPLIT_NBYTES = 16 << 20
VERSION = 1


@dataclass(frozen=True)
class Header:
    """What a vault's container says of itself.

    Attributes
    ----------
    number, count : int
        Which of the vault's containers it is, of how many.
    source : str
        The folder that was archived.
    finished : bool
        Whether all of it is there.
    generation : int
        Which of the vault's catalogs are in force; the first container's header says it for all of them.
    quarantined : tuple of (str, str)
        Files that were not stored, and why.
    """

    vault: str
    number: int
    count: int
    codec: str
    digest: str
    layout: str
    source: str
    links: str = "keep"
    split_nbytes: int = SPLIT_NBYTES
    finished: bool = False
    generation: int = 0
    quarantined: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({"format": "h5z vault", "version": VERSION, **self.__dict__}).encode()

    @classmethod
    def decode(cls, raw: bytes, what: str) -> Header:
        """Of JSON.

        Raises
        ------
        SourceError
            If it is no vault's, or of a version that is not known here.
        """
        try:
            found: dict[str, Json] = json.loads(raw)
            if found.pop("format") != "h5z vault" or found.pop("version") != VERSION:
                raise ValueError("of another version")
            quarantined = tuple((name, reason) for name, reason in found.pop("quarantined"))
            return cls(**found, quarantined=quarantined)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{what}: expected the header of a vault ({error})") from None


def read_header(container: Container) -> Header:
    """A container's header.

    Raises
    ------
    SourceError
        If it has none, or one that is not understood.
    """
    raw = container.get(HEADER)
    if raw is None:
        raise SourceError(f"{container.path}: expected a vault of h5z's, found no {HEADER}")
    return Header.decode(raw, container.path)
