"""The report of a gate for people, for a step summary, as annotations and as JUnit XML; what it expects, as TOML.

Expected counts are in an order that makes a change of one number a change of one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from bagel_perf.records.errors import clean_text, one_line
from bagel_perf.records.expectations import (
    COUNTS_SCHEMA,
    COUNTS_VERSION,
    TINY_SCHEMA,
    TINY_VERSION,
    Counters,
    Expected,
    ExpectedCounts,
    ExpectedPicture,
    ExpectedRun,
    ExpectedSubject,
)
from bagel_perf.records.gates import VERDICTS, CellState, GatedCell, GateReport
from bagel_perf.report.inert import clean_xml, markdown, workflow_data, workflow_property
from bagel_perf.report.table import NONE, Column, Table, counted, divisible_text, sentences, stage_text
from bagel_perf.verdicts.gated_cells import cell_text, interval_text, limit_text, number_text
from bagel_perf.verdicts.statistics import change_of_medians_pct


def quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON; what no file should hold has a mark in its place."""
    return json.dumps(clean_text(text), ensure_ascii=False)


TINY_HEAD = """\
# Exact numbers of each variant under small requests, counted on the simulated device: `bagel-perf gate` holds the tree
# to them, in both directions. Written by `bagel-perf gate --update "REASON"`; hashes count where torch, device and
# threads are those of made_with, fingerprints everywhere. Tables "again" have what a second request does otherwise."""


def expected_toml(expected: Expected) -> str:
    """The file; ``load_expected`` reads it back."""
    return "\n".join(_tiny_lines(expected)) + "\n"


def _tiny_lines(expected: Expected) -> Iterator[str]:
    yield TINY_HEAD
    yield from (
        f'schema = "{TINY_SCHEMA}"',
        f"version = {TINY_VERSION}",
        f"reason = {_quoted(expected.reason)}",
        "",
        "[made_with]",
    )
    yield from (f"{name} = {_quoted(value)}" for name, value in expected.made_with.items())
    for picture in expected.pictures:
        yield from _picture_lines(picture)
    for run in expected.runs:
        yield from _run_lines(run)


def _picture_lines(picture: ExpectedPicture) -> Iterator[str]:
    yield from ("", "[[pictures]]", f"request = {_quoted(picture.request)}")
    yield from (f"pixels = {_quoted(picture.pixels)}", f"latents = {_quoted(picture.latents)}")
    yield f"contexts_print = {list(picture.contexts_print)}"
    yield f"latents_print = {list(picture.latents_print)}"
    yield f"pixels_print = {list(picture.pixels_print)}"


def _run_lines(run: ExpectedRun) -> Iterator[str]:
    yield from ("", "[[runs]]", f"request = {_quoted(run.request)}", f"variant = {_quoted(run.variant)}")
    tables = {"ar": run.ar, "dit": run.dit, "again_ar": run.again_ar, "again_dit": run.again_dit}
    for name, counters in tables.items():
        yield f"[runs.{name}]"
        yield from _counter_lines(counters)


def _counter_lines(counters: Counters) -> Iterator[str]:
    for name, count in counters.items():
        yield f"{_quoted(name)} = {count}"


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


COUNTS_HEAD = """\
# The host syncs that this repository expects: `bagel-perf gate counts` fails where one is new, gone, or another number.
# Written by `bagel-perf gate counts --update "REASON"`, which keeps reasons and tags of what did not change."""


def counts_toml(expected: ExpectedCounts) -> str:
    """The file; ``load_counts`` reads it back."""
    return "\n".join(_counts_lines(expected)) + "\n"


def _counts_lines(expected: ExpectedCounts) -> Iterator[str]:
    yield expected.head or COUNTS_HEAD
    yield from ("", f'schema = "{COUNTS_SCHEMA}"', f"version = {COUNTS_VERSION}")
    for subject in expected.subjects:
        yield from _subject_lines(subject)


def _subject_lines(subject: ExpectedSubject) -> Iterator[str]:
    yield from ("", "[[subjects]]")
    for name in ("target", "case", "test"):
        value = getattr(subject, name)
        if value is not None:
            yield f"{name} = {quoted(value)}"
    if subject.command is not None:
        yield f"command = [{', '.join(map(quoted, subject.command))}]"
    for each in sorted(subject.syncs, key=lambda each: each.key):
        yield from ("", "[[subjects.syncs]]", f"file = {quoted(each.file)}", f"function = {quoted(each.function)}")
        yield from (f"kind = {quoted(each.kind)}", f"count = {each.count}", f"reason = {quoted(each.reason)}")
        if each.tag is not None:
            yield f"tag = {quoted(each.tag)}"


MAX_SUMMARY_LINES = 60
MAX_SUMMARY_FINDINGS = 20
MAX_SUMMARY_NOTES = 6
CELL_FRAME = 7
"""Lines of a table of latencies besides its rows: title, head, caption, and the empty ones around them."""
RANK: dict[CellState, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


def gate_lines(report: GateReport) -> Iterator[str]:
    """What was judged, what failed and why, and last the verdict."""
    width = max((len(name) for name, _ in report.checks), default=0)
    yield from (f"{name:<{width}}  {outcome}" for name, outcome in report.checks)
    yield from (one_line(f"note: {note}") for note in report.notes)
    yield from (one_line(f"{VERDICTS[finding.kind]}: {finding.message}") for finding in report.findings)
    number = len(report.findings)
    yield f"gate: {report.verdict}" + (f" ({counted(number, 'finding')})" if number else "")


def gate_tables(report: GateReport) -> tuple[Table, ...]:
    """The latencies that were held to limits, where there are any."""
    return (cell_table(report, report.cells),) if report.cells else ()


def cell_table(report: GateReport, cells: Sequence[GatedCell]) -> Table:
    """Some of the report's cells, a row each."""
    paired = "paired change" if report.cells[0].is_paired else "change of processes"
    headers = ("before (ms)", "after (ms)", "delta of medians", paired, "interval", "limit")
    return Table(
        title=one_line(report.subject),
        columns=(
            *(Column(header=header) for header in ("case", "stage", "variant")),
            *(Column(header=header, numeric=True) for header in headers),
            Column(header="verdict"),
        ),
        rows=tuple(map(_row, cells)),
        caption=_caption(report.cells),
    )


def _row(cell: GatedCell) -> tuple[str, ...]:
    unit = cell.limit.unit
    apart = cell.after_ms - cell.before_ms if unit == "ms" else change_of_medians_pct(cell.before_ms, cell.after_ms)
    delta = NONE if apart is None else number_text(apart, unit)
    medians = divisible_text(cell.before_ms), divisible_text(cell.after_ms), delta
    change = number_text(cell.change, unit), interval_text(cell) or NONE, limit_text(cell.limit)
    return (cell.case, stage_text(cell.stage), one_line(cell.variant), *medians, *change, cell.verdict)


def _caption(cells: Sequence[GatedCell]) -> str:
    """How the changes came about, and how sure the intervals are."""
    numbers = sorted({cell.num_processes for cell in cells})
    number = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    paired = "paired change is the median over processes of the ratios within a round"
    apart = "change of processes is the median over all pairs of a process of the one and a process of the other"
    excluded = max(cell.num_excluded for cell in cells)
    return sentences(
        f"each side was measured in {number} {'process' if numbers == [1] else 'processes'}",
        f"up to {excluded} rounds were excluded" if excluded else "",
        "delta of medians is what before and after give by themselves",
        f"{paired if cells[0].is_paired else apart}, and the verdict judges it",
        "each interval is for its cell by itself" if any(cell.interval for cell in cells) else "",
        f"a fail holds for all {len(cells)} together, with 5% error" if len(cells) > 1 else "",
    )


def gate_markdown(report: GateReport) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict first, then the rest in at most ``MAX_SUMMARY_LINES``."""
    head = [f"### bagel-perf gate: {report.verdict}", "", "| check | outcome |", "| --- | --- |"]
    head += [f"| {_cell(name)} | {_cell(outcome)} |" for name, outcome in report.checks]
    tail = _list([f"**{VERDICTS[each.kind]}**: {_cell(each.message)}" for each in report.findings])
    notes = [f"_{_cell(note)}_" for note in report.notes[:MAX_SUMMARY_NOTES]]
    tail += ["", *"\n\n".join(notes).split("\n")] if notes else []
    room = MAX_SUMMARY_LINES - len(head) - len(tail)
    return "\n".join((*head, *_cells_markdown(report, room), *tail)) + "\n"


def _list(items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - MAX_SUMMARY_FINDINGS
    return ["", *(f"- {item}" for item in items[:MAX_SUMMARY_FINDINGS]), *([f"- and {more} more"] * (more > 0))]


def _cells_markdown(report: GateReport, room: int) -> list[str]:
    """The table in so many lines; where cells are left out, they are those that pass."""
    worst = sorted(report.cells, key=lambda cell: RANK[cell.verdict])[: max(room - CELL_FRAME, 0)]
    if not worst:
        return []
    table = cell_table(report, [cell for cell in report.cells if cell in worst])
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[column.header for column in table.columns], rule, *(map(_cell, row) for row in table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    left = len(report.cells) - len(worst)
    more = [f"and {counted(left, 'cell')} more, none worse"] if left else []
    return ["", f"**{_cell(table.title)}**", "", *lines, "", "; ".join([f"_{_cell(table.caption)}_", *more])]


def workflow_commands(report: GateReport) -> Iterator[str]:
    """A workflow command of GitHub for each finding, at its source line where it has one."""
    for finding in report.findings:
        level = "warning" if finding.kind == "inconclusive" else "error"
        title = workflow_property(f"bagel-perf: {VERDICTS[finding.kind]}")
        place = f"file={workflow_property(finding.file)},line={finding.line}," if finding.file else ""
        yield f"::{level} {place}title={title}::{workflow_data(finding.message)}"


def _cell(text: str) -> str:
    """Text of a result, which may not make Markdown of its own."""
    return markdown(text, always="*_>[")


OUTCOMES = {
    "pass": None,
    "inconclusive": "skipped",
    "not judged": "skipped",
    "invalid": "error",
    "incomplete": "error",
}
"""By outcome of a check, the element that says so; any other outcome is a failure."""
VERDICT_TAGS: dict[CellState, str | None] = {"pass": None, "fail": "failure", "inconclusive": "skipped"}


def junit_xml(report: GateReport) -> str:
    """A test case for each check and each latency; an inconclusive one is skipped.

    A check that failed holds the findings of the gate.
    """
    suite = ElementTree.Element("testsuite", name="bagel-perf gate")
    for name, outcome in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname="bagel_perf.gate", name=name)
        tag = OUTCOMES.get(outcome, "failure")
        if tag is not None:
            first = next((each.message for each in report.findings if each.kind == report.worst), outcome)
            ElementTree.SubElement(case, tag, message=first).text = _findings(report)
    for cell in report.cells:
        _add_cell(suite, cell)
    tags = [child.tag for case in suite for child in case]
    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(tags.count(tag)))
    clean_xml(suite)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _add_cell(suite: ElementTree.Element, cell: GatedCell) -> None:
    name = f"{cell.case} {stage_text(cell.stage)} {cell.variant}"
    case = ElementTree.SubElement(suite, "testcase", classname="bagel_perf.gate.latency", name=name)
    properties = ElementTree.SubElement(case, "properties")
    for key, value in _properties(cell).items():
        ElementTree.SubElement(properties, "property", name=key, value=value)
    tag = VERDICT_TAGS[cell.verdict]
    if tag is not None:
        ElementTree.SubElement(case, tag, message=cell.reason).text = cell_text(cell)


def _properties(cell: GatedCell) -> dict[str, str]:
    """The ratio is that of the medians; the change that is judged and its interval are in the unit of the limit."""
    return {
        "before_ms": f"{cell.before_ms:.3f}",
        "after_ms": f"{cell.after_ms:.3f}",
        "ratio": f"{cell.after_ms / cell.before_ms:.4f}",
        "paired_change" if cell.is_paired else "change": number_text(cell.change, cell.limit.unit),
        "interval": f"{interval_text(cell)} {cell.limit.unit}" if cell.interval else "none",
        "limit": limit_text(cell.limit),
        "confidence": f"{cell.confidence:.4f}",
        "num_pairs": str(cell.num_pairs),
    }


def _findings(report: GateReport) -> str:
    return "\n".join(f"{VERDICTS[finding.kind]}: {finding.message}" for finding in report.findings)
