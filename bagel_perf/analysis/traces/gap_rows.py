"""The worst gaps, part by part, and what is to blame for all idle time together."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.apis import plain_name
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.naming import Naming, cut_name
from bagel_perf.analysis.traces.table import NONE, Floats, Ints
from bagel_perf.schema.traces import CAUSES, PATH_SEPARATOR, Culprit, GapPart, GapRow

MAX_GAPS = 100
MAX_NAMED = 3000
"""Parts of gaps, the longest ones, of which it is said what the host was in; the rest have a cause and no name."""
MAX_CULPRITS = 100
MAX_PARTS = 12
"""Of one gap: the shorter ones beyond are told together by their cause."""


def naming_of(findings: Findings) -> Naming:
    """Names for the longest parts, and for all parts of the longest gaps."""
    parts = findings.idle.parts
    in_gaps = np.isin(parts.gap, _longest(findings.idle.gaps.length_us, MAX_GAPS))
    return Naming(findings, np.union1d(_longest(parts.length_us, MAX_NAMED), np.flatnonzero(in_gaps)))


def worst_gaps(findings: Findings, naming: Naming) -> tuple[GapRow, ...]:
    """The longest gaps, those at the ends of the window among them, longest first."""
    gaps = findings.idle.gaps
    longest = _longest(gaps.length_us, MAX_GAPS)
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
                launch=""
                if launch == NONE
                else plain_name(findings.trace.names[int(findings.trace.calls.name[launch])]),
                region=_region(findings, gap),
                parts=_parts(findings, naming, gap),
            )
        )
    return tuple(rows)


def culprits(findings: Findings, naming: Naming) -> tuple[Culprit, ...]:
    """Idle time by cause and by what the host was in, most first; what has no name closes the list of its cause."""
    parts = findings.idle.parts
    length_us = parts.length_us
    named = _longest(length_us, MAX_NAMED)
    sums: dict[tuple[int, str], tuple[int, float]] = {}
    for part in named.tolist():
        key = int(parts.cause[part]), naming.of(part)
        count, time_us = sums.get(key, (0, 0.0))
        sums[key] = count + 1, time_us + float(length_us[part])
    is_rest = np.ones(len(parts), np.bool_)
    is_rest[named] = False
    for cause in np.unique(parts.cause[is_rest]).tolist():
        rest = is_rest & (parts.cause == cause)
        count, time_us = sums.get((cause, ""), (0, 0.0))
        sums[cause, ""] = count + int(rest.sum()), time_us + float(length_us[rest].sum())
    found = [
        Culprit(cause=CAUSES[cause], what=what, parts=count, idle_ms=time_us / 1e3)
        for (cause, what), (count, time_us) in sums.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.idle_ms, each.cause, each.what))[:MAX_CULPRITS])


def _longest(length_us: Floats, number: int) -> Ints:
    """The rows of the longest, longest first."""
    return np.argsort(-length_us, kind="stable")[:number]


def _work(findings: Findings, activity: int) -> str:
    return "" if activity == NONE else cut_name(findings.trace.names[int(findings.trace.activities.name[activity])])


def _parts(findings: Findings, naming: Naming, gap: int) -> tuple[GapPart, ...]:
    """The parts of a gap in their order; of more than ``MAX_PARTS`` the shortest are summed up by cause at the end."""
    parts = findings.idle.parts
    rows = np.arange(np.searchsorted(parts.gap, gap), np.searchsorted(parts.gap, gap, side="right"))
    length_us = parts.end_us[rows] - parts.start_us[rows]
    kept = np.zeros(len(rows), np.bool_)
    kept[np.argsort(-length_us, kind="stable")[:MAX_PARTS]] = True
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
    rows = np.arange(np.searchsorted(parts.gap, gap), np.searchsorted(parts.gap, gap, side="right"))
    longest = rows[(parts.end_us[rows] - parts.start_us[rows]).argmax()]
    if parts.thread[longest] == NONE:
        return ""
    middle_us = np.array([(parts.start_us[longest] + parts.end_us[longest]) / 2])
    number = int(findings.regions.at(middle_us, parts.thread[[longest]])[0])
    return PATH_SEPARATOR.join(findings.regions.paths[number])
