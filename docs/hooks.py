"""What mkdocs does beside its plugins: links that lead out of docs/ become the names of the files that they lead to."""

from __future__ import annotations

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository, which lie beside the page in a checkout but not in the site, as text."""
    return _OUTWARD.sub(_named, markdown)


def _named(found: re.Match[str]) -> str:
    text, path = found.groups()
    return text if text.strip("`") == path else f"{text} (`{path}`)"
