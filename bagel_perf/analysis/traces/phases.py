"""The figures of the warm-up and of the steady steps, each for itself."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.gap_rows import PartNames, culprits
from bagel_perf.schema.traces import CAUSES, Phase, PhaseName

MAX_CULPRITS = 10


def phases(findings: Findings, names: PartNames) -> tuple[Phase, ...]:
    """The warm-up and the steady steps; nothing where no steps can be told apart."""
    steps = findings.steps
    if steps is None:
        return ()
    num_steps, first = len(steps), steps.num_warm_up
    return (
        _phase(findings, names, "warm-up", 0, first),
        _phase(findings, names, "steady", first, num_steps),
    )


def _phase(findings: Findings, names: PartNames, name: PhaseName, first: int, last: int) -> Phase:
    steps, window, waits, launches = findings.steps, findings.window, findings.waits, findings.launches
    assert steps is not None
    start_us = max(float(steps.start_us[first]), window.start_us)
    end_us = float(steps.start_us[last]) if last < len(steps) else float(steps.end_us[-1])
    end_us = max(min(end_us, window.end_us), start_us)
    parts = findings.idle.parts
    sums_us = np.bincount(parts.cause, weights=parts.within_us(start_us, end_us), minlength=len(CAUSES))
    called_us = findings.trace.calls.start_us[launches.is_launch]
    idle_ms = float(sums_us.sum()) / 1e3
    all_ms = len(findings.idle.busy.devices) * (end_us - start_us) / 1e3
    return Phase(
        name=name,
        found_by=steps.found_by,
        steps=last - first,
        start_ms=(start_us - window.start_us) / 1e3,
        end_ms=(end_us - window.start_us) / 1e3,
        step_ms=float(np.median(steps.end_us[first:last] - steps.start_us[first:last])) / 1e3,
        host_syncs=int(((waits.start_us >= start_us) & (waits.start_us < end_us)).sum()),
        launches=int(((called_us >= start_us) & (called_us < end_us)).sum()),
        gpu_busy_ms=all_ms - idle_ms if findings.has_gpu else None,
        gpu_idle_ms=idle_ms if findings.has_gpu else None,
        culprits=culprits(findings, names, start_us, end_us, MAX_CULPRITS),
        idle_by_cause_ms={
            cause: float(time_us) / 1e3 for cause, time_us in zip(CAUSES, sums_us, strict=True) if findings.has_gpu
        },
    )
