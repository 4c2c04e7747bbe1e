"""How much of a stretch a host thread spent on giving work to the device."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, at_rows
from bagel_perf.analysis.traces.trace import Trace

# Between two recorded moments of a thread (an operator or call begins or ends) this much Python is part of issuing;
# a longer silence is something else, unless a call of the driver or an operator that calls it fills it.
MAX_SILENCE_US = 100.0


def issuing_us(trace: Trace, start_us: Floats, end_us: Floats, thread: Ints) -> Floats:
    """For each stretch of a thread the part of it in which that thread was issuing work."""
    found = np.zeros(len(start_us))
    ops_of, calls_of = dict(grouped(trace.ops.thread)), dict(grouped(trace.calls.thread))
    nothing = np.empty(0, np.int64)
    for each, asked in grouped(thread):
        rows, calls = ops_of.get(each, nothing), calls_of.get(each, nothing)
        moments_us, so_far_us = _progress(trace, each, rows, calls)
        if len(moments_us):
            until_end = np.interp(end_us[asked], moments_us, so_far_us)
            found[asked] = until_end - np.interp(start_us[asked], moments_us, so_far_us)
    return found


def _progress(trace: Trace, thread: int, ops: Ints, calls: Ints) -> tuple[Floats, Floats]:
    """The recorded moments of a thread, and the time that it had spent issuing by each."""
    call_start_us, call_end_us = trace.calls.start_us[calls], trace.calls.end_us[calls]
    spans = (trace.ops.start_us[ops], trace.ops.end_us[ops], call_start_us, call_end_us)
    moments_us = np.sort(np.concatenate(spans))
    if len(moments_us) < 2:
        return np.empty(0), np.empty(0)
    length_us = np.diff(moments_us)
    is_issuing = length_us <= MAX_SILENCE_US
    silent = np.flatnonzero(~is_issuing)
    middle_us = (moments_us[silent] + moments_us[silent + 1]) / 2
    in_call = np.zeros(len(silent), np.bool_)
    if len(calls):
        place = np.searchsorted(call_start_us, middle_us, side="right") - 1
        reach_us = np.maximum.accumulate(call_end_us)
        in_call = (place >= 0) & (reach_us[np.maximum(place, 0)] >= middle_us)
    op = trace.op_nest.innermost(middle_us, np.full(len(silent), thread))
    # An operator that calls nothing computes on the CPU.
    begun = np.searchsorted(call_start_us, at_rows(trace.ops.start_us, op))
    ended = np.searchsorted(call_start_us, at_rows(trace.ops.end_us, op))
    is_issuing[silent] = in_call | ((op != NONE) & (ended > begun))
    return moments_us, np.concatenate([[0.0], np.cumsum(np.where(is_issuing, length_us, 0.0))])
