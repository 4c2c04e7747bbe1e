"""Compares two entries of a region: where their operators, shapes, numbers and tensors from outside differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bagel_perf.records.blockers import BlockerKind
from bagel_perf.syncs.capture_calls import Entry, Form, Spot, Step


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs at a place; ``slot`` tells several of a place apart, ``seen`` is what each entry has."""

    kind: BlockerKind
    spot: Spot
    slot: str
    seen: tuple[str, str]


def changes(before: Entry, after: Entry) -> Iterator[Change]:
    """What differs between two entries, in the order of the program; nothing after the first other operator.

    Of shapes the first difference alone: those that follow come from it, and numbers may.
    """
    same_shapes = True
    for one, other in zip(before.steps, after.steps, strict=False):
        if one.name != other.name or one.spot is not other.spot:
            yield _branch(one, other)
            return
        yield from _addresses(one, other)
        if same_shapes and one.forms != other.forms:
            same_shapes = False
            yield _shapes(one, other)
        elif same_shapes and one.numbers != other.numbers:
            yield from _numbers(one, other)
    if len(before.steps) != len(after.steps):
        yield _end(before, after)


def _branch(one: Step, other: Step) -> Change:
    """At the place that was seen first, whichever of the entries took it."""
    spot = min(one.spot, other.spot, key=lambda each: each.number)
    return Change("branch", spot, "", (_call(one), _call(other)))


def _end(before: Entry, after: Entry) -> Change:
    """One entry is longer: the place is where it goes on."""
    common = min(len(before.steps), len(after.steps))
    goes_on = (after if len(after.steps) > common else before).steps[common]
    texts = [_call(each.steps[common]) if len(each.steps) > common else "the end" for each in (before, after)]
    return Change("branch", goes_on.spot, "", (texts[0], texts[1]))


def _call(step: Step) -> str:
    return f"{step.name} at line {step.spot.line}" if step.spot.code else step.name


def _shapes(one: Step, other: Step) -> Change:
    differing = [(a, b) for a, b in zip(one.forms, other.forms, strict=False) if a != b]
    if not differing:
        return Change("shape", other.spot, one.name, (f"{len(one.forms)} tensors", f"{len(other.forms)} tensors"))
    a, b = differing[0]
    with_strides = a[0] == b[0]
    return Change("shape", other.spot, one.name, (shape_text(a, with_strides), shape_text(b, with_strides)))


def shape_text(form: Form, with_strides: bool = False) -> str:
    """Shape and type of a tensor, as [2, 3] float32."""
    shape, strides, dtype = form
    sizes = f"[{', '.join(map(str, shape))}]" if isinstance(shape, tuple) else "nested"
    return f"{sizes} {str(dtype).removeprefix('torch.')}{f' strides {strides}' * with_strides}"


def _numbers(one: Step, other: Step) -> Iterator[Change]:
    """By their texts, as nan is not equal to itself."""
    if len(one.numbers) != len(other.numbers):
        yield Change("value", other.spot, one.name, (repr(one.numbers), repr(other.numbers)))
        return
    for place, (a, b) in enumerate(zip(one.numbers, other.numbers, strict=True)):
        if repr(a) != repr(b):
            yield Change("value", other.spot, f"{one.name} {place}", (_short(a), _short(b)))


def _short(number: Any) -> str:
    return f"{number:.6g}" if type(number) is float else repr(number)


def _addresses(one: Step, other: Step) -> Iterator[Change]:
    for place, ((a, form_a), (b, form_b)) in enumerate(zip(one.inputs, other.inputs, strict=False)):
        if a != b:
            yield Change("address", other.spot, f"{one.name} {place}", (shape_text(form_a), shape_text(form_b)))
    if len(one.inputs) != len(other.inputs):
        more = max(one.inputs, other.inputs, key=len)[min(len(one.inputs), len(other.inputs)) :]
        for place, (_, form) in enumerate(more):
            yield Change("address", other.spot, f"{one.name} more {place}", (shape_text(form), shape_text(form)))
