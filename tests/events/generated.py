"""Generated sessions of the worked example, of any size, in HDF5's usual layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

TEXT = h5py.string_dtype()
TYPES = ("fixation", "saccade", "speech")
Tables = dict[str, dict[str, np.ndarray[Any, Any]]]


def session(segments: int, *, elements: int | None = None, tasks: int | None = None, start: float = 0.0, seed: int = 1) -> Tables:
    """Columns of a session: tasks one after the other, elements inside them, segments inside elements, type after type.

    Missing values are NaN in floats, -1 in counts, the empty text in what is said by few.
    """
    elements = max(1, segments // 25) if elements is None else elements
    tasks = max(1, elements // 40) if tasks is None else tasks
    random = np.random.default_rng(seed)
    return {
        "task": _tasks(tasks, start, random),
        "element": _elements(elements, tasks, start, random),
        "segment": _segments(segments, elements, tasks, start, random),
    }


def _names(kind: str, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([f"{kind}-{number:07d}" for number in numbers.tolist()], object)


def _choice(random: np.random.Generator, words: tuple[str, ...], n: int) -> np.ndarray[Any, Any]:
    return np.array(words, object)[random.integers(0, len(words), n)]


def _times(n: int, span: float, start: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    begin = start + np.arange(n) * (span / max(1, n))
    return begin, begin + 0.9 * span / max(1, n)


def _tasks(n: int, start: float, random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    begin, end = _times(n, 1000.0 * n, start)
    count = random.integers(0, 9, n).astype("i4")
    count[::3] = -1
    return {
        "id": _names("task", np.arange(n)),
        "task_type": _choice(random, ("reading", "writing", "größe"), n),
        "start_time": begin,
        "end_time": np.where(random.random(n) < 0.1, np.nan, end),
        "duration": end - begin,
        "completion_status": _choice(random, ("done", "", "given up"), n),
        "session_fraction_start": np.arange(n) / max(1, n),
        "session_fraction_end": (np.arange(n) + 1) / max(1, n),
        "count": count,
        "input_modality": _choice(random, ("keyboard", "touch"), n),
        "audio_mode": _choice(random, ("on", "off"), n),
        "skipped": random.random(n) < 0.2,
    }


def _elements(n: int, tasks: int, start: float, random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    begin, end = _times(n, 1000.0 * tasks, start)
    sequence = np.arange(n).astype("i4") % 40
    sequence[::7] = -1
    return {
        "id": _names("element", np.arange(n)),
        "element_type": _choice(random, ("paragraph", "figure", "question"), n),
        "start_time": begin,
        "end_time": end,
        "duration": end - begin,
        "title": _choice(random, ("", "None", "A title that is longer than fifteen bytes", "题"), n),
        "is_instruction": random.random(n) < 0.5,
        "sequence_idx": sequence,
        "input_modality": _choice(random, ("keyboard", "touch"), n),
        "audio_mode": _choice(random, ("on", "off"), n),
        "task_id": _names("task", np.arange(n) * tasks // max(1, n)),
    }


def _segments(n: int, elements: int, tasks: int, start: float, random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """One type after the other, each in the order of time."""
    inside = np.sort(random.integers(0, max(1, elements), n))
    kind = random.integers(0, len(TYPES), n)
    order = np.argsort(kind, kind="stable")
    inside, kind = inside[order], kind[order]
    length = 1000.0 * tasks / max(1, elements)
    relative = np.round(random.random(n) * length * 0.8, 3)
    begin = start + inside * length + relative
    duration = np.round(random.random(n) * length * 0.1, 3)
    return {
        "id": _names("segment", order),
        "segment_type": np.array(TYPES, object)[kind],
        "start_time": begin,
        "end_time": begin + duration,
        "duration": duration,
        "containing_element_id": _names("element", inside),
        "element_relative_start": relative,
    }


def compound(columns: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Columns as one structured array, text of variable length."""
    dtype = [(name, TEXT if column.dtype == object else column.dtype) for name, column in columns.items()]
    out = np.empty(len(next(iter(columns.values()))), dtype)
    for name, column in columns.items():
        out[name] = column
    return out


def write_tables(path: Path, tables: Tables, session_id: str | None = None, **storage: Any) -> Path:
    """A dataset of compounds an entity: ``/tasks``, ``/elements``, ``/segments``."""
    with h5py.File(path, "w") as file:
        if session_id is not None:
            file.attrs["session_id"] = session_id
        for entity, columns in tables.items():
            file.create_dataset(f"{entity}s", data=compound(columns), **storage)
    return path


def write_columns(path: Path, tables: Tables, session_id: str | None = None) -> Path:
    """A group an entity, a dataset a column; segments in a group a type."""
    with h5py.File(path, "w") as file:
        if session_id is not None:
            file.attrs["session_id"] = session_id
        for entity, columns in tables.items():
            kinds = [None] if entity != "segment" else sorted(set(columns["segment_type"]))
            for kind in kinds:
                rows = slice(None) if kind is None else columns["segment_type"] == kind
                group = file.create_group(f"{entity}s" if kind is None else f"{entity}s/{kind}")
                for name, column in columns.items():
                    if kind is None or name != "segment_type":
                        dtype = TEXT if column.dtype == object else None
                        group.create_dataset(name, data=column[rows], dtype=dtype, chunks=True if len(column[rows]) else None)
    return path


def write_groups(path: Path, tables: Tables, session_id: str | None = None) -> Path:
    """A group a row inside its container's group; attributes, and titles as scalar datasets; no attribute for what is missing."""
    with h5py.File(path, "w") as file:
        if session_id is not None:
            file.attrs["session_id"] = session_id
        places: dict[str, str] = {}
        for entity, inside in (("task", None), ("element", "task_id"), ("segment", "containing_element_id")):
            columns = tables[entity]
            for row in range(len(columns["id"])):
                values = {name: column[row] for name, column in columns.items()}
                parent = "" if inside is None else places[values.pop(inside)]
                place = f"{parent}/{entity}s/{values.pop('id')}"
                places[place.rpartition("/")[2]] = place
                group = file.create_group(place)
                for name, value in values.items():
                    if value in ("", -1) or value != value:
                        continue
                    if name == "title":
                        group.create_dataset(name, data=value)
                    else:
                        group.attrs[name] = value
    return path
