"""The report of a gate as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree

from bagel_perf.schema.gates import VERDICTS, GateReport

OUTCOMES = {"pass": None, "inconclusive": "skipped", "not judged": "skipped"}
"""By outcome of a check, the element that says so; any other outcome is a failure."""


def junit_xml(report: GateReport) -> str:
    """A test case for each check; an inconclusive one is skipped, a failed one holds the findings of the gate."""
    tags = [OUTCOMES.get(outcome, "failure") for _, outcome in report.checks]
    attributes = {"name": "bagel-perf gate", "tests": str(len(tags)), "errors": "0"}
    attributes |= {"failures": str(tags.count("failure")), "skipped": str(tags.count("skipped"))}
    suite = ElementTree.Element("testsuite", attributes)
    for (name, outcome), tag in zip(report.checks, tags, strict=True):
        case = ElementTree.SubElement(suite, "testcase", classname="bagel_perf.gate", name=name)
        if tag is not None:
            ElementTree.SubElement(case, tag, message=outcome).text = _printable(_findings(report))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _findings(report: GateReport) -> str:
    return "\n".join(f"{VERDICTS[finding.kind]}: {finding.message}" for finding in report.findings)


def _printable(text: str) -> str:
    """XML 1.0 has no other control characters than these."""
    return "".join(letter for letter in text if letter >= " " or letter in "\t\n\r")
