"""Binds a variant to slot implementations."""

from __future__ import annotations

from dataclasses import fields

import kernels_baseline
from bagel_perf.harness.regions import traced
from bagel_perf.model.contracts import Slots
from bagel_perf.schema.variants import parse_variant
from kernels_optimized import captured, close, fused, pr3987, sync_free

RUNGS: dict[str, Slots] = {
    "baseline": kernels_baseline.SLOTS,
    "pr3987": pr3987.SLOTS,
    "sync_free": sync_free.SLOTS,
    "captured": captured.SLOTS,
    "fused": fused.SLOTS,
    "close": close.SLOTS,
}


def bind(variant: str) -> Slots:
    """The slot table of a variant such as ``pr3987`` or ``baseline+timestep_schedule``; UsageError if there is none."""
    rung_by_slot = parse_variant(variant).rung_by_slot
    return Slots(**{slot: getattr(RUNGS[rung], slot) for slot, rung in rung_by_slot.items()})


def with_regions(slots: Slots) -> Slots:
    """The same slots, each call in a region of the slot's name; timed passes use the bare slots."""
    return Slots(**{f.name: traced(f.name, getattr(slots, f.name)) for f in fields(slots)})
