"""What the profiler itself leaves in a trace."""

from __future__ import annotations

import re

import numpy as np

from bagel_perf.analysis.traces.apis import WAITS, Api
from bagel_perf.analysis.traces.table import NONE
from bagel_perf.analysis.traces.trace import Trace

_FRAME = re.compile(r"torch/(autograd/profiler|profiler/profiler)\.py\(\d+\): ")


def profiler_sync(trace: Trace) -> int:
    """The row of the call with which torch.profiler waits for the GPU before it stops, NONE if there is none.

    It is the last wait for the device, with no launch after it and no operator around it; where frames of Python were
    recorded, it stands in one of the profiler.
    """
    calls, apis = trace.calls, trace.apis
    telling = np.flatnonzero(np.isin(apis, (*WAITS, Api.LAUNCH, Api.GRAPH_LAUNCH, Api.COPY_ASYNC)))
    if trace.source.format != "kineto" or not len(trace.activities) or not len(telling):
        return NONE
    last = int(telling[-1])
    middle_us = np.array([(calls.start_us[last] + calls.end_us[last]) / 2])
    thread = calls.thread[[last]]
    if apis[last] != Api.WAIT_DEVICE or trace.op_nest.innermost(middle_us, thread)[0] != NONE:
        return NONE
    if len(trace.frames):
        rows = trace.frame_nest.enclosing(middle_us, thread)[0]
        names = [trace.names[int(trace.frames.name[row])] for row in rows if row != NONE]
        return last if any(_FRAME.match(name) for name in names) else NONE
    return last
