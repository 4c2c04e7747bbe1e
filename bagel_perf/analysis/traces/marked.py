"""Times of the waits that the harness marked in a profile, and the waits that it did not see."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.findings import Findings, examine
from bagel_perf.analysis.traces.prices import Prices
from bagel_perf.analysis.traces.table import NONE, Ints
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.schema.sites import Site
from bagel_perf.schema.waits import KINDS, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTimes:
    """All waits with one marker, in ms; ``kind`` is what the operators around most of them say."""

    count: int
    kind: Kind
    blocked_ms: float
    lost_gpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTrace:
    """A profile of the harness's own, looked at once."""

    findings: Findings
    prices: Prices

    @classmethod
    def of(cls, trace: Trace) -> MarkedTrace:
        """Looks at a trace."""
        findings = examine(trace)
        return cls(findings=findings, prices=Prices(findings))

    def times(self) -> dict[int, MarkedTimes]:
        """Times by marker."""
        markers, group = np.unique(self.findings.waits.marker, return_inverse=True)
        rows = np.arange(len(self.findings.waits))
        return dict(zip(markers.tolist(), self._times(rows, group.reshape(-1), len(markers)), strict=True))

    def _times(self, rows: Ints, group: Ints, num_groups: int) -> list[MarkedTimes]:
        """Times of some waits by group, in one pass however many groups there are."""
        waits = self.findings.waits
        by_kind = np.bincount(group * len(KINDS) + waits.kind[rows], minlength=num_groups * len(KINDS))
        kinds = by_kind.reshape(num_groups, len(KINDS)).argmax(axis=1)
        counts = np.bincount(group, minlength=num_groups)
        blocked_ms, lost_ms = (
            np.bincount(group, weights=values_us[rows], minlength=num_groups) / 1e3
            for values_us in (waits.blocked_us, self.findings.idle.lost_by_wait_us)
        )
        return [
            MarkedTimes(
                count=int(counts[i]),
                kind=KINDS[kinds[i]],
                blocked_ms=float(blocked_ms[i]),
                lost_gpu_ms=float(lost_ms[i]),
            )
            for i in range(num_groups)
        ]

    def price_ms(self, markers: Collection[int]) -> tuple[float, float] | None:
        """What the profiled run would have saved without the waits with these markers (see ``Prices.of``)."""
        return self.prices.of(np.flatnonzero(np.isin(self.findings.waits.marker, list(markers))).tolist())

    def unmarked_sites(self) -> list[Site]:
        """The waits that no callback announced, by kind, operator and region; a library's, mostly."""
        trace, regions, waits = self.findings.trace, self.findings.regions, self.findings.waits
        unmarked = np.flatnonzero(waits.marker == NONE)
        keys = np.column_stack([waits.kind, waits.outer_op, waits.region])[unmarked]
        found, group = np.unique(keys, axis=0, return_inverse=True) if len(keys) else (keys, np.empty(0, np.int64))
        all_times = self._times(unmarked, group.reshape(-1), len(found))
        sites = []
        for times, (kind, op, region) in zip(all_times, found.tolist(), strict=True):
            sites.append(
                Site(
                    kind=KINDS[kind],
                    file="",
                    line=0,
                    function="",
                    region="/".join(regions.paths[region]),
                    count=times.count,
                    blocked_ms=times.blocked_ms,
                    lost_gpu_ms=times.lost_gpu_ms,
                    op=trace.names[op] if op != NONE else None,
                )
            )
        return sites
