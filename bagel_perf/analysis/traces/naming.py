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
from bagel_perf.analysis.traces.table import NONE, STEP_PREFIX, WINDOW_NAME, Ints
from bagel_perf.analysis.traces.trace import Trace
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
