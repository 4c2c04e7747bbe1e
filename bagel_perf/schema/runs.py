"""What one run gave: measurements of stages, the picture, and where it ran."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.sites import Site
from bagel_perf.schema.slots import Stage

Purpose = Literal["count", "repeat", "other_seed", "profile", "warmup", "timed"]
SyncDevice = Literal["cuda", "simulated"]

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
    ``loop_work`` is the part of ``work`` that the denoise loop did. ``counters`` are further exact numbers of a
    counted run, by name; ``allocations`` those of the device's allocator.
    """

    stage: Stage
    latency_ms: float | None = None
    host_syncs: int | None = None
    peak_bytes: int | None = None
    syncs_by_slot: dict[str, int] | None = None
    work: DeviceWork | None = None
    loop_work: DeviceWork | None = None
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
class Picture:
    """Identity of a picture: md5 of the PNG bytes and sha256 of the pixels.

    ``spread`` is the standard deviation of its grey levels; ``path`` is where the PNG lies, if it was written.
    ``latents_sha256`` is of the latents that it was decoded from, where they were asked for, and so are
    fingerprints of keys and values, latents and pixels, which other machines' rounding does not change by much.
    """

    width: int
    height: int
    md5: str
    pixels_sha256: str
    spread: float
    path: str | None = None
    latents_sha256: str | None = None
    contexts_print: tuple[float, ...] = ()
    latents_print: tuple[float, ...] = ()
    pixels_print: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One request under one variant. A counted run has no latency, a timed run has latency and no counts.

    ``count`` counts host syncs, ``repeat`` and ``other_seed`` are the self-checks, ``profile`` counts the work of a
    GPU, ``warmup`` and ``timed`` are the measurement; ``round`` numbers timed runs, ``sync_device`` says what counted.
    ``captures_ms`` is how long each graph took that was recorded in the run; a timed run records none. ``mse`` is the
    mean squared difference of grey levels (0 to 255) from the first variant's picture of the same seed, where one of
    the two declares a tolerance; ``differing_pixels`` counts those of which any color differs from it, None where there
    was no such picture. ``sites`` are where a counted run waited. A timed run has the ``conditions`` that it
    ran under and the number of its worker ``process``; ``again`` says that it is the first variant's second of its
    round, which shows what a difference between equals looks like.
    Raises ``UsageError``.
    """

    purpose: Purpose
    variant: str
    width: int
    height: int
    seed: int
    round: int | None = None
    sync_device: SyncDevice | None = None
    measurements: tuple[Measurement, ...] = ()
    picture: Picture
    captures_ms: tuple[float, ...] = ()
    mse: float | None = None
    differing_pixels: int | None = None
    sites: tuple[Site, ...] = ()
    again: bool = False
    process: int = 0
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        if self.captures_ms and self.purpose == "timed":
            raise UsageError("a timed run recorded a graph", value=self.variant)
        if self.mse is not None and not self.mse >= 0:
            raise UsageError("a mean squared difference is not 0 or more", value=self.mse)
        if self.differing_pixels is not None and not 0 <= self.differing_pixels <= self.width * self.height:
            allowed = f"0 to {self.width * self.height}"
            raise UsageError("more pixels differ than there are", value=self.differing_pixels, allowed=allowed)
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
        if self.purpose == "count" and (timed or not counted):
            raise UsageError("a counted run has counts and no latency", value=measurement.stage)
        if self.purpose != "count" and counted:
            raise UsageError(f"a run of purpose {self.purpose} has no counts", value=measurement.stage)
        if (measurement.work is not None) != (self.purpose == "profile"):
            raise UsageError("a profiled run, and only such, has a GPU's work", value=f"{self.purpose}")

    def measurement(self, stage: Stage) -> Measurement | None:
        """The measurement of a stage, None if this run has none."""
        return next((each for each in self.measurements if each.stage == stage), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where runs were made; runs from unlike environments are not compared."""

    device_kind: Literal["cuda", "cpu"]
    device_name: str
    preset: str
    attention: str
    torch: str
    python: str
    cuda: str | None
    cudnn: int | None
    driver: str | None
    num_threads: int
    platform: str
    commit: str | None
    dirty: bool | None
    weights: str
    params: int
    layers: int
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
