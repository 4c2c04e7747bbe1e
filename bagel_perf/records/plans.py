"""A plan: everything that a worker process is told, in one JSON object, its share of the rounds included."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.ablations import ComponentMixtures, component_mixtures
from bagel_perf.records.bagel import BUILT_IN, MAX_SEED, Request, parse_variant, parse_variants
from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import Outline, Scalar, SubjectInfo, Tolerance, VariantInfo
from bagel_perf.records.servers import Served
from bagel_perf.records.targets import Target
from bagel_perf.records.version1 import flat

ROUNDS_PER_PROCESS = 2
"""On a GPU; they only sharpen what a process shows."""
FIRST_LOOK = 6
"""Processes after which ``--pairs auto`` first asks whether they are enough."""


def blocks(num_rounds: int, num_processes: int) -> tuple[tuple[int, int], ...]:
    """(first round, one past the last) of each process, in order; fewer processes where there are fewer rounds."""
    number = min(num_processes, num_rounds)
    ends = [num_rounds * index // number for index in range(number + 1)]
    return tuple(pairwise(ends))


SCHEMA = "bagel-perf.plan"
VERSION = 1

Preset = Literal["auto", "7b", "tiny"]
Device = Literal["auto", "cuda", "cpu"]
Attention = Literal["auto", "cudnn", "flash", "math"]

PRESETS: tuple[Preset, ...] = get_args(Preset)
DEVICES: tuple[Device, ...] = get_args(Device)
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

MIN_VARIANTS = 2

_Choice = TypeVar("_Choice")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: ``compare`` measures requests under variants, or files of the user's, ``verify`` checks a golden
    directory, ``syncs`` watches one request under one variant, ``serve`` names the model and variant of a server.

    ``targets`` are functions of files, by the names of ``variants``, to be measured on ``cases``, none of which means
    all that the files have. ``served`` are servers, by the names of ``variants``, that are sent the requests. ``own``
    are the variants of this process, where processes take turns; none where it has all.

    ``pairs``, ``processes`` and ``warmup`` of None mean the default of the device; the worker reports what it took. The
    first process (0) proves the pictures; ``rounds`` are those of one process (first, and one past the last), None for
    its share of all. ``resolve_pct`` asks for as many more processes as bring every interval within so many percent,
    at most ``processes``.
    ``image_dir`` is where pictures are written, ``order_seed`` draws the order of the variants.
    ``budgets`` are host syncs per entry of a region. On CUDA ``profile`` asks for times, ``check_saving`` for their
    test, and ``trace_path`` is where the profile's trace is kept. ``successive`` asks for the change from each variant
    to the next, ``ablate`` for each component of the last bitwise one left in and left out. Raises ``UsageError``.
    """

    kind: Literal["compare", "verify", "syncs", "gate", "serve"]
    requests: tuple[Request, ...] = ()
    variants: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    cases: tuple[str, ...] = ()
    served: Served | None = None
    seed: int = 42
    own: tuple[str, ...] = ()
    preset: Preset = "auto"
    weights: str | None = None
    golden: str | None = None
    device: Device = "auto"
    attention: Attention = "auto"
    pairs: int | None = None
    warmup: int | None = None
    processes: int | None = None
    process: int = 0
    rounds: tuple[int, int] | None = None
    resolve_pct: float | None = None
    image_dir: str = ""
    order_seed: int = 0
    budgets: dict[str, int] = {}
    profile: bool = True
    check_saving: bool = False
    trace_path: str | None = None
    successive: bool = False
    ablate: bool = False

    def __post_init__(self) -> None:
        if not self.targets and self.served is None:
            parse_variants(",".join(self.variants))
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError("seed is out of range", value=self.seed, allowed=f"0 to {MAX_SEED}")
        one_of("preset", self.preset, PRESETS)
        one_of("device", self.device, DEVICES)
        one_of("attention", self.attention, ATTENTIONS)
        if self.pairs is not None and self.pairs < 1:
            raise UsageError("too few pairs", value=self.pairs, allowed="at least 1")
        if self.resolve_pct is not None and not self.resolve_pct > 0:
            raise UsageError("nothing can be resolved so well", value=self.resolve_pct, allowed="percent above 0")
        if self.processes is not None and self.processes < 1:
            raise UsageError("too few processes", value=self.processes, allowed="at least 1")
        if self.resolve_pct is not None and self.processes is not None and self.processes < FIRST_LOOK:
            remedy = "give --processes more, or --pairs a number"
            allowed = f"--pairs auto looks first after {FIRST_LOOK}"
            raise UsageError("too few processes", value=self.processes, allowed=allowed, remedy=remedy)
        if self.warmup is not None and self.warmup < 0:
            raise UsageError("warm-ups are negative", value=self.warmup, allowed="0 or more")
        if self.kind == "verify":
            if self.golden is None or self.requests:
                raise UsageError("a plan to verify needs a golden directory and no requests")
        elif self.kind == "syncs":
            self._check_syncs()
        elif self.kind == "gate":
            if not self.requests:
                raise UsageError("a plan to gate needs requests")
        elif self.kind == "serve":
            if len(self.variants) != 1:
                raise UsageError("a server has one variant", value=", ".join(self.variants))
        else:
            self._check_compare()

    def _check_syncs(self) -> None:
        if len(self.requests) != 1 or len(self.variants) != 1:
            raise UsageError("a plan to watch needs one request and one variant", value=", ".join(self.variants))
        if self.check_saving and not self.profile:
            raise UsageError("a predicted saving is checked against a profile", remedy="leave --no-profile out")
        if self.trace_path is not None and not self.profile:
            raise UsageError("a trace is that of a profile", remedy="leave --no-profile out")

    def _check_compare(self) -> None:
        if len(self.variants) < MIN_VARIANTS:
            allowed = f"at least {MIN_VARIANTS}, as baseline,sync_free"
            raise UsageError("too few variants to compare", value=", ".join(self.variants), allowed=allowed)
        if self.targets:
            return
        if self.served is None:
            self._check_reference()
        elif self.resolve_pct is not None:
            raise UsageError("--pairs auto is for processes", allowed="a number of rounds for servers")
        sizes = [(request.width, request.height) for request in self.requests]
        if not sizes:
            raise UsageError("no resolution to compare", remedy="give one with --res 1024")
        for width, height in sizes:
            if sizes.count((width, height)) > 1:
                raise UsageError("resolution is given twice", value=f"{width}x{height}", remedy="name each --res once")
        if self.ablate:
            self._check_ablation()

    def _check_reference(self) -> None:
        """A picture that may differ itself says of no other whether it is right."""
        reference = self.variants[0]
        if parse_variant(reference).min_psnr_db is not None:
            base = BUILT_IN[0].name
            others = (name for name in self.variants if name != base)
            problem = "the first variant is the reference, and its picture is held only to a tolerance"
            remedy = f"put {base} first: --variants {','.join((base, *others))}"
            raise UsageError(problem, value=reference, allowed="it has to be bitwise", remedy=remedy)

    def _check_ablation(self) -> None:
        first, *built_ins = (built_in.name for built_in in BUILT_IN if built_in.is_bitwise)
        if self.variants[0] != first or self.ablated not in built_ins:
            allowed = f"{first} first and last one of {', '.join(built_ins)}"
            remedy = f"--variants {first},{built_ins[-1]}"
            given = ",".join(self.variants)
            raise UsageError("these variants cannot be taken apart", value=given, allowed=allowed, remedy=remedy)

    @property
    def is_first(self) -> bool:
        """Whether this process has the reference; it holds the GPU for those that share the comparison with it."""
        return not self.own or self.variants[0] in self.own

    @property
    def ablated(self) -> str:
        """The last variant whose picture is the baseline's to the bit: the one that ``ablate`` takes apart."""
        bitwise = [name for name in self.variants if parse_variant(name).min_psnr_db is None]
        return bitwise[-1] if bitwise else ""

    @property
    def mixtures(self) -> tuple[ComponentMixtures, ...]:
        """The components of ``ablated`` that are left in and out; none unless ``ablate``."""
        return component_mixtures(self.ablated, self.variants) if self.ablate else ()

    @property
    def measured(self) -> tuple[str, ...]:
        """All variants that run: those that were named, then the mixtures of an ablation."""
        mixed = [name for each in self.mixtures for name in (each.left_in, each.left_out) if name is not None]
        return tuple(dict.fromkeys((*self.variants, *mixed)))

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """The plan of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))


def bagel_outline(plan: Plan, details: Mapping[str, Scalar]) -> Outline:
    """The outline of a comparison of BAGEL's variants; ``details`` are what its worker says of the model."""
    first = plan.requests[0]
    return Outline(
        subject=SubjectInfo(
            kind="bagel",
            title=f"{details.get('preset')} preset",
            summary=f"{first.task}, {first.steps} steps",
            details=dict(details),
            asked={request.case: flat(codec.to_json(request)) for request in plan.requests},
        ),
        cases=tuple(request.case for request in plan.requests),
        stages=("ar", "dit"),
        variants=tuple(
            VariantInfo(name=name, target=name, tolerance=_tolerance(parse_variant(name).min_psnr_db))
            for name in plan.measured
        ),
        num_named=len(plan.variants),
        seed=first.seed,
        successive=plan.successive,
        mixtures=plan.mixtures,
    )


def _tolerance(min_psnr_db: float | None) -> Tolerance | None:
    return None if min_psnr_db is None else Tolerance(kind="psnr", limit=min_psnr_db)


def one_of(what: str, value: str, allowed: tuple[_Choice, ...]) -> _Choice:
    """The member of ``allowed`` that equals ``value``; ``UsageError`` that lists them when there is none."""
    for choice in allowed:
        if choice == value:
            return choice
    raise UsageError(f"unknown {what}", value=value, allowed="allowed: " + ", ".join(map(str, allowed)))
