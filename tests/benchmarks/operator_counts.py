"""Holds the simulated device to the waits of each sample of torch's own tests, as a GPU made them.

``operator_counts.py [PART PARTS]``: runs the samples that ``operator_waits.py`` measured (tests/data/
operator_samples.json.gz) on the simulated device, those that this torch makes alike. Each has to wait as often,
forwards and backwards, or to be named as unjudged; a sample that the CPU cannot run is passed over and counted. Prints
the samples that do not, and ends with exit code 1 where there are any. Takes minutes: ``make test-operators``.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import operator_waits
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import count_host_syncs

SAMPLES = Path(__file__).parents[1] / "data" / "operator_samples.json.gz"
MAX_SHOWN = 60


@dataclass(slots=True)
class Outcome:
    """How the samples fared; ``wrong`` are lines for people."""

    counts: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)


def check(part: int, parts: int) -> Outcome:
    """Runs every ``parts``-th entry of the databases, from number ``part`` on."""
    with gzip.open(SAMPLES, "rt", encoding="utf-8") as file:
        measured: dict[str, list[list[Any]]] = json.load(file)["samples"]
    outcome = Outcome()
    found = [(name, make) for name, make in operator_waits.entries() if name in measured]
    for name, make in found[part::parts]:
        rows: dict[str, set[tuple[int, int]]] = {}
        for text, forward, backward in measured[name]:  # samples may differ in values, or in where a scalar is, alone
            rows.setdefault(text, set()).add((forward, backward))
        with SimulatedCuda() as device:
            try:
                samples = make("cuda")
            except Exception as problem:  # a newer torch has changed what its samples are made of
                outcome.stopped[name] = f"{type(problem).__name__}: {problem}"
                continue
            begun_s = time.monotonic()
            for text, bind in samples:
                if text in rows and time.monotonic() - begun_s < operator_waits.MAX_SECONDS:
                    _check_sample(device, f"{name}: {text}", bind, rows[text], outcome)
    return outcome


def _check_sample(
    device: SimulatedCuda, name: str, bind: Any, expected: set[tuple[int, int]], outcome: Outcome
) -> None:
    try:
        forward, backward = bind()
        forward()
        device.unjudged.clear()
        counts = (_count(forward), _count(backward))
    except Exception as problem:
        outcome.counts["the CPU cannot run it"] += 1
        outcome.stopped.setdefault(name.partition(":")[0], f"{name}: {type(problem).__name__}: {problem}"[:200])
        return
    if device.unjudged:
        outcome.counts["unjudged"] += 1
        outcome.unjudged.update(device.unjudged.keys())
    elif counts in expected:
        outcome.counts["as measured"] += 1
    else:
        outcome.counts["not as measured"] += 1
        outcome.wrong.append(f"{name}: {list(counts)}, on a GPU {sorted(expected)}")


def _count(call: operator_waits.Call | None) -> int:
    with count_host_syncs("cuda") as counter:
        if call is not None:
            call()
    return counter.total()


def main() -> int:
    """Prints how the samples fared."""
    warnings.simplefilter("ignore")
    torch.autograd.set_multithreading_enabled(False)
    part, parts = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, 1)
    outcome = check(part, parts)
    print(*outcome.wrong[:MAX_SHOWN], sep="\n")
    print(dict(outcome.counts), f"torch {torch.__version__}")
    print("unjudged:", dict(outcome.unjudged.most_common(40)))
    print(f"stopped: {len(outcome.stopped)} entries, as", *list(outcome.stopped.values())[:12], sep="\n  ")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
