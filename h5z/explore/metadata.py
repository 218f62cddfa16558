"""One Zarr metadata document (format 2 or 3) -> GroupNode or ArrayNode, in the words that describe HDF5's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from h5z.dtypes import BOOL, STRING
from h5z.nodes import ArrayNode, Attribute, Datatype, GroupNode, Json, Link, Node, Shape


def is_array(document: Mapping[str, Json]) -> bool:
    """Whether a document, of either format, is an array's."""
    return document.get("node_type") == "array" or "chunks" in document


def node_of(path: str, document: dict[str, Json], stored: int) -> Node:
    """The node that a document describes; of format 2, with its attributes under ``attributes``.

    Parameters
    ----------
    stored : int
        Bytes that the array takes.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        If the document is damaged.
    """
    given = document.get("attributes") or {}
    attributes = tuple(Attribute(str(name), "", (), value) for name, value in given.items())
    if not is_array(document):
        return GroupNode(path, attributes, tuple(_links(given)))
    shape = tuple(document["shape"])
    if document.get("zarr_format", 3) == 2:
        filters = tuple((0, _old_codec(codec), 0, ()) for codec in _old_codecs(document) if not codec["id"].startswith("vlen-"))
        names = tuple(given.get("_ARRAY_DIMENSIONS") or ())
        dtype = _old_dtype(document["dtype"], [codec["id"] for codec in document.get("filters") or ()])
        fill = {"value": document.get("fill_value")}
        return ArrayNode(
            path, dtype, shape, None, "chunked", tuple(document["chunks"]), filters, fill,
            storage_nbytes=stored, attributes=attributes, names=names,
        )  # fmt: skip
    unit, codecs = _grid(document), list(document["codecs"])
    shards: Shape | None = None
    if codecs and codecs[0]["name"] == "sharding_indexed":
        inner = codecs[0]["configuration"]
        shards, unit, codecs = unit, tuple(inner["chunk_shape"]), list(inner["codecs"])
    order = next((c.get("configuration", {}).get("endian") for c in codecs if c["name"] == "bytes"), "little")
    shown = tuple((0, codec_text(codec), 0, ()) for codec in codecs if codec["name"] not in ("bytes", "vlen-utf8", "vlen-bytes"))
    return ArrayNode(
        path, _dtype(document["data_type"], order), shape, None, "chunked", unit, shown, {"value": document.get("fill_value")},
        storage_nbytes=stored, attributes=attributes, shards=shards, names=tuple(document.get("dimension_names") or ()),
    )  # fmt: skip


def _grid(document: Mapping[str, Json]) -> Shape | None:
    grid = document["chunk_grid"]
    return tuple(grid["configuration"]["chunk_shape"]) if grid["name"] == "regular" else None


def _links(attributes: Mapping[str, Json]) -> Iterator[Link]:
    """The links that a migration recorded in a group."""
    record = attributes.get("h5z")
    links = record.get("links") if isinstance(record, dict) else None
    for name, link in links.items() if isinstance(links, dict) else ():
        for kind, goal in link.items():
            if kind == "external":
                yield Link(name, "external", goal[1], goal[0])
            else:
                yield Link(name, kind, goal)


def codec_text(codec: Mapping[str, Json]) -> str:
    """A codec in a word.

    >>> codec_text({"name": "zstd", "configuration": {"level": 3, "checksum": False}})
    'zstd:3'
    >>> codec_text({"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4}})
    'blosc-lz4:5(shuffle)'
    """
    name, config = str(codec["name"]), dict(codec.get("configuration") or {})
    name = name.removeprefix("numcodecs.")
    if name == "blosc":
        shuffle = config.get("shuffle", "")
        shown = {0: "", 1: "shuffle", 2: "bitshuffle", "noshuffle": ""}.get(shuffle, shuffle)
        return f"blosc-{config.get('cname')}:{config.get('clevel')}" + (f"({shown})" if shown else "")
    level = next((config[key] for key in ("level", "preset", "acceleration") if key in config), None)
    if name == "transpose":
        level = ",".join(map(str, config.get("order", ())))
    return name if level is None else f"{name}:{level}"


def _old_codecs(document: Mapping[str, Json]) -> list[dict[str, Json]]:
    return [*(document.get("filters") or ()), *([document["compressor"]] if document.get("compressor") else [])]


def _old_codec(codec: dict[str, Json]) -> str:
    return codec_text({"name": codec["id"], "configuration": {key: value for key, value in codec.items() if key != "id"}})


_TEXT = cast(dict[str, Any], STRING)
_SHORT: dict[str, Datatype] = {"bool": BOOL, "string": STRING, "bytes": {**_TEXT, "charset": "ascii"}}
_SHORT["variable_length_bytes"] = _SHORT["bytes"]


def _dtype(data_type: Json, order: str = "little") -> Datatype:
    """A format 3 data type as `h5z.hdf5.datatypes` describes those of HDF5."""
    prefix = ">" if order == "big" else "<"
    name, config = (data_type, {}) if isinstance(data_type, str) else (data_type["name"], data_type.get("configuration") or {})
    if name in _SHORT:
        return _SHORT[name]
    kinds = {"int": "i", "uint": "u", "float": "f", "complex": "c"}
    for word, letter in kinds.items():
        if name.startswith(word) and name[len(word) :].isdigit():
            return f"{prefix if name[len(word) :] != '8' else '|'}{letter}{int(name[len(word) :]) // 8}"
    if name in ("numpy.datetime64", "numpy.timedelta64"):
        scale = config.get("scale_factor", 1)
        unit = f"[{scale if scale != 1 else ''}{config.get('unit')}]" if config.get("unit") != "generic" else ""
        return f"{prefix}{'M' if 'datetime' in name else 'm'}8{unit}"
    if name in ("null_terminated_bytes", "fixed_length_utf32"):
        size = int(config["length_bytes"])
        return {**_TEXT, "size": size if name.startswith("null") else size // 4, "padding": "nullpad"}
    if name == "raw_bytes" or (name.startswith("r") and name[1:].isdigit()):
        return {"class": "opaque", "size": int(config["length_bytes"]) if config else int(name[1:]) // 8, "tag": ""}
    if name in ("structured", "struct"):
        fields = ((f["name"], f["data_type"]) if isinstance(f, dict) else f for f in config["fields"])
        return {"class": "compound", "size": 0, "members": [[member, 0, _dtype(inner)] for member, inner in fields]}
    return str(name)


def _old_dtype(dtype: Json, filters: Sequence[str]) -> Datatype:
    if isinstance(dtype, list):
        return {"class": "compound", "size": 0, "members": [[field[0], 0, _old_dtype(field[1], ())] for field in dtype]}
    kind = dtype[1:2]
    if kind == "O":
        return STRING if any(name.startswith("vlen-") for name in filters) else {"class": "object"}
    if kind == "b":
        return BOOL
    if kind in "SU":
        return {**_TEXT, "size": int(dtype[2:]), "padding": "nullpad"}
    return {"class": "opaque", "size": int(dtype[2:]), "tag": ""} if kind == "V" else dtype
