"""What was done with a vault, and what fell short."""

from __future__ import annotations

from dataclasses import dataclass

from h5z.nodes import Record
from h5z.report import Summary, size


@dataclass(frozen=True)
class Flaw(Record):
    """A member, or a file of a vault, with which something is wrong."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class VaultReport(Summary):
    """What a call did.

    Attributes
    ----------
    action : str
        ``created``, ``added``, ``unchanged``, ``verified``, ``extracted`` or ``repaired``.
    members, nbytes, stored_nbytes : int
        Members concerned, their bytes, and what these take in the vault.
    quarantined : tuple of Flaw
        Files that were not stored, each named with its reason.
    flaws : tuple of Flaw
        Members that are damaged, refused or different.
    notes : tuple of str
        What else there is to say.
    """

    action: str
    vault: str
    members: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0
    seconds: float = 0.0
    quarantined: tuple[Flaw, ...] = ()
    flaws: tuple[Flaw, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing fell short."""
        return not self.quarantined and not self.flaws

    @property
    def exit_code(self) -> int:
        """The exit status of the command line: 1 with flaws, 5 with files in quarantine, else 0."""
        return 1 if self.flaws else 5 if self.quarantined else 0

    def __str__(self) -> str:
        """The report in a few lines."""
        amount = f"{self.members} members, {size(self.nbytes)}"
        head = {
            "unchanged": f"{self.vault} already holds all of it: nothing to do",
            "verified": f"verified {self.vault}: {amount}"
            if self.ok
            else f"{self.vault}: {len(self.flaws)} of {amount} are not true",
        }.get(self.action, f"{self.action} {self.vault}: {amount} in {self.seconds:.1f} s")
        if self.action in ("created", "added"):
            head += f", stored as {size(self.stored_nbytes)}"
        lines = [head, *(f"quarantined: {flaw}" for flaw in self.quarantined), *map(str, self.flaws)]
        return "\n".join([*lines, *self.notes])


def shown(name: bytes | str) -> str:
    """A name as text; what is no UTF-8 in it as surrogates."""
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
