"""What a gate found, first on its page: verdict, checks, findings with the lines that caused them, latencies."""

from __future__ import annotations

from bagel_perf.report.gate_text import gate_tables
from bagel_perf.report.html.content import Block, Bullets, Section, TableBlock, Text, tables
from bagel_perf.report.html.source import cleaned
from bagel_perf.report.table import NONE, Column, Table, counted
from bagel_perf.schema.gates import VERDICTS, Finding, FindingKind, GateReport

PASSED = "The gate passes."
ADVICE: dict[FindingKind, str] = {
    "picture": "A variant gives another output than it has to: look at what it does otherwise.",
    "environment": "Machines, versions or settings differ, so figures cannot be compared: make them the same.",
    "counter": "If the new numbers are meant, record them with bagel-perf gate --update REASON; if not, see the lines.",
    "incomplete": "Part of what should be judged is missing: run it again.",
    "regression": "A latency is over its limit: see the lines that wait, and the floors.",
    "inconclusive": "The noise is larger than the limit, or pairs are too few: measure more, or on a quieter machine.",
}
"""What to do next, by the kind of the worst finding."""
OF_BAGEL = "A variant shows another picture: bagel-perf verify DIR finds the first tensor that differs."


def gate_section(report: GateReport, *, is_bagel: bool = True) -> Section:
    """A sentence, what to do next, and then in tables what was judged and what was found."""
    report = GateReport.from_json(cleaned(report.to_json()))
    worst = report.worst
    number = counted(len(report.findings), "finding")
    lead = PASSED if worst is None else f"The gate does not pass: {report.verdict} ({number})."
    blocks: list[Block] = [Text(text=lead, style="lead")]
    blocks += [Text(text=report.subject)] if report.subject and not report.cells else []
    if worst is not None:
        blocks.append(Text(text=OF_BAGEL if worst == "picture" and is_bagel else ADVICE[worst]))
    blocks += [TableBlock(table=_finding_table(report), code_columns=("source line",))] if report.findings else []
    blocks += tables(*gate_tables(report), _check_table(report))
    blocks += [Bullets(items=report.notes)] if report.notes else []
    return Section(anchor="gate", title="Gate", blocks=tuple(blocks))


def _finding_table(report: GateReport) -> Table:
    headers = "verdict", "finding", "source line"
    ranked = sorted(report.findings, key=lambda each: list(VERDICTS).index(each.kind))
    rows = tuple((VERDICTS[each.kind], each.message, _line(each)) for each in ranked)
    return Table(title="Findings", columns=tuple(Column(header=header) for header in headers), rows=rows)


def _line(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.file else NONE


def _check_table(report: GateReport) -> Table:
    return Table(title="Checks", columns=(Column(header="check"), Column(header="outcome")), rows=report.checks)
