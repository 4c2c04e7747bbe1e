"""The page: its sections in order, as HTML by one template that escapes all it is given, and as Markdown.

Markdown has the same sentences and tables, and the captions of what only HTML can show.
"""

from __future__ import annotations

import dataclasses
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
from bagel_perf.report.html.changes import changes_section, forest_section
from bagel_perf.report.html.colours import root_css
from bagel_perf.report.html.content import (
    MAX_ROWS,
    Block,
    Bullets,
    Code,
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
from bagel_perf.report.html.pictures import pictures_section
from bagel_perf.report.html.profiles import ordered
from bagel_perf.report.html.samples import samples_section
from bagel_perf.report.html.sites import sites_section
from bagel_perf.report.html.source import Source
from bagel_perf.report.html.successive import successive_section
from bagel_perf.report.html.timeline import timeline_section
from bagel_perf.report.html.verdict import verdict_section
from bagel_perf.report.inert import markdown_line, markdown_verbatim, source_text
from bagel_perf.report.summary import table_markdown

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
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
        title=shortened(f"{result.named[0]} against {', '.join(result.named[1:]) or 'nothing'}"),
        subtitle=f"{source_text(result)}; {_subject_text(result)}",
        sections=bounded(
            *([gate_section(gate, is_bagel=result.outline.is_bagel)] if gate else []),
            verdict_section(result, profiles),
            changes_section(result),
            forest_section(result),
            successive_section(result),
            pictures_section(result, subject.folder),
            *_inner_sections(result, profiles),
            samples_section(result),
            *history,
            *others,
            environment_section(sources),
        ),
        data_json=data_text(result),
        beside=beside,
    )


def _inner_sections(result: Result, profiles: Sequence[SyncReport]) -> tuple[Section, ...]:
    """What was seen inside of runs: timelines, waits by line, floors; nobody looks into servers."""
    if result.outline.is_server:
        return ()
    makers = timeline_section, sites_section, floors_section
    return tuple(make(result, profiles) for make in makers)


def gate_page(gate: GateReport) -> Page:
    """Of a gate for which there is no result: of a tree, or of the host syncs of what ``subject`` says."""
    what = clean_text(gate.subject) or TREE
    return Page(
        title="Gate of host syncs" if gate.subject else "Gate of the tree",
        subtitle=f"{what}; {clean_text(gate.provenance)}" if gate.provenance else what,
        sections=bounded(gate_section(gate)),
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
    environment.globals.update(
        csp=CSP, style=Markup(root_css() + _resource("page.css")), safe_svg=Markup, safe_json=Markup
    )
    environment.globals.update(glyph=glyph)
    return environment.from_string(_resource("page.html.jinja")).render(page=_clean(page))


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


def _subject_text(result: Result) -> str:
    weights = result.subject.details.get("weights")
    return result.subject.title if weights is None else f"{result.subject.title}, weights {weights}"


def page_markdown(page: Page) -> str:
    """All sections; HTML in what a result holds is shown, not obeyed."""
    parts = [f"# {_line(page.title)}", _line(page.subtitle)]
    for section in page.sections:
        parts.append(f"## {_line(section.title)}")
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
        case Photos():
            return "\n".join(f"- {_line(photo.caption)}" for photo in block.photos)
        case Plot():
            return f"_Drawing in report.html: {_line(block.caption)}_"
        case Fold():
            return "\n\n".join(_block(inner) for inner in block.blocks)


def _target(link: Link) -> str:
    return " (in report.html)" if link.download else f" ({link.href})"
