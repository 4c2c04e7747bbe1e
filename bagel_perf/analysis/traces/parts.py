"""Parts of gaps, each with one cause."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.table import Floats, Ints, Mask
from bagel_perf.schema.traces import CAUSES, Cause

_CODES = {cause: number for number, cause in enumerate(CAUSES)}


def code_of(cause: Cause) -> int:
    """The number of a cause in ``CAUSES``."""
    return _CODES[cause]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """The threads of each gap: ``after`` ended it, ``before`` had launched the work before it if that is another one.

    After the last work ``after`` is the one that had launched that; NONE where unknown.
    """

    after: Ints
    before: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of gaps by gap and start: those of a gap follow each other and fill it.

    ``cause`` is a number into ``CAUSES``, ``wait`` the row of the wait that caused it, and ``call`` that of the call
    that the host was in, or of the one that put a queued launch behind another stream; each NONE where there is none.
    ``thread`` is the one whose doings tell the cause: that of the launch, or the one before it until that one is heard
    of, as where backward is handed to a thread of its own.
    """

    gap: Ints
    start_us: Floats
    end_us: Floats
    cause: Ints
    wait: Ints
    call: Ints
    thread: Ints

    def __len__(self) -> int:
        return len(self.gap)

    @property
    def length_us(self) -> Floats:
        """How long each lasts."""
        return self.end_us - self.start_us

    def rows_of(self, gap: int) -> Ints:
        """The parts of a gap."""
        return np.arange(np.searchsorted(self.gap, gap), np.searchsorted(self.gap, gap, side="right"))

    def within_us(self, start_us: float, end_us: float) -> Floats:
        """How much of each lies in a stretch."""
        inside_us: Floats = np.maximum(np.minimum(self.end_us, end_us) - np.maximum(self.start_us, start_us), 0.0)
        return inside_us

    @property
    def is_lost(self) -> Mask:
        """Which of them waits caused."""
        lost: Mask = np.isin(self.cause, (code_of("host_sync"), code_of("after_sync")))
        return lost
