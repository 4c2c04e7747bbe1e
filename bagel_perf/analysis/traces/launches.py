"""The calls that give the device work: how many, from which region, and those that hide others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.apis import Api
from bagel_perf.analysis.traces.captures import Captures, has_inner
from bagel_perf.analysis.traces.regions import Regions
from bagel_perf.analysis.traces.table import GRAPH, KERNEL, NONE, Ints, Mask
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.window import Window

# A replay of a graph of which nothing was recorded is one whose kernels are missing; a few are cut by the trace's ends.
MAX_EMPTY_REPLAYS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """``region`` is the path of each call, 0 for calls that give no work; ``is_launch`` those that launch kernels.

    A launch inside another one (a driver call in a runtime call) is no launch of its own, and neither is one that is
    captured into a graph. Of ``num_without_work`` launches of single kernels the device recorded nothing.
    """

    region: Ints
    is_launch: Mask
    num_graph_launches: int
    num_graph_activities: int
    num_empty_replays: int
    num_captured: int
    num_without_work: int

    @property
    def hides_kernels(self) -> bool:
        """Whether replays of graphs ran work that the trace does not have."""
        return self.num_empty_replays > MAX_EMPTY_REPLAYS * self.num_graph_launches


def find_launches(trace: Trace, regions: Regions, window: Window, captures: Captures) -> Launches:
    """The launches that begin in the window, and the region of every call that gives the device work."""
    calls, apis = trace.calls, trace.apis
    launching = np.isin(apis, (Api.LAUNCH, Api.GRAPH_LAUNCH))
    outermost = launching & ~trace.inside_another(launching)
    outer = outermost & ~captures.is_captured
    inside = (calls.start_us >= window.start_us) & (calls.start_us <= window.end_us)
    giving = np.flatnonzero(outer | (trace.activity_of_call != NONE))
    region = np.zeros(len(calls), np.int64)
    region[giving] = regions.at((calls.start_us[giving] + calls.end_us[giving]) / 2, calls.thread[giving])
    captured = outermost & captures.is_captured & inside
    single = outer & inside & (apis == Api.LAUNCH)
    replays = outer & inside & (apis == Api.GRAPH_LAUNCH)
    launched_by = trace.call_of_activity[trace.call_of_activity != NONE]
    return Launches(
        region=region,
        is_launch=outer & inside,
        num_graph_launches=int(replays.sum()),
        num_graph_activities=int(replays[launched_by].sum()),
        num_empty_replays=int((replays & (trace.activity_of_call == NONE)).sum()) if len(trace.activities) else 0,
        num_captured=int(captured.sum()),
        num_without_work=_without_work(trace, single) if len(trace.activities) else 0,
    )


def _without_work(trace: Trace, launches: Mask) -> int:
    """How many launches gave no work, though a call inside them may have; those by which the trace ends count not.

    A driver call in a runtime call has the number of the work, where the runtime call has another one.
    """
    gives_none = trace.activity_of_call == NONE
    giving = np.flatnonzero(~gives_none)
    empty = launches & gives_none & ~has_inner(trace, gives_none)
    if len(giving):
        empty &= trace.calls.start_us <= trace.calls.start_us[giving[-1]]
    return int(empty.sum())


def num_launches(trace: Trace, launches: Launches, window: Window) -> int:
    """How many launches there were; kernels stand in for them where the trace has no calls."""
    if len(trace.calls):
        return int(launches.is_launch.sum())
    activities = trace.activities
    inside = (activities.start_us >= window.start_us) & (activities.start_us <= window.end_us)
    return int((inside & np.isin(activities.kind, (KERNEL, GRAPH))).sum())
