"""A Zarr store whose chunks live in HDF5 containers: the store, and chunks into containers, back, and out."""

from h5z.shards.export import export
from h5z.shards.moving import check, consolidate, unconsolidate
from h5z.shards.report import ShardReport

__all__ = ["ShardReport", "check", "consolidate", "export", "unconsolidate"]
