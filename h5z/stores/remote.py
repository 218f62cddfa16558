"""Zarr stores by URL: through obstore where it reaches the same place with the same credentials, else through fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zarr.abc.store import Store

_PLAIN = re.compile(r"[\w=+-][\w.=+ -]*(/[\w=+-][\w.=+ -]*)*", re.ASCII)  # keys that both clients write alike
_OPTIONS = frozenset({"key", "secret", "token", "anon", "endpoint_url", "client_kwargs"})
_CLIENT_OPTIONS = frozenset({"endpoint_url", "region_name"})


def ranged(url: str, storage_options: dict[str, Any] | None = None) -> Callable[[int, int], bytes] | None:
    """What reads an object's bytes from a place up to another, through obstore; None where that may not serve."""
    config = s3_config(url, storage_options or {}, os.environ)
    key = (config or {}).pop("prefix", "")
    if config is None or not _PLAIN.fullmatch(key):
        return None
    try:
        from obstore.store import S3Store
    except ImportError:
        return None
    store = S3Store(**config)

    def read(start: int, end: int) -> bytes:
        import obstore

        return bytes(obstore.get_range(store, key, start=start, end=end))

    return read


def open_url(url: str, storage_options: dict[str, Any] | None = None) -> Store:
    """Open a zarr Store by its URL.

    Parameters
    ----------
    storage_options : dict, optional
        What fsspec takes.
    """
    from zarr.storage import FsspecStore, ObjectStore

    config = s3_config(url, storage_options or {}, os.environ)
    if config is not None:
        try:
            from obstore.store import S3Store
        except ImportError:
            pass
        else:
            return ObjectStore(S3Store(**config))
    return FsspecStore.from_url(url, storage_options=storage_options)


def s3_config(url: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What obstore's client of S3 takes to do what s3fs would; None where s3fs knows more ways: profiles, roles, regions.

    >>> s3_config("s3://b/x", {"key": "k", "secret": "s"}, {"AWS_REGION": "eu-west-1"})["region"]
    'eu-west-1'
    >>> s3_config("s3://b/x", {"profile": "me"}, {}), s3_config("gs://b/x", {}, {}), s3_config("s3://b/x", {}, {})
    (None, None, None)
    """
    scheme, _, place = url.partition("://")
    client = options.get("client_kwargs") or {}
    if scheme not in ("s3", "s3a") or set(options) - _OPTIONS or set(client) - _CLIENT_OPTIONS or "@" in place or "?" in place:
        return None
    endpoint = options.get("endpoint_url") or client.get("endpoint_url")
    endpoint = endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = client.get("region_name") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    config: dict[str, Any] = {}
    if options.get("anon"):
        config["skip_signature"] = True
    elif options.get("key") and options.get("secret"):
        config = {"access_key_id": options["key"], "secret_access_key": options["secret"]}
        config |= {"session_token": options["token"]} if options.get("token") else {}
    elif options.get("key") or "AWS_PROFILE" in environment or "AWS_ACCESS_KEY_ID" not in environment:
        return None
    if endpoint:
        config |= {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
    elif not region:
        return None  # s3fs finds a bucket wherever it is
    bucket, _, prefix = place.partition("/")
    retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
    prefixed = {"prefix": prefix.strip("/")} if prefix.strip("/") else {}
    return {"bucket": bucket, **prefixed, "region": region or "us-east-1", "retry_config": retries, **config}
