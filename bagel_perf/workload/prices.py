"""Puts the price of waits to the test by a mixture without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bagel_perf.analysis.stats import median_interval
from bagel_perf.harness.measure import WallClock, shuffled_rounds, time_stages
from bagel_perf.harness.syncs import SyncWatch
from bagel_perf.harness.syncs.cost import Price, without_instrument
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.sites import Site
from bagel_perf.schema.slots import SLOTS
from bagel_perf.schema.syncs import PriceCheck, SyncReport
from bagel_perf.schema.variants import parse_variant
from bagel_perf.workload.counting import part_of

if TYPE_CHECKING:
    from bagel_perf.workload.syncs import Watched

DEFAULT_PAIRS = 12


def check_price(watched: Watched, watch: SyncWatch, report: SyncReport) -> SyncReport:
    """Takes the waits of the top site's slot out through a mixture, times both, and compares with their price."""
    top = _top_slot(report, watched.variant)
    assert report.instrument is not None
    if top is None:
        note = "no price to test: no slot of the best rung would remove the top sites"
        return replace(report, notes=(*report.notes, note))
    slot, stage = top
    sites = [site for site in report.sites if _slot_of(site) == slot]
    price_ms = watch.price_ms(lambda site: _slot_of(site) == slot)
    predicted_ms = without_instrument(price_ms, sum(site.count for site in sites), report.instrument)
    if predicted_ms is None:
        return report
    mixture = f"{watched.variant}+{slot}"
    savings_ms = _savings_ms(watched, mixture, stage)
    measured_ms, measured_ci_ms = median_interval(savings_ms)
    check = PriceCheck(
        slot=slot,
        reference=watched.variant,
        mixture=mixture,
        stage=stage,
        num_pairs=len(savings_ms),
        predicted_ms=predicted_ms,
        measured_ms=measured_ms,
        measured_ci_ms=measured_ci_ms,
        agrees=overlap(predicted_ms, measured_ci_ms),
    )
    return replace(report, price_check=check)


def overlap(predicted_ms: Price, measured_ci_ms: Price | None) -> bool | None:
    """Whether two intervals have a point in common; None where one of them is missing."""
    if measured_ci_ms is None:
        return None
    return predicted_ms[0] <= measured_ci_ms[1] and measured_ci_ms[0] <= predicted_ms[1]


def _top_slot(report: SyncReport, variant: str) -> tuple[str, str] | None:
    """Slot and stage of the site that lost most GPU time and that a mixture can do without."""
    for site in report.sites:
        slot = _slot_of(site)
        if site.allowed is None and slot in SLOTS and _can_mix(f"{variant}+{slot}"):
            return slot, site.region.split("/")[0]
    return None


def _can_mix(mixture: str) -> bool:
    try:
        parse_variant(mixture)
    except UsageError:
        return False
    return True


def _savings_ms(watched: Watched, mixture: str, stage: str) -> Sequence[float]:
    """Latency of the stage under the variant less that under the mixture, for pairs in random order."""
    clock = WallClock(device=watched.device)
    subjects = {variant: watched.bare_subject(variant) for variant in (watched.variant, mixture)}
    for subject in subjects.values():
        time_stages(subject, clock)  # warm-up
    latency_ms: dict[str, list[float]] = {variant: [] for variant in subjects}
    num_pairs = watched.plan.pairs or DEFAULT_PAIRS
    for _, variant in shuffled_rounds(tuple(subjects), num_pairs, watched.plan.order_seed):
        latency_ms[variant].append(time_stages(subjects[variant], clock).latency_ms[stage])
    return [a - b for a, b in zip(*latency_ms.values(), strict=True)]


def _slot_of(site: Site) -> str:
    return part_of(tuple(site.region.split("/")), SLOTS)
