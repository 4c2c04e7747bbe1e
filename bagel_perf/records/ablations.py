"""What each component of a variant contributes: mixtures with it alone and without it, and what they save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from bagel_perf.records.bagel import BUILT_IN, COMPONENTS, Variant, parse_variant, swallowed_components
from bagel_perf.records.errors import UsageError


class ComponentMixtures(msgspec.Struct, frozen=True, kw_only=True):
    """``left_in`` is the baseline with this component alone, ``left_out`` the variant without it; None where refused.

    A ``swallowed`` component never runs in the variant, as whatever would call it does its work: what it saves alone is
    part of what its callers save alone.
    """

    component: str
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


class ComponentSaving(msgspec.Struct, frozen=True, kw_only=True):
    """``alone``: put into the baseline; ``last``: put in where all others are; ``apart``: alone less last."""

    component: str
    alone: Saving | None
    last: Saving | None
    apart: Saving | None
    swallowed: bool


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one case: what the whole variant saves, and ``rest``: that less what its components save alone.

    Components that are swallowed are not in the sum. ``rest`` is None where a component could not be left in alone.
    """

    case: str
    stage: str
    reference: str
    variant: str
    total: Saving
    components: tuple[ComponentSaving, ...]
    rest: Saving | None


def component_mixtures(variant: str, named: Sequence[str] = ()) -> tuple[ComponentMixtures, ...]:
    """Of each component that a variant changes of the baseline; one that is among ``named`` has its name there."""
    taken = {parsed.owners: parsed.name for parsed in map(parse_variant, named)}
    whole, base = parse_variant(variant), parse_variant(BUILT_IN[0].name)
    changed = [
        component
        for component, ours, theirs in zip(COMPONENTS, whole.owners, base.owners, strict=True)
        if ours != theirs
    ]
    swallowed = swallowed_components(whole.built_in_by_component)

    def name(candidates: Iterator[str], owners: tuple[str, ...]) -> str | None:
        if owners in taken:
            return taken[owners]
        return next((each.name for each in _allowed(candidates) if each.owners == owners), None)

    found = []
    for component in changed:
        others = "".join(f"-{other}" for other in changed if other != component)
        left_in = name(iter((f"{base.name}+{component}", f"{variant}{others}")), _exchanged(base, component, whole))
        left_out = name(iter((f"{variant}-{component}",)), _exchanged(whole, component, base))
        found.append(
            ComponentMixtures(component=component, left_in=left_in, left_out=left_out, swallowed=component in swallowed)
        )
    return tuple(found)


def _exchanged(variant: Variant, component: str, other: Variant) -> tuple[str, ...]:
    """The owners of ``variant`` with this component's taken from another."""
    pairs = zip(COMPONENTS, variant.owners, other.owners, strict=True)
    return tuple(theirs if each == component else ours for each, ours, theirs in pairs)


def _allowed(names: Iterator[str]) -> Iterator[Variant]:
    for name in names:
        try:
            yield parse_variant(name)
        except UsageError:
            continue
