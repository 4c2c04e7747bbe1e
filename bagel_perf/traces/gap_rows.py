"""The worst gaps, part by part, in words that a person would use, and what is to blame for all idle time together.

A part is named by the line, annotation, operator or call that its thread was in. Warm-up and steady steps have figures
of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES, PATH_SEPARATOR, Cause, Culprit, GapPart, GapRow, Phase, PhaseName
from bagel_perf.traces.findings import Findings
from bagel_perf.traces.gaps import code_of
from bagel_perf.traces.nesting import Nest
from bagel_perf.traces.tables import NONE, STEP_PREFIX, WINDOW_NAME, Ints, Numbering
from bagel_perf.traces.trace import Trace, plain_name
from bagel_perf.traces.waits import program_site
from bagel_perf.traces.window import largest

# The address of an object says nothing.
_BUILT_IN = re.compile(r"^<built-in (?:function|method) (\w+).*>$")
# Names of kernels are up to 2 kB long; the list of kernels has them whole.
MAX_NAME = 160
# What covers less of a part than this is not what the host did for most of it.
MIN_SHARE = 0.6
# So many operators, of which none covers most of a part, are named by their number.
MIN_OPERATORS = 8
MIN_TOGETHER = 0.3
MAX_COUNTED = 100_000


class Naming:
    """Names some parts of the gaps of one trace; asks for what surrounds all of them at once."""

    def __init__(self, findings: Findings, rows: Ints) -> None:
        self._findings = findings
        trace, parts = findings.trace, findings.idle.parts
        is_named = np.array([not name.startswith((STEP_PREFIX, WINDOW_NAME)) for name in trace.names], np.bool_)
        annotations = trace.annotations.where(is_named[trace.annotations.name])
        self._place = {row: place for place, row in enumerate(rows.tolist())}
        # What covers most of a part is around its middle.
        middle_us = (parts.start_us[rows] + parts.end_us[rows]) / 2
        thread = parts.thread[rows]
        self._around = {
            "frames": (trace.frames, trace.frame_nest.enclosing(middle_us, thread)),
            "annotations": (annotations, Nest.of(annotations).enclosing(middle_us, thread)),
            "ops": (trace.ops, trace.op_nest.enclosing(middle_us, thread)),
        }
        self._waits_named: dict[int, str] = {}

    def of(self, part: int) -> str:
        """What the host was in, or the wait or call that caused the part; empty where nothing was recorded."""
        parts, idle = self._findings.idle.parts, self._findings.idle
        wait, call, cause = int(parts.wait[part]), int(parts.call[part]), int(parts.cause[part])
        if wait != NONE:
            return self._wait(wait)
        if parts.thread[part] == NONE:
            return ""
        if call != NONE:
            return self._call(call)
        launch = int(idle.launch[parts.gap[part]])
        if cause in (code_of("queued"), code_of("launch_overhead")):
            return call_name(self._findings.trace, launch)
        return ": ".join(cut_name(each) for each in self._doing(part))

    def _wait(self, wait: int) -> str:
        if wait not in self._waits_named:
            self._waits_named[wait] = wait_label(self._findings, wait)
        return self._waits_named[wait]

    def _call(self, call: int) -> str:
        """A call with the operator around it."""
        trace = self._findings.trace
        name = call_name(trace, call)
        middle_us = np.array([(float(trace.calls.start_us[call]) + float(trace.calls.end_us[call])) / 2])
        op = int(trace.op_nest.innermost(middle_us, trace.calls.thread[[call]])[0])
        around = "" if op == NONE else f"{trace.names[int(trace.ops.name[op])]}{PATH_SEPARATOR}"
        return cut_name(f"{around}{name}")

    def _doing(self, part: int) -> Iterator[str]:
        """The innermost frame, or else annotation, that covers most of a part, and the operators in it."""
        frames, annotations, ops = (self._covering(table, part) for table in self._around)
        if annotations and self._findings.idle.parts.cause[part] == code_of("data_loader"):
            yield annotations[0]
            return
        if frames:
            yield _frame_label(frames)
        elif annotations:
            yield annotations[0]
        if ops:
            yield PATH_SEPARATOR.join(dict.fromkeys((ops[-1], ops[0])))
        else:
            yield from self._together(part)

    def _covering(self, name: str, part: int) -> list[str]:
        """The names of the spans that cover most of a part, innermost first."""
        table, around = self._around[name]
        parts = self._findings.idle.parts
        start_us, end_us = parts.start_us[part], parts.end_us[part]
        spans = around[self._place[part]][::-1]
        spans = spans[spans != NONE]
        overlap_us = np.minimum(table.end_us[spans], end_us) - np.maximum(table.start_us[spans], start_us)
        covering = spans[overlap_us >= MIN_SHARE * (end_us - start_us)]
        return [self._findings.trace.names[name] for name in table.name[covering].tolist()]

    def _together(self, part: int) -> Iterator[str]:
        """Many small operators, by their number and the one that took most of them."""
        ops, parts = self._findings.trace.ops, self._findings.idle.parts
        start_us, end_us = float(parts.start_us[part]), float(parts.end_us[part])
        first, last = np.searchsorted(ops.start_us, [start_us, end_us])
        rows = np.arange(first, min(int(last), int(first) + MAX_COUNTED))
        rows = rows[ops.thread[rows] == parts.thread[part]]
        reach_us = np.concatenate([[-np.inf], np.maximum.accumulate(ops.end_us[rows])])[:-1]
        rows = rows[ops.start_us[rows] >= reach_us]
        length_us = ops.end_us[rows] - ops.start_us[rows]
        if len(rows) >= MIN_OPERATORS and length_us.sum() >= MIN_TOGETHER * (end_us - start_us):
            names, place = np.unique(ops.name[rows], return_inverse=True)
            most = names[np.bincount(place, weights=length_us).argmax()]
            yield f"{len(rows)} operators, mostly {self._findings.trace.names[int(most)]}"


def _frame_label(frames: list[str]) -> str:
    """The program's own innermost frame, and what it called: ``load.py(12): load > sleep``."""
    own = next((frame for frame in frames if program_site(frame) is not None), "")
    inner = _BUILT_IN.sub(r"\1", frames[0])
    return PATH_SEPARATOR.join(dict.fromkeys(filter(None, (own, inner))))


def call_name(trace: Trace, call: int) -> str:
    """The name of a call without its version, empty for NONE."""
    return "" if call == NONE else plain_name(trace.names[int(trace.calls.name[call])])


def cut_name(name: str) -> str:
    """A name of at most ``MAX_NAME`` characters."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 2] + ".."


def wait_label(findings: Findings, wait: int) -> str:
    """The kind of a wait with its line, or the operators around it."""
    kind, line, op = KINDS[int(findings.waits.kind[wait])], findings.site_of(wait), findings.op_of(wait)
    place = f"{line.file}:{line.line} {line.function}" if line.file else op
    return cut_name(f"{kind} {place}" if place else kind)


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


MAX_CULPRITS_OF_PHASE = 10


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
        culprits=culprits(findings, names, start_us, end_us, MAX_CULPRITS_OF_PHASE),
        idle_by_cause_ms={
            cause: float(time_us) / 1e3 for cause, time_us in zip(CAUSES, sums_us, strict=True) if findings.has_gpu
        },
    )
