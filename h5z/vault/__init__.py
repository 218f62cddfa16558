"""Vaults: many small files in few HDF5 containers, checksummed, found by name, and out again as they were."""

from h5z.vault.archive import Member, Vault
from h5z.vault.extract import extract
from h5z.vault.repair import repair
from h5z.vault.report import VaultReport
from h5z.vault.verify import verify
from h5z.vault.writing import add, create

__all__ = ["Member", "Vault", "VaultReport", "add", "create", "extract", "repair", "verify"]
