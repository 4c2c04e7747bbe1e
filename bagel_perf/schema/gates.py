"""What a gate found: its verdict, the exit code, each finding with the line that caused it, each latency judged.

History of the format: version 1, the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.errors import (
    BagelPerfError,
    CountersDrifted,
    EnvironmentUnfit,
    Inconclusive,
    LatencyRegressed,
    OutputsDiffer,
    RunFailed,
)
from bagel_perf.schema.limits import Limit
from bagel_perf.schema.requests import Guidance, Request
from bagel_perf.schema.variants import LADDER

REQUESTS = (
    Request(width=48, height=64, steps=5, guidance=Guidance(renorm="global", interval=(0.4, 1.0))),
    Request(task="t2i", width=64, height=48, steps=4),
    Request(width=32, height=48, steps=3, guidance=Guidance(renorm="channel", interval=(0.0, 0.8))),
)
"""Of tier 1: both tasks, a second resolution, steps with guidance and without, all renormalizations."""
VARIANTS = (*(rung.name for rung in LADDER), "sync_free-adjust_positions")
"""Of tier 1: the mixture runs what no rung does, rows that a slot has to make for itself."""
NUM_PASSES = 3
"""Counted runs of a request in tier 1: the first of its process, the same again, and another of its shape."""
EXPECTED_FILE = Path("reports/expected/tiny.toml")

DEFAULT_LIMIT_PCT = 5.0
DEFAULT_LIMITS = (Limit(percent=DEFAULT_LIMIT_PCT),)
"""Of tier 2: each stage, since the whole hides what one stage loses and another wins."""

SCHEMA = "bagel-perf.gate"
VERSION = 1

FindingKind = Literal["picture", "environment", "counter", "incomplete", "regression", "inconclusive"]
CellState = Literal["pass", "fail", "inconclusive"]

ERRORS: dict[FindingKind, type[BagelPerfError]] = {
    "picture": OutputsDiffer,
    "environment": EnvironmentUnfit,
    "counter": CountersDrifted,
    "incomplete": RunFailed,
    "regression": LatencyRegressed,
    "inconclusive": Inconclusive,
}
"""By kind of finding, the error that the gate ends in; a kind outranks those behind it."""

VERDICTS: dict[FindingKind, str] = {
    "picture": "outputs differ",
    "environment": "unlike environments",
    "counter": "counters drifted",
    "incomplete": "incomplete",
    "regression": "regressed",
    "inconclusive": "inconclusive",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps the gate from passing; ``file`` and ``line`` are its cause, where that is a line."""

    kind: FindingKind
    message: str
    file: str | None = None
    line: int | None = None


class GatedCell(msgspec.Struct, frozen=True, kw_only=True):
    """A latency held to its limit: medians in ms, and the change with its interval in the unit of the limit.

    The interval is for the cell by itself, with the given ``confidence``; it is None where ``num_processes`` are too
    few. ``num_pairs`` were measured in the same rounds; where ``is_paired`` is false they are the samples of the arm
    that has fewer. ``num_dropped`` more do not count for the conditions that they ran under. A ``verdict`` of fail
    holds for all cells of the gate together. ``limit`` names its case and stage.
    """

    case: str
    stage: str
    variant: str
    before_ms: float
    after_ms: float
    change: float
    interval: tuple[float, float] | None
    limit: Limit
    verdict: CellState
    reason: str
    num_pairs: int
    num_processes: int
    num_dropped: int = 0
    confidence: float
    is_paired: bool = True

    def __post_init__(self) -> None:
        assert self.interval is not None or self.verdict == "inconclusive"


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """``checks`` names what was judged, and whether it passed; ``notes`` what was not judged, and why.

    ``subject`` says what was held against what, where that is no tree against its expected numbers; of a tree,
    ``provenance`` says which one it was, on what and when.
    """

    findings: tuple[Finding, ...]
    checks: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    subject: str = ""
    cells: tuple[GatedCell, ...] = ()
    provenance: str = ""

    @property
    def worst(self) -> FindingKind | None:
        """The kind of finding that decides, None where there is none."""
        kinds = {finding.kind for finding in self.findings}
        return next((kind for kind in ERRORS if kind in kinds), None)

    @property
    def verdict(self) -> str:
        worst = self.worst
        return "pass" if worst is None else VERDICTS[worst]

    @property
    def exit_code(self) -> int:
        worst = self.worst
        return 0 if worst is None else ERRORS[worst].exit_code

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        head = {"schema": SCHEMA, "version": VERSION, "verdict": self.verdict, "exit_code": self.exit_code}
        return {**head, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> GateReport:
        """The report of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))
