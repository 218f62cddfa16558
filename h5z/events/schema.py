"""What tables of entities hold: attributes with types, ids, relations between entities; pure data, checked, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar, cast

from h5z.errors import PlanError
from h5z.nodes import Json, Record

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
TIME = "datetime64[ns]"
DTYPES = ("string", "bool", *INTEGERS, *FLOATS, TIME)
ANY_ID = "any"
ID_DTYPES = (ANY_ID, "string", *INTEGERS)
MISSING = "_missing"  # what the name of a variable's mask ends in

T = TypeVar("T", bound="Record")


@dataclass(frozen=True)
class Attribute(Record):
    """An attribute of an entity.

    Parameters
    ----------
    name : str
        An identifier; the variable is called ``<entity>_<name>``.
    dtype : str
        One of `DTYPES`.
    required : bool
        Whether a row without it breaks the schema.
    types : bool
        Whether it says of which type a row is: the entity then has a ``<entity>_type_index``.
    """

    name: str
    dtype: str
    required: bool = True
    types: bool = False

    def __post_init__(self) -> None:
        _identifier("attribute", self.name)
        if self.dtype not in DTYPES:
            raise PlanError(f"attribute {self.name}: dtype: expected one of {', '.join(DTYPES)}, found {self.dtype!r}")
        if self.types and self.dtype != "string":
            raise PlanError(f"attribute {self.name}: dtype: expected string of what says a row's type, found {self.dtype!r}")


@dataclass(frozen=True)
class Relation(Record):
    """An attribute that holds the id of another row.

    Parameters
    ----------
    attribute : str
        Its name, such as ``task_id``.
    to : str
        The entity whose ids it holds.
    required : bool
        Whether a row without it breaks the schema.
    """

    attribute: str
    to: str
    required: bool = True

    def __post_init__(self) -> None:
        _identifier("relation", self.attribute)

    @property
    def name(self) -> str:
        """The relation's name, by which its index is called.

        >>> Relation("containing_element_id", "element").name
        'containing_element'
        """
        return self.attribute.removesuffix("_id") or self.attribute


@dataclass(frozen=True)
class Entity(Record):
    """A kind of row.

    Parameters
    ----------
    name : str
        An identifier; dimension and coordinate are called ``<name>_id``.
    attributes : sequence of Attribute
        At most one of them says the row's type.
    relations : sequence of Relation
        The first leads to what a row belongs to, an entity listed before this one: rows are stored in its order, so that
        those that belong together lie together.
    id_dtype : str
        ``string``, an integer type, or ``any``: text or int64, as the first row has it.
    interval : pair of str, optional
        The attributes that say when a row starts and ends (one name twice for what has no duration); of the same type.
    """

    name: str
    attributes: tuple[Attribute, ...] = ()
    relations: tuple[Relation, ...] = ()
    id_dtype: str = ANY_ID
    interval: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _identifier("entity", self.name)
        for name in ("attributes", "relations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.id_dtype not in ID_DTYPES:
            raise PlanError(f"entity {self.name}: id_dtype: expected one of {', '.join(ID_DTYPES)}, found {self.id_dtype!r}")
        if {"id", self.id_name} & set(self.columns):
            raise PlanError(f"entity {self.name}: expected attributes of other names than id and {self.id_name}, its own id's")
        if sum(attribute.types for attribute in self.attributes) > 1:
            raise PlanError(f"entity {self.name}: expected at most one attribute that says a row's type")
        if self.interval is not None:
            object.__setattr__(self, "interval", self._checked_interval())

    def _checked_interval(self) -> tuple[str, str]:
        names: Any = tuple(self.interval or ())
        dtypes = {attribute.name: attribute.dtype for attribute in self.attributes}
        numeric = [dtypes.get(name) for name in names if dtypes.get(name) not in (None, "string", "bool")]
        if len(names) != 2 or len(numeric) != 2 or numeric[0] != numeric[1]:
            raise PlanError(
                f"entity {self.name}: interval: expected two of its attributes, of one type, numbers or times; found {names!r}"
            )
        return cast(tuple[str, str], names)

    @property
    def id_name(self) -> str:
        """Name of dimension and coordinate."""
        return f"{self.name}_id"

    @property
    def container(self) -> Relation | None:
        """The relation to what a row belongs to, whose order the rows follow."""
        return self.relations[0] if self.relations else None

    @property
    def type_attribute(self) -> Attribute | None:
        """The attribute that says a row's type."""
        return next((attribute for attribute in self.attributes if attribute.types), None)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row holds besides its id: names of attributes, then of relations."""
        return (*(item.name for item in self.attributes), *(item.attribute for item in self.relations))

    def variable(self, column: str) -> str:
        """Name of a column's variable.

        >>> Entity("element").variable("title")
        'element_title'
        """
        return f"{self.name}_{column}"

    def index(self, relation: Relation) -> str:
        """Name of the variable that holds the row to which each row's relation leads, -1 for none."""
        return f"{self.name}_{relation.name}_index"

    @classmethod
    def from_dict(cls, data: Mapping[str, Json]) -> Entity:
        """Build the entity that `to_dict` described."""
        known = _known(cls, data)
        for name, kind in (("attributes", Attribute), ("relations", Relation)):
            known[name] = tuple(kind(**_known(kind, item)) for item in known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True)
class Schema(Record):
    """Entities and how they are related.

    Parameters
    ----------
    name, version : str
        Written into every store.
    entities : sequence of Entity
        What a row belongs to is listed before it.

    Raises
    ------
    PlanError
        If two variables would have one name, or a relation leads nowhere.
    """

    name: str
    entities: tuple[Entity, ...]
    version: str = "1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(self.entities))
        if not self.entities:
            raise PlanError(f"schema {self.name}: expected entities, found none")
        before: set[str] = set()
        everything = {entity.name for entity in self.entities}
        for entity in self.entities:
            for relation in entity.relations:
                known = before if relation is entity.container else everything
                if relation.to not in known:
                    which = "an entity listed before it" if relation is entity.container else "an entity"
                    raise PlanError(f"entity {entity.name}: {relation.attribute}: expected {which}, found {relation.to!r}")
            before.add(entity.name)
        claimed: dict[str, str] = {}
        for name, owner in self._names():
            if name in claimed:
                raise PlanError(f"schema {self.name}: {claimed[name]} and {owner} would both be called {name}")
            claimed[name] = owner

    def _names(self) -> Iterator[tuple[str, str]]:
        """Every dimension and variable, and what it is; those of several sessions opened together too."""
        yield "session_id", "the session's id"
        for entity in self.entities:
            yield entity.id_name, f"the id of {entity.name}"
            yield f"{entity.id_name}{MISSING}", f"the id's mask of {entity.name}"
            for column in entity.columns:
                yield entity.variable(column), f"{column} of {entity.name}"
                yield f"{entity.variable(column)}{MISSING}", f"the mask of {column} of {entity.name}"
            if entity.type_attribute is not None:
                yield f"{entity.name}_type_index", f"the type index of {entity.name}"
            for part in ("_source_row", "_zone", "_zone_first", "_zone_start", "_zone_end", "_session_index"):
                yield f"{entity.name}{part}", f"the index of {entity.name}"
            for part in ("count", "first"):
                yield f"session_{entity.name}_{part}", f"the rows of {entity.name} in a session"
            for relation in entity.relations:
                yield entity.index(relation), f"the index of {relation.attribute} of {entity.name}"
                yield self.count(entity, relation), f"the number of {entity.name} by {relation.attribute}"
            if entity.container is not None:
                yield self.first(entity), f"the first {entity.name} of {entity.container.to}"

    def count(self, entity: Entity, relation: Relation) -> str:
        """Name of the variable that counts an entity's rows by what a relation leads to.

        >>> from h5z.events import RECORDED_SESSION
        >>> RECORDED_SESSION.count(RECORDED_SESSION["element"], RECORDED_SESSION["element"].relations[0])
        'task_element_count'
        """
        if relation is entity.container or relation == entity.container:
            return f"{relation.to}_{entity.name}_count"
        return f"{relation.to}_{entity.name}_{relation.name}_count"

    def first(self, entity: Entity) -> str:
        """Name of the variable that holds the row of the first that belongs to each container."""
        assert entity.container is not None
        return f"{entity.container.to}_{entity.name}_first"

    @cached_property
    def _by_name(self) -> dict[str, Entity]:
        return {entity.name: entity for entity in self.entities}

    def __getitem__(self, name: str) -> Entity:
        """Return an entity by its name.

        Raises
        ------
        PlanError
            If there is none; naming those there are.
        """
        if name not in self._by_name:
            raise PlanError(f"expected an entity ({', '.join(self._by_name)}), found {name!r}")
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def with_ids(self, dtypes: Mapping[str, str]) -> Schema:
        """The schema with the types that ids were found to have."""
        return replace(self, entities=tuple(replace(entity, id_dtype=dtypes[entity.name]) for entity in self.entities))

    @classmethod
    def from_dict(cls, data: Mapping[str, Json]) -> Schema:
        """Build the schema that `to_dict` described.

        Raises
        ------
        PlanError
            For fields that are not there, or that nothing is known of.
        """
        known = _known(cls, data)
        if not isinstance(known.get("entities"), Sequence):
            raise PlanError("schema: expected a list of entities")
        return cls(**{**known, "entities": tuple(Entity.from_dict(item) for item in known["entities"])})

    def to_json(self) -> str:
        """The schema as one line of JSON, as stores carry it."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)


def _known(cls: type[Any], data: Any) -> dict[str, Any]:
    """The fields of a dataclass out of JSON, or one line about what is wrong with them."""
    names = [item.name for item in fields(cls)]
    what = cls.__name__.lower()
    if not isinstance(data, Mapping):
        raise PlanError(f"{what}: expected fields ({', '.join(names)}), found {data!r}")
    for name in data:
        if name not in names:
            raise PlanError(f"{what}: expected one of {', '.join(names)}, found {name!r}")
    if names[0] not in data:
        raise PlanError(f"{what}: expected a field {names[0]!r}, found {dict(data)!r}")
    try:
        return dict(data)
    except TypeError:
        raise PlanError(f"{what}: expected fields ({', '.join(names)}), found {data!r}") from None


def _identifier(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise PlanError(f"{what}: expected a name of letters, digits and underscores, found {name!r}")
