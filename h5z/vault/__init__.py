"""Vaults: many small files in few HDF5 containers, checksummed, found by name, and out again as they were."""

from typing import TYPE_CHECKING, Any

from h5z.vault.archive import Member, Vault
from h5z.vault.extract import extract
from h5z.vault.repair import repair
from h5z.vault.report import VaultReport
from h5z.vault.verify import verify
from h5z.vault.writing import add, create

if TYPE_CHECKING:
    from h5z.vault.omezarr import lazy_images, to_zarr

__all__ = ["Member", "Vault", "VaultReport", "add", "create", "extract", "lazy_images", "repair", "to_zarr", "verify"]


def __getattr__(name: str) -> Any:
    """Import what needs zarr when it is first asked for."""
    if name in ("lazy_images", "to_zarr"):
        from h5z.vault import omezarr

        return getattr(omezarr, name)
    raise AttributeError(f"module 'h5z.vault' has no attribute {name!r}")
