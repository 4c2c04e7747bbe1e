"""What one run gave: measurements of stages, the picture, and where it ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Literal, TypeAlias, TypeVar, cast

import msgspec

from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.sites import Site

Purpose = Literal["count", "repeat", "other_seed", "profile", "warmup", "timed"]
SyncDevice = Literal["cuda", "simulated"]

OutputKind = Literal["picture", "tensor", "text", "bytes", "number", "nest"]

MIN_SPREAD = 1.0
"""Grey levels; a picture that spreads less shows nothing, and a wrong kernel would pass for a right one."""


class DeviceWork(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile saw a GPU do: exact counts, and the time in ms during which it did anything.

    ``launches`` are calls of the host that start kernels, a graph's replay among them as one (``graph_launches``);
    ``kernels`` are those that ran, in graphs or not; ``copies`` counts copies and fills by direction.
    """

    launches: int
    graph_launches: int
    kernels: int
    copies: dict[str, int]
    busy_ms: float

    def __post_init__(self) -> None:
        if not 0 <= self.graph_launches <= self.launches:
            allowed = f"0 to {self.launches}, all launches"
            raise UsageError("graph launches are not among the launches", value=self.graph_launches, allowed=allowed)


class CountedStage(msgspec.Struct, frozen=True, kw_only=True):
    """Host syncs of a stage, None where an operation could not be judged.

    ``syncs_by_slot`` says how many of ``host_syncs`` fell into which slot; the others fell outside of any.
    ``counters`` are further exact numbers, by name.
    """

    stage: str
    host_syncs: int | None = None
    syncs_by_slot: dict[str, int] | None = None
    counters: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if self.host_syncs is not None and self.host_syncs < 0:
            raise UsageError(f"host syncs of {self.stage} are negative", value=self.host_syncs)
        if self.syncs_by_slot is not None and sum(self.syncs_by_slot.values()) > (self.host_syncs or 0):
            allowed = f"{self.host_syncs} in all"
            raise UsageError(f"{self.stage} has more syncs in its slots", value=self.syncs_by_slot, allowed=allowed)


class StageMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Peak of the device's memory in a stage, in bytes, and its allocator's exact counts; None where not measured."""

    stage: str
    peak_bytes: int | None = None
    allocations: int | None = None


class StageWork(msgspec.Struct, frozen=True, kw_only=True):
    """What a GPU did in a stage; ``loop_work`` is the part that the subject's loop of ``loop_steps`` steps did."""

    stage: str
    work: DeviceWork
    loop_work: DeviceWork | None = None
    loop_steps: int | None = None


class TimedStage(msgspec.Struct, frozen=True, kw_only=True):
    """Wall time of a stage in ms."""

    stage: str
    latency_ms: float

    def __post_init__(self) -> None:
        if not self.latency_ms > 0:
            raise UsageError(f"latency of {self.stage} is not positive", value=self.latency_ms)


StageT = TypeVar("StageT", bound=CountedStage | StageMemory | StageWork | TimedStage)


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of what a run gave: md5 of its bytes, sha256 of its values with their dtypes and shapes.

    The bytes of a picture are a PNG's. ``shape`` is that of a tensor, and (height, width, channels) of a picture;
    ``num_values`` are its pixels or elements. ``spread`` is the standard deviation of its values, grey levels of a
    picture; None where it has none, as a text. ``is_flat`` and ``is_finite`` say whether all its numbers are the same,
    and whether none of them is NaN or infinite. ``path`` is where it lies, if it was written.
    ``latents_sha256`` is of the latents that a picture was decoded from, where they were asked for, and so are
    fingerprints of keys and values, latents and pixels, which other machines' rounding does not change by much.
    """

    kind: OutputKind
    md5: str
    sha256: str
    shape: tuple[int, ...] = ()
    num_values: int = 0
    spread: float | None = None
    is_flat: bool = False
    is_finite: bool = True
    path: str | None = None
    latents_sha256: str | None = None
    contexts_print: tuple[float, ...] = ()
    latents_print: tuple[float, ...] = ()
    pixels_print: tuple[float, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What two equal outputs share."""
        return self.kind, self.md5, self.sha256, self.shape

    @property
    def fault(self) -> str:
        """Why it shows nothing, in words; "" where it may show something."""
        if self.kind == "picture" and not (self.spread is not None and self.spread >= MIN_SPREAD):
            spread = "nan" if self.spread is None else f"{self.spread:.2g}"
            return f"a flat picture (spread {spread} grey levels)"
        if not self.is_finite:
            return "an output that is not finite (NaN or infinity)"
        return "an output in which all numbers are equal" if self.is_flat else ""


class AnyRun(msgspec.Struct, frozen=True, kw_only=True, tag_field="purpose"):
    """One case under one variant, made by the worker ``process``; its class is its purpose.

    ``distance`` is that from the first variant's output of the same seed, where one of the two declares a tolerance:
    the mean squared difference of grey levels (0 to 255), or as the tolerance has it; ``num_differing`` counts the
    pixels or elements that are not the same, None where there was no such output. Raises ``UsageError``.
    """

    variant: str
    case: str
    seed: int
    process: int = 0
    output: Output
    distance: float | None = None
    num_differing: int | None = None

    def __post_init__(self) -> None:
        if self.distance is not None and not self.distance >= 0:
            raise UsageError("a distance is not 0 or more", value=self.distance)
        if self.num_differing is not None and not 0 <= self.num_differing <= self.output.num_values:
            allowed = f"0 to {self.output.num_values}"
            raise UsageError("more values differ than there are", value=self.num_differing, allowed=allowed)

    @property
    def purpose(self) -> Purpose:
        """What it was made for, as files and messages name it."""
        return cast(Purpose, self.__struct_config__.tag)


class MeasuredRun(AnyRun, Generic[StageT], frozen=True, kw_only=True):
    """A run in which stages were measured, each once."""

    measurements: tuple[StageT, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = [measurement.stage for measurement in self.measurements]
        if len(set(stages)) != len(stages):
            raise UsageError("a stage is measured twice in one run", value=", ".join(stages))

    def measurement(self, stage: str) -> StageT | None:
        """The measurement of a stage, None if this run has none."""
        return next((each for each in self.measurements if each.stage == stage), None)


class CountedRun(MeasuredRun[CountedStage], frozen=True, kw_only=True, tag="count"):
    """Counts host syncs, on ``sync_device``; ``sites`` are where it waited. ``round`` numbers the passes of a gate."""

    round: int | None = None
    sync_device: SyncDevice
    sites: tuple[Site, ...] = ()


class RepeatedRun(MeasuredRun[StageMemory], frozen=True, kw_only=True, tag="repeat"):
    """A self-check: the same seed again, with the memory that it takes."""


class OtherSeedRun(AnyRun, frozen=True, kw_only=True, tag="other_seed"):
    """A self-check: another seed has to give another picture."""


class ProfiledRun(MeasuredRun[StageWork], frozen=True, kw_only=True, tag="profile"):
    """Counts the work of a GPU."""


class WarmupRun(AnyRun, frozen=True, kw_only=True, tag="warmup"):
    """Made before those that are timed; ``captures_ms`` is how long each graph took that was recorded in it."""

    captures_ms: tuple[float, ...] = ()


class TimedRun(MeasuredRun[TimedStage], frozen=True, kw_only=True, tag="timed"):
    """A run of the measurement, in a ``round`` of it and under ``conditions``.

    ``again`` says that it is the first variant's second of its round, which shows what a difference between equals
    looks like.
    """

    round: int
    again: bool = False
    conditions: Conditions | None = None


Run: TypeAlias = CountedRun | RepeatedRun | OtherSeedRun | ProfiledRun | WarmupRun | TimedRun
RunT = TypeVar("RunT", bound=Run)


def runs_of(kind: type[RunT], runs: Iterable[Run]) -> Iterator[RunT]:
    """Those of ``runs`` that were made for one purpose, in their order."""
    return (run for run in runs if isinstance(run, kind))


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs were made; runs from unlike environments are not compared.

    ``commit`` and ``dirty`` are those of the code that was measured.
    """

    device_kind: Literal["cuda", "cpu"]
    device_name: str
    torch: str
    python: str
    cuda: str | None
    cudnn: int | None
    driver: str | None
    num_threads: int
    platform: str
    commit: str | None
    dirty: bool | None
    host_cpu: str | None = None


def differing_fields(a: Environment, b: Environment) -> tuple[str, ...]:
    """Names of the fields in which two environments differ."""
    return tuple(name for name in a.__struct_fields__ if getattr(a, name) != getattr(b, name))


class TensorCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A golden tensor: its error under a variant, and the limit (0 for integers, which have to be equal)."""

    variant: str
    tensor: str
    error: float
    limit: float
    ok: bool

    def __post_init__(self) -> None:
        if self.ok != (self.error <= self.limit):
            value = f"error {self.error}, limit {self.limit}, ok {self.ok}"
            raise UsageError(f"check of {self.tensor} contradicts itself", value=value)
