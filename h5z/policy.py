"""Policy: what the user asked for, validated, as plain data."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from h5z.codecs import parse
from h5z.errors import PlanError, one_line
from h5z.nodes import Json
from h5z.stores.retries import ATTEMPTS

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_CHOICES = {
    "zarr_format": (3, 2),
    "links": ("record", "follow"),
    "unsupported": ("error", "report"),
    "strings": ("auto", "utf8", "bytes"),
    "unmatched": ("error", "report"),
    "durable": ("none", "commit", "always"),
}
RUNNING = ("memory", "unmatched", "durable", "attempts")  # fields that say how a run goes about it: the target is the same
ROUTES = ("auto", "copy", "recode", "regrid", "staged", "library")


@dataclass(frozen=True)
class Policy:
    """What a migration shall do; each field has a default that serves.

    Attributes
    ----------
    chunks : "auto", "source", tuple of int, or {path pattern: any of those}
        Shape of the target's chunks. A tuple applies to the arrays of its rank, the others get ``"auto"``.
    shards : None, "auto", tuple of int, or {path pattern: any of those}
        Shape of the target's shards, a multiple of the chunks; None for none. Zarr format 3 only.
    codec : "auto", "keep", str such as "zstd:3", None, codec, or {path pattern: any of those}
        How chunks are encoded; ``"keep"`` stays with the source's own compression wherever Zarr has it.
    zarr_format : 3 or 2
    links : "record" or "follow"
        Soft and external links are recorded; followed, their objects are also stored at the link's place.
    external_roots : sequence of paths
        Folders beside the source's own in which external links, raw files and virtual sources may lie.
    include, exclude : sequence of path patterns
        Which objects of the source are carried over; what is excluded is named in the report's notes.
    unsupported : "error" or "report"
        Stop before writing when something cannot be carried over, or name it in the report and go on.
    memory : str or int, optional
        Peak memory of the run in bytes (``"512MiB"``), the interpreter's own base apart.
    consolidate : bool
        Whether the root's metadata carries a copy of all others'.
    route : "auto", "copy", "recode", "regrid", "staged", "library", or {path pattern: any of those}
        How arrays get across; what is named is taken for every array that it can serve, and refused for those named by
        a pattern that it cannot.
    strings : "auto", "utf8" or "bytes"
        Variable-length text as strings where all of it is UTF-8, always, or always as bytes.
    unmatched : "error" or "report"
        Refuse path patterns and chunk shapes that fit no array of a file, or note them: files of an archive differ.
    durable : "none", "commit" or "always"
        When files are made to reach the disk: when the system sees fit; all of a target before it is committed, so that
        what opens is whole even after the power failed; or each as it is written.
    attempts : int
        How often a request of a store or of a source by URL is made at most where it fails in a way that may pass.
    """

    chunks: Any = "auto"
    shards: Any = None
    codec: Any = "auto"
    zarr_format: int = 3
    links: str = "record"
    external_roots: Sequence[str | os.PathLike[str]] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    unsupported: str = "error"
    memory: str | int | None = None
    consolidate: bool = True
    strings: str = "auto"
    route: Any = "auto"
    unmatched: str = "error"
    durable: str = "commit"
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        """Validate every field and bring it into one form."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise PlanError(f"{name}: expected one of {', '.join(map(repr, allowed))}, found {getattr(self, name)!r}")
        if type(self.attempts) is not int or self.attempts < 1:
            raise PlanError(f"attempts: expected a positive integer, found {self.attempts!r}")
        put = object.__setattr__
        put(self, "chunks", _per_path("chunks", self.chunks, ("auto", "source")))
        put(self, "shards", None if self.shards is None else _per_path("shards", self.shards, ("auto",), optional=True))
        codec = {k: parse(v) for k, v in self.codec.items()} if _is_map(self.codec) else parse(self.codec)
        put(self, "codec", codec)
        for value in self.route.values() if isinstance(self.route, Mapping) else (self.route,):
            if value not in ROUTES:
                raise PlanError(f"route: expected one of {', '.join(map(repr, ROUTES))}, found {value!r}")
        for name in ("external_roots", "include", "exclude"):
            value = getattr(self, name)
            if isinstance(value, str | os.PathLike):
                value = (value,)
            put(self, name, tuple(os.fspath(item) for item in value))
        put(self, "memory", None if self.memory is None else nbytes(self.memory, "memory"))
        both = isinstance(self.shards, tuple) and isinstance(self.chunks, tuple) and len(self.shards) == len(self.chunks)
        if both and any(s % c for s, c in zip(self.shards, self.chunks, strict=True)):
            raise PlanError(f"shards: expected a multiple of the chunks {self.chunks}, found {self.shards}")
        if self.shards is not None and self.zarr_format == 2:
            raise PlanError("shards: Zarr format 2 has none; use zarr_format=3")

    @classmethod
    def of(cls, policy: Policy | None, keywords: Mapping[str, Any]) -> Policy:
        """A policy, or one made of keywords; both together override the policy's fields."""
        known = {item.name for item in fields(cls)}
        for name in keywords:
            if name not in known:
                raise PlanError(f"expected a field of Policy ({', '.join(sorted(known))}), found {name!r}")
        base = {item.name: getattr(policy, item.name) for item in fields(cls)} if policy else {}
        return cls(**{**base, **keywords})

    def to_dict(self) -> dict[str, Json]:
        """The fields that are not at their default, as JSON's own types."""
        out = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                out[item.name] = _jsonable(value)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Json]) -> Policy:
        """Build the policy that `to_dict` described."""
        return cls.of(None, data)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a file of its fields: YAML, JSON or TOML, by its suffix.

        Raises
        ------
        PlanError
            If the file cannot be read, or holds anything else; naming it.
        """
        return cls.from_dict(read_fields(path))

    def selects(self, path: str) -> bool:
        """Whether an object is carried over."""
        chosen = not self.include or any(matches(pattern, path) for pattern in self.include)
        return chosen and not any(matches(pattern, path) for pattern in self.exclude)

    def unmatched_patterns(self, paths: Iterable[str]) -> Iterator[str]:
        """Name each pattern that matches no object, with its field."""
        known = list(paths)
        for name in ("chunks", "shards", "codec", "route", "include", "exclude"):
            value = getattr(self, name)
            what = "nothing" if name in ("include", "exclude") else "no dataset"
            for pattern in value if isinstance(value, Mapping | tuple) and not _is_shape(value) else ():
                if not any(matches(pattern, path) for path in known):
                    yield f"{name}: the path pattern {pattern!r} matches {what}"

    def pick(self, field_name: str, path: str) -> Any:
        """What a field says for one array: of a map, the first pattern that matches it, else the field's default."""
        value = getattr(self, field_name)
        if not isinstance(value, Mapping):
            return value
        for pattern, wanted in value.items():
            if matches(pattern, path):
                return wanted
        return {"chunks": "auto", "shards": None, "codec": "auto", "route": "auto"}[field_name]

    def named(self, field_name: str, path: str) -> bool:
        """Whether a field names this array by a pattern, rather than all arrays at once."""
        value = getattr(self, field_name)
        return isinstance(value, Mapping) and any(matches(pattern, path) for pattern in value)


def read_fields(path: str | os.PathLike[str]) -> dict[str, Json]:
    """The fields of a policy file (`Policy.read`), checked.

    Raises
    ------
    PlanError
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in (".yaml", ".yml", ".json", ".toml"):
        raise PlanError(f"{name}: expected a policy in a file that ends in .yaml, .json or .toml, found {suffix or 'no suffix'}")
    try:
        with open(name, encoding="utf-8") as file:
            found = _parsed(file.read(), suffix)
    except (OSError, ValueError) as error:
        raise PlanError(f"{name}: cannot be read as a policy ({one_line(error)})") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise PlanError(f"{name}: expected fields of Policy with their values, found {type(found).__name__}")
    try:
        Policy.from_dict(found)
    except (PlanError, TypeError) as error:
        raise PlanError(f"{name}: {one_line(error)}") from None
    return found


def _parsed(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        return tomllib.loads(text)
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def literal(path: str) -> str:
    """A path as a pattern that matches it, and what is below it, but nothing else.

    >>> matches(literal("/a[1]*"), "/a[1]*"), matches(literal("/a[1]*"), "/a1b")
    (True, False)
    """
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def matches(pattern: str, path: str) -> bool:
    """Whether a path is what a pattern names: itself, something below it, or by ``*``, ``?`` and ``[…]``.

    >>> matches("/a/*", "/a/b/c"), matches("temp", "/temp"), matches("/a", "/a/b"), matches("/a", "/ab")
    (True, True, True, False)
    """
    wanted = "/" + pattern.strip("/")
    return fnmatch.fnmatchcase(path, wanted) or path.startswith(wanted.rstrip("/") + "/")


def nbytes(value: str | int, name: str = "") -> int:
    """A size in bytes from ``"512MiB"``, ``"2GB"`` or a number; `name` is what it is the size of, for messages.

    >>> nbytes("512MiB"), nbytes("1.5 KB"), nbytes(7)
    (536870912, 1500, 7)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
    if found is None or found[2].upper() not in _UNITS or float(found[1]) <= 0:
        raise PlanError(f"{name and f'{name}: '}expected a size such as '512MiB' or '2GB', found {value!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, int) for item in value)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping) and not {"name", "id"} & set(value)


def _per_path(name: str, value: Any, words: tuple[str, ...], *, optional: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {str(pattern): _per_path(name, item, words, optional=optional) for pattern, item in value.items()}
    if (value is None and optional) or (isinstance(value, str) and value in words):
        return value
    try:
        shape = (int(value),) if isinstance(value, int) else tuple(int(n) for n in value)
    except (TypeError, ValueError):
        expected = ", ".join(map(repr, words))
        raise PlanError(f"{name}: expected {expected}, a tuple of positive integers or a map by path, found {value!r}") from None
    if not shape or any(n < 1 for n in shape):
        raise PlanError(f"{name}: expected positive integers, found {shape!r}")
    return shape


def _jsonable(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, tuple | list) else value
