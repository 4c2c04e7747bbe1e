"""What each step took, and how much of it the devices worked, communicated and were idle."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.intervals import covered_us, union
from bagel_perf.analysis.traces.steps import Steps
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, at_rows
from bagel_perf.analysis.traces.work_classes import COMMUNICATION, COMPUTE, kinds_of_work
from bagel_perf.schema.traces import CAUSES, StepTime

LEAST_US = 0.01
"""Of idle time of one cause: less is left over where sums of large numbers are subtracted."""


def step_times(findings: Findings, *, knows_idle: bool) -> tuple[StepTime, ...]:
    """The steps of the window one by one; none where they cannot be told apart.

    Work of communication belongs to the step that launched it, wherever it ran: a host runs ahead of its device, and on
    some ranks farther than on others.
    """
    steps, window, trace = findings.steps, findings.window, findings.trace
    if steps is None:
        return ()
    edges_us = np.clip(np.append(steps.start_us, steps.end_us[-1]), window.start_us, window.end_us)
    wall_us = np.diff(edges_us)
    by_cause_us = _idle_us(findings, edges_us)
    idle_us = by_cause_us.sum(axis=0)
    busy_us = len(findings.idle.busy.devices) * wall_us - idle_us
    communication_us, exposed_us = _communication_us(findings, steps)
    knows_waits = len(trace.calls) > 0 or len(trace.syncs) > 0
    syncs = np.histogram(findings.waits.start_us, edges_us)[0]
    found = []
    for number in range(len(steps)):
        causes = zip(CAUSES, by_cause_us[:, number].tolist(), strict=True)
        found.append(
            StepTime(
                number=number,
                is_warm_up=number < steps.num_warm_up,
                start_ms=float(edges_us[number] - window.start_us) / 1e3,
                wall_ms=float(wall_us[number]) / 1e3,
                host_syncs=int(syncs[number]) if knows_waits else None,
                gpu_busy_ms=max(float(busy_us[number]), 0.0) / 1e3 if findings.has_gpu else None,
                gpu_idle_ms=float(idle_us[number]) / 1e3 if knows_idle else None,
                communication_ms=float(communication_us[number]) / 1e3 if findings.has_gpu else None,
                exposed_communication_ms=float(exposed_us[number]) / 1e3 if findings.has_gpu else None,
                idle_by_cause_ms={cause: us / 1e3 for cause, us in causes if us > 0 and knows_idle},
            )
        )
    return tuple(found)


def _idle_us(findings: Findings, edges_us: Floats) -> Floats:
    """Idle time by cause, a row each, and stretch between two edges; parts of several devices may overlap."""
    parts = findings.idle.parts
    idle_us = np.array(
        [
            np.diff(_elapsed_us(parts.start_us[mine], edges_us) - _elapsed_us(parts.end_us[mine], edges_us))
            for mine in (parts.cause == cause for cause in range(len(CAUSES)))
        ]
    )
    return np.where(idle_us < LEAST_US, 0.0, idle_us)


def _elapsed_us(moments_us: Floats, at_us: Floats) -> Floats:
    """The time that has passed at each of some moments since all earlier ones of others, summed up."""
    rising_us = np.sort(moments_us)
    num_before = np.searchsorted(rising_us, at_us)
    sums_us = np.concatenate([[0.0], np.cumsum(rising_us)])
    elapsed_us: Floats = num_before * at_us - sums_us[num_before]
    return elapsed_us


def _communication_us(findings: Findings, steps: Steps) -> tuple[Floats, Floats]:
    """For each step the time in communication that it launched, and what of that nothing was computed beside."""
    trace, kinds = findings.trace, kinds_of_work(findings.trace)
    activities, step = trace.activities, _step_of_work(findings, steps)
    total_us, exposed_us = np.zeros(len(steps)), np.zeros(len(steps))
    for device in findings.idle.busy.devices:
        mine = activities.device == device
        rows = np.flatnonzero(mine & (kinds == COMMUNICATION) & (step != NONE))
        if not len(rows):
            continue
        computing = np.flatnonzero(mine & (kinds == COMPUTE))
        computed = union(activities.start_us[computing], activities.end_us[computing])
        start_us, end_us = activities.start_us[rows], activities.end_us[rows]
        # Steps are moved apart, so that the union of each is its own.
        apart_us = step[rows] * (trace.end_us + 1)
        starts_us, ends_us = union(start_us + apart_us, end_us + apart_us)
        number = np.floor_divide(starts_us, trace.end_us + 1).astype(np.int64)
        starts_us, ends_us = starts_us - number * (trace.end_us + 1), ends_us - number * (trace.end_us + 1)
        length_us = ends_us - starts_us
        hidden_us = covered_us(*computed, starts_us, ends_us)
        total_us += np.bincount(number, weights=length_us, minlength=len(steps))
        exposed_us += np.bincount(number, weights=np.maximum(length_us - hidden_us, 0.0), minlength=len(steps))
    return total_us, exposed_us


def _step_of_work(findings: Findings, steps: Steps) -> Ints:
    """The step of each activity, by its launch where the host's steps are known; NONE outside of all."""
    trace = findings.trace
    begun_us, launcher = trace.activities.start_us, trace.call_of_activity
    if not steps.of_device:
        begun_us = np.where(launcher == NONE, begun_us, at_rows(trace.calls.start_us, launcher))
    return np.where(begun_us > steps.end_us[-1], NONE, steps.at(begun_us))
