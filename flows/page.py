"""The report of a migration as one HTML page that needs nothing else: readable on a phone, and without a network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from flows.layout import layouts
from flows.report import STATUSES, ArchiveReport, FileRecord, printable

MOST_PARTS = 40  # files that have a part of the page to themselves
MOST_ROWS = 5000  # of the table of all files; the JSON beside the page has all
SLOWEST = 15
_BINS = 60

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(report: ArchiveReport, storage_options: dict[str, Any] | None = None) -> str:
    """The report as HTML.

    Parameters
    ----------
    report : ArchiveReport
        What the run did.
    storage_options : dict, optional
        To read the metadata of targets by URL, for the pictures of their chunks.
    """
    folder, report = _shortened(report)
    parts = _chosen(report)
    numbers = {record.source: number for number, record in enumerate(parts)}
    body = [
        f"<h1>Migration to {_text(report.target_root)}</h1>",
        f'<p class="soft">begun {_text(report.started)}, verified: {report.verify}, {report.batches} batches</p>',
        f'<p class="soft">files are named from {_text(folder)} on</p>' if folder else "",
        _cards(report),
        _section("Throughput", _throughput(report)),
        _section("Sizes", _sizes(report)),
        _section("Routes", _routes(report)),
        _section("In quarantine", _table(report.quarantined, numbers, reason=True)),
        _section("Not carried over", _table(report.incomplete, numbers, reason=True)),
        _section("Left for the next run", _table(report.left, numbers, reason=True)),
        _section("Vanished sources", _vanished(report)),
        _section("Slowest files", _table(_slowest(report), numbers)),
        _section("Files one by one", "".join(_part(record, numbers[record.source], storage_options) for record in parts)),
        _section("All files", _all(report, numbers)),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>h5z: {_text(report.target_root)}</title><style>{_beside('page.css')}</style>"
    )
    script = f"<script>{_beside('page.js')}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}{script}</body></html>\n'


def _shortened(report: ArchiveReport) -> tuple[str, ArchiveReport]:
    """The folder that all sources are in, and the report with their names from there on: a phone's lines are short."""
    sources = [*(record.source for record in report.files), *(source for source, _ in report.vanished)]
    levels = zip(*(source.split("/")[:-1] for source in sources), strict=False)
    folder = "".join(f"{names[0]}/" for names in takewhile(lambda names: len(set(names)) == 1, levels))
    if folder.endswith("//") or folder in ("", "/"):
        return "", report
    files = (replace(r, source=r.source[len(folder) :], reason=_own(r)) for r in report.files)
    vanished = tuple((source[len(folder) :], target) for source, target in report.vanished)
    return folder, replace(report, files=tuple(files), vanished=vanished)


def _own(record: FileRecord) -> str:
    return record.reason.removeprefix(f"{record.source}: ")


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _chosen(report: ArchiveReport) -> list[FileRecord]:
    """The files that people ask about: what went wrong, the slowest, then the largest."""
    largest = sorted(report.files, key=lambda record: -record.nbytes)
    wanted = (*report.quarantined, *report.incomplete, *_slowest(report), *largest[:MOST_PARTS])
    return list({record.source: record for record in wanted}.values())[:MOST_PARTS]


def _slowest(report: ArchiveReport) -> list[FileRecord]:
    converted = (record for record in report.files if record.status == "converted")
    return sorted(converted, key=lambda record: -record.seconds)[:SLOWEST]


def _cards(report: ArchiveReport) -> str:
    cards = [(status, f"{report.count(status):,}") for status in STATUSES if report.count(status)]
    cards.append(("read", _size(report.nbytes)))
    if report.stored_nbytes:
        cards.append(("stored", f"{_size(report.stored_nbytes)} ({report.nbytes / report.stored_nbytes:.2f} : 1)"))
    cards.append(("took", f"{report.seconds:,.1f} s"))
    if report.seconds and report.nbytes:
        cards.append(("throughput", f"{_size(report.nbytes / report.seconds)}/s"))
    shown = (f'<div class="card {name}"><b>{value}</b>{name}</div>' for name, value in cards)
    return f'<div class="cards">{"".join(shown)}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _throughput(report: ArchiveReport) -> str:
    """Bytes of source files by the time when each was done."""
    done = [(record.ended, record.nbytes) for record in report.files if record.status == "converted"]
    end = max((ended for ended, _ in done), default=0.0)
    if not end:
        return ""
    bins = [0.0] * _BINS
    for ended, nbytes in done:
        bins[min(_BINS - 1, int(ended / end * _BINS))] += nbytes / (end / _BINS)
    most = max(bins) or 1.0
    bars = "".join(
        f'<rect class="bar" x="{6 * i}" y="{140 - 130 * value / most:.1f}" width="5" height="{130 * value / most:.1f}"/>'
        for i, value in enumerate(bins)
        if value
    )
    words = f'<text x="0" y="158">0 s</text><text x="360" y="158" text-anchor="end">{end:,.1f} s</text>'
    about = f"at most {_size(most)}/s of source files done, over {end:,.1f} s"
    picture = f'<svg id="throughput" viewBox="0 0 360 164" role="img"><title>{about}</title><path class="axis" d="M0 140H360"/>'
    return f"<figure>{picture}{bars}{words}</svg><figcaption>{about}</figcaption></figure>"


def _sizes(report: ArchiveReport) -> str:
    measured = [record for record in report.files if record.stored_nbytes]
    before, after = (sum(getattr(record, name) or 0 for record in measured) for name in ("nbytes", "stored_nbytes"))
    return _bars([("HDF5 files", before), ("Zarr stores", after)]) if measured else ""


def _routes(report: ArchiveReport) -> str:
    routes: dict[str, int] = {}
    for record in report.files:
        for route, nbytes in record.routes.items():
            routes[route] = routes.get(route, 0) + nbytes
    return _bars(sorted(routes.items(), key=lambda item: -item[1]))


def _bars(values: Sequence[tuple[str, int]]) -> str:
    most = max((value for _, value in values), default=0)
    if not most:
        return ""
    lines = "".join(
        f'<rect class="bar" x="90" y="{22 * i + 3}" width="{max(1, 180 * value / most):.0f}" height="15"/>'
        f'<text x="0" y="{22 * i + 15}">{_text(name)}</text>'
        f'<text x="{95 + 180 * value / most:.0f}" y="{22 * i + 15}">{_size(value)}</text>'
        for i, (name, value) in enumerate(values)
    )
    return f'<svg viewBox="0 0 360 {22 * len(values)}" role="img">{lines}</svg>'


def _table(records: Iterable[FileRecord], numbers: dict[str, int], *, reason: bool = False) -> str:
    lines = "".join(
        f'<tr><td class="name">{_name(record, numbers)}</td>'
        + (
            f"<td>{_text(_reason(record))}</td>"
            if reason
            else f'<td class="n" data-name="took">{record.seconds:,.2f} s</td>'
            f'<td class="n" data-name="size">{_size(record.nbytes)}</td>'
        )
        + "</tr>"
        for record in list(records)[:MOST_ROWS]
    )
    columns = "<th>why</th>" if reason else '<th class="n">took</th><th class="n">size</th>'
    head = f"<thead><tr><th>file</th>{columns}</tr></thead>"
    return f'<div class="scroll"><table class="stack">{head}<tbody>{lines}</tbody></table></div>' if lines else ""


def _vanished(report: ArchiveReport) -> str:
    items = "".join(f'<li class="name">{_text(source)}, migrated to {_text(target)}</li>' for source, target in report.vanished)
    return f"<ul>{items}</ul>" if items else ""


def _part(record: FileRecord, number: int, storage_options: dict[str, Any] | None) -> str:
    """A file's own part of the page: what became of it, its plan, and how its chunks are cut."""
    facts = [("target", record.target), ("size", _size(record.nbytes)), ("took", f"{record.seconds:,.2f} s")]
    if record.stored_nbytes:
        facts.append(("stored", _size(record.stored_nbytes)))
    facts += [("route", f"{route}: {_size(nbytes)}") for route, nbytes in record.routes.items()]
    facts += [("reason", record.reason)] if record.reason else []
    facts += [("not carried over", line) for line in record.not_carried]
    facts += [("noted", line) for line in record.notes]
    lines = "".join(f"<tr><th>{name}</th><td class='name'>{_text(value)}</td></tr>" for name, value in facts)
    found = layouts(record.target, storage_options) if record.status in ("converted", "unchanged") else []
    arrays = "".join(layout.figure() for layout in found)
    title = f'<summary><span class="{record.status}">{record.status}</span> {_text(record.source)}</summary>'
    return f'<details id="file-{number}">{title}<table>{lines}</table>{arrays}</details>'


def _all(report: ArchiveReport, numbers: dict[str, int]) -> str:
    lines = "".join(
        f'<tr data-status="{record.status}"><td class="name">{_name(record, numbers)}</td>'
        f'<td class="{record.status}">{record.status}</td><td class="n" data-name="size">{_size(record.nbytes)}</td>'
        f'<td class="n" data-name="stored">{_size(record.stored_nbytes) if record.stored_nbytes else "–"}</td>'
        f'<td class="n" data-name="took">{record.seconds:,.2f} s</td></tr>'
        for record in report.files[:MOST_ROWS]
    )
    options = "".join(f"<option>{status}</option>" for status in STATUSES if report.count(status))
    more = f", the first {MOST_ROWS:,} of them here" if len(report.files) > MOST_ROWS else ""
    return (
        f'<p><input id="find" type="search" placeholder="part of a name" aria-label="part of a name"> '
        f'<select id="which" aria-label="status"><option value="">all</option>{options}</select> '
        f'<span id="shown" class="soft"></span></p><p class="soft">{len(report.files):,} files{more}</p>'
        '<table id="all" class="stack"><thead><tr><th>file</th><th>status</th><th class="n">size</th><th class="n">stored</th>'
        f'<th class="n">took</th></tr></thead><tbody>{lines}</tbody></table>'
    )


def _name(record: FileRecord, numbers: dict[str, int]) -> str:
    number = numbers.get(record.source)
    return _text(record.source) if number is None else f'<a href="#file-{number}">{_text(record.source)}</a>'


def _reason(record: FileRecord) -> str:
    return _own(record) or "; ".join(record.not_carried)


def _text(value: str) -> str:
    return html.escape(printable(value))


def _size(nbytes: float) -> str:
    """A size for people.

    >>> _size(512), _size(3 << 20)
    ('512 B', '3.0 MiB')
    """
    amount = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"
