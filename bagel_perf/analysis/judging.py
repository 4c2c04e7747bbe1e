"""Verdicts over paired latencies: whether a change keeps to a limit, what a change is, and whether stages add up.

A verdict is read off the interval of the median: it fails when the whole interval lies beyond the limit and passes when
the whole interval lies within; what is left is inconclusive, and never a pass. Where several cells are gated, each
interval has Bonferroni's confidence, 1 - alpha / m: Holm's steps would spare a pair or two, but the interval shown
would not be the one that was judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bagel_perf.analysis.dropping import is_invalid
from bagel_perf.analysis.stats import CONFIDENCE, PairedChange, log_ratios, median_interval, pairs_needed
from bagel_perf.schema.limits import Limit, limit_of
from bagel_perf.schema.slots import Stage

State = Literal["pass", "fail", "inconclusive"]
ChangeState = Literal["improved", "regressed", "no difference shown", "inconclusive", "invalid"]
AddsUp = Literal["add up", "do not add up", "too few pairs"]

Place = tuple[int | str, Stage]
"""A resolution as results write it, and a stage."""

ROUNDING = 1e-12
"""Of a logarithm: 103 ms are 3% over 100 ms, and not beyond."""

REASONS: dict[State, str] = {
    "pass": "the whole interval is within the limit",
    "fail": "the whole interval is beyond the limit",
    "inconclusive": "the interval holds the limit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedSamples:
    """Latencies of one cell in ms; those at the same place were measured in the same round.

    ``num_dropped`` more were left out for the conditions that they ran under.
    """

    reference_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    num_dropped: int = 0

    def __post_init__(self) -> None:
        assert len(self.reference_ms) == len(self.candidate_ms) > 0

    @property
    def num_pairs(self) -> int:
        return len(self.reference_ms)

    @property
    def log_ratios(self) -> list[float]:
        return log_ratios(self.reference_ms, self.candidate_ms)

    @property
    def differences_ms(self) -> list[float]:
        """Candidate less reference of each pair."""
        return [b - a for a, b in zip(self.reference_ms, self.candidate_ms, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a cell keeps to its limit. ``estimate`` and ``interval`` are in the unit of the limit, percent or ms.

    The interval has the given confidence; it is None, and the state inconclusive, where the pairs are too few for one.
    """

    limit: Limit
    state: State
    estimate: float
    interval: tuple[float, float] | None
    num_pairs: int
    confidence: float
    reason: str

    def __post_init__(self) -> None:
        assert self.interval is not None or self.state == "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Medians of the paired changes in ms, and of what e2e changed beyond both stages together, with its interval."""

    ar_ms: float
    dit_ms: float
    e2e_ms: float
    rest_ms: float
    rest_interval_ms: tuple[float, float] | None
    num_pairs: int

    @property
    def state(self) -> AddsUp:
        """An interval that holds 0 does not show that there is no rest, only that none is shown."""
        if self.rest_interval_ms is None:
            return "too few pairs"
        low, high = self.rest_interval_ms
        return "add up" if low <= 0 <= high else "do not add up"


def gate_confidence(num_cells: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Bonferroni's confidence of each of so many gated cells: all their intervals hold together with ``1 - alpha``.

    A false fail takes the lower end alone, so the gate fails falsely with at most ``alpha / 2``.
    """
    assert num_cells > 0
    return 1 - alpha / num_cells


def gate_pairs_needed(num_cells: int) -> int:
    """The smallest number of pairs with which any of so many gated cells can pass or fail."""
    return pairs_needed(gate_confidence(num_cells))


def judge(samples: PairedSamples, limit: Limit, *, confidence: float = CONFIDENCE) -> Judgement:
    """Holds the change of one cell to its limit, a percentage as ``ln(1 + L / 100)`` against the log-ratios."""
    in_percent = limit.percent is not None
    median, interval = median_interval(samples.log_ratios if in_percent else samples.differences_ms, confidence)
    bound = math.log1p(limit.amount / 100) if in_percent else limit.amount
    state = state_of(interval, bound + ROUNDING)
    needed = pairs_needed(confidence)
    return Judgement(
        limit=limit,
        state=state,
        estimate=_in_unit(limit, median),
        interval=None if interval is None else (_in_unit(limit, interval[0]), _in_unit(limit, interval[1])),
        num_pairs=samples.num_pairs,
        confidence=confidence,
        reason=REASONS[state] if interval is not None else f"{_pairs(samples.num_pairs)}; {needed} are needed",
    )


def state_of(interval: tuple[float, float] | None, bound: float) -> State:
    """What an interval says of a limit, both in one unit; inconclusive where there is none."""
    if interval is None:
        return "inconclusive"
    low, high = interval
    if low > bound:
        return "fail"
    return "pass" if high <= bound else "inconclusive"


def _in_unit(limit: Limit, value: float) -> float:
    return value if limit.percent is None else math.expm1(value) * 100


def _pairs(number: int) -> str:
    return "1 pair" if number == 1 else f"{number} pairs"


def judge_cells(samples: Mapping[Place, PairedSamples], limits: Sequence[Limit]) -> tuple[Judgement, ...]:
    """Of each cell that has a limit, at a confidence that holds for all of them together, so that a loss in one stage
    cannot hide behind a gain in another; the limit of a judgement names its resolution."""
    own = {place: limit_of(limits, *place) for place in samples}
    gated = {place: replace(limit, res=place[0]) for place, limit in own.items() if limit is not None}
    if not gated:
        return ()
    confidence = gate_confidence(len(gated))
    return tuple(judge(samples[place], limit, confidence=confidence) for place, limit in gated.items())


def change_state(change: PairedChange, noise: PairedChange | None = None, *, num_dropped: int = 0) -> ChangeState:
    """What a change without limit is.

    ``noise`` is the reference against itself in the same schedule: where its interval excludes no difference, there is
    something that the arms do not share, and no interval is to be believed. ``num_dropped`` pairs were left out.
    """
    aa_interval = None if noise is None else noise.ci_pct
    if is_invalid(num_dropped, change.num_pairs + num_dropped) or (aa_interval and _side(aa_interval)):
        return "invalid"
    if change.ci_pct is None:
        return "inconclusive"
    side = _side(change.ci_pct)
    if not side:
        return "no difference shown"
    return "regressed" if side > 0 else "improved"


def _side(interval: tuple[float, float]) -> int:
    """On which side of 0 an interval lies: -1, 1, or 0 where it holds 0."""
    low, high = interval
    return (low > 0) - (high < 0)


def hidden_regressions(states: Mapping[Stage, ChangeState]) -> tuple[Stage, ...]:
    """Stages of one resolution that regressed though the whole did not: what e2e alone would not have shown."""
    if states.get("e2e") == "regressed":
        return ()
    return tuple(stage for stage, state in states.items() if state == "regressed")


def noise_floor_pct(aa: PairedChange) -> float | None:
    """Half the width of the interval of a reference against itself, in percent: a smaller change is no effect yet.

    None where the pairs are too few.
    """
    return None if aa.ci_pct is None else (aa.ci_pct[1] - aa.ci_pct[0]) / 2


def reconcile(
    ar: PairedSamples, dit: PairedSamples, e2e: PairedSamples, *, confidence: float = CONFIDENCE
) -> Reconciliation:
    """Whether e2e changed by what its stages changed, round by round; the samples are of the same rounds.

    Medians do not add up even where every round does, so the rest is the median of the rounds' rests.
    """
    changes = [each.differences_ms for each in (ar, dit, e2e)]
    rests = [whole - (first + second) for first, second, whole in zip(*changes, strict=True)]
    medians_ms = [median_interval(each)[0] for each in changes]
    rest_ms, interval_ms = median_interval(rests, confidence)
    return Reconciliation(
        ar_ms=medians_ms[0],
        dit_ms=medians_ms[1],
        e2e_ms=medians_ms[2],
        rest_ms=rest_ms,
        rest_interval_ms=interval_ms,
        num_pairs=len(rests),
    )
