"""What one run gave: measurements of stages, the picture, and where it ran."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.sites import Site

Purpose = Literal["count", "repeat", "other_seed", "profile", "warmup", "timed"]
SyncDevice = Literal["cuda", "simulated"]

OutputKind = Literal["picture", "tensor", "text", "bytes", "number", "nest"]

MIN_SPREAD = 1.0
"""Grey levels; a picture that spreads less shows nothing, and a wrong kernel would pass for a right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWork:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One stage of one run: wall time in ms, host syncs, peak device memory in bytes; None where not measured.

    ``syncs_by_slot`` says how many of ``host_syncs`` fell into which slot; the others fell outside of any.
    ``loop_work`` is the part of ``work`` that the subject's loop of ``loop_steps`` steps did. ``counters`` are further
    exact numbers of a counted run, by name; ``allocations`` those of the device's allocator.
    """

    stage: str
    latency_ms: float | None = None
    host_syncs: int | None = None
    peak_bytes: int | None = None
    syncs_by_slot: dict[str, int] | None = None
    work: DeviceWork | None = None
    loop_work: DeviceWork | None = None
    loop_steps: int | None = None
    counters: dict[str, int] | None = None
    allocations: int | None = None

    def __post_init__(self) -> None:
        if self.latency_ms is not None and not self.latency_ms > 0:
            raise UsageError(f"latency of {self.stage} is not positive", value=self.latency_ms)
        if self.host_syncs is not None and self.host_syncs < 0:
            raise UsageError(f"host syncs of {self.stage} are negative", value=self.host_syncs)
        if self.syncs_by_slot is not None and sum(self.syncs_by_slot.values()) > (self.host_syncs or 0):
            allowed = f"{self.host_syncs} in all"
            raise UsageError(f"{self.stage} has more syncs in its slots", value=self.syncs_by_slot, allowed=allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One case under one variant. A counted run has no latency, a timed run has latency and no counts.

    The counts of a counted run are None where an operation could not be judged.

    ``count`` counts host syncs, ``repeat`` and ``other_seed`` are the self-checks, ``profile`` counts the work of a
    GPU, ``warmup`` and ``timed`` are the measurement; ``round`` numbers timed runs, ``sync_device`` says what counted.
    ``captures_ms`` is how long each graph took that was recorded in the run; a timed run records none. ``distance`` is
    that from the first variant's output of the same seed, where one of the two declares a tolerance: the mean squared
    difference of grey levels (0 to 255), or as the tolerance has it; ``num_differing`` counts the pixels or elements
    that are not the same, None where there was no such output. ``sites`` are where a counted run waited. A timed run
    has the ``conditions`` that it ran under and the number of its worker ``process``; ``again`` says that it is the
    first variant's second of its round, which shows what a difference between equals looks like.
    Raises ``UsageError``.
    """

    purpose: Purpose
    variant: str
    case: str
    seed: int
    round: int | None = None
    sync_device: SyncDevice | None = None
    measurements: tuple[Measurement, ...] = ()
    output: Output
    captures_ms: tuple[float, ...] = ()
    distance: float | None = None
    num_differing: int | None = None
    sites: tuple[Site, ...] = ()
    again: bool = False
    process: int = 0
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        if self.captures_ms and self.purpose == "timed":
            raise UsageError("a timed run recorded a graph", value=self.variant)
        if self.distance is not None and not self.distance >= 0:
            raise UsageError("a distance is not 0 or more", value=self.distance)
        if self.num_differing is not None and not 0 <= self.num_differing <= self.output.num_values:
            allowed = f"0 to {self.output.num_values}"
            raise UsageError("more values differ than there are", value=self.num_differing, allowed=allowed)
        stages = [measurement.stage for measurement in self.measurements]
        if len(set(stages)) != len(stages):
            raise UsageError("a stage is measured twice in one run", value=", ".join(stages))
        if (self.again or self.conditions is not None) and self.purpose != "timed":
            raise UsageError("a timed run, and only such, has conditions or is made again", value=self.purpose)
        if self.sites and self.purpose != "count":
            raise UsageError("a counted run, and only such, has sites", value=self.purpose)
        if (self.sync_device is not None) != (self.purpose == "count"):
            raise UsageError("a counted run, and only such, has a sync device", value=self.purpose)
        if self.purpose == "timed" and self.round is None:
            raise UsageError("a timed run lacks its round", value=self.variant)
        for measurement in self.measurements:
            self._check(measurement)

    def _check(self, measurement: Measurement) -> None:
        timed, counted = measurement.latency_ms is not None, measurement.host_syncs is not None
        if self.purpose == "timed" and not timed:
            raise UsageError("a timed run lacks a latency", value=measurement.stage)
        if self.purpose == "count" and timed:
            raise UsageError("a counted run has no latency", value=measurement.stage)
        if self.purpose != "count" and counted:
            raise UsageError(f"a run of purpose {self.purpose} has no counts", value=measurement.stage)
        if (measurement.work is not None) != (self.purpose == "profile"):
            raise UsageError("a profiled run, and only such, has a GPU's work", value=f"{self.purpose}")

    def measurement(self, stage: str) -> Measurement | None:
        """The measurement of a stage, None if this run has none."""
        return next((each for each in self.measurements if each.stage == stage), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
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
    return tuple(f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorCheck:
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
