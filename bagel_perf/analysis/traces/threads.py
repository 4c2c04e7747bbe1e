"""Which thread made a call: the recorder mixes up threads that have the address of an earlier one.

CUPTI knows a thread by its address, and Kineto keeps the number that was the first to have it; when a thread ends, the
next one mostly gets its address, and with it another's number (seen with PyTorch 2.11). The operator around a call,
which the call names, has the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Spans


@dataclass(frozen=True, slots=True)
class Numbered:
    """Spans with the number by which calls name them, below 1 where there is none."""

    spans: Spans
    external: Ints


def threads_of_calls(start_us: Floats, thread: Ints, external: Ints, around: Sequence[Numbered]) -> Ints:
    """The thread of each call, by rising start: that of the span it names, else as for the call before it.

    Calls of a thread all of whose spans are its own stay as they are.
    """
    if not len(thread) or (thread == thread[0]).all():
        return thread
    named = _threads_of_spans(start_us, external, around)
    is_foreign = (named != NONE) & (named != thread)
    if not is_foreign.any():
        return thread
    mended = thread.copy()
    mixed_up = np.unique(thread[is_foreign])
    for each, rows in grouped(thread):
        if each in mixed_up:
            known = np.flatnonzero(named[rows] != NONE)
            nearest = np.maximum(np.searchsorted(known, np.arange(len(rows)), side="right") - 1, 0)
            mended[rows] = named[rows[known[nearest]]]
    return mended


def _threads_of_spans(start_us: Floats, external: Ints, around: Sequence[Numbered]) -> Ints:
    """The thread of the span that each call names and lies in, NONE without one."""
    numbers = np.concatenate([each.external for each in around])
    starts_us, ends_us, threads = (
        np.concatenate([getattr(each.spans, name) for each in around]) for name in ("start_us", "end_us", "thread")
    )
    distinct, first, count = np.unique(numbers, return_index=True, return_counts=True)
    is_telling = (distinct > 0) & (count == 1)
    distinct, first = distinct[is_telling], first[is_telling]
    if not len(distinct):
        return np.full(len(external), NONE)
    place = np.minimum(np.searchsorted(distinct, external), len(distinct) - 1)
    span = first[place]
    is_inside = (distinct[place] == external) & (starts_us[span] <= start_us) & (start_us <= ends_us[span])
    return np.where(is_inside, threads[span], NONE)
