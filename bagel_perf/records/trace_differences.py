"""What changed from a reference trace to another one, as lists.

Since 2026-11-30 a change may be unknown, and idle time is compared by cause; files from before have neither.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bagel_perf.records.sites import Kind

Change = Literal["gone", "new", "fewer", "more", "unknown"]
"""Unknown where one of the two traces does not tell the number, or has it under names of its own."""


class SiteChange(msgspec.Struct, frozen=True, kw_only=True):
    """Waits from one place whose number changed; 0 is none, null unknown, and so it is with idle time caused."""

    change: Change
    kind: Kind
    op: str
    file: str
    line: int
    function: str
    region: str
    count_before: int | None
    count_after: int | None
    lost_gpu_ms_before: float | None
    lost_gpu_ms_after: float | None


class KernelChange(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels of one name whose number changed, with the time of all of them; null is unknown."""

    change: Change
    name: str
    count_before: int | None
    count_after: int | None
    total_ms_before: float | None
    total_ms_after: float | None


class RegionChange(msgspec.Struct, frozen=True, kw_only=True):
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


class TotalChange(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the whole trace, before and after; null where a trace does not give it."""

    name: str
    before: float | None
    after: float | None


class TraceDifference(msgspec.Struct, frozen=True, kw_only=True):
    """From ``reference`` to this trace. ``notes`` say what keeps the two from being compared at face value.

    ``idle_by_cause`` has the causes that occur in one of the two, by name as in ``records.traces.Cause``.
    """

    reference: str
    totals: tuple[TotalChange, ...]
    syncs: tuple[SiteChange, ...]
    kernels: tuple[KernelChange, ...]
    regions: tuple[RegionChange, ...]
    notes: tuple[str, ...] = ()
    idle_by_cause: tuple[TotalChange, ...] = ()
