"""Where in an HDF5 file the rows of each entity are: a small mapping, as dataclasses and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from h5z.errors import PlanError
from h5z.events.schema import Schema
from h5z.nodes import Json, Record

Kind = Literal["table", "columns", "groups"]


@dataclass(frozen=True)
class Layout(Record):
    """Where rows of one entity are.

    Parameters
    ----------
    kind : {"table", "columns", "groups"}
        A dataset of compounds, a row each; a group of datasets of one length, a column each; or a group a row, its values
        attributes or scalar datasets.
    path : str
        Of the dataset, or the group; of the rows' groups for "groups". A component ``*`` is any; a component
        ``{attribute}`` is any too, and what it is becomes that attribute's value (``id``: the row's id), as in
        ``/segments/{segment_type}`` or ``/tasks/{task_id}/elements/{id}``.
    names : mapping of str to str
        What an attribute (or ``id``) is called in the file, where it is called otherwise.
    constants : mapping
        Attributes that have one value in all of these rows.
    missing : mapping
        By attribute, the value that stands for none in the file, such as -1, or several of them.
    """

    kind: Kind
    path: str
    names: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise PlanError(f"layout: kind: expected one of {', '.join(get_args(Kind))}, found {self.kind!r}")
        path: Any = self.path
        if not isinstance(path, str) or not self.components:
            raise PlanError(f"layout: path: expected that of a dataset or group, such as /tasks, found {self.path!r}")
        for name in ("names", "constants", "missing"):
            if not isinstance(getattr(self, name), Mapping):
                raise PlanError(f"layout: {name}: expected a mapping by attribute, found {getattr(self, name)!r}")
        for component in self.components:
            if component in (".", "..") or (
                capture(component) is None and ("{" in component or "*" in component) and component != "*"
            ):
                raise PlanError(f"layout: path: expected names, * or {{attribute}} between slashes, found {component!r}")

    @property
    def components(self) -> tuple[str, ...]:
        """The path's parts."""
        return tuple(part for part in self.path.split("/") if part)

    def check(self, entity: str, schema: Schema) -> None:
        """Refuse attributes that the entity does not have.

        Raises
        ------
        PlanError
            Naming the field and the attribute.
        """
        known = {"id", schema[entity].id_name, *schema[entity].columns}
        captured = [name for name in map(capture, self.components) if name]
        for where, names in (("path", captured), ("names", self.names), ("constants", self.constants), ("missing", self.missing)):
            for name in names:
                if name not in known:
                    raise PlanError(f"layout of {entity}: {where}: expected one of {', '.join(sorted(known))}, found {name!r}")


def capture(component: str) -> str | None:
    """The attribute that a path's component gives, if it does.

    >>> capture("{task_id}"), capture("tasks")
    ('task_id', None)
    """
    inner = component[1:-1]
    return inner if component.startswith("{") and component.endswith("}") and inner.isidentifier() else None


@dataclass(frozen=True)
class SessionLayout(Record):
    """Where a session's rows, and its id, are.

    Parameters
    ----------
    entities : mapping of str to Layout or sequence of Layout
        By entity; several where its rows are in several places.
    session : str
        Where the session's id is: ``/path@attribute``, ``@attribute`` of the root, or the path of a scalar dataset;
        ``name`` for the file's name without its suffix; ``auto`` for ``@session_id`` where there is one, else the name.
    """

    entities: Mapping[str, tuple[Layout, ...]]
    session: str = "auto"

    def __post_init__(self) -> None:
        entities: Any = self.entities
        if not isinstance(entities, Mapping):
            raise PlanError(f"layout: expected layouts by entity, found {entities!r}")
        made = {}
        for name, given in entities.items():
            items = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
            made[name] = tuple(item if isinstance(item, Layout) else _layout(item) for item in items)
        object.__setattr__(self, "entities", made)
        session: Any = self.session
        if not isinstance(session, str) or not session:
            raise PlanError(f"layout: session: expected 'auto', 'name', or a path, found {session!r}")

    def check(self, schema: Schema) -> None:
        """Refuse entities and attributes that a schema does not have.

        Raises
        ------
        PlanError
            Naming them.
        """
        for entity, layouts in self.entities.items():
            known = schema[entity].name
            for layout in layouts:
                layout.check(known, schema)

    @classmethod
    def from_dict(cls, data: Json) -> SessionLayout:
        """Build the layout that `to_dict` described."""
        if not isinstance(data, Mapping) or "entities" not in data or set(data) - {"entities", "session"}:
            raise PlanError(f"layout: expected 'entities' and, if wanted, 'session'; found {data!r}")
        return cls(**data)


def _layout(data: Any) -> Layout:
    names = [item.name for item in fields(Layout)]
    if not isinstance(data, Mapping) or not {"kind", "path"} <= set(data) <= set(names):
        raise PlanError(f"layout: expected 'kind', 'path' and, if wanted, {', '.join(names[2:])}; found {data!r}")
    return Layout(**data)


def tables(schema: Schema, where: str = "/{entity}s") -> SessionLayout:
    """The layout of one dataset of compounds an entity, by the names that the schema has.

    Parameters
    ----------
    where : str
        Their path, in which ``{entity}`` is the entity's name.

    Examples
    --------
    >>> from h5z.events.recorded_session import RECORDED_SESSION
    >>> tables(RECORDED_SESSION).entities["task"][0].path
    '/tasks'
    """
    return SessionLayout({entity.name: (Layout("table", where.replace("{entity}", entity.name)),) for entity in schema.entities})
