"""Noise of a machine on which nothing changed, and the comparisons that are made under it.

A model gives log-latencies of shape (trials, runs), the runs of a trial in the order in which they were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bagel_perf.analysis.judging import ChangeState, PairedSamples, State, change_state, judge
from bagel_perf.analysis.planning import is_precise
from bagel_perf.analysis.stats import paired_change
from bagel_perf.harness.measure import shuffled_rounds
from bagel_perf.schema.limits import Limit
from bagel_perf.schema.results import RESULT_FILE, load

Floats = NDArray[np.float64]
Model = Callable[[np.random.Generator, int, int], Floats]
Order = Callable[[int, int], list[bool]]

ROOT = Path(__file__).resolve().parents[2]
BASE_MS = 1000.0
JITTER = 0.006
RECORDED = (
    "2026-11-23_h200_252761e",
    "2026-11-23_h200_252761e-2",
    "2026-11-26_h100-80gb_3e079d6",
    "2026-11-26_h100-80gb_b54fda2",
    "2026-11-26_h200_5841467",
    "2026-11-26_h200_5841467-2",
)
RECORDED_VARIANTS = ("baseline", "sync_free")
BLOCK_RUNS = 4

T_CRITICAL = MappingProxyType({6: 2.228, 10: 2.101, 16: 2.042, 20: 2.024})
"""Student's t at 97.5% with 2 n - 2 degrees of freedom, by runs n of either arm."""


def calm(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """Independent normal jitter of 0.6%."""
    return JITTER * draw.standard_normal((num_trials, num_runs))


def drift(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """A machine that wanders by 3%, each run 0.95 of the one before it, besides the jitter."""
    keep, steps = 0.95, 0.03 * draw.standard_normal((num_trials, num_runs))
    level = np.empty_like(steps)
    level[:, 0] = steps[:, 0]
    for run in range(1, num_runs):
        level[:, run] = keep * level[:, run - 1] + np.sqrt(1 - keep**2) * steps[:, run]
    return level + calm(draw, num_trials, num_runs)


def heating(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """A GPU that gets 3 to 9% slower as it warms up, most of it in the first 20 runs, besides the jitter."""
    height = draw.uniform(0.03, 0.09, (num_trials, 1))
    ramp: Floats = height * (1 - np.exp(-np.arange(num_runs) / 10))
    return ramp + calm(draw, num_trials, num_runs)


def bursts(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """A shared machine: one run in ten, mostly two in a row, takes 10 to 60% longer, besides the jitter."""
    begins = draw.random((num_trials, num_runs)) < 0.06
    lasts = np.roll(begins, 1, axis=1) & (draw.random((num_trials, num_runs)) < 0.6)
    slower = np.log1p(draw.uniform(0.1, 0.6, (num_trials, num_runs)))
    return np.where(begins | lasts, slower, 0.0) + calm(draw, num_trials, num_runs)


def heavy_tails(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """Student's t with two degrees of freedom, which has no variance, at the scale of the jitter."""
    return JITTER * draw.standard_t(2, (num_trials, num_runs))


def periodic(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
    """A wave of 3% whose period is four runs, or two rounds of two arms, besides the jitter."""
    phase = draw.uniform(0, 2 * np.pi, (num_trials, 1))
    return 0.03 * np.sin(np.pi / 2 * np.arange(num_runs) + phase) + calm(draw, num_trials, num_runs)


def recorded(side: int) -> Model:
    """The timed runs of committed results at this size, in blocks of consecutive ones; each trial is of one stage."""

    def model(draw: np.random.Generator, num_trials: int, num_runs: int) -> Floats:
        series = recorded_series(side)
        num_blocks = -(-num_runs // BLOCK_RUNS)
        noise = np.empty((num_trials, num_runs))
        for trial in range(num_trials):
            own = series[draw.integers(len(series))]
            starts = draw.integers(len(own), size=(num_blocks, 1))
            noise[trial] = own[(starts + np.arange(BLOCK_RUNS)) % len(own)].reshape(-1)[:num_runs]
        return noise

    return model


@cache
def recorded_series(side: int) -> tuple[Floats, ...]:
    """Log-latencies less the median of their variant, by result and stage, in the order of the runs."""
    series = []
    for name in RECORDED:
        result = load(ROOT / "reports" / name / RESULT_FILE)
        runs = [run for run in result.runs if run.purpose == "timed" and run.variant in RECORDED_VARIANTS]
        for stage in ("ar", "dit", "e2e"):
            own = [
                (run.variant, np.log(each.latency_ms))
                for run in runs
                for each in run.measurements
                if run.width == run.height == side and each.stage == stage and each.latency_ms is not None
            ]
            if own:
                level = {each: np.median([x for other, x in own if other == each]) for each in RECORDED_VARIANTS}
                series.append(np.array([x - level[variant] for variant, x in own]))
    return tuple(series)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "calm": calm,
        "drift": drift,
        "heating": heating,
        "bursts": bursts,
        "heavy tails": heavy_tails,
        "periodic": periodic,
        "recorded at 256": recorded(256),
        "recorded at 1024": recorded(1024),
    }
)


def harness_order(trial: int, num_rounds: int) -> list[bool]:
    """Whether the candidate runs first, by round, as ``compare`` orders its runs."""
    arms = [arm for _, arm in shuffled_rounds(("reference", "candidate"), num_rounds, trial)]
    return [arm == "candidate" for arm in arms[::2]]


def reference_first(trial: int, num_rounds: int) -> list[bool]:
    """Interleaved, and no more."""
    return [False] * num_rounds


def mirrored(trial: int, num_rounds: int) -> list[bool]:
    """A coin for every other round; the round after it is in reverse."""
    coins = drawn(trial, num_rounds)
    return [coins[index - index % 2] != bool(index % 2) for index in range(num_rounds)]


def drawn(trial: int, num_rounds: int) -> list[bool]:
    """A coin for each round."""
    coins = np.random.default_rng(trial).random(num_rounds) < 0.5
    return [bool(coin) for coin in coins]


ORDERS: Mapping[str, Order] = MappingProxyType(
    {"reference first": reference_first, "mirrored rounds": mirrored, "drawn every round": drawn}
)


def interleaved(
    noise: Floats, effect: float, *, num_pairs: int, order: Order = harness_order
) -> Iterator[PairedSamples]:
    """Of each trial the comparison with one run of either arm a round.

    ``effect`` is the true change of the candidate, 0.03 for 3% slower.
    """
    orders = candidate_first(order, len(noise), num_pairs)
    rounds = noise[:, : 2 * num_pairs].reshape(len(noise), num_pairs, 2)
    first, second = rounds[:, :, 0], rounds[:, :, 1]
    reference_ms = BASE_MS * np.exp(np.where(orders, second, first))
    candidate_ms = BASE_MS * np.exp(np.where(orders, first, second)) * (1 + effect)
    for before, after in zip(reference_ms.tolist(), candidate_ms.tolist(), strict=True):
        yield PairedSamples(reference_ms=tuple(before), candidate_ms=tuple(after))


@cache
def candidate_first(order: Order, num_trials: int, num_rounds: int) -> NDArray[np.bool_]:
    """The order of each trial and round."""
    return np.array([order(trial, num_rounds) for trial in range(num_trials)])


def change_states(
    noise: Floats, effect: float, *, num_pairs: int, order: Order = harness_order
) -> Counter[ChangeState]:
    """How many trials end in each state of a change without limit."""
    trials = interleaved(noise, effect, num_pairs=num_pairs, order=order)
    return Counter(change_state(paired_change(each.reference_ms, each.candidate_ms)) for each in trials)


def limit_states(
    noise: Floats, effect: float, limit: Limit, *, num_pairs: int, order: Order = harness_order
) -> Counter[State]:
    """How many trials pass, fail and are inconclusive."""
    trials = interleaved(noise, effect, num_pairs=num_pairs, order=order)
    return Counter(judge(each, limit).state for each in trials)


def auto_states(
    noise: Floats, effect: float, numbers: Sequence[int], *, order: Order = harness_order
) -> tuple[Counter[ChangeState], float]:
    """The same as ``change_states`` where each trial stops once half its interval is 1%, and the mean number of pairs.

    ``numbers`` are those of pairs at which it is looked.
    """
    states: Counter[ChangeState] = Counter()
    num_pairs = 0
    for trial in interleaved(noise, effect, num_pairs=numbers[-1], order=order):
        ratios = trial.log_ratios
        number = next((n for n in numbers if is_precise(ratios[:n], 1.0)), numbers[-1])
        states[change_state(paired_change(trial.reference_ms[:number], trial.candidate_ms[:number]))] += 1
        num_pairs += number
    return states, num_pairs / len(noise)


def t_test_in_blocks(noise: Floats, effect: float, *, num_runs: int) -> NDArray[np.int_]:
    """Of each trial what Student's two-sided test at 5% says when all runs of the reference come first: -1, 0 or 1."""
    latency_ms = BASE_MS * np.exp(noise[:, : 2 * num_runs])
    reference, candidate = latency_ms[:, :num_runs], latency_ms[:, num_runs:] * (1 + effect)
    spread = np.sqrt((reference.var(axis=1, ddof=1) + candidate.var(axis=1, ddof=1)) / num_runs)
    t = (candidate.mean(axis=1) - reference.mean(axis=1)) / spread
    return np.where(np.abs(t) > T_CRITICAL[num_runs], np.sign(t), 0).astype(int)
