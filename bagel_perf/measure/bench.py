"""What a process measures: subjects bound to a device, by variant, case and seed, as the measuring sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from bagel_perf.measure.outputs import Distance
from bagel_perf.measure.stages import Subject
from bagel_perf.records.events import FloorsEvent
from bagel_perf.records.outlines import Outline, Tolerance
from bagel_perf.records.runs import CountedStage, Environment, Output, SyncDevice
from bagel_perf.records.sites import SyncSite


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Output of a counted run, its host syncs and further counters per stage, and where it waited.

    ``value`` is what the run gave, None where it is on a device that is closed by now; ``notes`` say what is not known.
    """

    output: Output
    value: Any
    device: SyncDevice
    measurements: tuple[CountedStage, ...]
    sites: tuple[SyncSite, ...]
    notes: tuple[str, ...] = ()


class Bench(Protocol):
    """Subjects of one process, and what of a comparison they are."""

    outline: Outline

    @property
    def device(self) -> torch.device:
        """The device on which the subjects are timed."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the subjects before any figure."""
        ...

    @property
    def environment(self) -> Environment:
        """The machine and the code of the subjects."""
        ...

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Gives a case and the PNG of the picture that it brings along, where there is one."""
        ...

    def subject(self, variant: str, case: str, seed: int, *, is_marked: bool = False) -> Subject:
        """Binds a case to a variant as it is timed, or with regions around its parts."""
        ...

    def count(self, variant: str, case: str) -> Counts:
        """Counts one run with the outline's seed, off CUDA on the simulated device."""
        ...

    def loop(self, case: str) -> tuple[str, int] | None:
        """Names the region whose work is told by the step, and its number of steps."""
        ...

    def describe(self, value: Any) -> Output:
        """Describes what a run gave."""
        ...

    def copied(self, value: Any) -> Any:
        """Gives a copy of what a run gave that no later run changes."""
        ...

    def encode(self, value: Any) -> tuple[bytes, str]:
        """Turns what a run gave into the bytes of a file and its suffix."""
        ...

    def decode(self, content: bytes, suffix: str) -> Any:
        """Turns what ``encode`` gave back into a value."""
        ...

    def distance(self, value: Any, reference: Any, tolerance: Tolerance) -> Distance:
        """Measures how far two values are from each other."""
        ...

    def records(self, variant: str) -> bool:
        """Says whether a variant records work on its first run, which others are not to pay for."""
        ...

    def forget_recordings(self) -> None:
        """Drops whatever any variant has recorded, which would be in another one's peak."""
        ...

    def take_recordings_ms(self, variant: str) -> tuple[float, ...]:
        """Gives how long each recording took that was made since the last call."""
        ...

    def floors(self, values: dict[str, Any]) -> FloorsEvent | None:
        """Measures the ceilings of the device at the shapes of the cases, whose outputs are ``values``."""
        ...
