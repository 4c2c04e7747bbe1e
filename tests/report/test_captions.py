"""Captions say what was run, not what was planned, and what a number in a cell stands for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import RunFailed
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run, TimedRun
from bagel_perf.report.table import Table, rounds_text
from bagel_perf.report.tables import PAIR_HEADERS, result_tables
from bagel_perf.verdicts.compare import Session, build_result
from docs_results import headline_table
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

TITLE = "from variant to variant"
PLAN = replace(make_plan(variants=("baseline", "pr3987", "sync_free")), successive=True)


def result_of(runs: Iterable[Run], *, pairs: int = 6, plan: Plan = PLAN) -> Result:
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    return build_result(make_outline(plan), ENVIRONMENT, list(runs), session, error=RunFailed("interrupted"))


def round_of(run: Run) -> int:
    """Of a timed run; the others come before all rounds."""
    return run.round if isinstance(run, TimedRun) else -1


def interrupted() -> Result:
    """Ends in the third of six rounds, after the first variant."""
    runs = make_runs(PLAN, 6)
    return result_of(run for run in runs if round_of(run) < 2 or (round_of(run) == 2 and run.variant == "baseline"))


def apart(run: Run) -> tuple[Run, ...]:
    """The stages and the whole in runs of their own, as the worker times them."""
    if not isinstance(run, TimedRun):
        return (run,)
    return replace(run, measurements=run.measurements[:2]), replace(run, measurements=run.measurements[2:])


def noisy(run: Run) -> Run:
    """pr3987 is twice as slow in some rounds, so that its interval holds 0."""
    if not isinstance(run, TimedRun) or run.variant != "pr3987" or run.round not in (1, 3):
        return run
    return replace(run, measurements=tuple(replace(each, latency_ms=2 * each.latency_ms) for each in run.measurements))


def successive_of(result: Result) -> Table:
    return next(table for table in result_tables(result) if TITLE in table.title)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({6}, "medians are of 6 rounds"),
        ({2, 3}, "medians are of 2 to 3 of 6 rounds"),
        ({2}, "medians are of 2 of 6 rounds"),
        ({2, 6}, "medians are of 2 to 6 of 6 rounds"),
        (set(), "no round was timed"),
    ],
)
def test_rounds_are_those_that_were_run(numbers: set[int], text: str) -> None:
    assert rounds_text(numbers, 6) == text


def test_after_an_interruption_no_caption_claims_all_rounds() -> None:
    for result in (interrupted(), replace(interrupted(), successive=False)):
        captions = [table.caption for table in result_tables(result) if "Latency" in table.title]
        assert captions
        assert all(caption.startswith("Medians are of 2 to 3 of 6 rounds in 3 processes.") for caption in captions)
    assert headline_table(interrupted()).caption.startswith("Medians are of 2 to 3 of 6 rounds in 3 processes.")


def test_a_caption_counts_the_rounds_of_its_own_table() -> None:
    plan = replace(make_plan(((256, 256), (1024, 1024))), successive=True)
    runs = (run for run in make_runs(plan, 6) if run.case == "256x256" or round_of(run) < 4)
    captions = [
        table.caption for table in result_tables(result_of(runs, plan=plan)) if "from variant to variant" in table.title
    ]
    assert [caption.split(" in ")[0] for caption in captions] == [
        "Medians are of 6 rounds",
        "Medians are of 4 of 6 rounds",
    ]


def test_a_change_without_an_interval_names_its_processes() -> None:
    row = successive_of(interrupted()).rows[1]
    assert row[:5] == ("AR", "pr3987", "112.5", "-25.0", "-10.0 (2 processes)")
    one = result_of(run for run in make_runs(PLAN, 6) if round_of(run) < 1)
    assert successive_of(one).rows[1][4] == "-10.0 (1 process)"


def test_a_change_whose_interval_holds_zero_is_marked() -> None:
    table = successive_of(result_of(map(noisy, make_runs(PLAN, 6))))
    assert table.rows[1][3:7] == ("+20.0", "-10.0? (-10.0 to +80.0)", "+20.0", "-10.0? (-10.0 to +80.0)")
    assert table.rows[2][6] == "-40.0 (-40.0 to -40.0)"
    assert table.caption.endswith(" ? marks a change that is not shown.")


def test_the_mark_is_explained_only_where_it_stands() -> None:
    assert "marks a change" not in successive_of(result_of(make_runs(PLAN, 6))).caption


def test_headers_say_what_stands_in_parentheses_and_the_caption_how_sure_it_is() -> None:
    table = successive_of(result_of(make_runs(PLAN, 6)))
    headers = [column.header for column in table.columns]
    assert headers[3:7] == [f"{which}: {name}" for which in ("step", "in all") for name in PAIR_HEADERS]
    assert "Each interval by itself covers 96.9%." in table.caption
    assert "Steps do not multiply exactly to the whole change" in table.caption
    assert "interval by itself" not in successive_of(result_of(make_runs(PLAN, 5), pairs=5)).caption


def test_the_whole_is_of_runs_of_its_own_where_it_is() -> None:
    together = [*make_runs(PLAN, 6)]
    separate = [each for run in together for each in apart(run)]
    assert "The whole (e2e) was timed in runs of its own." in successive_of(result_of(separate)).caption
    assert "The whole (e2e) was timed in runs of its own." not in successive_of(result_of(together)).caption
