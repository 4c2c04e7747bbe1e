"""A summary says of what, when and how it was measured, and never that a tree was clean which nobody looked at."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.results import Result
from bagel_perf.report.inert import commit_text, provenance_line, utc_date
from bagel_perf.report.summary import summary_markdown
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs


def result_at(created: str) -> Result:
    plan = make_plan()
    session = Session(
        command="bagel-perf compare --res 256", created=created, pairs=5, warmup=1, order_seed=0, processes=5
    )
    return build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan)), session)


def test_a_summary_ends_with_its_provenance() -> None:
    text = summary_markdown(result_at("2026-01-31T12:00:00+00:00"))
    assert text.endswith(
        "\n\nMeasured on NVIDIA H200, torch 2.11.0, commit abc1234, 2026-01-31 UTC; weights: random seed 0; "
        "i2i, 15 steps, seed 42; `bagel-perf compare --res 256`\n"
    )


@pytest.mark.parametrize(
    ("commit", "dirty", "text"),
    [
        ("abc1234", False, "commit abc1234"),
        ("abc1234", True, "commit abc1234 (uncommitted changes)"),
        ("abc1234", None, "commit abc1234 (tree state unknown)"),
        (None, None, "no commit"),
    ],
)
def test_what_nobody_looked_at_is_not_clean(commit: str | None, dirty: bool | None, text: str) -> None:
    assert commit_text(replace(ENVIRONMENT, commit=commit, dirty=dirty)) == text


@pytest.mark.parametrize(
    ("created", "date"),
    [
        ("2026-01-31T23:30:00+00:00", "2026-01-31"),
        ("2026-01-31T23:30:00-02:00", "2026-02-01"),
        ("2026-02-01T01:00:00+02:00", "2026-01-31"),
        ("2026-01-31", "2026-01-31"),
    ],
)
def test_a_day_is_one_in_utc(created: str, date: str) -> None:
    assert utc_date(result_at(created)) == date
    assert f", {date} UTC; " in provenance_line(result_at(created))


def test_a_result_without_a_date_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"result has no date \(yesterday\)"):
        utc_date(result_at("yesterday"))
