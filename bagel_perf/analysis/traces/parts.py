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
class Parts:
    """Parts of gaps by gap and start: those of a gap follow each other and fill it.

    ``cause`` is a number into ``CAUSES``, ``wait`` the row of the wait that caused it, and ``call`` that of the call
    that the host was in, or of the one that put a queued launch behind another stream; each NONE where there is none.
    """

    gap: Ints
    start_us: Floats
    end_us: Floats
    cause: Ints
    wait: Ints
    call: Ints

    def __len__(self) -> int:
        return len(self.gap)

    @property
    def length_us(self) -> Floats:
        """How long each lasts."""
        return self.end_us - self.start_us

    @property
    def is_lost(self) -> Mask:
        """Which of them waits caused."""
        lost: Mask = np.isin(self.cause, (code_of("host_sync"), code_of("after_sync")))
        return lost
