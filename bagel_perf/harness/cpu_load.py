"""How busy the host's cores were between two moments, and how much of that was not this process.

The kernel counts in ticks of about 10 ms a core, so a window of few ticks gives a coarse share.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since boot of all cores together: all of them, those not idle, and those of this process."""

    total_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> CpuTimes | None:
        """The times at this moment; None where the system does not keep them."""
        try:
            with stat.open() as lines:
                ticks = [int(field) for field in lines.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        if len(ticks) < 8:
            return None
        total, idle = sum(ticks), ticks[3] + ticks[4]
        hertz = os.sysconf("SC_CLK_TCK")
        return cls(total_s=total / hertz, busy_s=(total - idle) / hertz, own_s=time.process_time())


def cpu_loads(start: CpuTimes | None, end: CpuTimes | None) -> tuple[float | None, float | None]:
    """Shares of all cores that were busy between two moments, with this process and without; None where unknown."""
    if start is None or end is None or not end.total_s > start.total_s:
        return None, None
    total_s, busy_s = end.total_s - start.total_s, end.busy_s - start.busy_s
    others_s = busy_s - (end.own_s - start.own_s)
    return min(max(busy_s / total_s, 0.0), 1.0), min(max(others_s / total_s, 0.0), 1.0)
