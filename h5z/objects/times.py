"""`datetime`'s values and time zones <-> JSON."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping
from typing import Any

from h5z.errors import PlanError
from h5z.nodes import Json

TIMES = (dt.datetime, dt.date, dt.time, dt.timedelta)
_BY_NAME: dict[str, Any] = {kind.__name__: kind for kind in TIMES}


def time_fields(value: Any) -> dict[str, Json]:
    """What describes a `datetime`, `date`, `time` or `timedelta`: ISO 8601, and what that leaves open.

    >>> time_fields(dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc))
    {'value': '2020-01-02T00:00:00', 'zone': {'offset': [0, 0], 'name': None}}
    """
    if isinstance(value, dt.timedelta):
        return {"value": f"{value.days} {value.seconds} {value.microseconds}"}
    if not isinstance(value, dt.datetime | dt.time):
        return {"value": value.isoformat()}
    fold = {"fold": 1} if value.fold else {}
    if value.tzinfo is None:
        return {"value": value.isoformat(), **fold}
    zone = zone_fields(value.tzinfo)
    if "pytz" in zone:
        zone["dst"] = bool(value.dst())
    out = {"value": value.replace(tzinfo=None).isoformat(), "zone": zone, **fold}
    back = time_of(type(value).__name__, out)
    if (back, back.utcoffset()) != (value, value.utcoffset()):
        raise PlanError(f"expected a time at an offset that its zone has then, found {value!r}")
    return out


def time_of(kind: str, found: Mapping[str, Json], text: str | None = None) -> Any:
    """The value that `time_fields` described."""
    text = found["value"] if text is None else text
    if kind == "timedelta":
        days, seconds, microseconds = map(int, text.split())
        return dt.timedelta(days, seconds, microseconds)
    value: Any = _BY_NAME[kind].fromisoformat(text)
    if found.get("zone") is not None:
        zone = zone_of(found["zone"])
        if "pytz" in found["zone"]:
            return zone.localize(value, is_dst=bool(found["zone"].get("dst")))
        value = value.replace(tzinfo=zone)
    return value.replace(fold=1) if found.get("fold") else value


def zone_fields(zone: Any) -> dict[str, Json]:
    """What describes a time zone: a fixed offset, or a name in the tz database.

    Raises
    ------
    PlanError
        For a zone that has neither.
    """
    if type(zone) is dt.timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        named = name if name != dt.timezone(offset).tzname(None) else None
        return {"offset": [offset.days * 86400 + offset.seconds, offset.microseconds], "name": named}
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return {"zone": zone.key}
    if type(zone).__module__.partition(".")[0] == "pytz" and getattr(zone, "zone", None):
        return {"pytz": zone.zone}
    raise PlanError(f"expected a time zone of a fixed offset or of a name in the tz database, found {article(zone)}")


def zone_of(found: Mapping[str, Json]) -> Any:
    """The time zone that `zone_fields` described."""
    if "zone" in found:
        return zoneinfo.ZoneInfo(found["zone"])
    if "pytz" in found:
        import pytz

        return pytz.timezone(found["pytz"])
    seconds, microseconds = found["offset"]
    offset = dt.timedelta(seconds=seconds, microseconds=microseconds)
    if not offset and found.get("name") is None:
        return dt.UTC
    return dt.timezone(offset) if found.get("name") is None else dt.timezone(offset, found["name"])


def article(value: Any) -> str:
    """A value's type, for a message.

    >>> article({1}), article(1j)
    ("'set'", "'complex'")
    """
    kind = type(value)
    return repr(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")
