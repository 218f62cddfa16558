"""Events of recorded sessions: rows in HDF5 -> one xarray Dataset -> Zarr, straight to S3; and queries on what is stored.

`read` yields the rows of a file, `to_dataset` makes one Dataset of them, `publish` writes it; `open_session` and
`open_sessions` open what is stored, lazily, for `children`, `between`, `rows` and `frame`. `Schema` says what the tables are;
`RECORDED_SESSION` is the worked example.
"""

from h5z.events.dataset import to_dataset
from h5z.events.files import identify, publish_file
from h5z.events.layout import Layout, SessionLayout, tables
from h5z.events.publish import publish
from h5z.events.queries import between, children, find, frame, rows
from h5z.events.readers import read
from h5z.events.recorded_session import RECORDED_SESSION
from h5z.events.records import Batch, Records
from h5z.events.schema import Attribute, Entity, Relation, Schema
from h5z.events.stored import open_session, open_sessions

__all__ = [
    "RECORDED_SESSION",
    "Attribute",
    "Batch",
    "Entity",
    "Layout",
    "Records",
    "Relation",
    "Schema",
    "SessionLayout",
    "between",
    "children",
    "find",
    "frame",
    "identify",
    "open_session",
    "open_sessions",
    "publish",
    "publish_file",
    "read",
    "rows",
    "tables",
    "to_dataset",
]
