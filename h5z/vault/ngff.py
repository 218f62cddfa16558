"""OME-Zarr metadata, NGFF 0.5: of an image and its pyramid, a plate, a well, and of several images.

Source: Next-generation file formats (NGFF) specification, version 0.5: multiscales, plate, well, omero, bioformats2raw.layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from h5z.errors import PlanError
from h5z.vault.images import Image, natural

VERSION = "0.5"
AXIS_NAMES = ("t", "c", "z", "y", "x")
_COLORS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_WELL = re.compile(r"([A-Za-z]+)[-_]?([0-9]+)")


def image_attributes(
    name: str, image: Image, dtype: np.dtype[Any], channels: int, levels: int, scale: Mapping[str, float], method: str
) -> dict[str, Any]:
    """The attributes of an image's group.

    Parameters
    ----------
    channels : int
        How many channels there are, those within files counted.
    scale : mapping
        The step along t (s), z, y, x (µm), of those that are known.
    """
    return {
        "ome": {
            "version": VERSION,
            "multiscales": [
                {
                    "name": name,
                    "axes": [_axis(letter, scale) for letter in AXIS_NAMES],
                    "datasets": [_dataset(level, scale) for level in range(levels)],
                    "type": method,
                }
            ],
            "omero": {"channels": [_channel(i, image, dtype, channels) for i in range(channels)]},
        }
    }


def _axis(letter: str, scale: Mapping[str, float]) -> dict[str, str]:
    kind = {"t": "time", "c": "channel"}.get(letter, "space")
    unit = {"time": "second", "space": "micrometer"}.get(kind)
    return {"name": letter, "type": kind, **({"unit": unit} if unit and letter in scale else {})}


def _dataset(level: int, scale: Mapping[str, float]) -> dict[str, Any]:
    """A level of the pyramid; a pixel's middle moves as it grows."""
    factors = [2.0**level if letter in "yx" else 1.0 for letter in AXIS_NAMES]
    steps = [scale.get(letter, 1.0) for letter in AXIS_NAMES]
    transformations: list[dict[str, Any]] = [
        {"type": "scale", "scale": [step * factor for step, factor in zip(steps, factors, strict=True)]}
    ]
    if level:
        moved = [step * (factor - 1) / 2 for step, factor in zip(steps, factors, strict=True)]
        transformations.append({"type": "translation", "translation": moved})
    return {"path": str(level), "coordinateTransformations": transformations}


def _channel(number: int, image: Image, dtype: np.dtype[Any], channels: int) -> dict[str, Any]:
    named = image.axes["channel"]
    label = named[number] if len(named) == channels and named[number] else str(number)
    low, high = (0.0, 1.0)
    if dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    color = _COLORS[number % len(_COLORS)] if channels > 1 else "FFFFFF"
    return {"label": label, "color": color, "active": True, "window": {"min": low, "max": high, "start": low, "end": high}}


def split_well(name: str) -> tuple[str, str]:
    """Row and column of a well.

    Raises
    ------
    PlanError
        If the name is not letters and a number.

    Examples
    --------
    >>> split_well("B02")
    ('B', '02')
    """
    match = _WELL.fullmatch(name)
    if match is None:
        raise PlanError(f"well: expected a row's letters and a column's number, such as B02, found {name!r}")
    return match[1].upper(), match[2]


def plate_attributes(name: str, wells: Sequence[str], fields: int) -> dict[str, Any]:
    """The attributes of a plate's root, of the names of its wells."""
    places = [split_well(well) for well in wells]
    rows = sorted({row for row, _ in places}, key=lambda row: (len(row), row))
    columns = sorted({column for _, column in places}, key=natural)
    listed = [
        {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)} for row, column in places
    ]
    plate = {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": listed,
        "field_count": fields,
        "version": VERSION,
    }
    return {"ome": {"version": VERSION, "plate": plate}}


def well_attributes(fields: int) -> dict[str, Any]:
    """The attributes of a well's group."""
    return {"ome": {"version": VERSION, "well": {"images": [{"path": str(i)} for i in range(fields)], "version": VERSION}}}


def series_attributes() -> dict[str, Any]:
    """The attributes of a root that holds several images by number."""
    return {"ome": {"version": VERSION, "bioformats2raw.layout": 3}}
