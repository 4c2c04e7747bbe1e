"""What a comparison compares: a subject, its cases and stages, named variants, and how far their outputs may differ."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, get_args

import msgspec

from bagel_perf.records.ablations import ComponentMixtures
from bagel_perf.records.errors import UsageError

ToleranceKind = Literal["psnr", "rel_l2", "max_abs"]

KINDS: tuple[ToleranceKind, ...] = get_args(ToleranceKind)
GRAMMAR = "psnr:DB for pictures, rel_l2:SHARE or max_abs:NUMBER for tensors, as psnr:40 or rel_l2:1e-3"
NAMES: dict[ToleranceKind, str] = {"psnr": "PSNR", "rel_l2": "relative L2", "max_abs": "largest difference"}
MAX_LEVEL = 255.0
"""Grey levels from black to white."""
NEAR_LIMIT_DB = 0.1
FARTHEST = 1e12
"""Stands for every difference that is larger, or of which nothing is known: JSON has no infinity."""
MAX_SHARE = 1e300


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """A limit: PSNR in dB that a picture has to reach, or the relative L2 or largest difference that a tensor may have.

    Raises ``UsageError``.
    """

    kind: ToleranceKind
    limit: float

    def __post_init__(self) -> None:
        if not 0 < self.limit < FARTHEST:
            allowed = f"more than 0 and less than {FARTHEST:g}"
            raise UsageError("tolerance is out of range", value=f"{self.kind}:{self.limit:g}", allowed=allowed)

    @classmethod
    def parse(cls, text: object) -> Tolerance:
        """Reads ``psnr:40`` and the like; ``UsageError`` where it is nothing of the kind."""
        name, _, number = text.strip().partition(":") if isinstance(text, str) else ("", "", "")
        try:
            return cls(kind=next(kind for kind in KINDS if kind == name.strip()), limit=float(number))
        except (StopIteration, ValueError) as problem:
            if isinstance(problem, UsageError):
                raise
            raise UsageError("tolerance is not understood", value=repr(text)[:60], allowed=GRAMMAR) from problem

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.kind}:{repr(self.limit).removesuffix('.0')}"

    def reading(self, distance: float) -> float | None:
        """Turns a raw distance into the tolerance's own unit: a mean squared difference into dB; None where it is 0."""
        if distance == 0:
            return None
        known = distance if distance <= self.farthest else self.farthest
        return 10 * math.log10(min(MAX_LEVEL**2 / known, MAX_SHARE)) if self.kind == "psnr" else known

    @property
    def farthest(self) -> float:
        """The raw distance of an output that was not held to the reference at all."""
        return MAX_LEVEL**2 if self.kind == "psnr" else FARTHEST

    def holds(self, reading: float | None) -> bool:
        """Whether an output that is so far off is within the limit; None is an equal one."""
        if reading is None:
            return True
        return reading >= self.limit if self.kind == "psnr" else reading <= self.limit

    def text(self, reading: float) -> str:
        """Shows a reading so that no worst case reads better than it is, and on the side of the limit where it is.

        As 50.8, or 0.00023.
        """
        if self.kind != "psnr":
            texts = (f"{_rounded_up(reading, digits):.{digits}g}" for digits in (3, 6))
            return next((text for text in texts if (float(text) <= self.limit) == self.holds(reading)), repr(reading))
        unit = Decimal("0.01") if abs(reading - self.limit) < NEAR_LIMIT_DB else Decimal("0.1")
        return str(Decimal(str(reading)).quantize(unit, rounding=ROUND_FLOOR))

    @property
    def unit(self) -> str:
        """What stands behind a number: `` dB`` or nothing."""
        return " dB" if self.kind == "psnr" else ""


def _rounded_up(value: float, num_digits: int) -> float:
    digits = Decimal(repr(value))
    return float(digits.quantize(Decimal(1).scaleb(digits.adjusted() - num_digits + 1), rounding=ROUND_CEILING))


WHOLE = "e2e"
"""The name of all stages together, which no stage has."""
TOGETHER = ("run",)
"""The one stage of a variant that has no stages, or not those of the others."""

SubjectKind = Literal["bagel", "file", "server"]
Scalar = str | bool | int | float | None


class SubjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, in the subject's own words, which readers show and compare and never understand.

    ``title`` stands behind the device in the titles of tables, ``summary`` says in a few words what every case asks
    for. ``details`` are what the subject was made from, ``asked`` what each case asks for, by name.
    """

    kind: SubjectKind
    title: str
    summary: str = ""
    details: dict[str, Scalar] = {}
    asked: dict[str, dict[str, Scalar]] = {}


class VariantInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A variant: its name in tables, what the user named it by, and how far its output may be from the first's.

    ``made_with`` is what differs of its environment from the first's, as the version of torch.
    """

    name: str
    target: str
    tolerance: Tolerance | None = None
    made_with: dict[str, Scalar] = {}


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared, as the worker tells it once it knows its subjects.

    ``stages`` are in order and without the whole. ``variants`` hold those that were named, the reference first, and
    then those of ``mixtures``, which are not named; ``num_named`` says how many are. ``successive`` asks for the change
    from each named variant to the next.
    """

    subject: SubjectInfo
    cases: tuple[str, ...]
    stages: tuple[str, ...]
    variants: tuple[VariantInfo, ...]
    num_named: int
    seed: int
    successive: bool = False
    mixtures: tuple[ComponentMixtures, ...] = ()

    @property
    def is_bagel(self) -> bool:
        """Whether outputs are pictures of BAGEL's, which depend on their seeds."""
        return self.subject.kind == "bagel"

    @property
    def is_server(self) -> bool:
        """Whether servers were asked, which tell stages of their own beside the whole that a client sees."""
        return self.subject.kind == "server"

    @property
    def noun(self) -> str:
        """What to call an output."""
        return "output" if self.subject.kind == "file" else "picture"

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all variants that run."""
        return tuple(each.name for each in self.variants)

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the variants that were named."""
        return self.measured[: self.num_named]

    @property
    def timed_stages(self) -> tuple[str, ...]:
        """All that is timed and judged; a single stage is the whole, unless a server tells it."""
        return timed_stages(self.stages, self.subject.kind)

    @property
    def ablated(self) -> str:
        """The last named variant whose output is the first's to the bit: the one that ``mixtures`` take apart."""
        return next(each.name for each in reversed(self.variants[: self.num_named]) if each.tolerance is None)

    def tolerance_of(self, *names: str) -> Tolerance | None:
        """The widest tolerance that one of these variants declares, None where all are bitwise."""
        found = [each.tolerance for each in self.variants if each.name in names and each.tolerance is not None]
        return found[0] if found else None

    def place_of(self, variant: str) -> str:
        """A variant as errors name it: its name, and the target where that says more."""
        target = next((each.target for each in self.variants if each.name == variant), variant)
        return variant if target in ("", variant) else f"{variant} ({target})"


def timed_stages(stages: tuple[str, ...], kind: SubjectKind) -> tuple[str, ...]:
    """The stages and the whole of them; a single stage is the whole, unless a server tells it beside the whole."""
    is_apart = kind == "server" and stages != TOGETHER
    return (*stages, WHOLE) if len(stages) > 1 or is_apart else (WHOLE,)


def parts_of(stage: str, stages: tuple[str, ...]) -> tuple[str, ...]:
    """The stages whose counts make up those of ``stage``: those of the whole are counted stage by stage."""
    return stages if stage == WHOLE else (stage,)
