"""A verdict follows from the interval of the pairs and from the limit, and nothing that regressed hides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bagel_perf.analysis.judging import (
    Judgement,
    PairedSamples,
    change_state,
    gate_confidence,
    gate_pairs_needed,
    hidden_regressions,
    judge,
    judge_cells,
    noise_floor_pct,
    reconcile,
)
from bagel_perf.analysis.stats import PairedChange
from bagel_perf.schema.limits import Limit, parse_limit, parse_limits

LIMIT = parse_limit("dit:3%")
LOAD = (100.0, 700.0, 200.0, 500.0, 150.0, 300.0, 120.0, 900.0)


def changed(*percents: float, base_ms: Sequence[float] = LOAD) -> PairedSamples:
    """A pair for each change, the load of the machine being another in each round."""
    pairs = [(base_ms[i % len(base_ms)], percent) for i, percent in enumerate(percents)]
    return PairedSamples(
        reference_ms=tuple(base for base, _ in pairs),
        candidate_ms=tuple(base * (1 + percent / 100) for base, percent in pairs),
    )


def moved(*differences_ms: float, base_ms: Sequence[float] = LOAD) -> PairedSamples:
    """A pair for each difference."""
    reference_ms = tuple(base_ms[i % len(base_ms)] for i in range(len(differences_ms)))
    candidate_ms = tuple(a + d for a, d in zip(reference_ms, differences_ms, strict=True))
    return PairedSamples(reference_ms=reference_ms, candidate_ms=candidate_ms)


def change(low: float, high: float) -> PairedChange:
    return PairedChange(delta_pct=(low + high) / 2, ci_pct=(low, high), num_pairs=6)


@pytest.mark.parametrize(
    ("percents", "state"),
    [
        ((4.0, 5.0, 4.5, 4.0, 6.0, 3.1), "fail"),
        ((4.0, 5.0, 4.5, 4.0, 6.0, 2.9), "inconclusive"),
        ((1.0, 0.0, -1.0, 2.0, 2.9, 0.0), "pass"),
        ((1.0, 0.0, -1.0, 2.0, 3.1, 0.0), "inconclusive"),
        ((-20.0, -21.0, -30.0, -20.0, -25.0, -20.0), "pass"),
        # From nine pairs on the interval leaves the outermost pair on either side out, and no more.
        ((4.0, 5.0, 4.5, 4.0, 6.0, 4.0, 4.0, 5.0, -9.0), "fail"),
        ((4.0, 5.0, 4.5, 4.0, 6.0, 4.0, 4.0, -9.0, -9.0), "inconclusive"),
        ((1.0, 0.0, -1.0, 2.0, 0.0, 1.0, 0.0, 0.0, 60.0), "pass"),
        ((1.0, 0.0, -1.0, 2.0, 0.0, 1.0, 0.0, 60.0, 60.0), "inconclusive"),
    ],
)
def test_the_whole_interval_decides(percents: tuple[float, ...], state: str) -> None:
    assert judge(changed(*percents), LIMIT).state == state


def test_the_limit_decides() -> None:
    samples = changed(4.0, 5.0, 4.5, 4.0, 6.0, 4.2)
    states = [judge(samples, parse_limit(text)).state for text in ("dit:3.9%", "dit:4.1%", "dit:5.9%", "dit:6.1%")]
    assert states == ["fail", "inconclusive", "inconclusive", "pass"]


@pytest.mark.parametrize("percent", [0.1, 1.0, 2.5, 3.0, 7.0, 30.0])
def test_a_change_of_just_the_limit_is_within_it(percent: float) -> None:
    assert judge(changed(*[percent] * 6), Limit(stage="dit", percent=percent)).state == "pass"
    assert judge(changed(*[percent + 1e-6] * 6), Limit(stage="dit", percent=percent)).state == "fail"


@pytest.mark.parametrize("text", ["dit:3%", "dit:+3ms"])
def test_pairs_are_those_of_a_round(text: str) -> None:
    paired = changed(*[5.0] * 6)
    rotated = (*paired.candidate_ms[1:], paired.candidate_ms[0])
    assert judge(paired, parse_limit(text)).state == "fail"
    unlike = PairedSamples(reference_ms=paired.reference_ms, candidate_ms=rotated)
    assert judge(unlike, parse_limit(text)).state == "inconclusive"


def test_estimate_and_interval_of_a_percentage_are_those_of_the_ratios() -> None:
    judgement = judge(changed(4.0, 5.0, 4.5, 4.0, 6.0, 3.5), LIMIT)
    assert judgement.interval == pytest.approx((3.5, 6.0))
    assert judgement.estimate == pytest.approx(100 * (math.sqrt(1.04 * 1.045) - 1))
    assert (judgement.num_pairs, judgement.confidence) == (6, 0.95)
    assert judgement.reason == "the whole interval is beyond the limit"


@pytest.mark.parametrize(
    ("text", "state"), [("dit:+18ms", "fail"), ("dit:+20ms", "inconclusive"), ("dit:25ms", "pass")]
)
def test_a_limit_in_ms_is_held_to_the_differences(text: str, state: str) -> None:
    judgement = judge(moved(20.0, 21.0, 19.0, 20.0, 24.0, 22.0), parse_limit(text))
    assert judgement.state == state
    assert judgement.interval == pytest.approx((19.0, 24.0))
    assert judgement.estimate == pytest.approx(20.5)


@pytest.mark.parametrize(("num_pairs", "reason"), [(1, "1 pair; 6 are needed"), (5, "5 pairs; 6 are needed")])
def test_under_six_pairs_nothing_is_concluded(num_pairs: int, reason: str) -> None:
    judgement = judge(changed(*[50.0] * num_pairs), LIMIT)
    assert (judgement.state, judgement.interval, judgement.reason) == ("inconclusive", None, reason)
    assert judgement.estimate == pytest.approx(50)


def test_a_verdict_without_an_interval_cannot_be_built() -> None:
    with pytest.raises(AssertionError):
        Judgement(limit=LIMIT, state="pass", estimate=0, interval=None, num_pairs=5, confidence=0.95, reason="")


def test_series_of_unlike_length_are_no_pairs() -> None:
    with pytest.raises(AssertionError):
        PairedSamples(reference_ms=(1.0, 2.0), candidate_ms=(1.0,))


def test_a_loss_in_one_stage_does_not_hide_behind_a_gain_in_another() -> None:
    ar, dit = moved(*[-40.0] * 7, base_ms=[1000.0]), moved(*[40.0] * 7, base_ms=[1000.0])
    whole = moved(*[0.0] * 7, base_ms=[2000.0])
    judged = judge_cells(
        {(1024, "ar"): ar, (1024, "dit"): dit, (1024, "e2e"): whole}, parse_limits(["dit:3%", "e2e:3%"])
    )
    assert [(str(each.limit), each.state) for each in judged] == [("1024/dit:3%", "fail"), ("1024/e2e:3%", "pass")]


def test_cells_without_a_limit_are_not_judged() -> None:
    samples = changed(*[50.0] * 6)
    assert judge_cells({(1024, "dit"): samples}, parse_limits(["256/dit:3%", "ar:3%"])) == ()
    (judgement,) = judge_cells({(1024, "dit"): samples, (1024, "ar"): samples}, parse_limits(["dit:3%"]))
    assert judgement.confidence == pytest.approx(0.95)


def test_the_more_cells_are_gated_the_more_pairs_each_verdict_needs() -> None:
    assert [gate_pairs_needed(m) for m in (1, 2, 3, 4, 6, 12)] == [6, 7, 7, 8, 8, 9]
    cells = {(res, "dit"): changed(*[50.0] * 6) for res in (256, 1024)}
    judged = judge_cells(cells, [LIMIT])  # type: ignore[arg-type]
    assert [(each.state, each.reason) for each in judged] == [("inconclusive", "6 pairs; 7 are needed")] * 2
    assert [each.confidence for each in judged] == pytest.approx([gate_confidence(2)] * 2)


@pytest.mark.parametrize(
    ("own", "noise", "num_dropped", "state"),
    [
        (change(-5, -1), None, 0, "improved"),
        (change(1, 5), None, 0, "regressed"),
        (change(-1, 5), None, 0, "no difference shown"),
        (change(0, 0), None, 0, "no difference shown"),
        (change(0, 5), None, 0, "no difference shown"),
        (PairedChange(delta_pct=50, ci_pct=None, num_pairs=5), None, 0, "inconclusive"),
        (change(1, 5), change(-0.1, 0.1), 0, "regressed"),
        (change(1, 5), change(0.1, 0.2), 0, "invalid"),
        (change(-5, -1), change(-0.2, -0.1), 0, "invalid"),
        (change(1, 5), PairedChange(delta_pct=9, ci_pct=None, num_pairs=2), 0, "regressed"),
        (change(1, 5), None, 2, "regressed"),
        (change(1, 5), None, 3, "invalid"),
        (PairedChange(delta_pct=50, ci_pct=None, num_pairs=5), None, 2, "invalid"),
    ],
)
def test_the_state_of_a_change(own: PairedChange, noise: PairedChange | None, num_dropped: int, state: str) -> None:
    assert change_state(own, noise, num_dropped=num_dropped) == state


def test_the_noise_floor_is_half_the_interval_of_the_reference_against_itself() -> None:
    assert noise_floor_pct(change(-0.5, 1.5)) == pytest.approx(1.0)
    assert noise_floor_pct(PairedChange(delta_pct=0, ci_pct=None, num_pairs=5)) is None


def test_a_regression_that_the_whole_does_not_show_is_named() -> None:
    assert hidden_regressions({"ar": "improved", "dit": "regressed", "e2e": "no difference shown"}) == ("dit",)
    assert hidden_regressions({"ar": "improved", "dit": "regressed", "e2e": "improved"}) == ("dit",)
    assert hidden_regressions({"ar": "improved", "dit": "regressed", "e2e": "regressed"}) == ()
    assert hidden_regressions({"ar": "improved", "dit": "improved", "e2e": "improved"}) == ()


NOISE = (3.0, -2.0, 1.0, -3.0, 2.0, -1.0)


def test_stages_that_change_as_the_whole_does_add_up() -> None:
    ar, dit = moved(*[-100.0 + x for x in NOISE]), moved(*[50.0 + 2 * x for x in NOISE])
    found = reconcile(ar, dit, moved(*[-50.0 + 3 * x for x in NOISE]))
    assert (found.ar_ms, found.dit_ms, found.e2e_ms) == pytest.approx((-100, 50, -50))
    assert found.rest_ms == pytest.approx(0, abs=1e-9)
    assert found.rest_interval_ms == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize(("rest_ms", "state"), [(5.0, "do not add up"), (-5.0, "do not add up"), (2.0, "add up")])
def test_a_rest_whose_interval_excludes_0_is_flagged(rest_ms: float, state: str) -> None:
    found = reconcile(moved(*[-10.0] * 6), moved(*[-20.0] * 6), moved(*[-30.0 + rest_ms + x for x in NOISE]))
    assert found.rest_ms == pytest.approx(rest_ms)
    assert found.rest_interval_ms == pytest.approx((rest_ms - 3, rest_ms + 3))
    assert found.state == state


def test_too_few_rounds_do_not_show_that_stages_add_up() -> None:
    found = reconcile(moved(*[-10.0] * 5), moved(*[-20.0] * 5), moved(*[-80.0] * 5))
    assert (found.state, found.rest_interval_ms) == ("too few pairs", None)
