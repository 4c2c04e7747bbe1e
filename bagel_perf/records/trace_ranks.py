"""What ``trace`` found in traces of several ranks of one program: each by itself, and who waited for whom.

History of the format: version 1, the first. Milliseconds throughout; null is unknown.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.traces import Cause, TraceReport, upgraded

SCHEMA = "bagel-perf.ranks"
VERSION = 1

Reason = Literal["idle", "compute"]
"""Why a rank is late: its device was idle for longer than those of the others, or worked longer."""


class RankStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank did in a step.

    ``waited_ms`` is how much longer it was in kernels of communication than the rank that was in them least, null where
    that is no measure: without such kernels, or with unlike steps.
    """

    rank: int
    wall_ms: float
    gpu_busy_ms: float | None
    communication_ms: float | None
    exposed_communication_ms: float | None
    gpu_idle_ms: float | None
    waited_ms: float | None


class SharedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of all ranks; ``straggler`` arrived last, null where that is unknown or nobody waited for long."""

    number: int
    is_warm_up: bool
    straggler: int | None
    waited_ms: float | None
    ranks: tuple[RankStep, ...]


class RankTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A rank with the report of its trace, and what it has to do with the others in the steady steps.

    ``waited_ms`` is how long it waited for others, in step ``longest_wait_step`` most; ``delayed_ms`` how long all
    others together waited for it, in ``late_steps``. Null where unknown.
    """

    rank: int
    report: TraceReport
    waited_ms: float | None
    longest_wait_step: int | None
    longest_wait_ms: float | None
    delayed_ms: float | None
    late_steps: int | None


class Straggler(msgspec.Struct, frozen=True, kw_only=True):
    """The rank that the others waited for most, and what it does that they do less.

    ``extra_ms`` is how much longer its device was idle (or worked) in the steady steps than that of the median rank;
    ``cause`` and ``what`` name the idle time, or ``what`` the kernel, of which it has most beyond them.
    """

    rank: int
    late_steps: int
    steps: int
    delayed_ms: float
    reason: Reason | None
    extra_ms: float
    cause: Cause | None
    what: str


class RanksReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the traces of several ranks, in the order of their numbers.

    ``steps`` are those of the profiler or of the program that all ranks have; none where they cannot be matched.
    ``notes`` say what was assumed, ``warnings`` what the figures cannot be trusted for.
    """

    ranks: tuple[RankTrace, ...]
    steps: tuple[SharedStep, ...]
    straggler: Straggler | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> RanksReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        found = dict(codec.check_header(data, SCHEMA, VERSION))
        ranks = found.get("ranks")
        if isinstance(ranks, list):
            found["ranks"] = [
                {**each, "report": upgraded(each.get("report"))} if isinstance(each, dict) else each for each in ranks
            ]
        return codec.from_json(cls, found)
