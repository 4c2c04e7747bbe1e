"""Results of a subject that is not BAGEL: a codec of two stages, or of one, whose outputs are tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from bagel_perf.records.outlines import WHOLE, Outline, SubjectInfo, Tolerance, VariantInfo
from bagel_perf.records.results import Result
from bagel_perf.records.runs import (
    CountedRun,
    CountedStage,
    Environment,
    OtherSeedRun,
    Output,
    RepeatedRun,
    Run,
    RunT,
    StageMemory,
    TimedRun,
    TimedStage,
)
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, PROOFS

STAGES = ("encode", "decode")
CASES = ("small", "large")
REL_L2 = Tolerance(kind="rel_l2", limit=1e-3)
BASE_MS = {"encode": 20.0, "decode": 60.0, WHOLE: 80.0}
SPEED = {"plain": 1.0, "folded": 0.8, "half": 0.5}
SHAPE = (3, 4)


def make_outline(stages: tuple[str, ...] = STAGES) -> Outline:
    """A reference, a variant that has to be the same to the bit, and one with a tolerance."""
    return Outline(
        subject=SubjectInfo(
            kind="file",
            title="codec.py",
            summary="a codec",
            details={"channels": 8, "dtype": "bfloat16"},
            asked={"small": {"length": 16}, "large": {"length": 4096}},
        ),
        cases=CASES,
        stages=stages,
        variants=(
            VariantInfo(name="plain", target="codec.py:plain"),
            VariantInfo(name="folded", target="codec.py:folded"),
            VariantInfo(name="half", target="codec.py:half", tolerance=REL_L2),
        ),
        num_named=3,
        seed=7,
    )


def make_output(case: str, name: str = "") -> Output:
    """A tensor whose hashes follow from these names."""
    text = f"{case} {name}".encode()
    return Output(
        kind="tensor",
        md5=hashlib.md5(text).hexdigest(),
        sha256=hashlib.sha256(text).hexdigest(),
        shape=SHAPE,
        num_values=12,
        spread=1e20,
    )


def make_runs(outline: Outline, num_pairs: int) -> Iterator[Run]:
    """All runs of a comparison that goes well, each round in a process of its own; half is a little off."""
    for case in outline.cases:
        for variant in outline.measured:
            yield from (_run(outline, kind, variant, case) for kind in PROOFS)
        for number in range(num_pairs):
            yield from (_run(outline, TimedRun, variant, case, number) for variant in outline.measured)


def _run(outline: Outline, kind: type[RunT], variant: str, case: str, number: int = 0) -> RunT:
    fields: dict[str, Any] = {}
    if kind is CountedRun:
        counts = tuple(CountedStage(stage=stage, host_syncs=4) for stage in outline.stages)
        fields = {"sync_device": "cuda", "measurements": counts}
    if kind is RepeatedRun:
        fields = {"measurements": tuple(StageMemory(stage=stage, peak_bytes=2**20) for stage in outline.stages)}
    if kind is TimedRun:
        scale = SPEED[variant] * (10 if case == "large" else 1) * (1 + 0.1 * number)
        times = tuple(TimedStage(stage=stage, latency_ms=BASE_MS[stage] * scale) for stage in outline.timed_stages)
        fields = {"round": number, "measurements": times}
    is_off = variant == "half"
    return kind(
        variant=variant,
        case=case,
        seed=outline.seed + (kind is OtherSeedRun),
        process=number,
        output=make_output(case, "half" if is_off else ""),
        distance=2.3e-4 if is_off else None,
        num_differing=5 if is_off else None,
        **fields,
    )


def make_result(
    *,
    stages: tuple[str, ...] = STAGES,
    num_pairs: int = 6,
    environment: Environment = ENVIRONMENT,
    edit: Callable[[Run], Run] = lambda run: run,
) -> Result:
    """A comparison of the three variants; ``edit`` sees each run last."""
    outline = make_outline(stages)
    session = Session(
        command="bagel-perf compare codec.py:plain codec.py:folded codec.py:half",
        created="2027-01-31T12:00:00+00:00",
        pairs=num_pairs,
        warmup=1,
        order_seed=0,
        processes=num_pairs,
    )
    return build_result(outline, environment, [edit(run) for run in make_runs(outline, num_pairs)], session)


def with_output(run: Run, variant: str, **values: object) -> Run:
    """The run with another output, if it is of this variant."""
    if run.variant != variant:
        return run
    return replace(run, output=replace(run.output, **values))
