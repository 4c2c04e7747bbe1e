"""The worst gaps, part by part, and what is to blame for all idle time together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bagel_perf.analysis.traces.apis import plain_name
from bagel_perf.analysis.traces.columns import Numbering
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.intervals import largest
from bagel_perf.analysis.traces.naming import Naming, call_name, cut_name, wait_label
from bagel_perf.analysis.traces.parts import code_of
from bagel_perf.analysis.traces.table import NONE, STEP_PREFIX, Ints
from bagel_perf.schema.traces import CAUSES, PATH_SEPARATOR, Cause, Culprit, GapPart, GapRow

MAX_GAPS = 100
MAX_NAMED = 3000
"""Parts of gaps, the longest ones, of which it is looked up what the host was in."""
MAX_CULPRITS = 100
NAMED_BY_CALL: tuple[Cause, ...] = ("launch_overhead", "queued", "one_time_setup", "graph_capture", "allocator")
NAMED_SHORT: tuple[Cause, ...] = (
    "host_sync",
    "after_sync",
    "unrecorded_work",
    "launch_overhead",
    "queued",
    "launch_bound",
)
"""Causes for which a line, a call or a region is name enough."""
MAX_PARTS = 12
"""Of one gap: the shorter ones beyond are told together by their cause."""


def naming_of(findings: Findings) -> Naming:
    """Names for the longest parts, and for all parts of the longest gaps."""
    parts = findings.idle.parts
    in_gaps = np.isin(parts.gap, largest(findings.idle.gaps.length_us, MAX_GAPS))
    return Naming(findings, np.union1d(largest(parts.length_us, MAX_NAMED), np.flatnonzero(in_gaps)))


def worst_gaps(findings: Findings, naming: Naming) -> tuple[GapRow, ...]:
    """The longest gaps, those at the ends of the window among them, longest first."""
    gaps = findings.idle.gaps
    longest = largest(gaps.length_us, MAX_GAPS)
    causes, lost_us = findings.idle.main_cause(), findings.idle.lost_us()
    rows = []
    for gap in longest.tolist():
        before, after, launch = (int(column[gap]) for column in (gaps.before, gaps.after, findings.idle.launch))
        rows.append(
            GapRow(
                device=int(gaps.device[gap]),
                start_ms=float(gaps.start_us[gap] - findings.window.start_us) / 1e3,
                duration_ms=float(gaps.end_us[gap] - gaps.start_us[gap]) / 1e3,
                cause=CAUSES[int(causes[gap])],
                lost_gpu_ms=float(lost_us[gap]) / 1e3,
                before=_work(findings, before),
                after=_work(findings, after),
                launch=call_name(findings.trace, launch),
                region=_region(findings, gap),
                parts=_parts(findings, naming, gap),
            )
        )
    return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNames:
    """What the host was in for each part of the gaps: a number into ``texts``."""

    what: Ints
    texts: tuple[str, ...]


def part_names(findings: Findings, naming: Naming) -> PartNames:
    """Names of all parts.

    Work of the CPU has the names of ``Naming``; a wait its line, a launch its call, and all else its innermost region,
    however short each part is.
    """
    parts = findings.idle.parts
    names: Numbering[str] = Numbering()
    what = np.full(len(parts), names[""])
    for rows, texts in _short_names(findings):
        distinct, place = np.unique(texts, return_inverse=True)
        what[rows] = np.array([names[text] for text in distinct.tolist()], np.int64)[place]
    detailed = largest(parts.length_us, MAX_NAMED)
    detailed = detailed[~np.isin(parts.cause[detailed], [code_of(cause) for cause in NAMED_SHORT])]
    for part in detailed.tolist():
        what[part] = names[naming.of(part)]
    return PartNames(what=what, texts=tuple(names))


def culprits(
    findings: Findings,
    names: PartNames,
    start_us: float = -np.inf,
    end_us: float = np.inf,
    max_rows: int = MAX_CULPRITS,
) -> tuple[Culprit, ...]:
    """Idle time in a stretch by cause and by what the host was in, most first."""
    parts = findings.idle.parts
    length_us = parts.within_us(start_us, end_us)
    rows = np.flatnonzero(length_us > 0)
    keys, group = np.unique(names.what[rows] * len(CAUSES) + parts.cause[rows], return_inverse=True)
    counts = np.bincount(group, minlength=len(keys))
    sums_us = np.bincount(group, weights=length_us[rows], minlength=len(keys))
    found = [
        Culprit(
            cause=CAUSES[key % len(CAUSES)], what=names.texts[key // len(CAUSES)], parts=count, idle_ms=time_us / 1e3
        )
        for key, count, time_us in zip(keys.tolist(), counts.tolist(), sums_us.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda each: (-each.idle_ms, each.cause, each.what))[:max_rows])


def _short_names(findings: Findings) -> Iterator[tuple[Ints, NDArray[np.str_]]]:
    """Rows of parts with a name for each that is found for all of them at once."""
    trace, parts, waits, launch = findings.trace, findings.idle.parts, findings.waits, findings.idle.launch
    waited = np.flatnonzero(parts.wait != NONE)
    keys = np.column_stack([waits.kind, waits.site, waits.outer_op, waits.inner_op])[parts.wait[waited]]
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    labels = np.array([wait_label(findings, int(parts.wait[waited[row]])) for row in first], np.str_)
    yield waited, labels[group.reshape(-1)] if len(waited) else np.empty(0, np.str_)
    call = np.where(parts.call != NONE, parts.call, launch[parts.gap])
    is_call = np.isin(parts.cause, [code_of(cause) for cause in NAMED_BY_CALL]) & (call != NONE)
    called = np.flatnonzero(is_call & (parts.wait == NONE))
    distinct, place = np.unique(trace.calls.name[call[called]], return_inverse=True)
    yield called, np.array([plain_name(trace.names[name]) for name in distinct.tolist()], np.str_)[place]
    rest = np.flatnonzero((parts.wait == NONE) & ~is_call & (parts.thread != NONE))
    region = findings.regions.at((parts.start_us[rest] + parts.end_us[rest]) / 2, parts.thread[rest])
    paths = np.array([_innermost(path) for path in findings.regions.paths], np.str_)
    yield rest, paths[region]
    bare = rest[paths[region] == ""]
    op = trace.op_nest.outermost((parts.start_us[bare] + parts.end_us[bare]) / 2, parts.thread[bare], 1)
    in_op = bare[op[:, 0] != NONE] if op.shape[1] else bare[:0]
    distinct, place = np.unique(trace.ops.name[op[op[:, 0] != NONE, 0]] if len(in_op) else in_op, return_inverse=True)
    yield in_op, np.array([cut_name(trace.names[name]) for name in distinct.tolist()], np.str_)[place]


def _innermost(path: tuple[str, ...]) -> str:
    """The innermost part of a path that is not just a step."""
    return next((cut_name(name) for name in reversed(path) if not name.startswith(STEP_PREFIX)), "")


def _work(findings: Findings, activity: int) -> str:
    return "" if activity == NONE else cut_name(findings.trace.names[int(findings.trace.activities.name[activity])])


def _parts(findings: Findings, naming: Naming, gap: int) -> tuple[GapPart, ...]:
    """The parts of a gap in their order; of more than ``MAX_PARTS`` the shortest are summed up by cause at the end."""
    parts = findings.idle.parts
    rows = parts.rows_of(gap)
    length_us = parts.end_us[rows] - parts.start_us[rows]
    kept = np.zeros(len(rows), np.bool_)
    kept[largest(length_us, MAX_PARTS)] = True
    told = [
        GapPart(cause=CAUSES[int(parts.cause[row])], duration_ms=float(time_us) / 1e3, what=naming.of(row))
        for row, time_us in zip(rows[kept].tolist(), length_us[kept], strict=True)
    ]
    sums_us = np.bincount(parts.cause[rows[~kept]], weights=length_us[~kept], minlength=len(CAUSES))
    rest = [
        GapPart(cause=CAUSES[cause], duration_ms=float(sums_us[cause]) / 1e3, what="")
        for cause in np.flatnonzero(sums_us).tolist()
    ]
    return (*told, *rest)


def _region(findings: Findings, gap: int) -> str:
    """The region of the launching thread in the middle of the longest part of a gap."""
    parts = findings.idle.parts
    rows = parts.rows_of(gap)
    longest = rows[(parts.end_us[rows] - parts.start_us[rows]).argmax()]
    if parts.thread[longest] == NONE:
        return ""
    middle_us = np.array([(parts.start_us[longest] + parts.end_us[longest]) / 2])
    number = int(findings.regions.at(middle_us, parts.thread[[longest]])[0])
    return PATH_SEPARATOR.join(findings.regions.paths[number])
