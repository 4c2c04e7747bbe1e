"""Variants: which rung of the ladder fills each slot, and the grammar in which people write it.

``RUNG`` takes every slot from that rung, ``+slot`` takes one from the best bitwise rung that changes it, ``-slot`` puts
one back to the baseline: ``baseline+timestep_schedule``, ``sync_free-merge_kv``. So no mixture leaves the tolerance of
the rung that it begins with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.slots import SLOTS


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the ladder. Its picture is bitwise the baseline's, unless ``min_psnr_db`` declares a tolerance in dB.

    ``changes`` are the slots that it does not take from the rung below. ``recorded`` are those that its
    ``denoise_loop`` records, and in which therefore nothing may wait; ``swallowed`` those that it does without.
    """

    name: str
    min_psnr_db: float | None = None
    changes: frozenset[str]
    recorded: frozenset[str] = frozenset()
    swallowed: frozenset[str] = frozenset()

    @property
    def is_bitwise(self) -> bool:
        return self.min_psnr_db is None


_IN_THE_STEP = frozenset({"step_input", "merge_kv", "attention_lengths"})
_OF_THE_PULL_REQUEST = frozenset(SLOTS) - {"pack_contexts", "step_input", "denoise_loop", "norm_activate"}

LADDER: tuple[Rung, ...] = (
    Rung(name="baseline", changes=frozenset(SLOTS)),
    Rung(name="pr3987", changes=_OF_THE_PULL_REQUEST),
    Rung(name="sync_free", changes=frozenset(SLOTS) - {"pack_contexts", "norm_activate"}),
    Rung(name="captured", changes=frozenset({"denoise_loop"}), recorded=_IN_THE_STEP),
    Rung(
        name="fused",
        changes=frozenset({"pack_contexts", "denoise_loop"}),
        swallowed=_IN_THE_STEP,
    ),
    Rung(name="close", min_psnr_db=40.0, changes=frozenset({"norm_activate"})),
)
WAITING = frozenset({"baseline", "pr3987"})
"""Rungs whose slots wait."""

GRAMMAR = "RUNG, RUNG+slot or RUNG-slot"
HELP_COMMAND = "bagel-perf compare --help"
"""What lists rungs and slots."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A name as the user wrote it, and the rung that fills each slot."""

    name: str
    rung_by_slot: Mapping[str, str]

    @property
    def owners(self) -> tuple[str, ...]:
        """The rung whose code fills each slot, in the order of ``SLOTS``."""
        return tuple(owner(self.rung_by_slot[slot], slot) for slot in SLOTS)

    @property
    def min_psnr_db(self) -> float | None:
        """The tolerance of its picture, None where it is bitwise the baseline's."""
        limits = [rung.min_psnr_db for rung in LADDER if rung.name in self.owners and rung.min_psnr_db is not None]
        return min(limits, default=None)


def rung_named(name: str) -> Rung:
    """The rung of this name; there has to be one."""
    return next(rung for rung in LADDER if rung.name == name)


def best_bitwise_rung() -> Rung:
    """The highest rung whose picture is the baseline's to the bit."""
    return next(rung for rung in reversed(LADDER) if rung.is_bitwise)


def owner(rung: str, slot: str) -> str:
    """The rung whose own code fills a slot of ``rung``: itself, or the nearest below that changes the slot."""
    names = [each.name for each in LADDER]
    below = LADDER[: names.index(rung) + 1]
    return next(each.name for each in reversed(below) if slot in each.changes)


def parse_variant(text: str) -> Variant:
    """The variant that ``text`` names; ``UsageError`` names what it may have meant."""
    name = text.strip()
    rung, *rest = re.split(r"([+-])", name)
    if rung not in (each.name for each in LADDER):
        raise _unknown("rung", rung or name, [each.name for each in LADDER])
    rung_by_slot = dict.fromkeys(SLOTS, rung)
    for sign, slot in zip(rest[::2], rest[1::2], strict=True):
        if slot not in SLOTS:
            raise _unknown("slot", sign + slot, [sign + each for each in SLOTS])
        target = owner(best_bitwise_rung().name, slot) if sign == "+" else LADDER[0].name
        if sign == "+" and target == LADDER[0].name:
            raise _only_within_a_tolerance(name, slot)
        if owner(rung_by_slot[slot], slot) == target:
            problem = f"variant takes {slot} from {target} already"
            raise UsageError(problem, value=name, remedy=f"leave {sign}{slot} out")
        rung_by_slot[slot] = target
    _refuse_what_never_runs(name, rung_by_slot, signs=dict(zip(rest[1::2], rest[::2], strict=True)))
    return Variant(name=name, rung_by_slot=MappingProxyType(rung_by_slot))


def _unknown(what: str, given: str, names: Sequence[str]) -> UsageError:
    """Says the nearest name, where there is one, and where all are listed."""
    nearest = difflib.get_close_matches(given, names, n=1)
    allowed = f"did you mean {nearest[0]}" if nearest else GRAMMAR
    return UsageError(f"unknown {what}", value=given, allowed=allowed, remedy=f"{HELP_COMMAND} lists all {what}s")


def _only_within_a_tolerance(name: str, slot: str) -> UsageError:
    """``+slot`` of a slot that all bitwise rungs have from the baseline."""
    changing = " or ".join(rung.name for rung in LADDER if not rung.is_bitwise and slot in rung.changes)
    remedy = f"leave +{slot} out, or begin with {changing}"
    return UsageError(f"no bitwise rung changes {slot}", value=name, remedy=remedy)


def _refuse_what_never_runs(name: str, rung_by_slot: Mapping[str, str], signs: Mapping[str, str]) -> None:
    """``UsageError`` for a slot that waits where it would be recorded, and for a pinned slot that the loop swallows.

    ``signs`` are those of the pinned slots.
    """
    loop = rung_named(owner(rung_by_slot["denoise_loop"], "denoise_loop"))
    for slot in SLOTS:
        other_loop = f"try sync_free-{slot}"
        if slot in loop.recorded and rung_by_slot[slot] in WAITING:
            raise UsageError(f"the loop of {loop.name} cannot record what waits", value=name, remedy=other_loop)
        if slot in loop.swallowed and slot in signs:
            remedy = other_loop if signs[slot] == "-" else f"leave +{slot} out"
            raise UsageError(f"the loop of {loop.name} does without {slot}", value=name, remedy=remedy)


def parse_variants(text: str) -> tuple[Variant, ...]:
    """The variants of a comma-separated list, in its order; two that fill the slots alike are a ``UsageError``."""
    parts = text.split(",")
    if not all(map(str.strip, parts)):
        allowed, remedy = "one comma between two names", "leave the option out for its default"
        raise UsageError("a variant has no name", value=f"'{text}'", allowed=allowed, remedy=remedy)
    variants = tuple(map(parse_variant, parts))
    for i, variant in enumerate(variants):
        for earlier in variants[:i]:
            if variant.name == earlier.name:
                raise UsageError("variant is named twice", value=variant.name, remedy="name each once")
            if variant.owners == earlier.owners:
                value = f"{earlier.name}, {variant.name}"
                raise UsageError("variants are the same", value=value, remedy="name one of the two")
    return variants
