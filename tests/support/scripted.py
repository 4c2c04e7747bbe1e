"""Records that tests are made of: an environment, runs with chosen latencies, counts and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.outlines import Outline, Scalar
from bagel_perf.records.plans import Plan, bagel_outline
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

ENVIRONMENT = Environment(
    device_kind="cuda",
    device_name="NVIDIA H200",
    torch="2.11.0",
    python="3.12.1",
    cuda="13.0",
    cudnn=91000,
    driver="580.1",
    num_threads=16,
    platform="Linux",
    commit="abc1234",
    dirty=False,
)
CPU = replace(ENVIRONMENT, device_kind="cpu", device_name="2 cores", cuda=None, cudnn=None, driver=None)

DETAILS: dict[str, Scalar] = {
    "preset": "7b",
    "attention": "cudnn",
    "weights": "random seed 0",
    "params": 14_000_000_000,
    "layers": 28,
}

SPEED = {"baseline": 1.0, "pr3987": 0.9, "sync_free": 0.6}
SYNCS: dict[str, tuple[int, int]] = {"baseline": (1006, 6000), "pr3987": (900, 4000), "sync_free": (0, 1)}


def make_plan(
    sizes: Sequence[tuple[int, int]] = ((256, 256),),
    variants: Sequence[str] = ("baseline", "pr3987", "sync_free"),
    image_dir: str = "",
) -> Plan:
    """A plan to compare variants at some sizes."""
    requests = tuple(Request(width=width, height=height) for width, height in sizes)
    return Plan(kind="compare", requests=requests, variants=tuple(variants), image_dir=image_dir)


def make_outline(plan: Plan) -> Outline:
    """The outline that the worker sends of such a plan."""
    return bagel_outline(plan, DETAILS)


def make_picture(width: int, height: int, seed: int, *, path: str | None = None) -> Output:
    """A picture whose hashes follow from its size and seed alone, as those of equal variants do."""
    text = f"{width} {height} {seed}".encode()
    md5, sha = hashlib.md5(text).hexdigest(), hashlib.sha256(text).hexdigest()
    return Output(
        kind="picture",
        md5=md5,
        sha256=sha,
        shape=(height, width, 3),
        num_values=width * height,
        spread=40.0,
        path=path,
    )


PROOFS: tuple[type[CountedRun | RepeatedRun | OtherSeedRun], ...] = (CountedRun, RepeatedRun, OtherSeedRun)


def make_run(kind: type[RunT], variant: str, request: Request, number: int | None = None) -> RunT:
    """A run as the worker sends it, each round in a process of its own; latencies grow with it, as pairs matter."""
    seed = request.seed + (kind is OtherSeedRun)
    return kind(
        variant=variant,
        case=request.case,
        seed=seed,
        process=number or 0,
        output=make_picture(request.width, request.height, seed),
        **_measured(kind, variant, number or 0),
    )


def _measured(kind: type, variant: str, number: int) -> dict[str, Any]:
    if kind is CountedRun:
        ar, dit = SYNCS.get(variant, (5, 6))
        in_ar, in_dit = {"route_experts": ar}, {"step_input": dit // 2, "route_experts": dit // 4}
        counts = (
            CountedStage(stage="ar", host_syncs=ar, syncs_by_component=in_ar),
            CountedStage(stage="dit", host_syncs=dit, syncs_by_component=in_dit),
        )
        return {"sync_device": "simulated", "measurements": counts}
    if kind is RepeatedRun:
        return {"measurements": (StageMemory(stage="ar", peak_bytes=100), StageMemory(stage="dit", peak_bytes=300))}
    if kind is TimedRun:
        scale = SPEED.get(variant, 1.0) * (1 + 0.5 * number)
        stages: dict[str, float] = {"ar": 100.0, "dit": 1000.0, "e2e": 1101.0}
        times = tuple(TimedStage(stage=stage, latency_ms=ms * scale) for stage, ms in stages.items())
        return {"round": number, "measurements": times}
    return {}


def make_runs(plan: Plan, pairs: int = 5) -> Iterator[Run]:
    """Every run of a plan that goes well, in the worker's order."""
    for request in plan.requests:
        for variant in plan.variants:
            yield from (make_run(kind, variant, request) for kind in PROOFS)
        for number in range(pairs):
            yield from (make_run(TimedRun, variant, request, number) for variant in plan.variants)
