"""What mkdocs does beside its plugins: the command's reference; links that lead out of docs/ become names of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from h5z.cli import app

REFERENCE = "<!-- the reference -->"
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository, which lie beside the page in a checkout but not in the site, as text."""
    if REFERENCE in markdown:
        markdown = markdown.replace(REFERENCE, "\n".join(reference(typer.main.get_command(app), "h5z")))
    return _OUTWARD.sub(_named, markdown)


def _named(found: re.Match[str]) -> str:
    text, path = found.groups()
    return text if text.strip("`") == path else f"{text} (`{path}`)"


def reference(group: Any, name: str) -> Iterator[str]:
    """What the help of each command of a group says, as Markdown."""
    for word, command in group.commands.items():
        whole = f"{name} {word}"
        context = command.context_class(command, info_name=whole)
        yield f"\n{'#' * whole.count(' ')}# {whole}\n\n{_escaped(command.help)}\n"
        if hasattr(command, "commands"):
            yield from reference(command, whole)
            continue
        yield f"```console\n$ {' '.join([whole, *command.collect_usage_pieces(context)])}\n```\n"
        for parameter in command.params:
            what, text = parameter.get_help_record(context)
            yield f"- `{what}`: {_escaped(text)}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>`|\[\]])", r"\\\1", text)
