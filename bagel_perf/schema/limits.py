"""Limits of a change of latency: how much slower a stage may be, as people write it.

The grammar is ``[RES/]STAGE:[+]N(%|ms)``: ``dit:3%``, ``e2e:+20ms``, ``1024/dit:2.5%``. A limit that names a resolution
outranks one that does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.requests import parse_resolution
from bagel_perf.schema.results import res_label
from bagel_perf.schema.slots import STAGES, Stage, as_stage

GRAMMAR = "[RES/]STAGE:N% or [RES/]STAGE:+Nms, as dit:3%, e2e:+20ms or 1024/dit:2.5%"

Unit = Literal["%", "ms"]

_PARTS = re.compile(r"(?:(?P<res>[^/:]+)/)?(?P<stage>[^/:]+):(?P<number>[-+]?[0-9.]*)(?P<unit>[^0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much slower a stage may be, in percent or in ms, one of the two; ``res`` of None stands for every one.

    ``res`` is written as in a result: the side of a square, else ``WIDTHxHEIGHT``. Raises ``UsageError``.
    """

    stage: Stage
    res: int | str | None = None
    percent: float | None = None
    ms: float | None = None

    def __post_init__(self) -> None:
        if (self.percent is None) == (self.ms is None):
            raise UsageError("a limit is in percent or in ms", value=f"{self.percent}, {self.ms}", allowed=GRAMMAR)
        _check_amount(self.amount, self.amount)
        _parse_stage(self.stage, self.stage)
        if self.res is not None and res_label(*parse_resolution(str(self.res))) != self.res:
            raise UsageError("resolution of a limit is not as in a result", value=self.res, allowed="1024, '768x1024'")

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
        place = self.stage if self.res is None else f"{self.res}/{self.stage}"
        sign = "" if self.unit == "%" else "+"
        # Shortest digits that give the same number, and no exponent, which the grammar has not.
        digits = f"{Decimal(repr(self.amount)):f}".removesuffix(".0")
        return f"{place}:{sign}{digits}{self.unit}"


def parse_limit(text: str) -> Limit:
    """The limit that ``text`` writes; ``UsageError`` when it is none, or none that can be held."""
    match = _PARTS.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError("limit is not understood", value=f"'{text}'", allowed=GRAMMAR)
    stage = _parse_stage(text, match["stage"])
    amount = _parse_amount(text, match["number"])
    if match["unit"] not in ("%", "ms"):
        remedy = f"write {stage}:3% or {stage}:+20ms"
        raise UsageError("unknown unit of a limit", value=text, allowed="% or ms", remedy=remedy)
    res = None if match["res"] is None else res_label(*parse_resolution(match["res"]))
    if match["unit"] == "ms":
        return Limit(stage=stage, res=res, ms=amount)
    return Limit(stage=stage, res=res, percent=amount)


def _parse_stage(text: str, name: str) -> Stage:
    if name not in STAGES:
        raise UsageError("unknown stage of a limit", value=text, allowed="allowed: " + ", ".join(STAGES))
    return as_stage(name)


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
    """The limits of several texts, in their order; ``UsageError`` when two hold for the same cell."""
    limits: dict[tuple[int | str | None, Stage], Limit] = {}
    for limit in map(parse_limit, texts):
        first = limits.setdefault((limit.res, limit.stage), limit)
        if first is not limit:
            allowed, remedy = "one limit for a stage at a resolution", f"leave {first} or {limit} out"
            raise UsageError("limit is given twice", value=f"{first}, {limit}", allowed=allowed, remedy=remedy)
    return tuple(limits.values())


def limit_of(limits: Sequence[Limit], res: int | str, stage: Stage) -> Limit | None:
    """The limit that holds for a stage at a resolution: the one that names it, else the one for every resolution."""
    own = [limit for limit in limits if limit.stage == stage and limit.res in (res, None)]
    return min(own, key=lambda limit: limit.res is None, default=None)
