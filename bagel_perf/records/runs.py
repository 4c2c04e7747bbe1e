"""What one run gave: measurements of stages, the picture, where it ran, and under which conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.errors import UsageError
from bagel_perf.records.sites import SyncSite

_NOT_NEGATIVE = (
    "num_samples",
    "sm_clock_mhz",
    "sm_clock_min_mhz",
    "memory_clock_mhz",
    "power_w",
    "energy_j",
    "other_processes",
)
_SHARES = ("cpu_load", "cpu_load_of_others")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What was read between two moments around a timed run, ``window_ms`` apart; None where it could not be read.

    ``num_samples`` counts the samples of the GPU in between and at the end. Over them ``sm_clock_mhz`` and
    ``memory_clock_mhz`` are medians, ``sm_clock_min_mhz`` the lowest, ``temperature_c`` the highest, ``power_w`` the
    mean, and ``throttle_reasons`` the names of all that held at any of them. ``energy_j`` is what the GPU's own
    counter gained over the window, in joules. ``other_processes`` counts those that held a context on the GPU and
    are not of this program. ``cpu_load`` is the share of the time of all the host's cores in which they were not idle
    (waiting for a disk is idle, time stolen by a hypervisor is not), 0 to 1; ``cpu_load_of_others`` is the same
    without the CPU time of the measuring process. Raises ``UsageError``.
    """

    window_ms: float
    num_samples: int = 0
    sm_clock_mhz: float | None = None
    sm_clock_min_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    other_processes: int | None = None
    cpu_load: float | None = None
    cpu_load_of_others: float | None = None

    def __post_init__(self) -> None:
        self._check("window_ms", self.window_ms > 0, "above 0")
        for name in _NOT_NEGATIVE:
            self._check(name, (value := getattr(self, name)) is None or value >= 0, "0 or more")
        for name in _SHARES:
            self._check(name, (value := getattr(self, name)) is None or 0 <= value <= 1, "0 to 1")
        reasons = self.throttle_reasons or ()
        self._check("throttle_reasons", len(set(reasons)) == len(reasons), "each reason once")
        lowest, median = self.sm_clock_min_mhz, self.sm_clock_mhz
        self._check("sm_clock_min_mhz", lowest is None or median is None or lowest <= median, f"at most {median}")

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UsageError(f"{name} of a run is impossible", value=getattr(self, name), allowed=allowed)


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

    ``syncs_by_component`` says how many of ``host_syncs`` fell into which component; the others fell outside of any.
    ``counters`` are further exact numbers, by name.
    """

    stage: str
    host_syncs: int | None = None
    syncs_by_component: dict[str, int] | None = None
    counters: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if self.host_syncs is not None and self.host_syncs < 0:
            raise UsageError(f"host syncs of {self.stage} are negative", value=self.host_syncs)
        if self.syncs_by_component is not None and sum(self.syncs_by_component.values()) > (self.host_syncs or 0):
            allowed = f"{self.host_syncs} in all"
            raise UsageError(
                f"{self.stage} has more syncs in its components", value=self.syncs_by_component, allowed=allowed
            )


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
    Of a server's picture ``md5`` is of the decoded pixels, and ``file_md5`` of the file that was sent.
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
    file_md5: str | None = None
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
        if self.is_flat and self.num_values == 0:
            return "an output that holds nothing"
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
    sites: tuple[SyncSite, ...] = ()


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

    ``is_control`` says that it is the first variant's second of its round, which shows what a difference between equals
    looks like.
    """

    round: int
    is_control: bool = False
    conditions: Conditions | None = None


Run: TypeAlias = CountedRun | RepeatedRun | OtherSeedRun | ProfiledRun | WarmupRun | TimedRun
RunT = TypeVar("RunT", bound=Run)


def runs_of(kind: type[RunT], runs: Iterable[Run]) -> Iterator[RunT]:
    """Those of ``runs`` that were made for one purpose, in their order."""
    return (run for run in runs if isinstance(run, kind))


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs were made; runs from unlike environments are not compared.

    ``commit`` and ``dirty`` are those of the code that was measured. Of ``server`` the machine is the client's, and
    what the servers run with is unknown.
    """

    device_kind: Literal["cuda", "cpu", "server"]
    device_name: str
    torch: str | None
    python: str
    cuda: str | None
    cudnn: int | None
    driver: str | None
    num_threads: int | None
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


SCHEMA = "bagel-perf.verify"
VERSION = 1


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The checks in the order in which they were made; ``variants`` are all that were asked for."""

    variants: tuple[str, ...]
    checks: tuple[TensorCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every variant was checked and nothing exceeds its limit."""
        return all(map(self.of, self.variants)) and all(check.ok for check in self.checks)

    def of(self, variant: str) -> tuple[TensorCheck, ...]:
        """The checks of one variant."""
        return tuple(check for check in self.checks if check.variant == variant)

    def to_json(self) -> dict[str, Any]:
        """The checks as a JSON object, by variant."""
        variants: dict[str, list[dict[str, Any]]] = {}
        for variant in self.variants:
            variants[variant] = [codec.to_json(check) for check in self.of(variant)]
        for check in (check for checks in variants.values() for check in checks):
            del check["variant"]
        return {"schema": SCHEMA, "version": VERSION, "variants": variants, "ok": self.ok}
