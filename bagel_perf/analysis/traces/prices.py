"""What waits cost in the end: how much sooner the traced program would have been done without them.

Idle time that opened in a wait is no answer. Where the host is the slower side with or without waits it is too much;
where a wait keeps the host from running ahead it is too little. So the program is replayed without the waits.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from bagel_perf.analysis.traces.findings import MAX_ORPHANS, Findings
from bagel_perf.analysis.traces.replay import Replay
from bagel_perf.analysis.traces.replay_build import build_replay

MAX_MISS = 0.05
"""A replay that misses the trace's own time by more says nothing about another one."""
MAX_REPLAYED_CALLS = 1_000_000
"""A replay takes about a microsecond a call, a price two replays: a report spends a second or two on them."""


class Prices:
    """Prices of groups of waits of one trace; none where the replay is in ``doubt``.

    Nothing is replayed before a price is asked for.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    @cached_property
    def _replay(self) -> Replay | None:
        return build_replay(self._findings) if self._findings.has_gpu else None

    @cached_property
    def _whole_us(self) -> float:
        return 0.0 if self._replay is None else self._replay.duration_us()

    @cached_property
    def doubt(self) -> str:
        """Why there are no prices, empty where there are."""
        if not self._findings.has_gpu:
            return "nothing is known of the GPU"
        if self._replay is None:
            return "threads launch side by side, so the order of their work without waits cannot be told"
        if self._findings.orphan_share > MAX_ORPHANS:
            return "part of the GPU's work lacks its launch, so its order without waits cannot be told"
        window_us = self._findings.window.length_us
        _, unrecorded_us = self._findings.idle.unrecorded_us()
        if unrecorded_us > MAX_MISS * window_us:
            return f"the host waited {unrecorded_us / 1e3:.2f} ms for work that is not recorded"
        if abs(self._whole_us - window_us) > MAX_MISS * window_us:
            return f"the replay takes {self._whole_us / 1e3:.2f} ms where the trace took {window_us / 1e3:.2f}"
        return ""

    @cached_property
    def _foreign(self) -> set[int]:
        """Waits for work from before the trace: nobody knows what the program would do without them."""
        return self._findings.idle.waits_before_work()

    @property
    def num_affordable(self) -> int:
        """How many groups of waits a report of this trace should price."""
        return MAX_REPLAYED_CALLS // (2 * len(self._findings.trace.calls) + 1) if self._findings.has_gpu else 0

    def of(self, waits: Collection[int]) -> tuple[float, float] | None:
        """What the program would save without some waits (rows of ``Waits``), in ms.

        At least, if they alone went, and at most, if what only computes their answers went too.
        """
        waits = [wait for wait in waits if wait not in self._foreign]
        if self.doubt or self._replay is None or not waits:
            return None
        alone_us = max(self._whole_us - self._replay.duration_us(waits), 0.0)
        with_loops_us = self._whole_us - self._replay.duration_us(waits, with_loops=True)
        return alone_us / 1e3, max(alone_us, with_loops_us) / 1e3
