"""Everything that is asked of a trace before it is summed up."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.analysis.traces.captures import Captures, find_captures
from bagel_perf.analysis.traces.idle import Idle, find_idle
from bagel_perf.analysis.traces.launches import Launches, find_launches
from bagel_perf.analysis.traces.regions import Regions
from bagel_perf.analysis.traces.steps import Steps, find_steps
from bagel_perf.analysis.traces.table import NONE, CallSite
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.waits import Waits, find_waits
from bagel_perf.analysis.traces.window import Window, window_of

MAX_ORPHANS = 0.05
"""Of the GPU's work this share may lack its launch, as at the edges of a trace, before idle times are uncertain."""
NO_SITE = CallSite(file="", line=0, function="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """One trace and, in one window of it, its waits, gaps, launches, steps and regions."""

    trace: Trace
    window: Window
    regions: Regions
    waits: Waits
    idle: Idle
    launches: Launches
    captures: Captures
    steps: Steps | None

    @property
    def has_gpu(self) -> bool:
        """Whether the trace tells what the GPU did."""
        return len(self.trace.activities) > 0

    @property
    def orphan_share(self) -> float:
        """How much of the GPU's work lacks its launch, of 1."""
        launcher = self.trace.call_of_activity
        return float((launcher == NONE).mean()) if len(launcher) else 0.0

    def site_of(self, wait: int) -> CallSite:
        """The line of a wait, empty without stacks."""
        number = int(self.waits.site[wait])
        return NO_SITE if number == NONE else self.waits.sites[number]

    def op_of(self, wait: int) -> str:
        """The operators of a wait, the outermost and the innermost, empty outside of any."""
        outer, inner = int(self.waits.outer_op[wait]), int(self.waits.inner_op[wait])
        if outer == NONE:
            return ""
        names = self.trace.names
        return names[outer] if outer == inner else f"{names[outer]} > {names[inner]}"


def examine(trace: Trace) -> Findings:
    """Finds waits, gaps, launches and regions in the window that the trace marks, or in all of it."""
    window = window_of(trace)
    regions = Regions(trace)
    waits = find_waits(trace, regions, window)
    captures, steps = find_captures(trace), find_steps(trace, window)
    return Findings(
        trace=trace,
        window=window,
        regions=regions,
        waits=waits,
        idle=find_idle(trace, waits, window, captures, steps),
        launches=find_launches(trace, regions, window, captures),
        captures=captures,
        steps=steps,
    )
