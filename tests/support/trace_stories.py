"""Scenes as traces in memory, through the reader that a file of them would take."""

from __future__ import annotations

import io
from pathlib import Path

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES
from bagel_perf.traces.findings import Findings, examine
from bagel_perf.traces.formats.kineto import read_kineto
from bagel_perf.traces.trace import Trace
from kineto_files import one_line
from trace_scenes import Scene


def trace_of(scene: Scene) -> Trace:
    """The trace of a scene."""
    text = one_line(scene).encode()
    return read_kineto(io.BytesIO(text).read, Path("scene.json"), len(text))


def findings_of(scene: Scene) -> Findings:
    """Everything that is found in a scene."""
    return examine(trace_of(scene))


def kinds_of(findings: Findings) -> list[str]:
    """The kind of each wait."""
    return [KINDS[kind] for kind in findings.waits.kind]


def causes_of(findings: Findings) -> list[list[tuple[float, str]]]:
    """The parts of each gap: length in microseconds and cause."""
    parts = findings.idle.parts
    told = list(zip(parts.gap.tolist(), parts.length_us.round(3).tolist(), parts.cause.tolist(), strict=True))
    gaps = range(len(findings.idle.gaps))
    return [[(length, CAUSES[cause]) for gap, length, cause in told if gap == each] for each in gaps]
