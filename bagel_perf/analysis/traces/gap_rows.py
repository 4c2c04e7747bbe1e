"""The worst gaps, with what stood around them."""

from __future__ import annotations

import re

import numpy as np

from bagel_perf.analysis.traces.apis import plain_name
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.table import NONE, Calls, Ints, Spans
from bagel_perf.schema.traces import IDLE_CLASSES, PATH_SEPARATOR, GapRow, IdleClass
from bagel_perf.schema.waits import KINDS

# The address of an object says nothing.
_BUILT_IN = re.compile(r"^<built-in (?:function|method) (\w+).*>$")
# Names of kernels are up to 2 kB long; the list of kernels has them whole.
MAX_NAME = 160
# Less of a gap than this is not what the host did for most of it.
MIN_SHARE = 0.3
# A nested operator or call is named if it fills this much of the one around it.
MIN_NESTED_SHARE = 0.6
# A call that is under way when a gap opens began at most this long before.
LOOK_BACK_US = 10_000.0


def worst_gaps(findings: Findings, num_rows: int) -> tuple[GapRow, ...]:
    """The longest gaps between two activities, longest first."""
    gaps = findings.idle.gaps
    inner = np.flatnonzero((gaps.before != NONE) & (gaps.after != NONE))
    longest = inner[np.argsort(-gaps.length_us[inner], kind="stable")[:num_rows]]
    causes = findings.idle.main_cause()
    return tuple(_row(findings, int(gap), IDLE_CLASSES[int(causes[gap])]) for gap in longest)


def _row(findings: Findings, gap: int, cause: IdleClass) -> GapRow:
    trace, idle, gaps = findings.trace, findings.idle, findings.idle.gaps
    launch, wait = int(idle.launch[gap]), int(idle.wait[gap])
    names, activities = trace.names, trace.activities
    region = findings.launches.region[launch] if launch != NONE else 0
    return GapRow(
        device=int(gaps.device[gap]),
        start_ms=float(gaps.start_us[gap] - findings.window.start_us) / 1e3,
        duration_ms=float(gaps.end_us[gap] - gaps.start_us[gap]) / 1e3,
        cause=cause,
        lost_gpu_ms=float(idle.lost_us[gap]) / 1e3,
        before=_cut(names[int(activities.name[gaps.before[gap]])]),
        after=_cut(names[int(activities.name[gaps.after[gap]])]),
        launch="" if launch == NONE else plain_name(names[int(trace.calls.name[launch])]),
        during=_during(findings, gap, launch),
        wait="" if wait == NONE else _wait_label(findings, wait),
        region=PATH_SEPARATOR.join(findings.regions.paths[int(region)]),
    )


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 2] + ".."


def _wait_label(findings: Findings, wait: int) -> str:
    kind, line, op = KINDS[int(findings.waits.kind[wait])], findings.site_of(wait), findings.op_of(wait)
    place = f"{line.file}:{line.line} {line.function}" if line.file else op
    return f"{kind} {place}" if place else kind


def _during(findings: Findings, gap: int, launch: int) -> str:
    """What filled most of a gap on the launching thread: operator, operator in it, call; with its share of the gap.

    Where that is none of them, the frame of Python in the middle of the gap, if frames were recorded.
    """
    if launch == NONE:
        return ""
    trace, gaps = findings.trace, findings.idle.gaps
    thread = int(trace.calls.thread[launch])
    start_us, end_us = float(gaps.start_us[gap]), float(gaps.end_us[gap])
    around = trace.op_nest.enclosing(np.array([start_us]), np.array([thread]))[0]
    ops = np.concatenate([around[around != NONE], _starting(trace.ops, thread, start_us, end_us)])
    calls = _starting(trace.calls, thread, start_us - LOOK_BACK_US, end_us)
    names: list[str] = []
    filled_us, share, after_us = end_us - start_us, MIN_SHARE, -np.inf
    for table, rows in ((trace.ops, ops), (trace.ops, ops), (trace.calls, calls)):
        inside = rows[table.start_us[rows] > after_us]
        overlap_us = np.minimum(table.end_us[inside], end_us) - np.maximum(table.start_us[inside], start_us)
        if len(inside) and overlap_us.max() >= share * filled_us:
            best = int(overlap_us.argmax())
            filled_us, share, after_us = float(overlap_us[best]), MIN_NESTED_SHARE, float(table.start_us[inside[best]])
            names.append(plain_name(trace.names[int(table.name[inside[best]])]))
    if names:
        return f"{PATH_SEPARATOR.join(names)} {filled_us / (end_us - start_us):.0%}"
    frame = int(trace.frame_nest.innermost(np.array([(start_us + end_us) / 2]), np.array([thread]))[0])
    return "" if frame == NONE else _BUILT_IN.sub(r"\1", trace.names[int(trace.frames.name[frame])])


def _starting(table: Spans | Calls, thread: int, start_us: float, end_us: float) -> Ints:
    """Rows of a thread that start inside a stretch."""
    rows: Ints = np.arange(np.searchsorted(table.start_us, start_us), np.searchsorted(table.start_us, end_us))
    mine: Ints = rows[table.thread[rows] == thread]
    return mine
