"""What ``syncs`` prints: sites with their cost, what saw them, whether predictions and budgets held, what is next."""

from __future__ import annotations

import io
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.errors import INTERRUPTED
from bagel_perf.records.sites import QuietOperator, SyncSite, UnjudgedSite
from bagel_perf.records.syncs import BudgetCheck, Instrument, SavingCheck, SyncReport, Witnesses
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

TRACE = Path(__file__).parents[1] / "data" / "traces" / "torch211_h100.json.gz"

COMPARISON = SyncSite(
    kind="scalar_read",
    file="kernels_baseline/positions.py",
    line=19,
    function="adjust_positions",
    region="ar/adjust_positions",
    count=10333,
    blocked_ms=64.2,
    lost_gpu_ms=354.8,
    predicted_saving_ms=(124.0, 367.0),
    expressions=("positions_P[i] < positions_P[i - 1]",),
)
PICTURE = SyncSite(
    kind="d2h_copy",
    file="kernels_baseline/picture.py",
    line=13,
    function="download_picture",
    region="dit",
    count=1,
    blocked_ms=1.4,
    lost_gpu_ms=0.0,
    allowed="the picture has to reach the host",
    expressions=("pixels_HW3.cpu()",),
)
LIBRARY = SyncSite(
    kind="unknown",
    file="",
    line=0,
    function="",
    region="",
    count=3,
    blocked_ms=0.1,
    lost_gpu_ms=0.2,
    op="aten::unique_dim",
)
REPORT = SyncReport(
    device="cuda",
    host_syncs=10337,
    unexplained=3,
    sites=(COMPARISON, LIBRARY, PICTURE),
    witnesses=Witnesses(callbacks=10334, debug_mode=10333, cupti=10337, blind=1),
    subject="baseline at 256x256",
    instrument=Instrument(wait_us=19.5, call_us=9.7, plain_wait_us=10.5, plain_wall_ms=2290, watched_wall_ms=4000),
)


def lines_of(report: SyncReport, top: int = 12) -> list[str]:
    stream = io.StringIO()
    print_syncs(report, stream, top=top)
    return stream.getvalue().splitlines()


def row_at(lines: list[str], text: str) -> list[str]:
    (line,) = (line for line in lines if text in line)
    return line.split()


def test_a_site_stands_with_its_cost_place_and_expression() -> None:
    lines = lines_of(REPORT)
    assert lines[0] == "Host syncs of baseline at 256x256 on CUDA: 10337"
    assert [*lines[1].split(), *lines[2].split()] == ["idle", "caused", "blocked", "saving", "count", "where"]
    row = row_at(lines, "positions.py:19  scalar read")
    assert row[:6] == ["354.8", "64.2", "124.0", "to", "367.0", "10333"]
    text = "\n".join(lines)
    assert "positions_P[i] < positions_P[i - 1]" in text and "in ar/adjust_positions" in text
    assert "allowed: the picture has to reach the host" in text
    assert (
        row_at(lines, "no line of Python  unknown")[:4] == ["0.2", "0.1", "-", "3"]
        and "inside aten::unique_dim" in text
    )
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("witnesses"))]
    assert max(map(len, table)) <= 100


def test_witnesses_and_the_cost_of_the_instruments_are_told() -> None:
    text = "\n".join(lines_of(REPORT))
    seen = "callbacks 10334, debug mode 10333 (blind to 1 device and event waits), CUPTI 10337; 3 unexplained"
    assert f"witnesses: {seen}" in text
    assert "add 19.5 us to a wait and 9.7 us to another torch call; the run took 4000 ms watched, 2290 ms plain" in text


def test_what_does_not_fit_is_summed_up() -> None:
    row = row_at(lines_of(REPORT, top=1), "2 more sites (--top)")
    assert row[:3] == ["0.2", "1.5", "4"]


def test_a_hint_is_shown_for_each_pattern_that_is_not_allowed() -> None:
    text = "\n".join(lines_of(REPORT))
    assert "element of a schedule: times[i].item()" in text and "device-to-host copy:" not in text
    assert "  if:      nobody writes to times inside the loop" in text
    assert text.endswith("next: kernels_baseline/positions.py:19, 10333 x scalar read")
    plain = replace(COMPARISON, expressions=("t > limit",))
    both = "\n".join(lines_of(replace(REPORT, sites=(COMPARISON, replace(plain, count=4)))))
    assert "element of a schedule:" in both and "scalar read: if t > limit" in both


SETUP = replace(COMPARISON, kind="pageable_upload", file="load.py", count=500, is_setup=True, lost_gpu_ms=900.0)


def with_setup(
    *sites: SyncSite, setup: tuple[SyncSite, ...] = (SETUP, replace(SETUP, line=20, count=100))
) -> SyncReport:
    found = (*setup, *sites)
    return replace(REPORT, sites=found, host_syncs=sum(site.count for site in found))


def test_the_set_up_is_one_row_after_the_others_and_never_the_next() -> None:
    lines = lines_of(with_setup(PICTURE, LIBRARY, COMPARISON), top=2)
    text = "\n".join(lines)
    row = row_at(lines, "set-up: uploads of module parameters, 600 waits, 2 lines")
    assert row[:3] == ["1800.0", "128.4", "600"]
    assert row_at(lines, "1 more site (--top)")[2] == "10333"
    assert "load.py:19, load.py:20" in text and "pageable upload" not in text
    assert text.endswith("next: operator aten::unique_dim, 3 x unknown")


def test_a_library_that_uploads_counts_as_the_programs_line() -> None:
    library = tuple(replace(SETUP, file="lib/a.py", line=line, caller="x.py:3") for line in (1, 2))
    text = "\n".join(lines_of(with_setup(LIBRARY, setup=library)))
    assert "1000 waits, 1 line" in text and "x.py:3" in text and "lib/a.py" not in text


def test_the_rows_add_up_to_the_total_with_a_set_up() -> None:
    report = with_setup(LIBRARY, COMPARISON)
    report = replace(report, sites=tuple(replace(site, blocked_ms=None) for site in report.sites))
    lines = lines_of(report, top=1)
    counts = [
        int(line.split()[0])
        for line in lines[3 : lines.index("Sites are ordered by count. What they cost needs a GPU.")]
        if line.split()[0].isdigit()
    ]
    assert lines[0].endswith(f": {sum(counts)}") and sum(counts) == report.host_syncs


def test_a_set_up_alone_is_said_so_and_how_to_hold_a_budget_beside_it() -> None:
    hold = 'to hold that, put it under allow_sync("set-up") and give --budget 0'
    assert lines_of(with_setup())[-1] == f"next: nothing waits but the set-up; {hold}"
    allowed = with_setup(setup=(replace(SETUP, allowed="loading"),))
    assert lines_of(allowed)[-1].startswith("next: nothing waits that is not allowed")
    assert "500 of them allowed" in "\n".join(lines_of(allowed))


def test_a_budget_counts_the_set_up_and_names_it_last() -> None:
    exceeded = BudgetCheck(region="", limit=0, num_entries=1, worst=603, num_exceeded=1)
    error = replace(with_setup(LIBRARY, replace(COMPARISON, count=2)), budgets=(exceeded,)).budget_error()
    assert error is not None
    assert str(error).index("positions.py:19") < str(error).index("load.py:19")


def test_the_last_line_names_what_there_is_to_name() -> None:
    only = replace(REPORT, sites=(LIBRARY,), host_syncs=3)
    assert lines_of(only)[-1] == "next: operator aten::unique_dim, 3 x unknown"
    nameless = replace(only, sites=(replace(LIBRARY, op=None),))
    assert lines_of(nameless)[-1] == "next: no line of Python, 3 x unknown"


def test_a_predicted_saving_that_did_not_come_true_is_said_so() -> None:
    check = SavingCheck(
        component="adjust_positions",
        reference="baseline",
        mixture="baseline+adjust_positions",
        stage="ar",
        num_pairs=8,
        predicted_ms=(124, 367),
        measured_ms=390.8,
        measured_ci_ms=(375.0, 466.8),
        agrees=False,
    )
    (line,) = (line for line in lines_of(replace(REPORT, saving_check=check)) if "put to the test" in line)
    assert "predicted 124.0 to 367.0 ms, measured 390.8 ms (375.0 to 466.8) in 8 pairs: they DISAGREE" in line
    (line,) = (
        line
        for line in lines_of(replace(REPORT, saving_check=replace(check, measured_ci_ms=None, agrees=None)))
        if "put to the test" in line
    )
    assert line.endswith("measured 390.8 ms in 8 pairs: too few pairs to judge")


def test_budgets_hazards_and_unjudged_operators_are_listed() -> None:
    report = replace(
        REPORT,
        budgets=(
            BudgetCheck(region="step", limit=0, num_entries=14, worst=2, num_exceeded=3),
            BudgetCheck(region="stpe", limit=0, num_entries=0, worst=0, num_exceeded=0),
            BudgetCheck(region="", limit=99999, num_entries=1, worst=5, num_exceeded=0),
        ),
        unjudged={"aten.unique_dim.default": 2},
        hazards={"asynchronous copy of pageable memory": 4},
    )
    text = "\n".join(lines_of(report))
    assert "budget of step: 0 an entry, the worst of 14 spent 2: EXCEEDED" in text
    assert "budget of stpe: 0 an entry: NEVER ENTERED" in text
    assert "budget of the whole: 99999, spent 5: kept" in text
    assert "cannot be judged without a GPU: aten.unique_dim.default, 2 calls" in text
    assert "may stall without waiting: asynchronous copy of pageable memory, 4 calls" in text


def test_what_cannot_be_judged_is_shown_with_its_place_and_the_users_word_for_it() -> None:
    sites = tuple(
        UnjudgedSite(operator="mine.sq.default", file="a.py", line=line, region="step" if line == 1 else "", count=1)
        for line in range(1, 6)
    )
    quiet = QuietOperator(name="mine.cu", reason="only launches", calls=3)
    report = replace(REPORT, unjudged={"mine.sq.default": 5}, unjudged_sites=sites, quiet_operators=(quiet,))
    text = "\n".join(lines_of(report))
    assert "mine.sq.default, 5 calls at a.py:1 in step, a.py:2, a.py:3 and 2 places more" in text
    assert "does not wait, as you say: mine.cu, 3 calls: only launches" in text


def test_an_end_before_the_end_is_said_first() -> None:
    last = lines_of(replace(REPORT, exit_code=3))[-1]
    assert last == "next: the program ended with exit code 3; if it should go on, mend that first"
    last = lines_of(replace(REPORT, exit_code=INTERRUPTED))[-1]
    assert last == "next: run it to its end, it was interrupted; what comes later is not counted"


def test_nobody_is_told_that_nothing_waits_where_that_is_not_known_or_to_set_a_budget_that_is_set() -> None:
    nothing = replace(REPORT, sites=(), host_syncs=0)
    assert lines_of(replace(nothing, unjudged={"aten.lu": 1}))[-1].startswith("next: run it on a GPU")
    kept = BudgetCheck(region="", limit=0, num_entries=1, worst=0, num_exceeded=0)
    assert lines_of(replace(nothing, budgets=(kept,)))[-1] == "next: nothing waits that is not allowed"


def test_without_a_gpu_there_are_counts_and_no_times() -> None:
    site = replace(COMPARISON, blocked_ms=None, lost_gpu_ms=None, predicted_saving_ms=None)
    report = SyncReport(
        device="simulated", host_syncs=10333, unexplained=0, sites=(site,), witnesses=Witnesses(simulated=10333)
    )
    lines = lines_of(report)
    assert lines[0] == "Host syncs of the program on the simulated device: 10333"
    assert lines[1].split() == ["count", "where"]
    assert "witnesses: simulated device 10333; 0 unexplained" in lines


def test_nothing_to_list_leaves_no_empty_table() -> None:
    report = SyncReport(
        device="simulated", host_syncs=0, unexplained=0, sites=(), witnesses=Witnesses(simulated=0), copies=()
    )
    assert lines_of(report) == [
        "Host syncs of the program on the simulated device: 0",
        "witnesses: simulated device 0; 0 unexplained",
        "next: nothing waits that is not allowed; hold it with a budget: --budget 0",
    ]


def test_a_profile_brings_its_idle_time_and_regions() -> None:
    report = replace(REPORT, profile=analyse(read_trace(TRACE)))
    text = "\n".join(lines_of(report))
    assert "Why the GPU was idle" in text and "launch-bound" in text and "Regions" in text
    assert SyncReport.from_json(report.to_json()) == report
