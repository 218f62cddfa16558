"""h5z migrates HDF5 archives to Zarr: each dataset a lazy dask array, rechunked, stored in parallel, verified.

The path of data, by module: `scan` reads headers (`headers`, `measure`) into a Tree (`nodes`). `planning` hands it, with a
`policy`, to the `planner` (`choices`, `chunking`), which fixes all in a `plan` (`arrayplan`). `prepare` makes a `target` ready
for it (`documents`). `execution` runs its `tasks`, which read by `source` and write `units`. `verify` compares both sides.
`commit` writes the root's metadata, last. `convert` is all of that in a call, `combining` for many files at once, `restore` the
way back.
"""

from typing import TYPE_CHECKING, Any

from h5z.advise import advise
from h5z.convert import convert, graph, lazy
from h5z.explore import explore
from h5z.pictures import Layout
from h5z.plan import Plan
from h5z.planning import plan
from h5z.policy import Policy
from h5z.report import Report
from h5z.restore import restore
from h5z.scan import scan
from h5z.state import State, state
from h5z.verify import verify

if TYPE_CHECKING:
    __version__: str
    from h5z.combining import combine
    from h5z.commit import finalize
    from h5z.objects.load import load
    from h5z.objects.save import save
    from h5z.shards.store import H5ShardStore

__all__ = [
    "H5ShardStore",
    "Layout",
    "Plan",
    "Policy",
    "Report",
    "State",
    "advise",
    "combine",
    "convert",
    "explore",
    "finalize",
    "graph",
    "lazy",
    "load",
    "plan",
    "restore",
    "save",
    "scan",
    "state",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import what needs zarr when it is first asked for, so that reading HDF5 alone starts at once."""
    if name == "combine":
        from h5z.combining import combine

        return combine
    if name == "finalize":
        from h5z.commit import finalize

        return finalize
    if name in ("load", "save"):
        from h5z import objects

        return getattr(objects, name)
    if name == "H5ShardStore":
        from h5z.shards.store import H5ShardStore

        return H5ShardStore
    if name == "__version__":
        from importlib.metadata import version

        return version("h5z")
    raise AttributeError(f"module 'h5z' has no attribute {name!r}")
