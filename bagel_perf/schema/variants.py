"""Variants: which rung of the ladder fills each slot, and the grammar in which people write it.

``RUNG`` takes every slot from that rung, ``+slot`` takes one slot from the best rung, ``-slot`` puts one back to the
baseline: ``baseline+timestep_schedule``, ``sync_free-merge_kv``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.slots import SLOTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A step of the ladder; ``equality`` says how like the baseline's its picture has to be."""

    name: str
    equality: str


LADDER: tuple[Rung, ...] = (
    Rung(name="baseline", equality="bitwise"),
    Rung(name="pr3987", equality="bitwise"),
    Rung(name="sync_free", equality="bitwise"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A name as the user wrote it, and the rung that fills each slot."""

    name: str
    rung_by_slot: Mapping[str, str] = field(hash=False)


def parse_variant(text: str) -> Variant:
    """The variant that ``text`` names; ``UsageError`` lists what is allowed."""
    name = text.strip()
    rung, *rest = re.split(r"([+-])", name)
    if rung not in (each.name for each in LADDER):
        raise UsageError("unknown variant", value=name, allowed=_allowed())
    rung_by_slot = dict.fromkeys(SLOTS, rung)
    for sign, slot in zip(rest[::2], rest[1::2], strict=True):
        target = LADDER[-1].name if sign == "+" else LADDER[0].name
        if slot not in SLOTS:
            raise UsageError(f"unknown slot in variant {name}", value=slot, allowed=_allowed())
        if rung_by_slot[slot] == target:
            problem = f"variant {name} already takes {slot} from {target}"
            raise UsageError(problem, allowed=_allowed(), remedy=f"leave {sign}{slot} out")
        rung_by_slot[slot] = target
    return Variant(name=name, rung_by_slot=MappingProxyType(rung_by_slot))


def parse_variants(text: str) -> tuple[Variant, ...]:
    """The variants of a comma-separated list, in its order; two that fill the slots alike are a ``UsageError``."""
    variants = tuple(parse_variant(part) for part in text.split(","))
    for i, variant in enumerate(variants):
        for earlier in variants[:i]:
            if variant.rung_by_slot == earlier.rung_by_slot:
                problem = "variants are the same" if variant.name != earlier.name else "variant is named twice"
                value = f"{earlier.name}, {variant.name}" if variant.name != earlier.name else variant.name
                raise UsageError(problem, value=value, allowed=_allowed())
    return variants


def _allowed() -> str:
    rungs = ", ".join(rung.name for rung in LADDER)
    return f"allowed: {rungs}, each with +slot or -slot, slot one of {', '.join(SLOTS)}"
