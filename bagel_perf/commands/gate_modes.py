"""What a gate of latencies judges, and against what: limits, a variant, another result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import DEFAULT_LIMITS
from bagel_perf.schema.limits import Limit, limits_for, parse_limits
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import result_file
from bagel_perf.schema.variants import parse_variant

BAGEL_STAGES = ("ar", "dit", "e2e")


def checked_reference(reference: Path | None) -> Path | None:
    """The result that another is held to; ``UsageError`` where it is none."""
    if reference is not None and not result_file(reference).is_file():
        remedy = "bagel-perf gate revision REV measures against a revision"
        raise UsageError("reference is no result file", value=reference, remedy=remedy)
    return reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is gated: stages with a limit, of all bitwise variants or of the one that is named."""

    limits: tuple[Limit, ...]
    variant: str | None

    def check(self, plan: Plan) -> None:
        """Raises UsageError where a limit or the variant is not in the plan."""
        limits_for(self.limits, [request.case for request in plan.requests], BAGEL_STAGES)
        if self.variant is not None and self.variant not in plan.variants:
            allowed = f"measured: {', '.join(plan.variants)}"
            raise UsageError("--variant is not measured", value=self.variant, allowed=allowed, remedy="see --variants")


def policy_of(limits: Sequence[str] | None, variant: str | None) -> Policy:
    """What was asked for, with the usual limits where there are none; ``UsageError``."""
    return Policy(limits=parse_limits(limits) if limits else DEFAULT_LIMITS, variant=variant)


def bitwise(plan: Plan) -> tuple[str, ...]:
    """Variants whose pictures have to be the same in both trees."""
    return tuple(name for name in plan.variants if parse_variant(name).min_psnr_db is None)
