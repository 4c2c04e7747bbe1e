"""What a table shows as a change between two medians is what the medians beside it give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bagel_perf.records.gates import GateReport, Limit
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run, TimedRun
from bagel_perf.report.gates import cell_table
from bagel_perf.report.html.changes import change_table
from bagel_perf.report.table import APART_PCT, MEDIANS_HEADER, NONE, Table
from bagel_perf.report.tables import every_successive_table, result_tables
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.gated_cells import Arms, gated_of, judge_gated
from bagel_perf.verdicts.reading import load_checked
from committed_results import committed
from docs_results import headline_table
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

VARIANTS = ("baseline", "pr3987", "sync_free", "fused", "approx_norm")
PLAN = make_plan(variants=VARIANTS)
SESSION = Session(
    command="bagel-perf", created="2026-12-01T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
)
FACTORS = st.lists(st.floats(1e-3, 20.0), min_size=6 * len(VARIANTS), max_size=6 * len(VARIANTS))


def result_of(factors: list[float]) -> Result:
    """Each variant's time in each round is another one."""

    def timed(run: Run) -> Run:
        if not isinstance(run, TimedRun):
            return run
        factor = factors[run.round * len(VARIANTS) + VARIANTS.index(run.variant)]
        times = tuple(replace(each, latency_ms=factor * each.latency_ms) for each in run.measurements)
        return replace(run, measurements=times)

    runs = [timed(run) for run in make_runs(PLAN, 6)]
    close = [replace(run, distance=0.5) if run.variant == "approx_norm" else run for run in runs]
    return build_result(make_outline(PLAN), ENVIRONMENT, close, SESSION)


def tables_of(result: Result) -> Iterator[Table]:
    yield from result_tables(result)
    yield from every_successive_table(result)
    yield from (change_table(result), headline_table(result))


def gate_table(result: Result, limit: Limit) -> Table:
    before, after = ([run for run in result.runs if run.variant == name] for name in ("baseline", "fused"))
    arms = Arms(
        variant="fused",
        case="256x256",
        stages=("ar", "dit"),
        reference=before,
        candidate=after,
        clocks_mhz=(None, None),
        is_paired=True,
    )
    cells = judge_gated(gated_of([arms], [limit]))
    return cell_table(GateReport(findings=(), checks=(), notes=(), cells=cells), cells)


def pairs(table: Table) -> Iterator[tuple[str, str, str]]:
    """Before, after and the delta of medians, of each row that has one, as they are printed."""
    headers = [column.header for column in table.columns]
    for row in table.rows:
        cells = dict(zip(headers, row, strict=True))
        if "before (ms)" in cells and MEDIANS_HEADER in cells:
            yield cells["before (ms)"], cells["after (ms)"], cells[MEDIANS_HEADER]
    if "ms" in headers:
        yield from chained(table, headers)


def chained(table: Table, headers: list[str]) -> Iterator[tuple[str, str, str]]:
    """Of tables with a row for each variant: from the row above, and from the first of the stage."""
    first, above = "", ""
    stage = headers.index("stage")
    place: tuple[str, ...] = ()
    for row in table.rows:
        cells = dict(zip(headers, row, strict=True))
        if row[: stage + 1] != place:
            place, first, above = row[: stage + 1], cells["ms"], ""
        else:
            step, whole = cells.get(f"step: {MEDIANS_HEADER}"), cells.get(f"in all: {MEDIANS_HEADER}")
            yield from ((above, cells["ms"], step),) if step else ()
            yield first, cells["ms"], whole or cells[MEDIANS_HEADER]
        above = cells["ms"]


def check(before: str, after: str, delta: str) -> None:
    """Half a digit of each printed number is all that they may be apart, and never more than a reader overlooks."""
    divided = (float(after) / float(before) - 1) * 100
    assert abs(float(delta) - divided) <= 0.051 + 0.0011 * (100 + divided), (before, after, delta)


@settings(max_examples=25, deadline=None)
@given(FACTORS)
def test_the_medians_of_every_table_give_its_delta(factors: list[float]) -> None:
    found = [each for table in tables_of(result_of(factors)) for each in pairs(table)]
    assert len(found) > 40
    for each in found:
        check(*each)


@pytest.mark.parametrize("folder", committed("result.json"), ids=lambda folder: folder.name)
def test_the_medians_of_committed_results_give_their_delta(folder: Path) -> None:
    for table in tables_of(load_checked(folder)):
        for before, after, delta in pairs(table):
            if NONE not in (before, after):
                check(before, after, delta)


@settings(max_examples=10, deadline=None)
@given(FACTORS)
def test_the_medians_of_a_gate_give_its_delta(factors: list[float]) -> None:
    for limit in (Limit(percent=3.0), Limit(ms=20.0)):
        for row in gate_table(result_of(factors), limit).rows:
            before, after, delta = row[3], row[4], row[5]
            if limit.percent is not None:
                check(before, after, delta.removesuffix("%"))
            else:
                assert float(after) - float(before) == pytest.approx(float(delta.removesuffix(" ms")), abs=0.151)


def test_a_caption_says_why_the_two_changes_differ_where_they_do() -> None:
    slow = [1.0] * (6 * len(VARIANTS))
    slow[1], slow[6], slow[11] = 0.3, 5.0, 5.0
    apart = headline_table(result_of(slow)).caption
    assert "The two differ by up to " in apart and "because medians take all runs together" in apart
    together = headline_table(result_of([1.0] * (6 * len(VARIANTS)))).caption
    assert "The two differ" not in together and APART_PCT == 2.0


def test_the_first_step_and_the_whole_change_of_a_variant_are_one_comparison() -> None:
    result = load_checked(Path(__file__).resolve().parents[2] / "reports" / "2026-12-01_h200_fc53e68")
    (table,) = every_successive_table(result)
    rows = [dict(zip((column.header for column in table.columns), row, strict=True)) for row in table.rows]
    firsts = [row for row in rows if row["variant"] == "pr3987"]
    assert [row["step: paired change (%)"] for row in firsts] == [row["in all: paired change (%)"] for row in firsts]
    assert sum("?" in row["step: paired change (%)"] for row in firsts) == 2
