"""What a thread was in for a part of a gap: the line, annotation, operator or call that a person would name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from bagel_perf.analysis.traces.apis import plain_name
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.nesting import Nest
from bagel_perf.analysis.traces.parts import code_of
from bagel_perf.analysis.traces.source_lines import program_site
from bagel_perf.analysis.traces.table import NONE, STEP_PREFIX, WINDOW_NAME, Calls, Frames, Ints, Spans
from bagel_perf.schema.traces import PATH_SEPARATOR
from bagel_perf.schema.waits import KINDS

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
    """Names parts of gaps of one trace."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        trace = findings.trace
        is_named = np.array([not name.startswith((STEP_PREFIX, WINDOW_NAME)) for name in trace.names], np.bool_)
        self._annotations = trace.annotations.where(is_named[trace.annotations.name])
        self._annotation_nest = Nest.of(self._annotations)
        self._waits_named: dict[int, str] = {}

    def of(self, part: int) -> str:
        """What the host was in, or the wait or call that caused the part; empty where nothing was recorded."""
        parts, idle = self._findings.idle.parts, self._findings.idle
        wait, call, cause = int(parts.wait[part]), int(parts.call[part]), int(parts.cause[part])
        thread = int(idle.thread[parts.gap[part]])
        if wait != NONE:
            return self._wait(wait)
        if thread == NONE:
            return ""
        start_us, end_us = float(parts.start_us[part]), float(parts.end_us[part])
        if call != NONE:
            return self._call(call, start_us, end_us)
        launch = int(idle.launch[parts.gap[part]])
        if cause in (code_of("queued"), code_of("launch_overhead")):
            return "" if launch == NONE else plain_name(self._name(self._findings.trace.calls, launch))
        return ": ".join(cut_name(each) for each in self._doing(thread, start_us, end_us))

    def _wait(self, wait: int) -> str:
        if wait not in self._waits_named:
            self._waits_named[wait] = _wait_label(self._findings, wait)
        return self._waits_named[wait]

    def _call(self, call: int, start_us: float, end_us: float) -> str:
        """A call with the operator around it; where one call stands for a whole capture, what was captured."""
        trace = self._findings.trace
        name = plain_name(self._name(trace.calls, call))
        middle_us = np.array([(float(trace.calls.start_us[call]) + float(trace.calls.end_us[call])) / 2])
        op = int(trace.op_nest.innermost(middle_us, trace.calls.thread[[call]])[0])
        around = "" if op == NONE else f"{trace.names[int(trace.ops.name[op])]}{PATH_SEPARATOR}"
        return cut_name(f"{around}{name}")

    def _doing(self, thread: int, start_us: float, end_us: float) -> Iterator[str]:
        """The innermost frame, or else annotation, that covers most of a stretch, and the operators in it."""
        trace = self._findings.trace
        frames = [self._name(trace.frames, row) for row in self._covering(trace.frame_nest, thread, start_us, end_us)]
        annotations = self._covering(self._annotation_nest, thread, start_us, end_us)
        if frames:
            yield _frame_label(frames)
        elif annotations:
            yield self._name(self._annotations, annotations[0])
        ops = [self._name(trace.ops, row) for row in self._covering(trace.op_nest, thread, start_us, end_us)]
        if ops:
            yield PATH_SEPARATOR.join(dict.fromkeys((ops[-1], ops[0])))
        else:
            yield from self._together(thread, start_us, end_us)

    def _covering(self, nest: Nest, thread: int, start_us: float, end_us: float) -> list[int]:
        """The spans of a nest that cover most of a stretch, innermost first."""
        table = nest.spans
        moments_us = np.linspace(start_us, end_us, 5)[1:-1]
        spans = np.unique(nest.enclosing(moments_us, np.full(3, thread)))
        spans = spans[spans != NONE]
        overlap_us = np.minimum(table.end_us[spans], end_us) - np.maximum(table.start_us[spans], start_us)
        spans = spans[overlap_us >= MIN_SHARE * (end_us - start_us)]
        length_us = table.end_us[spans] - table.start_us[spans]
        return [int(row) for row in spans[np.lexsort((-table.start_us[spans], length_us))]]

    def _together(self, thread: int, start_us: float, end_us: float) -> Iterator[str]:
        """Many small operators, by their number and the one that took most of them."""
        ops = self._findings.trace.ops
        rows = _starting(ops, thread, start_us, end_us)[:MAX_COUNTED]
        reach_us = np.concatenate([[-np.inf], np.maximum.accumulate(ops.end_us[rows])])[:-1]
        rows = rows[ops.start_us[rows] >= reach_us]
        length_us = ops.end_us[rows] - ops.start_us[rows]
        if len(rows) >= MIN_OPERATORS and length_us.sum() >= MIN_TOGETHER * (end_us - start_us):
            total_us = np.bincount(ops.name[rows], weights=length_us)
            yield f"{len(rows)} operators, mostly {self._findings.trace.names[int(total_us.argmax())]}"

    def _name(self, table: Spans | Calls | Frames, row: int) -> str:
        return self._findings.trace.names[int(table.name[row])]


def _frame_label(frames: list[str]) -> str:
    """The program's own innermost frame, and what it called: ``load.py(12): load > sleep``."""
    own = next((frame for frame in frames if program_site(frame) is not None), "")
    inner = _BUILT_IN.sub(r"\1", frames[0])
    return PATH_SEPARATOR.join(dict.fromkeys(filter(None, (own, inner))))


def cut_name(name: str) -> str:
    """A name of at most ``MAX_NAME`` characters."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 2] + ".."


def _wait_label(findings: Findings, wait: int) -> str:
    kind, line, op = KINDS[int(findings.waits.kind[wait])], findings.site_of(wait), findings.op_of(wait)
    place = f"{line.file}:{line.line} {line.function}" if line.file else op
    return cut_name(f"{kind} {place}" if place else kind)


def _starting(table: Spans | Calls, thread: int, start_us: float, end_us: float) -> Ints:
    """Rows of a thread that start inside a stretch."""
    rows: Ints = np.arange(np.searchsorted(table.start_us, start_us), np.searchsorted(table.start_us, end_us))
    mine: Ints = rows[table.thread[rows] == thread]
    return mine
