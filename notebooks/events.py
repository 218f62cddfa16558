"""A tour of sessions' events: ``python events.py FOLDER [TARGET]`` writes two sessions, publishes them, and asks questions.

TARGET is where the stores go, such as ``s3://bucket/prefix/{session_id}_events.zarr``; below FOLDER by default.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

from h5z import events

TEXT = h5py.string_dtype()
TASK = [("id", TEXT), ("task_type", TEXT), ("start_time", "f8"), ("end_time", "f8"), ("count", "i4"), ("skipped", "?")]
ELEMENT = [("id", TEXT), ("element_type", TEXT), ("start_time", "f8"), ("title", TEXT), ("task_id", TEXT)]
SEGMENT = [("id", "i8"), ("segment_type", TEXT), ("start_time", "f8"), ("duration", "f8"), ("containing_element_id", TEXT)]


def write_session(path: Path, number: int) -> None:
    """Two tasks of two elements, and sixty segments of three types; -1 stands for no count, the empty text for no title."""
    begin = 100.0 * number
    tasks = [("read", "reading", begin, begin + 40, 3, False), ("write", "writing", begin + 40, np.nan, -1, True)]
    elements = [
        (f"{task[0]}-{part}", "paragraph", task[2] + 20 * part, "None" if part else "", task[0])
        for task in tasks
        for part in (0, 1)
    ]
    kinds = ("speech", "fixation", "saccade")
    segments = [(i, kinds[i % 3], begin + i, 0.5, elements[i // 20][0]) for i in range(60)]
    with h5py.File(path, "w") as file:
        file.attrs["session_id"] = f"session-{number}"
        for name, rows, dtype in (("tasks", tasks, TASK), ("elements", elements, ELEMENT), ("segments", segments, SEGMENT)):
            file[name] = np.array(rows, dtype)


def main(folder: Path, target: str) -> None:
    """Write, publish, ask."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = events.RECORDED_SESSION

    # Where the rows are in a file: a dataset of compounds an entity; what stands for nothing in it.
    layout = events.SessionLayout(
        {
            "task": (events.Layout("table", "/tasks", missing={"count": -1}),),
            "element": (events.Layout("table", "/elements", missing={"title": ""}),),
            "segment": (events.Layout("table", "/segments"),),
        }
    )

    # Rows -> one Dataset -> its store. `publish_file` does the three at once, and leaves alone what has not changed.
    stores = []
    for number in (1, 2):
        path = folder / f"{number}.h5"
        write_session(path, number)
        dataset = events.to_dataset(events.read(path, layout, schema), schema)
        session = events.publish(dataset, target)
        print(session)
        stores.append(session["zarr_stores"]["events"])

    # One session, opened lazily: nothing but metadata and small tables' ids is read.
    dataset = events.open_session(stores[0])
    print(dataset)

    print("\nelements of a task, as a table; what is missing is <NA>, and counts stay integers:")
    print(events.frame(events.children(dataset, "task", "read", "element"), "element")[["element_type", "title", "task_id"]])
    print(events.frame(dataset, "task")[["task_type", "end_time", "count", "skipped"]])

    print("\nsegments of an element, by type:")
    print(events.children(dataset, "element", "read-1", "segment", type="speech").segment_start_time.values)

    print("\nsegments between two times, across sessions:")
    both = events.open_sessions(stores)
    found = events.between(both, "segment", 157.0, 203.0, type=["speech", "saccade"])
    for row, session_index in zip(events.rows(found, "segment"), found.segment_session_index.values, strict=True):
        print(both.session_id.values[session_index], row["id"], row["segment_type"], row["start_time"])


if __name__ == "__main__":
    place = Path(sys.argv[1])
    main(place, sys.argv[2] if len(sys.argv) > 2 else str(place / "{session_id}_events.zarr"))
