"""What of BAGEL is compared: its components, its variants with the grammar in which people write them, its requests.

A component is a replaceable piece of control flow. ``VARIANT`` takes every component from that variant, ``+component``
takes one from the best bitwise variant that changes it, ``-component`` puts one back to the baseline:
``baseline+timestep_schedule``, ``sync_free-merge_kv``. So no mixture leaves the tolerance of the variant that it begins
with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from bagel_perf.records.errors import UsageError

COMPONENTS: tuple[str, ...] = (
    "encode_picture",
    "pack_contexts",
    "adjust_positions",
    "prefill_layers",
    "route_experts",
    "attention_lengths",
    "merge_kv",
    "branch_offsets",
    "timestep_schedule",
    "step_input",
    "denoise_loop",
    "norm_activate",
)


class BuiltIn(msgspec.Struct, frozen=True, kw_only=True):
    """A built-in variant. Its picture is bitwise the baseline's, unless ``min_psnr_db`` declares a tolerance in dB.

    ``changes`` are the components that it does not take from the variant below. ``recorded`` are those that its
    ``denoise_loop`` records, and in which therefore nothing may wait. Those among ``CALLERS`` that are ``whole`` do
    their work themselves, without the components that others of the kind call.
    """

    name: str
    min_psnr_db: float | None = None
    changes: frozenset[str]
    recorded: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()

    @property
    def is_bitwise(self) -> bool:
        return self.min_psnr_db is None


CALLERS: Mapping[str, frozenset[str]] = {
    "step_input": frozenset({"denoise_loop"}),
    "merge_kv": frozenset({"denoise_loop"}),
    "attention_lengths": frozenset({"denoise_loop"}),
    "route_experts": frozenset({"prefill_layers", "denoise_loop"}),
}
"""Components that others call, and which those are; the model itself calls the rest."""

_IN_THE_STEP = frozenset({"step_input", "merge_kv", "attention_lengths"})
_OF_THE_REFERENCE = frozenset({"encode_picture", "pack_contexts", "prefill_layers", "norm_activate"})
_OF_THE_PULL_REQUEST = frozenset(COMPONENTS) - _OF_THE_REFERENCE - {"branch_offsets", "step_input", "denoise_loop"}

BUILT_IN: tuple[BuiltIn, ...] = (
    BuiltIn(name="baseline", changes=frozenset(COMPONENTS)),
    BuiltIn(name="pr3987", changes=_OF_THE_PULL_REQUEST),
    BuiltIn(name="sync_free", changes=frozenset(COMPONENTS) - _OF_THE_REFERENCE),
    BuiltIn(name="captured", changes=frozenset({"denoise_loop"}), recorded=_IN_THE_STEP),
    BuiltIn(
        name="fused",
        changes=_OF_THE_REFERENCE | {"denoise_loop"},
        whole=frozenset({"prefill_layers", "denoise_loop"}),
    ),
    BuiltIn(name="approx_norm", min_psnr_db=40.0, changes=frozenset({"norm_activate"})),
)
WAITING = frozenset({"baseline", "pr3987"})
"""Built-in variants whose components wait."""

GRAMMAR = "NAME[+component|-component]"
HELP_COMMAND = "bagel-perf compare --help"
"""What lists variants and components."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A name as the user wrote it, and the built-in variant that fills each component."""

    name: str
    built_in_by_component: Mapping[str, str]

    @property
    def owners(self) -> tuple[str, ...]:
        """The variant whose code fills each component, in the order of ``COMPONENTS``."""
        return tuple(owner(self.built_in_by_component[component], component) for component in COMPONENTS)

    @property
    def min_psnr_db(self) -> float | None:
        """The tolerance of its picture, None where it is bitwise the baseline's."""
        limits = [
            built_in.min_psnr_db
            for built_in in BUILT_IN
            if built_in.name in self.owners and built_in.min_psnr_db is not None
        ]
        return min(limits, default=None)


def built_in_named(name: str) -> BuiltIn:
    """The built-in variant of this name; there has to be one."""
    return next(built_in for built_in in BUILT_IN if built_in.name == name)


def best_bitwise() -> BuiltIn:
    """The last built-in variant whose picture is the baseline's to the bit."""
    return next(built_in for built_in in reversed(BUILT_IN) if built_in.is_bitwise)


def owner(built_in: str, component: str) -> str:
    """The variant whose own code fills a component of ``built_in``: itself, or the nearest below that changes it."""
    names = [each.name for each in BUILT_IN]
    below = BUILT_IN[: names.index(built_in) + 1]
    return next(each.name for each in reversed(below) if component in each.changes)


def parse_variant(text: str) -> Variant:
    """The variant that ``text`` names; ``UsageError`` names what it may have meant."""
    name = text.strip()
    built_in, *rest = re.split(r"([+-])", name)
    if built_in not in (each.name for each in BUILT_IN):
        raise _unknown("variant", built_in or name, [each.name for each in BUILT_IN])
    built_in_by_component = dict.fromkeys(COMPONENTS, built_in)
    for sign, component in zip(rest[::2], rest[1::2], strict=True):
        if component not in COMPONENTS:
            raise _unknown("component", sign + component, [sign + each for each in COMPONENTS])
        target = owner(best_bitwise().name, component) if sign == "+" else BUILT_IN[0].name
        if owner(built_in_by_component[component], component) == target:
            problem = f"variant takes {component} from {target} already"
            raise UsageError(problem, value=name, remedy=f"leave {sign}{component} out")
        built_in_by_component[component] = target
    _refuse_what_never_runs(name, built_in_by_component, signs=dict(zip(rest[1::2], rest[::2], strict=True)))
    return Variant(name=name, built_in_by_component=MappingProxyType(built_in_by_component))


def _unknown(what: str, given: str, names: Sequence[str]) -> UsageError:
    """Says the nearest name, where there is one, and where all are listed."""
    nearest = difflib.get_close_matches(given, names, n=1)
    allowed = f"did you mean {nearest[0]}" if nearest else GRAMMAR
    return UsageError(f"unknown {what}", value=given, allowed=allowed, remedy=f"{HELP_COMMAND} lists all {what}s")


def _refuse_what_never_runs(name: str, built_in_by_component: Mapping[str, str], signs: Mapping[str, str]) -> None:
    """``UsageError`` for a component that waits where it would be recorded, or is pinned and swallowed.

    ``signs`` are those of the pinned components.
    """
    loop = built_in_named(owner(built_in_by_component["denoise_loop"], "denoise_loop"))
    swallowed = swallowed_components(built_in_by_component)
    for component in COMPONENTS:
        other_loop = f"try sync_free-{component}"
        if component in loop.recorded and built_in_by_component[component] in WAITING:
            raise UsageError(f"the loop of {loop.name} cannot record what waits", value=name, remedy=other_loop)
        if component in swallowed and component in signs:
            remedy = other_loop if signs[component] == "-" else f"leave +{component} out"
            raise UsageError(
                f"{' and '.join(sorted(CALLERS[component]))} of {loop.name} do without {component}"
                if len(CALLERS[component]) > 1
                else f"the loop of {loop.name} does without {component}",
                value=name,
                remedy=remedy,
            )


def swallowed_components(built_in_by_component: Mapping[str, str]) -> frozenset[str]:
    """The components that never run, as all that would call them do their work themselves."""
    whole = {
        caller
        for caller in frozenset[str]().union(*CALLERS.values())
        if caller in built_in_named(owner(built_in_by_component[caller], caller)).whole
    }
    return frozenset(component for component, callers in CALLERS.items() if callers <= whole)


def parse_variants(text: str) -> tuple[Variant, ...]:
    """The variants of a comma-separated list, in its order; two that fill the components alike are a ``UsageError``."""
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
            within = min(max(side, LATENT_PIXELS), MAX_PIXELS)
            nearest = round(within / LATENT_PIXELS) * LATENT_PIXELS
            remedy = f"{nearest} is the nearest to {side}"
            raise UsageError("resolution is not possible", value=f"{width}x{height}", allowed=allowed, remedy=remedy)
