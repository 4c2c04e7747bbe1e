"""What a comparison compares: a subject, its cases and stages, and the variants by the names that tables show."""

from __future__ import annotations

from typing import Literal

import msgspec

from bagel_perf.schema.ablations import SlotMixtures
from bagel_perf.schema.tolerances import Tolerance

WHOLE = "e2e"
"""The name of all stages together, which no stage has."""
TOGETHER = ("run",)
"""The one stage of a variant that has no stages, or not those of the others."""

SubjectKind = Literal["bagel", "file"]
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
    then those of ``mixtures``, which are not named; ``num_named`` says how many are. ``ladder`` asks for the change
    from each named variant to the next.
    """

    subject: SubjectInfo
    cases: tuple[str, ...]
    stages: tuple[str, ...]
    variants: tuple[VariantInfo, ...]
    num_named: int
    seed: int
    ladder: bool = False
    mixtures: tuple[SlotMixtures, ...] = ()

    @property
    def is_bagel(self) -> bool:
        """Whether outputs are pictures of BAGEL's, which depend on their seeds."""
        return self.subject.kind == "bagel"

    @property
    def noun(self) -> str:
        """What to call an output."""
        return "picture" if self.is_bagel else "output"

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
        """All that is timed and judged; a single stage is the whole."""
        return timed_stages(self.stages)

    @property
    def ablated(self) -> str:
        """The last named variant whose output is the first's to the bit: the one that ``mixtures`` take apart."""
        return next(each.name for each in reversed(self.variants[: self.num_named]) if each.tolerance is None)

    def tolerance_of(self, *names: str) -> Tolerance | None:
        """The widest tolerance that one of these variants declares, None where all are bitwise."""
        found = [each.tolerance for each in self.variants if each.name in names and each.tolerance is not None]
        return found[0] if found else None


def timed_stages(stages: tuple[str, ...]) -> tuple[str, ...]:
    """The stages and the whole of them; a single stage is the whole."""
    return (*stages, WHOLE) if len(stages) > 1 else (WHOLE,)


def parts_of(stage: str, stages: tuple[str, ...]) -> tuple[str, ...]:
    """The stages whose counts make up those of ``stage``: those of the whole are counted stage by stage."""
    return stages if stage == WHOLE else (stage,)
