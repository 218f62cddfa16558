"""Keys of dicts <-> names of Zarr nodes, one to one, whatever else a group holds.

A text that every store can hold and that has no ``%`` is its own name. Any other text is percent-encoded, ``%`` included; a
key that is no text is its own text followed by ``%`` and its type. The node's ``h5z`` mark explains a name that is not the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from h5z.errors import PlanError
from h5z.names import escape
from h5z.nodes import Json
from h5z.objects.tags import tag

_LONGEST = 200


def name_of(key: Any) -> str:
    r"""The name of the node that holds a key's value.

    Parameters
    ----------
    key : str, or any scalar that `h5z.objects.tags` has a word for, or a tuple of those

    Raises
    ------
    PlanError
        For a key of another type.

    Examples
    --------
    >>> name_of("température"), name_of("a/b"), name_of("50%"), name_of(5), name_of((1, "x")), name_of("")
    ('température', 'a%2Fb', '50%25', '5%int', '(1, %27x%27)%tuple', '%')
    """
    if type(key) is str:
        return _encoded(key, "")
    tag(key)
    return _encoded(str(key), "%" + type(key).__name__)


def _encoded(text: str, suffix: str) -> str:
    if not text and not suffix:
        return "%"
    raw = text.encode("utf-8", "surrogatepass")
    quoted = text.replace("%", "%25")
    if suffix or quoted != text:
        quoted = quoted.replace("'", "%27")
    name = escape(quoted.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))
    if len(name.encode()) > _LONGEST:
        name = name.encode()[:150].decode("utf-8", "ignore") + "%" + hashlib.sha256(raw).hexdigest()[:20]
    return name + suffix


def key_mark(key: Any, name: str) -> dict[str, Json]:
    """What a node's mark says of its key: nothing where its name does.

    >>> key_mark("a", "a"), key_mark(5, "5%int")
    ({}, {'key': 5})
    """
    return {} if key == name and type(key) is str else {"key": tag(key)}


def parts_of(key: str | Sequence[Any] | None) -> tuple[Any, ...]:
    """The keys, from the root down, that a user's `key` names: a text is cut at its slashes, a tuple or list is taken as it is.

    >>> parts_of("/events/timestamps"), parts_of(("a/b", 5)), parts_of(None), parts_of("/")
    (('events', 'timestamps'), ('a/b', 5), (), ())
    """
    if key is None:
        return ()
    if isinstance(key, str):
        found = tuple(part for part in key.split("/") if part)
        if any(part in (".", "..") for part in found):
            raise PlanError(f"key: expected names joined with slashes, found {key!r}")
        return found
    if isinstance(key, tuple | list):
        return tuple(key)
    raise PlanError(f"key: expected text such as 'events/timestamps', or a tuple of keys, found {key!r}")
