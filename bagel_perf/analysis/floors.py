"""How far a measured stage is from its floor."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.schema.floors import StageFloor


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstFloor:
    """A latency as a multiple of the floor, and the rates at which it did the floor's operations and bytes."""

    times_floor: float
    tflops: float
    gbps: float


def against_floor(latency_ms: float, floor: StageFloor) -> AgainstFloor:
    """Of a stage that took ``latency_ms``, whatever it did besides what is in the floor."""
    return AgainstFloor(
        times_floor=latency_ms / floor.floor_ms,
        tflops=floor.flops / latency_ms / 1e9,
        gbps=floor.bytes / latency_ms / 1e6,
    )
