"""The page: its sections in order, as HTML by one template that escapes all it is given, and as Markdown.

Markdown has the same sentences and tables, and the captions of what only HTML can show.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from bagel_perf.records import codec
from bagel_perf.records.errors import clean_text
from bagel_perf.records.gates import GateReport
from bagel_perf.records.results import Result
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.answer import answer_section
from bagel_perf.report.html.changes import changes_section, forest_section
from bagel_perf.report.html.colours import root_css
from bagel_perf.report.html.content import (
    MAX_ROWS,
    Badges,
    Bars,
    Block,
    Bullets,
    Cards,
    Code,
    Culprit,
    Fold,
    Heading,
    Link,
    Links,
    Page,
    Photos,
    Plot,
    Section,
    TableBlock,
    Text,
    bounded,
    shortened,
)
from bagel_perf.report.html.environment import environment_section, gate_section
from bagel_perf.report.html.floors import floors_section
from bagel_perf.report.html.history import history_section
from bagel_perf.report.html.limits import limits_section
from bagel_perf.report.html.pictures import pictures_section
from bagel_perf.report.html.profiles import ordered
from bagel_perf.report.html.samples import samples_section
from bagel_perf.report.html.sites import sites_section
from bagel_perf.report.html.source import Source
from bagel_perf.report.html.successive import successive_section
from bagel_perf.report.html.timeline import timeline_section
from bagel_perf.report.html.words import date_text, unbroken
from bagel_perf.report.inert import markdown_line, markdown_verbatim
from bagel_perf.report.summary import table_markdown

CSP = (
    "default-src 'none'; script-src '{script}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Of scripts, the one that has this hash."""
GLYPHS = {
    "improved": ("better", "▼"),
    "regressed": ("worse", "▲"),
    "no difference shown": ("plain", "="),
    "inconclusive": ("plain", "?"),
    "too few pairs": ("plain", "?"),
    "invalid": ("worse", "✕"),
    "yes": ("better", "✓"),
    "NO": ("worse", "✕"),
    "pass": ("better", "✓"),
    "fail": ("worse", "✕"),
    "failed": ("worse", "✕"),
    "not judged": ("plain", "?"),
    **dict.fromkeys(("outputs differ", "unlike environments", "counters drifted", "incomplete"), ("worse", "✕")),
}
TONES = {"good": "\u2713", "bad": "\u2715"}
"""Signs of badges."""
HEADERS_WITH_GLYPHS = ("verdict", "identical", "outcome")
DATA_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
TREE = "Counts and pictures of every variant on the simulated device, against the expected ones; no latency"
MAX_SAMPLES = 20_000
"""Latencies and excluded runs that the data of a page hold; where there are more, the result alone has them."""
DATA_FIELDS = (
    "created",
    "environment",
    "subject",
    "cases",
    "variants",
    "cells",
    "deltas",
    "noise",
    "identity",
    "excluded",
)


def build_page(
    sources: Sequence[Source],
    profiles: Sequence[SyncReport] = (),
    gate: GateReport | None = None,
    *,
    beside: str = "",
    others: Sequence[Section] = (),
) -> Page:
    """Of results, oldest first: the last is the subject, all of them are the history; ``profiles`` are timelines.

    What a ``gate`` said of them comes first. ``beside`` names the file that has the page as Markdown; ``others`` are
    sections of what else was given.
    """
    subject = sources[-1]
    result = subject.result
    profiles = ordered(profiles, result)
    history = (history_section(sources),) if len(sources) > 1 else ()
    return Page(
        title=shortened(f"{', '.join(result.named[1:]) or 'nothing'} against {result.named[0]}"),
        subtitle=_meta(result),
        sections=bounded(
            *([gate_section(gate, is_bagel=result.outline.is_bagel)] if gate else []),
            answer_section(result, profiles),
            _changes(result),
            *_inner_sections(result, profiles),
            pictures_section(result, subject.folder),
            successive_section(result),
            *_floors(result, profiles),
            _folded(samples_section(result), "the latency of every round, with clock, temperature and power"),
            *history,
            *others,
            limits_section(result, has_timelines=bool(profiles)),
            _folded(environment_section(sources), "where it was measured, and how to do it again"),
        ),
        data_json=data_text(result),
        beside=beside,
    )


def _meta(result: Result) -> str:
    """Subject, device, torch, commit and date."""
    environment = result.environment
    parts = [f"BAGEL, {result.subject.title}" if result.outline.is_bagel else result.subject.title]
    parts += [environment.device_name]
    if not result.outline.is_server:
        torch, commit = (environment.torch or "").partition("+")[0], environment.commit or ""
        parts += [f"torch {torch}" if torch else "", f"commit {commit[:12]}" if commit else "no commit"]
    return " \u00b7 ".join(filter(None, (*parts, date_text(result.created))))


def _folded(section: Section, inside: str) -> Section:
    """A section that is rarely read."""
    return dataclasses.replace(section, folded=inside)


def _changes(result: Result) -> Section:
    """The tables, and folded below them the same as drawings."""
    section, drawn = changes_section(result), forest_section(result)
    drawings = Fold(summary=f"{drawn.title}, drawn", blocks=drawn.blocks)
    return dataclasses.replace(section, title="Changes", blocks=(*section.blocks, drawings))


def _floors(result: Result, profiles: Sequence[SyncReport]) -> tuple[Section, ...]:
    """How far the device is from its limits; of servers nobody knows it."""
    if result.outline.is_server:
        return ()
    section = dataclasses.replace(floors_section(result, profiles), title="Roofline")
    return (_folded(section, "how near each stage comes to what the device can do"),)


def _inner_sections(result: Result, profiles: Sequence[SyncReport]) -> tuple[Section, ...]:
    """What was seen inside of runs: waits by line and timelines; nobody looks into servers."""
    if result.outline.is_server:
        return ()
    return sites_section(result, profiles), first_open(timeline_section(result, profiles))


def first_open(section: Section) -> Section:
    """What stands below the first heading of a section open, below the others folded."""
    blocks: list[Block] = []
    groups: list[tuple[Heading, list[Block]]] = []
    for block in section.blocks:
        if isinstance(block, Heading):
            groups.append((block, []))
        elif groups:
            groups[-1][1].append(block)
        else:
            blocks.append(block)
    for number, (heading, inner) in enumerate(groups):
        blocks += [heading, *inner] if number == 0 else [Fold(summary=heading.text, blocks=tuple(inner))]
    return dataclasses.replace(section, blocks=tuple(blocks))


def gate_page(gate: GateReport) -> Page:
    """Of a gate for which there is no result: of a tree, or of the host syncs of what ``subject`` says."""
    what = clean_text(gate.subject) or TREE
    return Page(
        title="Gate of host syncs" if gate.subject else "Gate of the tree",
        subtitle=f"{what}; {clean_text(gate.provenance)}" if gate.provenance else what,
        sections=bounded(gate_section(gate, is_alone=True)),
        data_json=json_text(gate.to_json()),
    )


def data_text(result: Result) -> str:
    """The figures of a result as JSON."""
    data = {name: codec.to_json(getattr(result, name)) for name in DATA_FIELDS}
    if sum(len(cell.latency_ms) for cell in result.cells) + len(result.excluded) > MAX_SAMPLES:
        cells = ({**cell, "latency_ms": None} for cell in data["cells"])
        data |= {"cells": list(cells), "excluded": data["excluded"][:MAX_ROWS]}
    return json_text(data)


def json_text(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(data).translate(DATA_ESCAPES)


def page_html(page: Page) -> str:
    """The whole document."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = root_css() + _resource("page.css") + _resource("live.css"), _resource("page.js")
    environment.globals.update(csp=CSP.format(script=script_hash(script)), style=Markup(style), script=Markup(script))
    environment.globals.update(safe_svg=Markup, safe_json=Markup)
    environment.globals.update(glyph=glyph, tones=TONES, unbroken=unbroken)
    return environment.from_string(_resource("page.html.jinja")).render(page=_clean(page))


def script_hash(script: str) -> str:
    """The hash by which a policy allows a script of exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def _clean(value: Any) -> Any:
    """A page whose strings hold nothing that hides, turns text around, or is no character."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, tuple):
        return tuple(map(_clean, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{each.name: _clean(getattr(value, each.name)) for each in fields(value)})
    return value


def glyph(header: str, text: str) -> tuple[str, str] | None:
    """Class and sign of a verdict in a cell under this header, which always has its word as well."""
    if header not in HEADERS_WITH_GLYPHS:
        return None
    return GLYPHS.get(text.split(",")[0])


def _resource(name: str) -> str:
    found: Any = importlib.resources.files(__package__ or "").joinpath(name)
    return str(found.read_text(encoding="utf-8"))


def page_markdown(page: Page) -> str:
    """All sections; HTML in what a result holds is shown, not obeyed."""
    parts = []
    for number, section in enumerate(page.sections):
        parts.append(f"{'#' if number == 0 else '##'} {_line(section.heading)}")
        parts += [_line(page.subtitle)] if number == 0 else []
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _line(text: str) -> str:
    return _without_html(markdown_line(text))


def _without_html(text: str) -> str:
    """Escaped Markdown without any angle bracket: whoever makes HTML of the file need not know Markdown's escapes."""
    return text.replace("\\<", "&lt;").replace("\\>", "&gt;").replace(">", "&gt;")


def _block(block: Block) -> str:
    match block:
        case Text():
            return _line(block.text)
        case Heading():
            return f"### {_line(block.text)}"
        case Bullets():
            return "\n".join(f"- {_line(item)}" for item in block.items)
        case Code():
            return "\n".join(f"    {markdown_verbatim(line)}" for line in block.text.splitlines())
        case Links():
            return "\n".join(f"- {_line(link.text)}{_target(link)}: {_line(link.note)}" for link in block.links)
        case TableBlock():
            return _without_html(table_markdown(block.table))
        case Badges():
            return "\n".join(f"- {_line(badge.text)}" for badge in block.badges)
        case Cards():
            cards = ((card.value, card.label, card.note) for card in block.cards)
            return "\n".join(f"- **{_line(value)}** {_line('; '.join(filter(None, rest)))}" for value, *rest in cards)
        case Bars():
            bars = (" ".join(filter(None, (bar.value, bar.change, bar.end))) for bar in block.bars)
            rows = (f"- {_line(bar.name)}: {_line(text)}" for bar, text in zip(block.bars, bars, strict=True))
            return "\n".join([f"{_line(block.title)}", "", *rows])
        case Culprit():
            words = (f"{block.title}: {block.place} {block.code}", block.text, f"Write instead: {block.instead}")
            return "\n\n".join(_line(text) for text in words[: 3 if block.instead else 2])
        case Photos():
            return "\n".join(f"- {_line(photo.caption)}" for photo in block.photos)
        case Plot():
            return f"_Drawing in report.html: {_line(block.caption)}_"
        case Fold():
            return "\n\n".join(_block(inner) for inner in block.blocks)


def _target(link: Link) -> str:
    return " (in report.html)" if link.download else f" ({link.href})"
