"""A plan's Zarr metadata documents, by key; no I/O."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, cast

import numpy as np

from h5z.arrayplan import ArrayPlan
from h5z.attributes import number
from h5z.codecs import to_v2
from h5z.digest import Digest
from h5z.nodes import Json
from h5z.plan import FORMAT, Plan
from h5z.policy import RUNNING
from h5z.records import clean

Documents = dict[str, dict[str, Json]]

_INTEGERS = frozenset({"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})
_NUMBERS = _INTEGERS | {"float16", "float32", "float64", "complex64", "complex128"}


def dump(document: dict[str, Json]) -> bytes:
    """Strict JSON, one form for the same document."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Outcome:
    """What a target tells of its own data, known when all is written.

    Attributes
    ----------
    checksums, digests : dict
        Of arrays' stored bytes (`h5z.units.checksum`) and values (`h5z.digest`), by path.
    verified : str
        The level at which the target was compared with its source; empty where it was not.
    """

    checksums: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, Digest] = field(default_factory=dict)
    verified: str = ""


def plan_documents(plan: Plan, outcome: Outcome | None = None) -> Documents:
    """Every metadata document of a plan's target, by key; complete with what only the finished data tell."""
    out: Documents = {}
    for path, attributes in plan.groups.items():
        shown = _root_attributes(plan, attributes, outcome) if path == "" else attributes
        _add(out, path, {"node_type": "group"}, shown, plan.policy.zarr_format)
    for array in plan.arrays:
        document = array_document(array, plan.policy.zarr_format)
        attributes = cast(dict[str, Json], document.pop("attributes"))
        found = outcome.digests.get(array.path) if outcome else None
        if found is not None:
            record = cast(dict[str, Json], attributes.get("h5z", {}))
            attributes = {**attributes, "h5z": {**record, "digest": str(found)}}
        _add(out, array.path, document, attributes, plan.policy.zarr_format)
    return out


def without_outcome(key: str, document: dict[str, Json]) -> tuple[dict[str, Json], Digest | None]:
    """A document as it is planned, before anything is known of the data; and the digest that it carries."""
    name = key.rpartition("/")[2]
    bare = {key: value for key, value in document.items() if key != "consolidated_metadata" or name != "zarr.json"}
    attributes = bare if name == ".zattrs" else bare.get("attributes") if name == "zarr.json" else None
    record = attributes.get("h5z") if isinstance(attributes, dict) else None
    if not isinstance(attributes, dict) or not isinstance(record, dict):
        return bare, None
    kept = {key: value for key, value in record.items() if key not in ("checksums", "digest", "verified")}
    attributes = {**{key: value for key, value in attributes.items() if key != "h5z"}, **({"h5z": kept} if kept else {})}
    digest = Digest.parse(str(record["digest"])) if "digest" in record else None
    return (attributes if name == ".zattrs" else {**bare, "attributes": attributes}), digest


def _add(out: Documents, path: str, document: dict[str, Json], attributes: dict[str, Json], zarr_format: int) -> None:
    place = f"{path.lstrip('/')}/" if path else ""
    if zarr_format == 3:
        out[f"{place}zarr.json"] = {"zarr_format": 3, **document, "attributes": attributes}
        return
    kind = document.pop("node_type")
    out[f"{place}.z{kind}"] = {"zarr_format": 2, **document}
    if attributes:
        out[f"{place}.zattrs"] = attributes


def _root_attributes(plan: Plan, attributes: dict[str, Json], outcome: Outcome | None) -> dict[str, Json]:
    commit = commit_record(plan, outcome)
    return {**attributes, "h5z": {**cast(dict[str, Json], attributes.get("h5z", {})), **clean(commit)}}


def commit_record(plan: Plan, outcome: Outcome | None) -> dict[str, Json]:
    """What a root tells of the migration that made it."""
    identity = {"name": os.path.basename(plan.source), "size": plan.size, "mtime_ns": plan.mtime_ns, "digest": plan.digest}
    policy = {name: value for name, value in plan.policy.to_dict().items() if name not in RUNNING}
    commit = {"format": FORMAT, "fingerprint": plan.fingerprint, "source": identity, "policy": policy}
    if plan.parts:
        commit["joined"] = _joined_record(plan)
    if outcome is not None:
        commit["checksums"] = dict(outcome.checksums)
        if outcome.verified:
            commit["verified"] = outcome.verified
    if plan.not_carried:
        commit["not_carried"] = [problem.to_dict() for problem in plan.not_carried]
    return commit


def _joined_record(plan: Plan) -> dict[str, Json]:
    """Which files a target is joined of, and what those that are added later must be like."""
    cut: dict[str, dict[str, Json]] = {}
    for array in plan.arrays:
        if array.axis is not None:
            shards = list(array.shards) if array.shards else None
            found = {"chunks": list(array.chunks), "shards": shards, "codecs": list(array.codecs)}
            cut.setdefault(array.source, {})["/".join(array.steps)] = found
    return {"dim": plan.dim, "parts": [part.identity() for part in plan.parts], "schema": plan.schema, "cut": cut}


def array_document(array: ArrayPlan, zarr_format: int) -> dict[str, Json]:
    """An array's Zarr metadata, attributes included."""
    kind, fill_json = data_type(array.dtype if array.is_text else array.leaf().dtype, zarr_format)
    fill = _fill_json(array, fill_json, zarr_format)
    if zarr_format == 2:
        return _v2(array, kind, fill)
    codecs: list[Any] = [_serializer(array), *array.codecs]
    if array.shards:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": list(array.chunks), "codecs": codecs, "index_codecs": index, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.unit)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": array.separator}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": list(array.names),
        "storage_transformers": [],
        "attributes": array.attributes,
    }


def _v2(array: ArrayPlan, kind: Json, fill: Json) -> dict[str, Json]:
    filters, compressor = to_v2(list(array.codecs))
    if array.is_text:
        filters = [{"id": "vlen-utf8" if array.dtype == "string" else "vlen-bytes"}, *(filters or [])]
    return {
        "node_type": "array",
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "dtype": kind,
        "fill_value": fill,
        "order": "C",
        "filters": filters,
        "compressor": compressor,
        "dimension_separator": ".",
        "attributes": {**array.attributes, "_ARRAY_DIMENSIONS": list(array.names)},
    }


@cache
def data_type(dtype: np.dtype[Any] | str, zarr_format: int) -> tuple[Json, Callable[[Any], Json]]:
    """Zarr's data type as JSON, and what makes JSON of its fill values."""
    if not isinstance(dtype, str) and dtype.name in (_NUMBERS if zarr_format == 3 else _INTEGERS):
        return dtype.name if zarr_format == 3 else dtype.str, _number_json  # as zarr would, which takes long to import
    from zarr.dtype import VariableLengthBytes, VariableLengthUTF8, ZDType, parse_dtype

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data types that zarr-python stores but the specification has not named yet
        if isinstance(dtype, str):
            found: ZDType[Any, Any] = VariableLengthUTF8() if dtype == "string" else VariableLengthBytes()
        else:
            found = parse_dtype(dtype, zarr_format=cast(Any, zarr_format))
        kind = cast(Any, found.to_json(zarr_format=cast(Any, zarr_format)))
    return (kind if zarr_format == 3 else kind["name"]), partial(found.to_json_scalar, zarr_format=cast(Any, zarr_format))


def _number_json(value: Any) -> Json:
    """A number; of a NaN its bits, as the specification provides."""
    kind = np.asarray(value).dtype.kind
    if kind == "c":
        return [number(value.real), number(value.imag)]
    return number(value) if kind == "f" else value.item()


def _serializer(array: ArrayPlan) -> dict[str, Json]:
    if array.is_text:
        return {"name": "vlen-utf8" if array.dtype == "string" else "vlen-bytes"}
    dtype = cast("np.dtype[Any]", array.leaf().dtype)
    if dtype.itemsize == 1 or (dtype.kind in "SV" and not dtype.names):
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "big" if dtype.byteorder == ">" else "little"}}


def _fill_json(array: ArrayPlan, to_json: Callable[[Any], Json], zarr_format: int) -> Json:
    fill = array.fill_scalar()
    if fill is None:
        if zarr_format == 2:
            return None
        fill = "" if array.dtype == "string" else b"" if array.dtype == "bytes" else np.zeros((), array.leaf().dtype)[()]
    return to_json(fill)


def consolidated(plan: Plan, documents: Documents) -> Documents:
    """The root's documents that carry a copy of all others'."""
    if plan.policy.zarr_format == 2:
        return {".zmetadata": {"zarr_consolidated_format": 1, "metadata": dict(sorted(documents.items()))}}
    inner = {key.removesuffix("/zarr.json"): value for key, value in sorted(documents.items()) if "/" in key}
    whole = {"kind": "inline", "must_understand": False, "metadata": inner}
    return {"zarr.json": {**documents["zarr.json"], "consolidated_metadata": whole}}
