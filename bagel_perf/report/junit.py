"""The report of a gate as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree

from bagel_perf.analysis.gated_cells import cell_text, interval_text, limit_text
from bagel_perf.report.inert import clean_xml
from bagel_perf.report.table import stage_text
from bagel_perf.schema.gates import VERDICTS, CellState, GatedCell, GateReport

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
    """The interval is in the unit of the limit, the ratio is that of the medians where that is ms."""
    in_percent = cell.limit.unit == "%"
    ratio = 1 + cell.change / 100 if in_percent else cell.after_ms / cell.before_ms
    return {
        "before_ms": f"{cell.before_ms:.3f}",
        "after_ms": f"{cell.after_ms:.3f}",
        "ratio": f"{ratio:.4f}",
        "interval": f"{interval_text(cell)} {cell.limit.unit}" if cell.interval else "none",
        "limit": limit_text(cell.limit),
        "confidence": f"{cell.confidence:.4f}",
        "num_pairs": str(cell.num_pairs),
    }


def _findings(report: GateReport) -> str:
    return "\n".join(f"{VERDICTS[finding.kind]}: {finding.message}" for finding in report.findings)
