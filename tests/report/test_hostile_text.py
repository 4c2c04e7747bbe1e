"""Whatever the strings of any record say, no place that they are shown in takes them for more than text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bagel_perf.commands.common import print_error
from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import EnvironmentEvent, ProgressEvent, WarningEvent
from bagel_perf.records.gates import Finding, GatedCell, GateReport, Limit
from bagel_perf.records.results import CaseInput, Result
from bagel_perf.records.runs import CountedRun, Output, Run, TensorCheck, Verification
from bagel_perf.records.sites import SyncSite, UnjudgedSite
from bagel_perf.records.syncs import BudgetCheck, Process, SyncReport
from bagel_perf.records.trace_ranks import RanksReport
from bagel_perf.records.traces import TraceReport
from bagel_perf.report import inert
from bagel_perf.report.gates import gate_lines, gate_markdown, gate_tables, junit_xml, workflow_commands
from bagel_perf.report.html.content import Page
from bagel_perf.report.html.page import build_page, gate_page, page_html, page_markdown
from bagel_perf.report.html.source import source_of
from bagel_perf.report.html.trace_page import ranks_page, trace_page
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.ranks import print_ranks
from bagel_perf.report.summary import summary_markdown
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.report.text import print_document, print_result, print_verification
from bagel_perf.report.trace_summary import print_trace
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.ranks import compare_ranks
from committed_results import REPORTS
from docs_results import section
from gated_results import make_result
from hostile import (
    FRAGMENTS,
    check_command,
    check_terminal,
    consistent,
    html_shape,
    markdown_shape,
    spoiled,
    xml_shape,
)
from other_subjects import make_result as make_other_result
from rank_scenes import four_ranks
from scripted import ENVIRONMENT
from trace_stories import trace_of

TEXTS = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6).map("".join)
FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
FEWER = settings(FEW, max_examples=3)


def with_site(run: Run) -> Run:
    if not isinstance(run, CountedRun):
        return run
    waits = sum(each.host_syncs or 0 for each in run.measurements)
    site = SyncSite(
        kind="scalar_read", file="a.py", line=3, function="f", region="dit/step", count=waits, allowed="has to be",
        expressions=("x.item()", "y[z]"), caller="b.py:4", op="mine.op",
    )  # fmt: skip
    return replace(run, sites=(site,))


def make_record() -> Result:
    result = make_result({"pr3987": {"e2e": 5.0}, "sync_free": {"dit": -50.0}}, num_pairs=6, edit=with_site)
    picture = Output(
        kind="picture", md5="a", sha256="b", shape=(256, 256, 3), num_values=256 * 256, spread=9.0, path="256_input.png"
    )
    return replace(
        result,
        findings=("sync_free at 256x256 differs",),
        warnings=("few",),
        error="out of memory",
        inputs=(CaseInput(case="256x256", output=picture),),
        verdict="incomplete",
        exit_code=6,
        complete=False,
    )


CELL = GatedCell(
    case="1024x768", stage="dit", variant="fused", before_ms=8000.0, after_ms=8360.0, change=4.5, interval=(4.0, 5.0),
    limit=Limit(stage="dit", case="1024x1024", percent=3.0), verdict="fail", reason="why", num_pairs=10,
    num_processes=6, confidence=0.975,
)  # fmt: skip
GATE = GateReport(
    findings=(
        Finding(kind="counter", message="new host syncs", file="a.py", line=3),
        Finding(kind="picture", message="m"),
    ),
    checks=(("counters as expected", "failed"), ("pictures", "pass")),
    notes=("another torch",),
    subject="Latency on a device",
    cells=(CELL,),
    provenance="commit abc",
)  # fmt: skip
SYNCS = replace(
    SyncReport.from_json(json.loads((REPORTS / "syncs-h100" / "pr3987-256.json").read_text(encoding="utf-8"))),
    subject="python a.py",
    notes=("note",),
    budgets=(BudgetCheck(region="step", limit=0, num_entries=2, worst=1, num_exceeded=1),),
    unjudged={"mine.op": 2},
    hazards={"mine.hazard": 1},
    unjudged_sites=(UnjudgedSite(operator="mine.op", file="a.py", line=3, region="step", count=2),),
    processes=(Process(name="child", argv=("python", "b.py")),),
    untested=("mine 1.0",),
    signal="SIGTERM",
)
VERIFICATION = Verification(
    variants=("fused", "approx_norm"),
    checks=(TensorCheck(variant="fused", tensor="k.0", error=2.0, limit=1.0, ok=False),),
)
RESULT = make_record()
OTHER = make_other_result()
TRACES = Path(__file__).parents[1] / "data" / "traces"


@pytest.fixture(scope="module")
def trace() -> TraceReport:
    return analyse(read_trace(TRACES / "torch211_h100.json.gz"))


def printed(show: Callable[[Any, io.StringIO], object], record: Any) -> str:
    stream = io.StringIO()
    show(record, stream)
    return stream.getvalue()


def show_gate(record: GateReport, stream: io.StringIO) -> None:
    print_document(stream, gate_tables(record), gate_lines(record))


PRINTED: tuple[tuple[Any, Callable[[Any, io.StringIO], object]], ...] = (
    (RESULT, lambda record, stream: print_result(record, Path("out/result.json"), stream)),
    (GATE, show_gate),
    (SYNCS, lambda record, stream: print_syncs(record, stream, top=12)),
    (VERIFICATION, print_verification),
)


@pytest.mark.parametrize(("record", "show"), PRINTED, ids=lambda each: type(each).__name__)
@FEW
@given(text=TEXTS)
def test_a_terminal_gets_text_alone(record: Any, show: Callable[[Any, io.StringIO], object], text: str) -> None:
    check_terminal(printed(show, spoiled(record, consistent(text))))


@FEWER
@given(text=TEXTS)
def test_a_terminal_gets_text_alone_of_a_trace(trace: TraceReport, text: str) -> None:
    check_terminal(printed(lambda record, stream: print_trace(record, 5, stream), spoiled(trace, consistent(text))))


@pytest.fixture(scope="module")
def ranks() -> RanksReport:
    """Four ranks, each against itself, with all that a report may have."""
    reports = {rank: analyse(trace_of(scene)) for rank, scene in enumerate(four_ranks())}
    compared = {rank: replace(each, difference=difference(each, reports[0])) for rank, each in reports.items()}
    return compare_ranks(compared, ["left aside: a.txt"])


@FEWER
@given(text=TEXTS)
def test_a_terminal_gets_text_alone_of_ranks(ranks: RanksReport, text: str) -> None:
    check_terminal(printed(lambda record, stream: print_ranks(record, 5, stream), spoiled(ranks, consistent(text))))


@FEWER
@example(text="\ufffe\x85\\[\r")
@given(text=TEXTS)
def test_a_page_of_a_trace_has_the_shape_of_a_harmless_one(trace: TraceReport, ranks: RanksReport, text: str) -> None:
    changed = replace(trace, difference=difference(trace, trace), warnings=("odd",))
    made: list[tuple[Callable[[Any], Page], Any]] = [(trace_page, changed), (ranks_page, ranks)]
    for make, record in made:
        page = make(spoiled(record, consistent(text)))
        assert shapes(page) == harmless(make.__name__, lambda: make(spoiled(record, consistent("a "))))  # noqa: B023


known: dict[str, tuple[Any, Any]] = {}
"""Shapes of harmless pages, each made once."""


def harmless(name: str, make: Callable[[], Page]) -> tuple[Any, Any]:
    if name not in known:
        known[name] = shapes(make())
    return known[name]


def shapes(page: Page) -> tuple[Any, Any]:
    """Of its HTML and of its Markdown."""
    return html_shape(page_html(page)), markdown_shape(page_markdown(page))


@FEW
@given(text=TEXTS)
def test_progress_and_errors_are_text_alone(text: str) -> None:
    stream = io.StringIO()
    view = ProgressView(stream)
    environment = spoiled(ENVIRONMENT, consistent(text))
    view.on_event(EnvironmentEvent(environment=environment, pairs=1, warmup=0))
    view.on_event(WarningEvent(text=text))
    view.on_event(ProgressEvent(text=text, done=0, total=1))
    inert.print_line(str(UsageError(text, value=text, allowed=text, remedy=text)), stream)
    check_terminal(stream.getvalue())


@FEW
@given(text=TEXTS)
def test_an_error_is_one_line(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream := io.StringIO())
        print_error(UsageError(text, value=text))
    assert stream.getvalue().count("\n") == 1
    check_terminal(stream.getvalue())


MARKDOWN: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (RESULT, summary_markdown),
    (RESULT, lambda record: section(record, Path("reports/a"), Path())),
    (OTHER, summary_markdown),
    (GATE, gate_markdown),
    (GATE, lambda record: page_markdown(gate_page(record))),
)


IDS = ("summary", "readme", "summary of a file", "step summary", "page of a gate")


@pytest.mark.parametrize(("record", "render"), MARKDOWN, ids=IDS)
@FEW
@example(text=":::stop-commands::tok")
@given(text=TEXTS)
def test_markdown_has_the_shape_of_a_harmless_one(record: Any, render: Callable[[Any], str], text: str) -> None:
    shape = markdown_shape(render(spoiled(record, consistent("a "))))
    assert markdown_shape(render(spoiled(record, consistent(text)))) == shape


@FEW
@given(text=TEXTS)
def test_inline_markdown_is_text(text: str) -> None:
    for rendered in (inert.markdown(text), inert.markdown(text, always="*_>["), inert.markdown_line(text)):
        kinds = markdown_shape(f"a {rendered} b" if rendered != inert.markdown_line(text) else f"- {rendered} b")
        assert set(kinds) <= {"paragraph_open", "inline", "paragraph_close", "bullet_list_open", "list_item_open",
                              "list_item_close", "bullet_list_close"}  # fmt: skip
    assert markdown_shape(inert.markdown_code(text)) == ["paragraph_open", "inline", "code_inline", "paragraph_close"]


@FEW
@given(text=TEXTS)
def test_workflow_commands_and_junit_are_as_many_as_findings(text: str) -> None:
    record = spoiled(GATE, consistent(text))
    commands = list(workflow_commands(record))
    assert len(commands) == len(GATE.findings)
    for line in commands:
        check_command(line)
    harmless = spoiled(GATE, consistent("a "))
    assert xml_shape(junit_xml(record)) == xml_shape(junit_xml(harmless))


@FEW
@given(text=TEXTS)
def test_json_on_stdout_is_the_same_value_and_no_command(text: str) -> None:
    written = inert.json_line(json.dumps(data := {"a": [text]}, indent=1))
    assert json.loads(written) == data
    check_terminal(written)


@FEWER
@example(text="\r##[add-mask]pass")
@given(text=TEXTS)
def test_a_page_has_the_shape_of_a_harmless_one(text: str) -> None:
    check_page("bagel", RESULT, text)


@FEWER
@example(text=":::stop-commands::tok")
@given(text=TEXTS)
def test_a_page_of_a_file_has_the_shape_of_a_harmless_one(text: str) -> None:
    check_page("file", OTHER, text)


def check_page(name: str, record: Result, text: str) -> None:
    """A page draws its plots, which takes two seconds."""

    def make(each: str) -> Page:
        return build_page((source_of(spoiled(record, consistent(each)), Path()),))

    assert shapes(make(text)) == harmless(name, lambda: make("a "))


@FEWER
@given(text=TEXTS)
def test_a_page_of_a_gate_has_the_shape_of_a_harmless_one(text: str) -> None:
    shapes = [html_shape(page_html(gate_page(spoiled(GATE, consistent(each))))) for each in ("a ", text)]
    assert shapes[0] == shapes[1]
