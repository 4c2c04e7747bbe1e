"""What a gate found: its verdict, the exit code, and each finding with the line that caused it.

History of the format: version 1, the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bagel_perf.schema import codec
from bagel_perf.schema.errors import (
    BagelPerfError,
    CountersDrifted,
    EnvironmentUnfit,
    Inconclusive,
    LatencyRegressed,
    OutputsDiffer,
)
from bagel_perf.schema.requests import Guidance, Request
from bagel_perf.schema.variants import LADDER

REQUESTS = (
    Request(width=48, height=64, steps=5, guidance=Guidance(renorm="global", interval=(0.4, 1.0))),
    Request(task="t2i", width=64, height=48, steps=4),
)
"""Of tier 1: both tasks, steps with guidance and without, both renormalizations."""
VARIANTS = (*(rung.name for rung in LADDER), "sync_free-adjust_positions")
"""Of tier 1: the mixture runs what no rung does, rows that a slot has to make for itself."""
EXPECTED_FILE = Path("reports/expected/tiny.toml")

SCHEMA = "bagel-perf.gate"
VERSION = 1

FindingKind = Literal["picture", "environment", "counter", "regression", "inconclusive"]

ERRORS: dict[FindingKind, type[BagelPerfError]] = {
    "picture": OutputsDiffer,
    "environment": EnvironmentUnfit,
    "counter": CountersDrifted,
    "regression": LatencyRegressed,
    "inconclusive": Inconclusive,
}
"""By kind of finding, the error that the gate ends in; a kind outranks those behind it."""

VERDICTS: dict[FindingKind, str] = {
    "picture": "outputs differ",
    "environment": "unlike environments",
    "counter": "counters drifted",
    "regression": "regressed",
    "inconclusive": "inconclusive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that keeps the gate from passing; ``file`` and ``line`` are its cause, where that is a line."""

    kind: FindingKind
    message: str
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """``checks`` names what was judged, and whether it passed; ``notes`` what was not judged, and why."""

    findings: tuple[Finding, ...]
    checks: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

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
