"""The mutation of latencies: a stage 5% slower than before, which a gain in the other hides from the whole.

It is a result whose latencies are written here, because no machine that this runs on is 5% slower on demand.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from bagel_perf.records.bagel import Request
from bagel_perf.records.plans import Plan, bagel_outline
from bagel_perf.records.results import Result
from bagel_perf.records.runs import (
    CountedRun,
    Environment,
    OtherSeedRun,
    Output,
    RepeatedRun,
    Run,
    TimedRun,
    TimedStage,
)
from bagel_perf.verdicts.compare import Session, build_result

NAME = "a delay of 5% in one stage, hidden by a gain in the other"
WORDS = ("sync_free at 1024x1024: dit +", "limit 3%", "which e2e hides")
LIMIT_OPTIONS = ("--limit", "ar:3%", "--limit", "dit:3%", "--limit", "e2e:3%")

NUM_ROUNDS = 20
NOISE = 0.003
"""Standard deviation of a latency, as a share of it."""
REFERENCE, CANDIDATE = "baseline", "sync_free"
LATENCIES_MS: dict[str, dict[str, float]] = {
    REFERENCE: {"ar": 1000.0, "dit": 8000.0, "e2e": 9000.0},
    CANDIDATE: {"ar": 600.0, "dit": 8400.0, "e2e": 9000.0},
}
REQUEST = Request(width=1024, height=1024)
ENVIRONMENT = Environment(
    device_kind="cuda",
    device_name="a scripted clock",
    torch="none",
    python="none",
    cuda=None,
    cudnn=None,
    driver=None,
    num_threads=1,
    platform="none",
    commit=None,
    dirty=None,
)


def scripted_result() -> Result:
    """A result as ``compare`` writes it, of runs that nobody made."""
    plan = Plan(kind="compare", requests=(REQUEST,), variants=(REFERENCE, CANDIDATE))
    session = Session(
        command="python tests/tools/mutations.py",
        created="",
        pairs=NUM_ROUNDS,
        warmup=0,
        order_seed=0,
        processes=NUM_ROUNDS,
    )
    return build_result(bagel_outline(plan, {}), ENVIRONMENT, (*_proofs(), *_timed()), session)


def _proofs() -> Iterator[Run]:
    own = REQUEST.seed
    same, other = _picture(own), _picture(own + 1)
    for variant in (REFERENCE, CANDIDATE):
        yield CountedRun(variant=variant, case=REQUEST.case, seed=own, sync_device="simulated", output=same)
        yield RepeatedRun(variant=variant, case=REQUEST.case, seed=own, output=same)
        yield OtherSeedRun(variant=variant, case=REQUEST.case, seed=own + 1, output=other)


def _timed() -> Iterator[Run]:
    """Each round is a process, and has the reference a second time, as a control."""
    noise = random.Random(5)
    for number in range(NUM_ROUNDS):
        for variant, is_control in ((REFERENCE, False), (CANDIDATE, False), (REFERENCE, True)):
            yield TimedRun(
                variant=variant,
                case=REQUEST.case,
                seed=REQUEST.seed,
                round=number,
                process=number,
                measurements=tuple(
                    TimedStage(stage=stage, latency_ms=ms * (1 + noise.gauss(0.0, NOISE)))
                    for stage, ms in LATENCIES_MS[variant].items()
                ),
                output=_picture(REQUEST.seed),
                is_control=is_control,
            )


def _picture(seed: int) -> Output:
    text = str(seed).encode()
    md5, sha = hashlib.md5(text).hexdigest(), hashlib.sha256(text).hexdigest()
    return Output(kind="picture", md5=md5, sha256=sha, shape=(1024, 1024, 3), num_values=1024**2, spread=40.0)
