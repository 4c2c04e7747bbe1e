"""What a gate is asked and what it found: limits of latencies; verdict, findings with their lines, latencies judged.

The grammar of a limit is ``[CASE/]STAGE:[+]N(%|ms)``: ``dit:3%``, ``e2e:+20ms``, ``1024/dit:2.5%``. One that names a
case outranks one that does not; ``1024`` stands for ``1024x1024``, too. History of the report's format: version 1, the
first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.bagel import BUILT_IN, Guidance, Request
from bagel_perf.records.errors import (
    BagelPerfError,
    CountersDrifted,
    EnvironmentUnfit,
    Inconclusive,
    LatencyRegressed,
    OutputsDiffer,
    RunFailed,
    UsageError,
)

GRAMMAR = "[CASE/]STAGE:N% or [CASE/]STAGE:+Nms, as dit:3%, e2e:+20ms or 1024/dit:2.5%"

Unit = Literal["%", "ms"]

_PARTS = re.compile(r"(?:(?P<case>[^:]+)/)?(?P<stage>[^/:]+):(?P<number>[-+]?[0-9.]*)(?P<unit>[^0-9]*)")


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How much slower a stage may be, in percent or in ms, one of the two; no ``case`` or ``stage`` stands for each.

    Raises ``UsageError``.
    """

    stage: str | None = None
    case: str | None = None
    percent: float | None = None
    ms: float | None = None

    def __post_init__(self) -> None:
        if (self.percent is None) == (self.ms is None):
            raise UsageError("a limit is in percent or in ms", value=f"{self.percent}, {self.ms}", allowed=GRAMMAR)
        _check_amount(self.amount, self.amount)

    @property
    def amount(self) -> float:
        """The number of the limit, in its ``unit``."""
        amount = self.ms if self.percent is None else self.percent
        assert amount is not None
        return amount

    @property
    def unit(self) -> Unit:
        return "ms" if self.percent is None else "%"

    def __str__(self) -> str:
        """The limit as ``parse_limit`` reads it."""
        stage = self.stage or "each stage"
        place = stage if self.case is None else f"{self.case}/{stage}"
        sign = "" if self.unit == "%" else "+"
        # Shortest digits that give the same number, and no exponent, which the grammar has not.
        digits = f"{Decimal(repr(self.amount)):f}".removesuffix(".0")
        return f"{place}:{sign}{digits}{self.unit}"


def parse_limit(text: str) -> Limit:
    """The limit that ``text`` writes; ``UsageError`` when it is none, or none that can be held."""
    match = _PARTS.fullmatch(text.strip())
    if match is None:
        raise UsageError("limit is not understood", value=f"'{text}'", allowed=GRAMMAR)
    stage, case, unit = match["stage"].strip(), match["case"], match["unit"].lower()
    amount = _parse_amount(text, match["number"])
    if unit not in ("%", "ms"):
        remedy = f"write {stage}:3% or {stage}:+20ms"
        raise UsageError("unknown unit of a limit", value=text, allowed="% or ms", remedy=remedy)
    if unit == "ms":
        return Limit(stage=stage, case=case, ms=amount)
    return Limit(stage=stage, case=case, percent=amount)


def _parse_amount(text: str, number: str) -> float:
    try:
        amount = float(number)
    except ValueError as problem:
        raise UsageError("limit has no number", value=text, allowed=GRAMMAR) from problem
    _check_amount(text, amount)
    return amount


def _check_amount(given: object, amount: float) -> None:
    if not (amount > 0 and math.isfinite(amount)):
        remedy = "say by how much the stage may be slower"
        raise UsageError("limit is out of range", value=given, allowed="more than 0, and finite", remedy=remedy)


def parse_limits(texts: Iterable[str]) -> tuple[Limit, ...]:
    """The limits of several texts, in their order."""
    return tuple(map(parse_limit, texts))


def limits_for(limits: Iterable[Limit], cases: Sequence[str], stages: Sequence[str]) -> tuple[Limit, ...]:
    """Limits with the names of cases and stages as they were measured.

    Raises ``UsageError`` where a limit names another, or two hold for the same.
    """
    found: dict[tuple[str | None, str | None], Limit] = {}
    for limit in limits:
        case = None if limit.case is None else case_named(limit.case, cases)
        stage = None if limit.stage is None else _named(limit.stage, stages)
        if case == "":
            allowed = f"measured: {', '.join(cases)}"
            raise UsageError("limit is of a case that was not measured", value=limit, allowed=allowed)
        if stage == "":
            raise UsageError("unknown stage of a limit", value=limit, allowed="measured: " + ", ".join(stages))
        first = found.setdefault((case, stage), limit)
        if first is not limit:
            allowed, remedy = "one limit for a stage of a case", f"leave {first} or {limit} out"
            raise UsageError("limit is given twice", value=f"{first}, {limit}", allowed=allowed, remedy=remedy)
    return tuple(replace(limit, case=case, stage=stage) for (case, stage), limit in found.items())


def case_named(text: str, cases: Sequence[str]) -> str:
    """The case of this name, or the square of this side, as ``1024x1024`` is of ``1024``; "" where there is none."""
    return _named(text, cases) or _named(f"{text.strip()}x{text.strip()}", cases)


def _named(text: str, names: Sequence[str]) -> str:
    """The name that ``text`` is, or is but for its case; "" where there is none."""
    text = text.strip()
    alike = [name for name in names if name.casefold() == text.casefold()]
    return text if text in alike else next(iter(alike), "")


def limit_of(limits: Sequence[Limit], case: str, stage: str) -> Limit | None:
    """The limit that holds for a stage of a case: the one that names both, else the case, else the stage, else any."""
    own = [limit for limit in limits if limit.stage in (stage, None) and limit.case in (case, None)]
    return min(own, key=lambda limit: (limit.case is None, limit.stage is None), default=None)


REQUESTS = (
    Request(width=48, height=64, steps=5, guidance=Guidance(renorm="global", interval=(0.4, 1.0))),
    Request(task="t2i", width=64, height=48, steps=4),
    Request(width=32, height=48, steps=3, guidance=Guidance(renorm="channel", interval=(0.0, 0.8))),
)
"""Of tier 1: both tasks, a second resolution, steps with guidance and without, all renormalizations."""
VARIANTS = (*(built_in.name for built_in in BUILT_IN), "sync_free-adjust_positions")
"""Of tier 1: the mixture runs what no variant does, rows that a component has to make for itself."""
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
    that has fewer. ``num_excluded`` more do not count for the conditions that they ran under. A ``verdict`` of fail
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
    num_excluded: int = 0
    confidence: float
    is_paired: bool = True

    def __post_init__(self) -> None:
        if self.interval is None and self.verdict != "inconclusive":
            raise UsageError("a verdict without an interval", value=self.verdict, allowed="it must be inconclusive")


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
