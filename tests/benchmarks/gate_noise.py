"""How often the verdicts of a comparison raise a false alarm, and what they find, under noise of several kinds.

``python tests/benchmarks/gate_noise.py`` writes its tables between the markers of ``reports/gate-noise/README.md``;
``--trials`` is the number of comparisons behind each figure.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bagel_perf.analysis.judging import ChangeState, State  # noqa: E402
from bagel_perf.analysis.planning import MAX_PAIRS, looks  # noqa: E402
from bagel_perf.schema.limits import parse_limit  # noqa: E402
from noise_models import (  # noqa: E402
    MODELS,
    ORDERS,
    Floats,
    auto_states,
    change_states,
    limit_states,
    t_test_in_blocks,
)

README = ROOT / "reports" / "gate-noise" / "README.md"
SEED = 1
NUMBERS = (6, 10, 16, 20)
EFFECT = 0.03
EVERY_PAIR = range(6, MAX_PAIRS + 1)
LIMIT, LIMIT_PAIRS = parse_limit("dit:3%"), 10
DRAWN = ORDERS["drawn every round"]

Rows = list[list[str]]


@cache
def noise_of(name: str, num_trials: int) -> Floats:
    """The same noise for every table."""
    return MODELS[name](np.random.default_rng(SEED), num_trials, 2 * MAX_PAIRS)


def main_table(num_trials: int) -> Rows:
    """Pairs in the order of the harness beside blocks; each cell for 6, 10, 16 and 20 runs of either arm."""
    head = ["noise", "pairs: slower", "faster", "+3% found", "t-test: slower", "faster", "+3% found"]
    return [head, *([name, *_paired(name, num_trials), *_in_blocks(name, num_trials)] for name in MODELS)]


def _paired(name: str, num_trials: int) -> list[str]:
    noise = noise_of(name, num_trials)
    equal = [change_states(noise, 0.0, num_pairs=number) for number in NUMBERS]
    slower = [change_states(noise, EFFECT, num_pairs=number) for number in NUMBERS]
    columns: tuple[tuple[list[Counter[ChangeState]], ChangeState], ...] = (
        (equal, "regressed"),
        (equal, "improved"),
        (slower, "regressed"),
    )
    return [_by_number([each[state] / num_trials for each in states]) for states, state in columns]


def _in_blocks(name: str, num_trials: int) -> list[str]:
    noise = noise_of(name, num_trials)
    equal, slower = ([t_test_in_blocks(noise, effect, num_runs=n) for n in NUMBERS] for effect in (0.0, EFFECT))
    columns = ((equal, 1), (equal, -1), (slower, 1))
    return [_by_number([float(np.mean(each == side)) for each in sides]) for sides, side in columns]


def order_table(num_trials: int) -> Rows:
    """Shares of false alarms on the worse side with 6 and 10 pairs, by what decides which arm is first in a round."""
    return [
        ["noise", *ORDERS],
        *([name, *(_worse_side(name, order, num_trials) for order in ORDERS)] for name in MODELS),
    ]


def _worse_side(name: str, order: str, num_trials: int) -> str:
    noise = noise_of(name, num_trials)
    states = [change_states(noise, 0.0, num_pairs=number, order=ORDERS[order]) for number in NUMBERS[:2]]
    return _by_number([_alarm_share(each, num_trials) for each in states])


def limit_table(num_trials: int) -> Rows:
    """Verdicts at a limit, for a candidate that is equal, just at the limit, and beyond it."""
    effects = {"equal": 0.0, "+3%": EFFECT, "+6%": 2 * EFFECT}
    return [
        ["noise", *(f"{name}: pass / inconclusive / fail" for name in effects)],
        *([name, *(_verdicts(name, effect, num_trials) for effect in effects.values())] for name in MODELS),
    ]


def _verdicts(name: str, effect: float, num_trials: int) -> str:
    states = limit_states(noise_of(name, num_trials), effect, LIMIT, num_pairs=LIMIT_PAIRS, order=DRAWN)
    order: tuple[State, ...] = ("pass", "inconclusive", "fail")
    return _by_number([states[state] / num_trials for state in order])


def auto_table(num_trials: int) -> Rows:
    """What a rule that stops on precision costs and finds, and what it would if it looked after every pair."""
    return [
        ["noise", "pairs", "false alarms", "+3% found", "after every pair: pairs", "false alarms"],
        *([name, *_auto(name, num_trials)] for name in MODELS),
    ]


def _auto(name: str, num_trials: int) -> list[str]:
    noise = noise_of(name, num_trials)
    equal, pairs = auto_states(noise, 0.0, looks(), order=DRAWN)
    slower, _ = auto_states(noise, EFFECT, looks(), order=DRAWN)
    restless, restless_pairs = auto_states(noise, 0.0, EVERY_PAIR, order=DRAWN)
    alarms, found = _percent(_alarm_share(equal, num_trials)), _percent(slower["regressed"] / num_trials)
    return [f"{pairs:.1f}", alarms, found, f"{restless_pairs:.1f}", _percent(_alarm_share(restless, num_trials))]


def _alarm_share(states: Counter[ChangeState], num_trials: int) -> float:
    """Of the side that has more."""
    return max(states["regressed"], states["improved"]) / num_trials


def _by_number(shares: Sequence[float]) -> str:
    return " / ".join(map(_percent, shares))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


TABLES: dict[str, Callable[[int], Rows]] = {
    "arms": main_table,
    "order": order_table,
    "limit": limit_table,
    "auto": auto_table,
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
