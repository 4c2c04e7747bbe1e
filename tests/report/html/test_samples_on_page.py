"""Samples show what the GPU did meanwhile, and which runs do not count and why."""

from __future__ import annotations

from msgspec.structs import replace

from bagel_perf.records.results import Result
from bagel_perf.records.runs import Conditions, CountedRun, Run, TimedRun
from bagel_perf.records.sites import SyncSite
from bagel_perf.report.html.content import Fold, Plot, TableBlock
from bagel_perf.report.html.culprit import culprit_of
from bagel_perf.report.html.samples import samples_section
from bagel_perf.report.html.sites import TOP, sites_section
from gated_results import make_result


def heated(run: Run) -> Run:
    """Timed runs with readings; the second round of a candidate throttles."""
    if not isinstance(run, TimedRun):
        return run
    hot = run.round == 1 and run.variant != "baseline"
    reasons = ("hw_thermal_slowdown",) if hot else ()
    read = Conditions(
        window_ms=9.0,
        num_samples=3,
        sm_clock_mhz=1700.0,
        temperature_c=60.0,
        power_w=500.0,
        throttle_reasons=reasons,
    )
    return replace(run, conditions=read)


def with_sites(number: int) -> Result:
    sites = tuple(
        SyncSite(
            kind="scalar_read", file="a.py", line=line, function="f", region="", count=line, expressions=("t.item()",)
        )
        for line in range(1, number + 1)
    )
    edit = lambda run: replace(run, sites=sites) if run.purpose == "count" else run  # noqa: E731
    return make_result({"pr3987": {}}, edit=edit)


def plot_of(result: Result) -> Plot:
    return next(block for block in samples_section(result).blocks if isinstance(block, Plot))


def test_readings_of_the_gpu_stand_below_the_latencies() -> None:
    plot = plot_of(make_result({"pr3987": {}}, edit=heated))
    for name in ("SM clock (MHz)", "temperature (C)", "power (W)"):
        assert f">{name}</text>" in plot.svg
    assert "were not recorded" not in plot.caption


def test_without_readings_the_caption_says_so() -> None:
    plot = plot_of(make_result({"pr3987": {}}))
    assert "power (W)" not in plot.svg
    assert "clocks, temperature and power were not recorded" in plot.caption


def test_excluded_runs_are_hollow_and_listed_with_the_rule() -> None:
    result = make_result({"pr3987": {}}, edit=heated)
    assert "hollow: excluded" in plot_of(result).caption
    assert "fill: var(--paper)" in plot_of(result).svg
    block = samples_section(result).blocks[-1]
    assert isinstance(block, TableBlock)
    assert block.table.rows == (("256x256", "2", "pr3987", "the GPU slowed down: hw_thermal_slowdown"),)


def test_sites_come_by_count_and_beyond_the_first_are_folded() -> None:
    first, rest, *_ = sites_section(with_sites(TOP + 2)).blocks
    assert isinstance(first, TableBlock)
    assert isinstance(rest, Fold)
    assert len(first.table.rows) == TOP
    assert first.table.rows[0][:4] == ("scalar read", f"a.py:{TOP + 2}", "t.item()", str(TOP + 2))
    assert rest.summary == "baseline at 256x256: 2 sites more"


def test_the_set_up_is_one_row_and_is_blamed_by_nobody() -> None:
    result = with_sites(TOP + 2)
    runs = []
    for run in result.runs:
        if isinstance(run, CountedRun):
            setup = replace(run.sites[0], file="load.py", count=9000, is_setup=True)
            run = replace(run, sites=(setup, replace(setup, line=99, count=1), *run.sites))
        runs.append(run)
    result = replace(result, runs=tuple(runs))
    first, rest, *_ = sites_section(result).blocks
    assert isinstance(first, TableBlock) and isinstance(rest, Fold)
    rows = [row for row in first.table.rows if row[0] == "set-up"]
    assert [row[2:4] for row in rows] == [("set-up: uploads of module parameters, 9001 waits, 2 lines", "9001")]
    assert "load.py:99" in rows[0][1]
    assert "load.py" not in str(rest)
    assert "load.py" not in str(culprit_of(result, ()))
