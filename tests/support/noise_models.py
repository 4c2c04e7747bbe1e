"""Noise of a machine on which nothing changed, and the comparisons that are made under it.

A model gives log-latencies of shape (trials, runs), the runs of a trial in the order in which they were made. A luck
gives what a variant has in one process from beginning to end.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bagel_perf.measure.stages import shuffled_rounds
from bagel_perf.records.gates import Limit, parse_limit
from bagel_perf.records.plans import ROUNDS_PER_PROCESS
from bagel_perf.records.results import RESULT_FILE, load
from bagel_perf.records.runs import TimedRun, runs_of
from bagel_perf.verdicts import joint
from bagel_perf.verdicts.gated_cells import judge_unpaired
from bagel_perf.verdicts.judging import ChangeState, PairedSamples, State, change_state, judge
from bagel_perf.verdicts.planning import looks
from bagel_perf.verdicts.statistics import allowed_error, median_interval, paired_change, percent

Floats = NDArray[np.float64]
Model = Callable[[np.random.Generator, int, int], Floats]
Luck = Callable[[np.random.Generator, tuple[int, ...]], Floats]
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

T_CRITICAL_APART = 2.228
"""Student's t at 97.5% with 10 degrees of freedom, of six processes each."""
T_CRITICAL = MappingProxyType({12: 2.074, 24: 2.013})
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
        runs = [run for run in runs_of(TimedRun, result.runs) if run.variant in RECORDED_VARIANTS]
        for stage in ("ar", "dit", "e2e"):
            own = [
                (run.variant, np.log(each.latency_ms))
                for run in runs
                for each in run.measurements
                if run.case == f"{side}x{side}" and each.stage == stage
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


def even_luck(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Normal, 1.2%: with the jitter of two rounds, an intraclass correlation of 0.8, as measured on an H100."""
    return 0.012 * draw.standard_normal(shape)


def skewed_luck(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One process in six is 5% slower from beginning to end."""
    return np.where(draw.random(shape) < 1 / 6, 0.05, 0.0)


LUCKS: Mapping[str, tuple[Model, Luck]] = MappingProxyType(
    {
        "luck per process": (calm, even_luck),
        "skewed luck": (calm, skewed_luck),
        "luck and bursts": (bursts, even_luck),
    }
)
NOISES = (*MODELS, *LUCKS)


@dataclass(frozen=True, slots=True)
class Noise:
    """Log-latencies of the runs of each trial, and the luck of each arm in each process: trials, processes, arms."""

    runs: Floats
    luck: Floats


def drawn_noise(name: str, draw: np.random.Generator, num_trials: int, num_processes: int, num_arms: int) -> Noise:
    """Of a machine of this name, for two rounds in each process."""
    model, luck = LUCKS.get(name, (MODELS.get(name, calm), lambda _, shape: np.zeros(shape)))
    return Noise(
        runs=model(draw, num_trials, num_processes * ROUNDS_PER_PROCESS * num_arms),
        luck=luck(draw, (num_trials, num_processes, num_arms)),
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


@cache
def _orders(order: Order, num_trials: int, num_rounds: int, num_arms: int) -> NDArray[np.int_]:
    """The place of each arm in each round: trials, rounds, arms."""
    if num_arms == 2:
        second = np.array([order(trial, num_rounds) for trial in range(num_trials)])
        return np.stack([second.astype(int), 1 - second], axis=2)
    return np.argsort(np.random.default_rng(3).random((num_trials, num_rounds, num_arms)), axis=2)


def latencies_ms(noise: Noise, order: Order = harness_order) -> Floats:
    """Of each trial, process, round of the process, and arm; the arms of a round in the drawn order."""
    num_trials, num_processes, num_arms = noise.luck.shape
    num_rounds = num_processes * ROUNDS_PER_PROCESS
    runs = noise.runs.reshape(num_trials, num_rounds, num_arms)
    placed = np.take_along_axis(runs, _orders(order, num_trials, num_rounds, num_arms), axis=2)
    by_process = placed.reshape(num_trials, num_processes, ROUNDS_PER_PROCESS, num_arms)
    latencies: Floats = BASE_MS * np.exp(by_process + noise.luck[:, :, None])
    return latencies


def samples_of(latency_ms: Floats, candidate: int = 1, effect: float = 0.0) -> Iterator[PairedSamples]:
    """Of each trial, an arm against the first; ``effect`` is its true change, 0.03 for 3% slower."""
    _, num_processes, num_rounds, _ = latency_ms.shape
    processes = tuple(np.repeat(np.arange(num_processes), num_rounds).tolist())
    flat = latency_ms.reshape(len(latency_ms), -1, latency_ms.shape[3])
    for before, after in zip(flat[:, :, 0].tolist(), (flat[:, :, candidate] * (1 + effect)).tolist(), strict=True):
        yield PairedSamples(reference_ms=tuple(before), candidate_ms=tuple(after), processes=processes)


def by_pair(samples: PairedSamples) -> PairedSamples:
    """Every round for itself, as if those of one process were independent."""
    return dataclasses.replace(samples, processes=tuple(range(samples.num_pairs)))


def covered(trials: Iterable[PairedSamples]) -> float:
    """How often the interval that is printed holds the true change, which is none."""
    intervals = [paired_change(each.log_ratios).ci_pct for each in trials]
    return float(np.mean([each is not None and each[0] <= 0 <= each[1] for each in intervals]))


def change_states(trials: Iterable[PairedSamples]) -> Counter[ChangeState]:
    """How many trials end in each state, where the table has a single cell."""
    states: Counter[ChangeState] = Counter()
    for each in trials:
        ratios = each.log_ratios
        states[change_state(paired_change(ratios), is_shown=bool(joint.shown({0: ratios})))] += 1
    return states


def limit_states(trials: Iterable[PairedSamples], limit: Limit) -> Counter[State]:
    """How many trials pass, fail and are inconclusive."""
    return Counter(judge(each, limit).state for each in trials)


def false_tables(tables: Sequence[Floats]) -> tuple[float, float]:
    """How often a table of equal variants has any verdict but none, jointly and by its intervals alone.

    ``tables`` has the latencies of each resolution and stage, with as many arms as there are variants.
    """
    num_trials, num_arms = len(tables[0]), tables[0].shape[3]
    cells = [samples_of(table, arm) for table in tables for arm in range(1, num_arms)]
    jointly = alone = 0
    for trial in zip(*cells, strict=True):
        ratios: dict[int, dict[int, float]] = {number: each.log_ratios for number, each in enumerate(trial)}
        changes = [paired_change(each).ci_pct for each in ratios.values()]
        excluded = {number for number, ci in enumerate(changes) if ci is not None and not ci[0] <= 0 <= ci[1]}
        named = joint.shown(ratios) if excluded else frozenset()
        alone += bool(excluded)
        jointly += bool(excluded & named)
    return jointly / num_trials, alone / num_trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Shares of trials of a rule that stops on precision, and the mean number of processes that it takes."""

    covered: float
    found: float
    num_processes: float


def stopped(trials: Iterable[PairedSamples], half_width_pct: float = 1.0) -> Stopped:
    """Each trial ends at the first look at which half its interval is narrow enough, at the last anyway."""
    numbers, ends, holds, finds = looks(), [], [], []
    for trial in trials:
        ratios = [*trial.log_ratios.values()]
        for number in numbers:
            change = paired_change(dict(enumerate(ratios[:number])), 1 - allowed_error(number, numbers))
            assert change.ci_pct is not None
            low, high = change.ci_pct
            if (high - low) / 2 <= half_width_pct or number == numbers[-1]:
                ends.append(number)
                holds.append(low <= 0 <= high)
                finds.append(low > 0)
                break
    return Stopped(covered=float(np.mean(holds)), found=float(np.mean(finds)), num_processes=float(np.mean(ends)))


Apart = Callable[[Floats, Floats], tuple[float, float]]
"""The interval of the change in percent between the process medians of two measurements."""


def ordered_differences(before_ms: Floats, after_ms: Floats) -> tuple[float, float]:
    """As ``gate`` takes it."""
    before, after = (dict(enumerate(each.tolist())) for each in (before_ms, after_ms))
    interval = judge_unpaired(before, after, parse_limit("dit:3%")).interval
    assert interval is not None
    return interval


def opposite_ends(before_ms: Floats, after_ms: Floats) -> tuple[float, float]:
    """The ratios of the ends of either median's own interval, as before 2026-11-30."""
    (_, before), (_, after) = (median_interval(each.tolist()) for each in (before_ms, after_ms))
    assert before is not None and after is not None
    return (after[0] / before[1] - 1) * 100, (after[1] / before[0] - 1) * 100


def students_t(before_ms: Floats, after_ms: Floats) -> tuple[float, float]:
    """Of the logarithms, with a common spread."""
    before, after = np.log(before_ms), np.log(after_ms)
    spread = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    middle, half = after.mean() - before.mean(), T_CRITICAL_APART * spread
    return percent(middle - half), percent(middle + half)


def apart_intervals(latency_ms: Floats, effect: float, interval: Apart) -> Iterator[tuple[float, float]]:
    """Of each trial between the first arm of its first half of processes, and of its other half."""
    half = latency_ms.shape[1] // 2
    medians_ms = np.median(latency_ms[:, :, :, 0], axis=2)
    for own in medians_ms:
        yield interval(own[:half], own[half:] * (1 + effect))


def t_test_in_blocks(noise: Floats, *, num_runs: int) -> NDArray[np.int_]:
    """Of each trial what Student's two-sided test at 5% says when all runs of the reference come first: -1, 0 or 1."""
    latency_ms = BASE_MS * np.exp(noise[:, : 2 * num_runs])
    reference, candidate = latency_ms[:, :num_runs], latency_ms[:, num_runs:]
    spread = np.sqrt((reference.var(axis=1, ddof=1) + candidate.var(axis=1, ddof=1)) / num_runs)
    t = (candidate.mean(axis=1) - reference.mean(axis=1)) / spread
    return np.where(np.abs(t) > T_CRITICAL[num_runs], np.sign(t), 0).astype(int)
