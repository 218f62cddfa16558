"""A session's tables of tasks, elements and segments: h5z, and h5py → dicts → numpy → xarray as one would write it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

ENTITIES = {"task": "tasks", "element": "elements", "segment": "segments"}
LINKS = {"element": ("task", "task_id"), "segment": ("element", "containing_element_id")}


def make_session(segments: int, path: Path) -> None:
    """Tables of compounds, gzip-1, text of variable length; 25 segments an element, 40 elements a task."""
    from ..events.generated import session, write_tables

    write_tables(path, session(segments), chunks=True, compression="gzip", compression_opts=1)


def run_h5z(source: Path, target: Path) -> None:
    """One call."""
    from h5z.events import RECORDED_SESSION, publish_file, tables

    publish_file(source, target, tables(RECORDED_SESSION))


def run_plain(source: Path, target: Path) -> None:
    """Rows as dicts, columns out of these, a Dataset, ``to_zarr``: the same chunks and codec, relations checked and counted."""
    import h5py
    import numpy as np
    import xarray as xr
    from zarr.codecs import ZstdCodec

    from h5z.events.publish import chunk_rows

    rows: dict[str, list[dict[str, Any]]] = {}
    with h5py.File(source) as file:
        for entity, table in ENTITIES.items():
            data = file[table][:]
            texts = {name for name in data.dtype.names if data.dtype[name].kind == "O"}
            rows[entity] = [
                {name: value.decode() if name in texts else value for name, value in zip(data.dtype.names, row, strict=True)}
                for row in data.tolist()
            ]
    variables: dict[str, Any] = {}
    for entity, items in rows.items():
        for name in items[0]:
            values = [row[name] for row in items]
            column = np.array(values, object) if isinstance(values[0], str) else np.array(values)
            variables[f"{entity}_{name}"] = (f"{entity}_id", column)
    for child, (parent, link) in LINKS.items():
        known = {row["id"] for row in rows[parent]}
        assert all(row[link] in known for row in rows[child])
        counts = Counter(row[link] for row in rows[child])
        variables[f"{parent}_{child}_count"] = (f"{parent}_id", np.array([counts[row["id"]] for row in rows[parent]]))
    dataset = xr.Dataset(variables, attrs={"session_id": source.stem})
    chunks = {f"{entity}_id": chunk_rows(len(items)) for entity, items in rows.items()}
    codec = {
        name: {"chunks": (chunks[item.dims[0]],), "compressors": [ZstdCodec(level=1)]} for name, item in dataset.variables.items()
    }
    dataset.to_zarr(target, encoding=codec)


def _text(column: Any) -> Any:
    """Bytes as text, as Python's objects."""
    import numpy as np

    return np.array([item.decode() for item in column], object)


def differences(source: Path, target: Path) -> list[str]:
    """In what a store differs from its source: rows by their ids, text and numbers of each table."""
    import h5py
    import numpy as np
    import xarray as xr

    found = []
    with xr.open_zarr(target, chunks=None) as stored, h5py.File(source) as file:
        for entity, table in ENTITIES.items():
            data = file[table][:]
            ids, own_ids = stored[f"{entity}_id"].values.astype(object), _text(data["id"])
            order, own = np.argsort(ids), np.argsort(own_ids)
            if not np.array_equal(ids[order], own_ids[own]):
                found.append(f"the ids of {table}")
                continue
            for name in data.dtype.names:
                if name != "id":
                    values, expected = stored[f"{entity}_{name}"].values[order], data[name][own]
                    if expected.dtype.kind == "O":
                        values, expected = values.astype(object), _text(expected)
                    if not np.array_equal(values, expected, equal_nan=expected.dtype.kind == "f"):
                        found.append(f"{name} of {table}")
        for child, (parent, _) in LINKS.items():
            if int(stored[f"{parent}_{child}_count"].sum()) != stored.sizes[f"{child}_id"]:
                found.append(f"the numbers of {child}s")
    return found
