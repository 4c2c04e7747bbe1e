"""Names of the slots: replaceable pieces of control flow.

Variants: which rung of the ladder fills each slot, and the grammar in which people write it.

``RUNG`` takes every slot from that rung, ``+slot`` takes one from the best bitwise rung that changes it, ``-slot`` puts
one back to the baseline: ``baseline+timestep_schedule``, ``sync_free-merge_kv``. So no mixture leaves the tolerance of
the rung that it begins with.

A request: what is asked of the model, whatever the variant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from bagel_perf.records.errors import UsageError

SLOTS: tuple[str, ...] = (
    "pack_contexts",
    "adjust_positions",
    "route_experts",
    "attention_lengths",
    "merge_kv",
    "timestep_schedule",
    "step_input",
    "denoise_loop",
    "norm_activate",
)


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


Task = Literal["i2i", "t2i"]
Renorm = Literal["global", "channel", "text_channel"]

TASKS: tuple[Task, ...] = get_args(Task)

LATENT_PIXELS = 16
MAX_PIXELS = 1024
MAX_SEED = 2**63 - 1_000_001
"""The seeds after it, of which each round of a comparison takes one, fit torch's generators too."""


class Guidance(msgspec.Struct, frozen=True, kw_only=True):
    """Classifier-free guidance; it acts while the time t lies in ``interval[0] < t <= interval[1]``."""

    text_scale: float = 4.0
    image_scale: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)
    renorm: Renorm = "text_channel"
    renorm_min: float = 0.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One picture to make: ``width`` x ``height`` pixels, from a prompt and, for ``i2i``, an input picture.

    ``image`` is the path of the input picture; None stands for the one that the package draws. ``steps`` counts the
    points of the schedule, so the model iterates ``steps - 1`` times. Raises ``UsageError``.
    """

    task: Task = "i2i"
    width: int
    height: int
    prompt: str = "Change the color to blue"
    steps: int = 15
    seed: int = 42
    timestep_shift: float = 3.0
    guidance: Guidance = Guidance()
    image: str | None = None

    def __post_init__(self) -> None:
        check_resolution(self.width, self.height)
        if self.task not in TASKS:
            raise UsageError("unknown task", value=self.task, allowed="allowed: " + ", ".join(TASKS))
        if self.steps < 2:
            raise UsageError("too few steps", value=self.steps, allowed="at least 2")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError("seed is out of range", value=self.seed, allowed=f"0 to {MAX_SEED}")
        if not self.prompt.strip():
            raise UsageError("prompt is empty", remedy='give one with --prompt "TEXT"')
        if self.task == "t2i" and self.image is not None:
            raise UsageError("t2i takes no picture", value=self.image, remedy="leave --image out, or use --task i2i")

    @property
    def case(self) -> str:
        """The name of the case that asks for it."""
        return f"{self.width}x{self.height}"


def parse_resolution(text: str) -> tuple[int, int]:
    """(width, height) of ``1024`` or ``768x1024``; ``UsageError`` when it is neither or out of range."""
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
    if match is None:
        raise UsageError("resolution is not understood", value=text, allowed="SIDE or WIDTHxHEIGHT, as 768x1024")
    width = int(match[1])
    height = int(match[2] or match[1])
    check_resolution(width, height)
    return width, height


def check_resolution(width: int, height: int) -> None:
    """Raises ``UsageError`` unless both sides are multiples of 16 from 16 to 1024."""
    for side in (width, height):
        if side % LATENT_PIXELS or not LATENT_PIXELS <= side <= MAX_PIXELS:
            allowed = f"each side a multiple of {LATENT_PIXELS} from {LATENT_PIXELS} to {MAX_PIXELS}"
            nearest = min(max(round(side / LATENT_PIXELS) * LATENT_PIXELS, LATENT_PIXELS), MAX_PIXELS)
            remedy = f"{nearest} is the nearest to {side}"
            raise UsageError("resolution is not possible", value=f"{width}x{height}", allowed=allowed, remedy=remedy)
