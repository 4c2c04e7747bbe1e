"""A result is judged by its limits, and nothing that disproves it, or that nobody measured, passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.commands.gate_result import BAGEL_STAGES
from bagel_perf.records.errors import EnvironmentUnfit, RunFailed, UsageError
from bagel_perf.records.gates import DEFAULT_LIMITS, FindingKind, GateReport, Limit, parse_limits
from bagel_perf.records.results import RESULT_FILE, Result, load
from bagel_perf.records.runs import Conditions, Run, TimedRun, runs_of
from bagel_perf.verdicts.comparability import unlike_environments
from bagel_perf.verdicts.gate import APART, NO_CONTROL, ON_CPU, Source, judge_against, judge_result
from bagel_perf.verdicts.statistics import MIN_PROCESSES
from committed_results import committed
from gated_results import Changes, make_result, with_picture
from scripted import CPU, ENVIRONMENT

COMMITTED = [folder / RESULT_FILE for folder in committed(RESULT_FILE)]
FLAT = (1.0,) * 10
DIT: tuple[Limit, ...] = parse_limits(["dit:3%"])
EACH: tuple[Limit, ...] = parse_limits(["ar:3%", "dit:3%", "e2e:3%"])

SAME = make_result({"sync_free": {}}, load=FLAT)


def judged(result: Result, limits: Sequence[Limit] = DIT, variant: str | None = None) -> GateReport:
    return judge_result(Source(result=result, name="now.json"), limits, variant)


def judged_against(reference: Result, candidate: Result, limits: Sequence[Limit] = DIT) -> GateReport:
    return judge_against(
        Source(result=reference, name="before.json"), Source(result=candidate, name="now.json"), limits
    )


def kinds(report: GateReport) -> list[FindingKind]:
    return [finding.kind for finding in report.findings]


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [(5.0, "regressed", 1), (3.1, "inconclusive", 4), (2.0, "pass", 0), (-30.0, "pass", 0)],
)
def test_a_change_is_held_to_its_limit(change: float, verdict: str, code: int) -> None:
    report = judged(make_result({"sync_free": {"dit": change}}))
    assert (report.verdict, report.exit_code) == (verdict, code)
    (cell,) = report.cells
    assert (cell.case, cell.stage, cell.variant, cell.num_pairs) == ("256x256", "dit", "sync_free", 10)
    assert cell.change == pytest.approx(change, abs=0.1)
    assert GateReport.from_json(report.to_json()) == report


def test_a_limit_in_ms_is_held_in_ms() -> None:
    result = make_result({"sync_free": {"e2e": 2.0}}, load=FLAT)
    assert judged(result, parse_limits(["e2e:+30ms"])).verdict == "pass"
    report = judged(result, parse_limits(["e2e:+15ms"]))
    assert report.verdict == "regressed"
    assert "sync_free at 256x256: e2e +22.3 ms (" in report.findings[0].message


def test_a_stage_cannot_hide_behind_another() -> None:
    """What one stage loses the other wins, and the whole has not changed."""
    report = judged(make_result({"sync_free": {"ar": -50.0, "dit": 5.0, "e2e": 0.0}}), EACH)
    assert report.exit_code == 1
    (finding,) = report.findings
    assert finding.message.startswith("sync_free at 256x256: dit +5.") and finding.message.endswith("which e2e hides")
    assert [cell.verdict for cell in report.cells] == ["pass", "fail", "pass"]


def test_without_limits_each_stage_may_be_five_percent_slower() -> None:
    assert judged(make_result({"sync_free": {"dit": 4.0}}), DEFAULT_LIMITS).verdict == "pass"
    for stage in BAGEL_STAGES:
        assert judged(make_result({"sync_free": {stage: 6.0}}), DEFAULT_LIMITS).verdict == "regressed"


def test_a_failure_has_to_show_among_all_that_is_judged_together() -> None:
    """Six processes beyond the limit, one only just, fail by themselves, and not beside noisier latencies."""

    def edit(run: Run) -> Run:
        if not isinstance(run, TimedRun) or run.variant != "sync_free":
            return run
        noise = {"ar": 0.3 * (-1) ** run.round, "dit": (0.0301, 0.06, 0.05, 0.07, 0.04, 0.08)[run.round], "e2e": 0.0}
        changed = (replace(m, latency_ms=m.latency_ms * (1 + noise[m.stage])) for m in run.measurements)
        return replace(run, measurements=tuple(changed))

    result = make_result({"sync_free": {}}, num_pairs=6, load=FLAT, edit=edit)
    assert judged(result).exit_code == 1
    report = judged(result, EACH)
    assert report.verdict == "inconclusive"
    dit = next(cell for cell in report.cells if cell.stage == "dit")
    assert (dit.verdict, dit.reason) == (
        "inconclusive",
        "beyond the limit by itself, not among 3 that are judged together",
    )


def test_a_large_regression_fails_among_any_number() -> None:
    variants: Changes = {"sync_free": {}, "pr3987": {"dit": 20.0}, "captured": {}, "fused": {}}
    report = judged(make_result(variants, num_pairs=6), EACH)
    failed = [(cell.variant, cell.stage) for cell in report.cells if cell.verdict == "fail"]
    assert (report.exit_code, failed) == (1, [("pr3987", "dit"), ("pr3987", "e2e")])


@pytest.mark.parametrize(("num_pairs", "limits", "verdict"), [(6, DIT, "pass"), (5, DIT, ""), (6, EACH, "pass")])
def test_too_few_processes_are_inconclusive_and_said_once(
    num_pairs: int, limits: Sequence[Limit], verdict: str
) -> None:
    report = judged(make_result({"sync_free": {}}, num_pairs=num_pairs), limits)
    assert report.verdict == (verdict or "inconclusive")
    assert len(report.findings) == (not verdict)


def test_one_variant_alone_is_judged_where_it_is_named() -> None:
    result = make_result({"sync_free": {"dit": 9.0}, "pr3987": {}})
    assert judged(result).exit_code == 1
    report = judged(result, variant="pr3987")
    assert (report.exit_code, [cell.variant for cell in report.cells]) == (0, ["pr3987"])


@pytest.mark.parametrize(
    ("limits", "variant", "message"),
    [
        (["dit:3%"], "baseline", "--variant is the reference itself (baseline); it holds sync_free"),
        (["dit:3%"], "fused", "--variant is not in the result (fused); it holds sync_free"),
        (["512/dit:3%"], None, "limit is of a case that was not measured (512/dit:3%); measured: 256x256"),
    ],
)
def test_what_could_never_fail_is_refused(limits: list[str], variant: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        judged(make_result({"sync_free": {}}), parse_limits(limits), variant)
    assert str(caught.value) == message


@pytest.mark.parametrize("states", [True, False])
def test_a_wrong_picture_outranks_every_latency(states: bool) -> None:
    """Also where the file states that all is well."""
    result = make_result({"sync_free": {"dit": 50.0}}, edit=lambda run: with_picture(run, "sync_free"))
    if not states:
        fine = tuple(replace(check, identical=True) for check in result.identity)
        result = replace(result, verdict="pass", exit_code=0, findings=(), identity=fine)
    report = judged(result)
    assert (report.exit_code, report.cells) == (3, ())
    assert [finding.message for finding in report.findings] == ["sync_free at 256x256 differs from baseline"]
    assert report.checks[-1] == ("latencies", "not judged")


def test_a_result_that_ended_early_is_judged_and_does_not_pass() -> None:
    early = make_result({"sync_free": {"dit": 9.0}}, error=RunFailed("interrupted"))
    report = judged(early)
    assert (report.exit_code, kinds(report)) == (6, ["incomplete", "regression"])
    assert report.findings[0].message == "now.json ended early: interrupted"
    assert ("complete", "incomplete") in report.checks and len(report.cells) == 1


def test_a_case_that_was_asked_for_and_never_ran_does_not_pass() -> None:
    result = make_result({"sync_free": {}}, sizes=((256, 256), (512, 512)), error=RunFailed("out of memory"))
    half = replace(result, runs=tuple(run for run in result.runs if run.case == "256x256"))
    report = judged(half)
    assert report.exit_code == 6
    assert "sync_free at 512x512: dit has no latency that counts" in [finding.message for finding in report.findings]


def test_what_differs_from_itself_voids_the_verdict() -> None:
    result = make_result({"sync_free": {}})
    assert NO_CONTROL in judged(result).notes

    def with_control(percent: float) -> Result:
        own = [run for run in runs_of(TimedRun, result.runs) if run.variant == "baseline"]
        return replace(result, runs=(*result.runs, *(slower(replace(run, is_control=True), percent) for run in own)))

    assert judged(with_control(0.0)).verdict == "pass" and NO_CONTROL not in judged(with_control(0.0)).notes
    report = judged(with_control(2.0))
    assert report.exit_code == 5
    assert report.findings[0].message == (
        "baseline differs from itself in now.json at 256x256: dit +2.00% (+2.00 to +2.00), "
        "so no change is to be believed"
    )


def slower(run: TimedRun, percent: float) -> TimedRun:
    slowed = tuple(replace(each, latency_ms=each.latency_ms * (1 + percent / 100)) for each in run.measurements)
    return replace(run, measurements=slowed)


@pytest.mark.parametrize(("num_excluded", "code"), [(2, 0), (3, 5)])
def test_pairs_that_ran_under_other_conditions_do_not_count(num_excluded: int, code: int) -> None:
    """Those of the first rounds here, in which the candidate looks 50% slower."""

    def edit(run: Run) -> Run:
        if not isinstance(run, TimedRun) or run.variant != "sync_free" or run.round >= num_excluded:
            return run
        return slower(replace(run, conditions=Conditions(window_ms=1.0, other_processes=1)), 50.0)

    report = judged(make_result({"sync_free": {}}, num_pairs=10, edit=edit))
    assert report.exit_code == code
    (cell,) = report.cells
    assert (cell.num_pairs, cell.num_excluded) == (10 - num_excluded, num_excluded)
    assert cell.interval is not None and cell.interval[1] < 1


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_every_committed_result_can_be_judged(path: Path) -> None:
    result = load(path)
    *_, last, _ = result.timed_stages
    assert judged(result, parse_limits([f"{last}:3%"])).exit_code in (0, 4)
    best, case = result.named[-1], result.cases[-1]
    report = judged(result, parse_limits([f"{case}/e2e:5%"]), best)
    has_verdicts = result.outline.is_server or result.processes >= MIN_PROCESSES  # of servers rounds are judged
    assert (report.verdict, len(report.cells)) == ("pass" if has_verdicts else "inconclusive", 1)
    assert has_verdicts or "6 are needed" in report.findings[0].message


def test_two_files_are_held_to_each_other_and_said_to_be_unpaired() -> None:
    before = make_result({"sync_free": {}}, load=FLAT)
    assert judged_against(before, make_result({"sync_free": {"dit": 2.0}}, load=FLAT)).verdict == "pass"
    report = judged_against(before, make_result({"sync_free": {"dit": 5.0}}, load=FLAT))
    assert report.exit_code == 1
    assert [(cell.variant, cell.is_paired) for cell in report.cells] == [("baseline", False), ("sync_free", False)]
    assert APART in report.notes
    assert "sync_free in now.json (abc1234) against before.json (abc1234)" in report.subject


def test_what_pairs_would_have_shown_is_lost_between_two_files() -> None:
    """The load of the machine was the same in each round of a pair, and is noise between files."""
    report = judged_against(make_result({"sync_free": {}}), make_result({"sync_free": {"dit": 5.0}}))
    assert report.verdict == "inconclusive"


def test_few_processes_of_two_files_say_nothing() -> None:
    few = make_result({"sync_free": {}}, num_pairs=5, load=FLAT)
    report = judged_against(few, make_result({"sync_free": {"dit": 50.0}}, load=FLAT))
    assert report.verdict == "inconclusive"
    assert "5 and 10 processes; 6 of each are needed" in report.findings[0].message


def test_rounds_that_the_gate_measured_in_turns_are_pairs() -> None:
    command = "bagel-perf gate revision main"
    before, now = (make_result({"sync_free": {"dit": change}}, command=command) for change in (0.0, 5.0))
    report = judged_against(before, now)
    assert report.exit_code == 1
    assert all(cell.is_paired for cell in report.cells) and APART not in report.notes
    assert judged_against(before, replace(now, order_seed=1)).verdict == "inconclusive", "another measurement"


def test_unlike_machines_are_not_compared_and_each_field_is_named() -> None:
    other = replace(ENVIRONMENT, device_name="NVIDIA H100", torch="2.12.0", commit="fff0000", dirty=True)
    now = make_result({"sync_free": {}}, environment=other, edit=all_others)
    report = judged_against(make_result({"sync_free": {}}), now)
    assert (report.exit_code, report.cells) == (5, ())
    assert [finding.message for finding in report.findings] == [
        "before.json and now.json differ: device_name NVIDIA H200 and NVIDIA H100; torch 2.11.0 and 2.12.0"
    ]


def test_unlike_requests_are_not_compared() -> None:
    before = make_result({"sync_free": {}})
    asked = {case: {**each, "steps": 50} for case, each in before.subject.asked.items()}
    now = replace(before, subject=replace(before.subject, asked=asked))
    report = judged_against(before, now)
    assert report.exit_code == 5
    assert "at 256x256 steps 15 and 50" in report.findings[0].message


def test_a_field_that_one_file_does_not_record_is_skipped_and_said() -> None:
    before = make_result({"sync_free": {}}, load=FLAT)
    now = replace(before, environment=replace(ENVIRONMENT, driver="590"))
    sources = Source(result=before, name="before.json"), Source(result=now, name="now.json")
    assert judge_against(*sources, DIT).exit_code == 5
    report = judge_against(*sources, DIT, unknown={"driver"})
    assert report.exit_code == 0
    assert "not compared, as one of the files does not record it: driver" in report.notes


def test_another_picture_than_before_outranks_every_latency() -> None:
    report = judged_against(make_result({"sync_free": {}}), make_result({"sync_free": {"dit": 9.0}}, edit=all_others))
    assert report.exit_code == 3
    assert [finding.message for finding in report.findings] == [
        "baseline at 256x256 gives another picture than in before.json",
        "sync_free at 256x256 gives another picture than in before.json",
    ]


def all_others(run: Run) -> Run:
    """As a tree that draws otherwise gives them."""
    return with_picture(run, run.variant)


def test_what_is_held_to_a_tolerance_may_show_another_picture_than_before() -> None:
    def rounded(run: Run) -> Run:
        return replace(with_picture(run, "approx_norm"), distance=0.1 if run.variant == "approx_norm" else None)

    before, now = make_result({"approx_norm": {}}, load=FLAT), make_result({"approx_norm": {}}, load=FLAT, edit=rounded)
    source = Source(result=before, name="before.json"), Source(result=now, name="now.json")
    assert judge_against(*source, DIT, "approx_norm").verdict == "pass"
    assert [cell.variant for cell in judge_against(*source, DIT).cells] == ["baseline"], "named, or not judged"


def test_runs_under_other_conditions_do_not_count_between_files_either() -> None:
    def disturbed(run: Run) -> Run:
        if not isinstance(run, TimedRun) or run.round not in (0, 1):
            return run
        return slower(replace(run, conditions=Conditions(window_ms=1.0, other_processes=1)), 50.0)

    report = judged_against(make_result({"sync_free": {}}, load=FLAT, edit=disturbed), SAME)
    assert report.verdict == "pass"
    assert {
        (cell.num_pairs, cell.num_excluded, cell.before_ms) for cell in report.cells if cell.variant == "baseline"
    } == {(8, 2, 1000.0)}
    assert all(cell.interval and cell.interval[0] > -1 for cell in report.cells)


def test_what_only_one_file_holds_is_not_judged_and_said() -> None:
    before, now = make_result({"sync_free": {}}, load=FLAT), make_result({"sync_free": {}, "fused": {}}, load=FLAT)
    report = judged_against(before, now)
    assert report.exit_code == 0
    assert "not judged, as before.json does not hold it: fused" in report.notes


def test_files_without_anything_in_common_are_a_usage_error() -> None:
    before = make_result({"sync_free": {}})
    with pytest.raises(UsageError, match=r"^no case of now\.json is in before\.json \(64x64 and 256x256\)$"):
        judged_against(before, make_result({"sync_free": {}}, sizes=((64, 64),)))
    with pytest.raises(UsageError, match=r"\(fused\); both hold baseline, sync_free$"):
        judge_against(Source(result=before, name="a"), Source(result=before, name="b"), DIT, "fused")


def test_an_unfit_machine_is_told_from_a_run_that_failed() -> None:
    assert judged(make_result({"sync_free": {}}, error=EnvironmentUnfit("no CUDA device"))).exit_code == 5


def test_a_cpu_says_that_it_predicts_nothing() -> None:
    report = judged(make_result({"sync_free": {}}, environment=CPU))
    assert report.subject.startswith("CPU latency, 7b preset") and ON_CPU in report.notes


def test_what_an_older_version_did_not_tell_makes_no_machine_unlike() -> None:
    known, other = (replace(ENVIRONMENT, host_cpu=name) for name in ("AVX2", "AVX512"))
    assert unlike_environments(ENVIRONMENT, known) == unlike_environments(known, ENVIRONMENT) == ()
    assert unlike_environments(known, other) == ("host_cpu AVX2 and AVX512",)
