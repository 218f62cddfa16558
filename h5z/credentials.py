"""Credentials, kept apart from names: what of a URL and of storage options may be shown, and what may not.

`separate` takes a URL apart where it enters h5z. The name goes into plans, reports, messages and the arguments of tasks; the
options, which also hold the URL as it was given, go to fsspec (by `joined`) and nowhere else. `redact` is for text that
others wrote: it hides what looks like a URL's credentials, and every secret that this process has been given.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
_GIVEN = "h5z_url"  # among options: the URL as it was given
# Of a query, what says which object or which version of it is meant; anything else may be a signature, a token or a key.
_KEPT = frozenset({"versionid", "version", "generation", "snapshot"})
_NO_NETWORK = frozenset({"file", "local", "memory"})
_S3 = frozenset({"s3", "s3a"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>|\\^`{}]+")
_QUERY = re.compile(r"\?(?=[^?/#]*=[^/]*$)")  # elsewhere than on the web, else a question mark is a wildcard
_CONTAINERS = frozenset({"abfs", "abfss", "wasb", "wasbs"})  # before the host, these have no user but a container
_SECRET_NAME = re.compile(r"key|secret|token|pass|pwd|cred|auth|sig|sas|cookie|header|session|connection_string", re.IGNORECASE)
_SHORTEST, _MOST = 5, 512

_known: OrderedDict[str, None] = OrderedDict()
_lock = threading.Lock()


def shown(url: str) -> str:
    """A URL without user, password, fragment, and whatever of its query does not say which object is meant; paths as they are.

    >>> shown("https://me:secret@host:80/a.h5?X-Amz-Signature=abc&versionId=3"), shown("s3://bucket/a@b.h5")
    ('https://host:80/a.h5?versionId=3', 's3://bucket/a@b.h5')
    >>> shown("simplecache::https://me:secret@host/a.h5"), shown("folder/me:secret@host.h5")
    ('simplecache::https://host/a.h5', 'folder/me:secret@host.h5')
    """
    return "::".join(map(_shown, url.split("::"))) if "://" in url else url


def _shown(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() in _NO_NETWORK:
        return url
    web = scheme.lower() in ("http", "https")
    rest = rest.partition("#")[0] if web else rest
    start = rest.find("?") if web else getattr(_QUERY.search(rest), "start", lambda: -1)()
    rest, query = (rest[:start], rest[start + 1 :]) if start >= 0 else (rest, "")
    kept = "&".join(part for part in query.split("&") if part.partition("=")[0].lower() in _KEPT)
    user = "" if scheme.lower() in _CONTAINERS else _user(rest)
    return f"{scheme}://{rest[len(user) :]}" + (f"?{kept}" if kept else "")


def _user(rest: str) -> str:
    """Of a URL without its scheme, user and password with the ``@``; also where a password holds an unescaped slash."""
    host = rest.partition("/")[0]
    if "@" in host:
        return rest[: host.rindex("@") + 1]
    name, colon, port = host.partition(":")
    if colon and not host.startswith("[") and port and not port.isdigit():
        return rest[: rest.rindex("@") + 1] if "@" in rest else f"{name}:{port}"
    return ""


def separate(url: str, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any] | None]:
    """Take a URL's credentials out of it and into the options that go with it; a path, or a URL without any, stays as it is.

    >>> separate("s3://AKIA:geheim@bucket/a.h5", {"anon": False})
    ('s3://bucket/a.h5', {'key': 'AKIA', 'secret': 'geheim', 'anon': False})
    """
    given = None if options is None else dict(options)
    name = shown(url)
    if name == url:
        return name, given
    _learn_url(url)
    scheme, _, rest = url.partition("://")
    user = _user(rest)
    if scheme.lower() in _S3 and user and name == f"{scheme}://{rest[len(user) :]}":
        key, _, secret = user[:-1].partition(":")
        return name, {"key": unquote(key), "secret": unquote(secret), **(given or {})}
    return name, {**(given or {}), _GIVEN: url}


def joined(name: str, options: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """What fsspec takes: the URL as it was given, and the options that are its own. What they hold is hidden from then on."""
    rest = dict(options or {})
    url = str(rest.pop(_GIVEN, name))
    for secret in _leaves(rest):
        _learn(secret)
    return url, rest


def redact(text: str) -> str:
    """Hide credentials in a text: those of URLs, and every secret that this process was given.

    >>> redact("404 for 'https://me:secret@host/a.h5?sig=abc'")
    "404 for 'https://host/a.h5'"
    """
    if "://" in text:
        text = _URL.sub(lambda found: shown(found[0]), text)
    with _lock:
        secrets = [secret for secret in _known if secret in text]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _leaves(value: Any, *, secret: bool = False) -> Iterator[str]:
    """The texts among options that their names call secret."""
    if isinstance(value, str) and secret:
        yield value
    elif isinstance(value, str) and "://" in value:
        _learn_url(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, secret=secret or bool(_SECRET_NAME.search(str(name))))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, secret=secret)


def _learn_url(url: str) -> None:
    for part in url.split("::"):
        rest = part.partition("://")[2]
        _learn(_user(rest)[:-1].partition(":")[2])
        for pair in rest.partition("?")[2].partition("#")[0].split("&"):
            name, _, value = pair.rpartition("=")
            if name.lower() not in _KEPT:
                _learn(value)


def _learn(secret: str) -> None:
    with _lock:
        for text in {secret, unquote(secret)}:
            if len(text) >= _SHORTEST:
                _known[text] = None
                _known.move_to_end(text)
        while len(_known) > _MOST:
            _known.popitem(last=False)
