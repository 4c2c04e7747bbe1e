"""How often the verdicts of a comparison raise a false alarm, and what they find, under noise of several kinds.

``python tests/benchmarks/gate_noise.py`` writes its tables between the markers of ``reports/gate-noise/README.md``;
``--trials`` is the number of comparisons behind each figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bagel_perf.commands.gate_result import BAGEL_STAGES  # noqa: E402
from bagel_perf.records.gates import parse_limit  # noqa: E402
from bagel_perf.verdicts.judging import State  # noqa: E402
from noise_models import (  # noqa: E402
    MODELS,
    NOISES,
    ORDERS,
    Floats,
    apart_intervals,
    by_pair,
    change_states,
    covered,
    drawn_noise,
    false_tables,
    latencies_ms,
    limit_states,
    opposite_ends,
    ordered_differences,
    samples_of,
    stopped,
    students_t,
    t_test_in_blocks,
)

README = ROOT / "reports" / "gate-noise" / "README.md"
SEED = 1
NUMBERS = (6, 12, 18)
EFFECT = 0.03
LIMIT = parse_limit("dit:3%")
NUM_SIZES = 2
NUM_ARMS = 5
"""A reference and four variants that are equal to it."""
LARGE_EFFECT = 0.1
APART = {"differences": ordered_differences, "opposite ends": opposite_ends, "t": students_t}

Rows = list[list[str]]


@cache
def latencies(name: str, num_trials: int, num_processes: int, order: str = "drawn every round") -> Floats:
    """The same runs of two arms for every table."""
    noise = drawn_noise(name, np.random.default_rng(SEED), num_trials, num_processes, 2)
    return latencies_ms(noise, ORDERS[order])


def coverage_table(num_trials: int) -> Rows:
    """How often an interval holds the truth, and how often 3% are found, with 6, 12 and 18 processes."""
    head = ["noise", "covered", "by pair: covered", "+3% found", "t-test in blocks: false alarms"]
    return [head, *([name, *_coverage(name, num_trials)] for name in NOISES)]


def _coverage(name: str, num_trials: int) -> list[str]:
    tables = [latencies(name, num_trials, number) for number in NUMBERS]
    slower = [change_states(samples_of(each, effect=EFFECT))["regressed"] / num_trials for each in tables]
    return [
        _by_number([covered(samples_of(each)) for each in tables]),
        _by_number([covered(map(by_pair, samples_of(each))) for each in tables]),
        _by_number(slower),
        _in_blocks(name, num_trials),
    ]


def _in_blocks(name: str, num_trials: int) -> str:
    """Of machines whose noise knows no process."""
    if name not in MODELS:
        return "-"
    runs = drawn_noise(name, np.random.default_rng(SEED), num_trials, NUMBERS[1], 2).runs
    return _by_number([float(np.mean(t_test_in_blocks(runs, num_runs=2 * number) != 0)) for number in NUMBERS[:2]])


def joint_table(num_trials: int) -> Rows:
    """Tables of four equal variants at two sizes in which any cell has a verdict, with 6 and 12 processes."""
    return [
        ["noise", "jointly: any false verdict", "by the intervals alone"],
        *([name, *_joint(name, num_trials)] for name in NOISES),
    ]


def _joint(name: str, num_trials: int) -> list[str]:
    shares = [false_tables(_equal_variants(name, num_trials, number)) for number in NUMBERS[:2]]
    return [_by_number(column) for column in zip(*shares, strict=True)]


def _equal_variants(name: str, num_trials: int, num_processes: int) -> list[Floats]:
    draw = np.random.default_rng(SEED + 1)
    cells = range(NUM_SIZES * len(BAGEL_STAGES))
    return [latencies_ms(drawn_noise(name, draw, num_trials, num_processes, NUM_ARMS)) for _ in cells]


def order_table(num_trials: int) -> Rows:
    """Shares of false alarms on the worse side with 6 and 12 processes, by what decides which arm is first."""
    return [
        ["noise", *ORDERS],
        *([name, *(_worse_side(name, order, num_trials) for order in ORDERS)] for name in MODELS),
    ]


def _worse_side(name: str, order: str, num_trials: int) -> str:
    states = [change_states(samples_of(latencies(name, num_trials, number, order))) for number in NUMBERS[:2]]
    return _by_number([max(each["regressed"], each["improved"]) / num_trials for each in states])


def limit_table(num_trials: int) -> Rows:
    """Verdicts at a limit, for a candidate that is equal, just at the limit, and beyond it."""
    effects = {"equal": 0.0, "+3%": EFFECT, "+6%": 2 * EFFECT}
    return [
        ["noise", *(f"{name}: pass / inconclusive / fail" for name in effects)],
        *([name, *(_verdicts(name, effect, num_trials) for effect in effects.values())] for name in NOISES),
    ]


def _verdicts(name: str, effect: float, num_trials: int) -> str:
    states = limit_states(samples_of(latencies(name, num_trials, NUMBERS[0]), effect=effect), LIMIT)
    order: tuple[State, ...] = ("pass", "inconclusive", "fail")
    return _by_number([states[state] / num_trials for state in order])


def auto_table(num_trials: int) -> Rows:
    """What a rule that stops on precision costs, covers and finds."""
    return [["noise", "processes", "covered", "+3% found"], *([name, *_auto(name, num_trials)] for name in NOISES)]


def _auto(name: str, num_trials: int) -> list[str]:
    table = latencies(name, num_trials, NUMBERS[-1])
    equal, slower = stopped(samples_of(table)), stopped(samples_of(table, effect=EFFECT))
    return [f"{equal.num_processes:.1f}", _percent(equal.covered), _percent(slower.found)]


def apart_table(num_trials: int) -> Rows:
    """Two measurements of six processes each, one after the other."""
    head = ["noise", *(f"{name}: covered / +10% found" for name in APART)]
    return [head, *([name, *_apart(name, num_trials)] for name in NOISES)]


def _apart(name: str, num_trials: int) -> list[str]:
    table = latencies_ms(drawn_noise(name, np.random.default_rng(SEED), num_trials, 2 * NUMBERS[0], 1))
    columns = []
    for interval in APART.values():
        equal, slower = ([*apart_intervals(table, effect, interval)] for effect in (0.0, LARGE_EFFECT))
        holds = float(np.mean([low <= 0 <= high for low, high in equal]))
        columns.append(_by_number([holds, float(np.mean([low > 0 for low, _ in slower]))]))
    return columns


def _by_number(shares: Sequence[float]) -> str:
    return " / ".join(map(_percent, shares))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


TABLES: dict[str, Callable[[int], Rows]] = {
    "coverage": coverage_table,
    "joint": joint_table,
    "limit": limit_table,
    "auto": auto_table,
    "apart": apart_table,
    "order": order_table,
}


def aligned(rows: Rows) -> str:
    """The rows as Markdown, numbers to the right, columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the markers of this name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = text.split(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Runs all comparisons and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--readme", type=Path, default=README, help="the file with the markers")
    options = parser.parse_args()
    text = options.readme.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        text = replaced(text, name, aligned(table(options.trials)))
        print(f"{name}: done", file=sys.stderr)
    options.readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
