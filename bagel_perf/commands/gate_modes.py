"""Which of its gates ``gate`` is asked for, the options that mean something to each, and what is judged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import DEFAULT_LIMITS
from bagel_perf.schema.limits import Limit, limits_for, parse_limits
from bagel_perf.schema.plans import ATTENTIONS, DEVICES, PRESETS, Plan, one_of
from bagel_perf.schema.requests import Request
from bagel_perf.schema.results import result_file
from bagel_perf.schema.variants import parse_variant

BAGEL_STAGES = ("ar", "dit", "e2e")

Mode = Literal["tree", "result", "revision"]

OUTPUT = ["junit", "summary", "html", "github", "json", "quiet", "debug"]
REQUEST = ["res", "task", "image", "prompt", "steps", "seed"]
MEASUREMENT = [*REQUEST, "variants", "preset", "weights", "device", "attention", "pairs", "warmup", "out"]
OPTIONS: dict[Mode, list[str]] = {
    "tree": ["expected", "update"],
    "result": ["limit", "variant", "reference"],
    "revision": ["limit", "variant", "reference", *MEASUREMENT],
}
NAMES: dict[Mode, str] = {
    "tree": "the gate of the tree",
    "result": "a result that is judged again",
    "revision": "a measurement against a revision",
}


def gate_mode(result: Path | None, reference: str | None) -> Mode:
    """What the arguments ask for; ``UsageError`` where they contradict each other."""
    is_file = reference is not None and result_file(Path(reference)).is_file()
    if result is None:
        if is_file:
            remedy = f"bagel-perf gate result RESULT --reference {reference}"
            raise UsageError("a reference file without a result to judge", value=reference, remedy=remedy)
        return "tree" if reference is None else "revision"
    if reference is not None and not is_file:
        allowed = "with a result it has to be another result file"
        remedy = "leave RESULT out to measure against a revision"
        raise UsageError("reference is no result file", value=reference, allowed=allowed, remedy=remedy)
    return "result"


def refuse_idle_options(given: frozenset[str], mode: Mode) -> None:
    """``UsageError`` for an option that would mean nothing here, which names where it does."""
    for option in sorted(given):
        name = option.removeprefix("--")
        if name in OUTPUT or name in OPTIONS[mode]:
            continue
        others = [NAMES[other] for other, options in OPTIONS.items() if name in options]
        raise UsageError(f"{option} means nothing to {NAMES[mode]}", allowed=f"it is for {' or '.join(others)}")


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


def plan_of(
    requests: tuple[Request, ...],
    variants: tuple[str, ...],
    preset: str,
    weights: str | None,
    device: str,
    attention: str,
    pairs: int | None,
    warmup: int | None,
) -> Plan:
    """What either tree is to run; ``UsageError``."""
    return Plan(
        kind="compare",
        requests=requests,
        variants=variants,
        preset=one_of("preset", preset, PRESETS),
        weights=weights,
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=pairs,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )


def bitwise(plan: Plan) -> tuple[str, ...]:
    """Variants whose pictures have to be the same in both trees."""
    return tuple(name for name in plan.variants if parse_variant(name).min_psnr_db is None)
