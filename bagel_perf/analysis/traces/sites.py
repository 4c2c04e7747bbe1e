"""Waits by place: kind, operator, line and region."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.apis import plain_name
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.prices import Prices
from bagel_perf.schema.traces import PATH_SEPARATOR, WaitSite
from bagel_perf.schema.waits import KINDS, Kind

MAX_PRICED = 12


def wait_sites(findings: Findings, prices: Prices) -> tuple[WaitSite, ...]:
    """The places that wait, by falling lost time of the device; the first of them with their prices."""
    waits, idle = findings.waits, findings.idle
    keys = np.column_stack([waits.kind, waits.outer_op, waits.inner_op, waits.site, waits.region, waits.name])
    distinct, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    counts = np.bincount(place, minlength=len(distinct))
    blocked_ms, lost_ms = (
        np.bincount(place, weights=values_us, minlength=len(distinct)) / 1e3
        for values_us in (waits.blocked_us, idle.lost_by_wait_us)
    )
    priced = set(np.argsort(-lost_ms, kind="stable")[: min(MAX_PRICED, prices.num_affordable)].tolist())
    sites = [
        _site(
            findings,
            int(wait),
            count=int(counts[i]),
            blocked_ms=float(blocked_ms[i]),
            lost_gpu_ms=float(lost_ms[i]) if findings.has_gpu else None,
            price_ms=prices.of(np.flatnonzero(place == i).tolist()) if i in priced else None,
        )
        for i, wait in enumerate(first)
    ]
    return tuple(sorted(sites, key=_rank))


def syncs_by_kind(kinds: np.ndarray) -> dict[Kind, int]:
    """How many waits there are of each kind that occurs, the most frequent first."""
    counts = np.bincount(kinds, minlength=len(KINDS))
    order = np.argsort(-counts, kind="stable")
    return {KINDS[i]: int(counts[i]) for i in order if counts[i]}


def _site(
    findings: Findings,
    wait: int,
    *,
    count: int,
    blocked_ms: float,
    lost_gpu_ms: float | None,
    price_ms: tuple[float, float] | None,
) -> WaitSite:
    """The place of a wait, with figures of all waits there."""
    waits, line = findings.waits, findings.site_of(wait)
    return WaitSite(
        kind=KINDS[int(waits.kind[wait])],
        file=line.file,
        line=line.line,
        function=line.function,
        region=PATH_SEPARATOR.join(findings.regions.paths[int(waits.region[wait])]),
        op=findings.op_of(wait),
        api=plain_name(findings.trace.names[int(waits.name[wait])]),
        count=count,
        blocked_ms=blocked_ms,
        lost_gpu_ms=lost_gpu_ms,
        price_ms=price_ms,
    )


def _rank(site: WaitSite) -> tuple[float | int | str, ...]:
    costs = (-(site.lost_gpu_ms or 0.0), -site.blocked_ms, -site.count)
    return (*costs, site.op, site.region, site.kind, site.api, site.file, site.line, site.function)
