"""What each slot of a rung contributes: mixtures with the slot left in alone and left out, and what they save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from bagel_perf.records.bagel import LADDER, SLOTS, Variant, parse_variant
from bagel_perf.records.errors import UsageError


class SlotMixtures(msgspec.Struct, frozen=True, kw_only=True):
    """``left_in`` is the baseline with this slot alone, ``left_out`` the rung without it; None where refused.

    A ``swallowed`` slot never runs in the rung, whose loop does its work: what it saves alone is part of what the loop
    saves alone.
    """

    slot: str
    left_in: str | None
    left_out: str | None
    swallowed: bool


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds that a change saves, the median over processes, with its 95 % interval (None under 6 of them)."""

    ms: float
    ci_ms: tuple[float, float] | None
    num_rounds: int
    num_processes: int = 0

    @property
    def is_shown(self) -> bool | None:
        """Whether the interval leaves zero out; None where there is none."""
        return None if self.ci_ms is None else self.ci_ms[0] > 0 or self.ci_ms[1] < 0


class SlotSaving(msgspec.Struct, frozen=True, kw_only=True):
    """``alone``: put into the baseline; ``last``: put in where all others are; ``apart``: alone less last."""

    slot: str
    alone: Saving | None
    last: Saving | None
    apart: Saving | None
    swallowed: bool


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one case: what the whole rung saves, and ``rest``: that less what its slots save alone.

    Slots that are swallowed are not in the sum. ``rest`` is None where a slot could not be left in alone.
    """

    case: str
    stage: str
    reference: str
    variant: str
    total: Saving
    slots: tuple[SlotSaving, ...]
    rest: Saving | None


def slot_mixtures(variant: str, named: Sequence[str] = ()) -> tuple[SlotMixtures, ...]:
    """Of each slot in which a rung differs from the baseline; a mixture that is among ``named`` has its name there."""
    taken = {parsed.owners: parsed.name for parsed in map(parse_variant, named)}
    whole, base = parse_variant(variant), parse_variant(LADDER[0].name)
    changed = [slot for slot, ours, theirs in zip(SLOTS, whole.owners, base.owners, strict=True) if ours != theirs]
    loop = next(rung for rung in LADDER if rung.name == whole.owners[SLOTS.index("denoise_loop")])

    def name(candidates: Iterator[str], owners: tuple[str, ...]) -> str | None:
        if owners in taken:
            return taken[owners]
        return next((each.name for each in _allowed(candidates) if each.owners == owners), None)

    found = []
    for slot in changed:
        others = "".join(f"-{other}" for other in changed if other != slot)
        left_in = name(iter((f"{base.name}+{slot}", f"{variant}{others}")), _exchanged(base, slot, whole))
        left_out = name(iter((f"{variant}-{slot}",)), _exchanged(whole, slot, base))
        found.append(SlotMixtures(slot=slot, left_in=left_in, left_out=left_out, swallowed=slot in loop.swallowed))
    return tuple(found)


def _exchanged(variant: Variant, slot: str, other: Variant) -> tuple[str, ...]:
    """The owners of ``variant`` with this slot's taken from another."""
    pairs = zip(SLOTS, variant.owners, other.owners, strict=True)
    return tuple(theirs if each == slot else ours for each, ours, theirs in pairs)


def _allowed(names: Iterator[str]) -> Iterator[Variant]:
    for name in names:
        try:
            yield parse_variant(name)
        except UsageError:
            continue
