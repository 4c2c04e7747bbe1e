"""What changed from a reference trace to another one, as lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bagel_perf.schema.waits import Kind

Change = Literal["gone", "new", "fewer", "more"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteChange:
    """Waits from one place whose number changed; 0 is none. Lost times are null where a trace does not tell."""

    change: Change
    kind: Kind
    op: str
    file: str
    line: int
    function: str
    region: str
    count_before: int
    count_after: int
    lost_gpu_ms_before: float | None
    lost_gpu_ms_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChange:
    """Kernels of one name whose number changed, with the time of all of them."""

    change: Change
    name: str
    count_before: int
    count_after: int
    total_ms_before: float
    total_ms_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionChange:
    """A region in both traces or in one, null where it is missing."""

    path: tuple[str, ...]
    calls_before: int | None
    calls_after: int | None
    host_syncs_before: int | None
    host_syncs_after: int | None
    wall_ms_before: float | None
    wall_ms_after: float | None
    lost_gpu_ms_before: float | None
    lost_gpu_ms_after: float | None
    gpu_idle_ms_before: float | None
    gpu_idle_ms_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalChange:
    """A figure of the whole trace, before and after; null where a trace does not give it."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceDifference:
    """From ``reference`` to this trace. ``notes`` say what keeps the two from being compared at face value."""

    reference: str
    totals: tuple[TotalChange, ...]
    syncs: tuple[SiteChange, ...]
    kernels: tuple[KernelChange, ...]
    regions: tuple[RegionChange, ...]
    notes: tuple[str, ...] = ()
