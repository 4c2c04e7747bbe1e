"""A user's file as the subject of a comparison: its functions are the variants of one process, and share its state."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from bagel_perf.measure.bench import Counts
from bagel_perf.measure.counting import count_on, count_simulated
from bagel_perf.measure.environment import environment_of
from bagel_perf.measure.outputs import Distance, decode, describe, distance, encode, naming
from bagel_perf.measure.stages import Stage, Subject, run_stages
from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import FloorsEvent
from bagel_perf.records.outlines import TOGETHER, Outline, SubjectInfo, Tolerance, VariantInfo
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Environment, Output
from bagel_perf.records.syncs import UNUSED_REMEDY
from bagel_perf.records.targets import Target
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.subjects.files import UserFile

UNUSED = f"nothing ran on the device: that it counts no waits says nothing about a GPU; {UNUSED_REMEDY}"


@dataclass(slots=True, kw_only=True)
class FileBench:
    """The functions of one file that a process measures; ``file`` is loaded already, where it is none on the disk."""

    plan: Plan
    device: torch.device
    file: UserFile | None = None
    outline: Outline = field(init=False)
    environment: Environment = field(init=False)
    _targets: dict[str, Target] = field(init=False)
    _stages: dict[str, tuple[str, ...]] = field(init=False)
    _file: UserFile = field(init=False)
    _folder: str = field(init=False, default_factory=os.getcwd)
    _state: Any = field(init=False)
    _counts: dict[tuple[str, str], Counts] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Loads the file and calls its ``setup``. Raises UsageError and RunFailed with the file's line."""
        own = [each for each in self.plan.targets if not self.plan.own or each.label in self.plan.own]
        self._targets = {target.label: target for target in own}
        self._file = UserFile.load(Path(own[0].file)) if self.file is None else self.file
        path = self._file.path
        for target in own:
            self._file.check(target.function)
        cases = self._chosen_cases()
        self.environment = environment_of(self.device, path.resolve().parent)
        self._state = self._set_up(self._file, self.device)
        self._stages = {
            name: tuple(stage.name for stage in self._bare(target, self._state, cases[0], self.plan.seed).stages)
            for name, target in self._targets.items()
        }
        found = set(self._stages.values())
        self.outline = Outline(
            subject=SubjectInfo(kind="file", title=path.name, asked={case: self._file.asked(case) for case in cases}),
            cases=cases,
            stages=found.pop() if len(found) == 1 else TOGETHER,
            variants=tuple(
                VariantInfo(
                    name=target.label,
                    target=target.place,
                    # The reference is what others are held to, and is held to nothing itself.
                    tolerance=None if target.label == self.plan.variants[0] else self._file.tolerance,
                )
                for target in own
            ),
            num_named=len(own),
            seed=self.plan.seed,
        )

    def _set_up(self, file: UserFile, device: torch.device) -> Any:
        """Calls ``setup`` with the same random numbers to come on every device."""
        random.seed(self.plan.seed)
        np.random.seed(self.plan.seed % 2**32)
        torch.manual_seed(self.plan.seed)
        return file.set_up(device)

    def _chosen_cases(self) -> tuple[str, ...]:
        """Those that were asked for, else all of the file."""
        known = self._file.cases
        for case in self.plan.cases:
            if case not in known:
                allowed = f"{self._file.path.name} has {', '.join(known)}"
                raise UsageError("unknown case", value=case, allowed=allowed, remedy="name one of these with --case")
        return self.plan.cases or known

    def _bare(self, target: Target, state: Any, case: str, seed: int) -> Subject:
        return self._file.subject(target.function, state, case, seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """Says that functions are compared as a whole where their stages have not the same names."""
        if len(set(self._stages.values())) < 2:
            return ()
        texts = (f"{name}: {', '.join(stages)}" for name, stages in self._stages.items())
        return (f"stages differ ({'; '.join(texts)}): compared as a whole",)

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Gives nothing: what a case of somebody's file brings along, the file knows."""
        return iter(())

    def subject(self, variant: str, case: str, seed: int, *, is_marked: bool = False) -> Subject:
        """Binds a case to a function of the file; its regions are the file's own."""
        return self._shaped(self._bare(self._targets[variant], self._state, case, seed))

    def _shaped(self, subject: Subject) -> Subject:
        """The subject with the stages of the outline: as they are, or all in one."""
        if tuple(stage.name for stage in subject.stages) == self.outline.stages:
            return subject
        if self.outline.stages != TOGETHER:
            stages = ", ".join(stage.name for stage in subject.stages)
            allowed = f"{', '.join(self.outline.stages)}, as in the first case"
            raise UsageError("a case has other stages than another", value=stages, allowed=allowed)
        return Subject(stages=(Stage(name=TOGETHER[0], run=lambda _: run_stages(subject)),))

    def count(self, variant: str, case: str) -> Counts:
        """Counts one run of the outline's seed, on a simulated device where there is no GPU."""
        if self.device.type == "cuda":
            described = self._describing(variant, case)
            return count_on(self.device, self.subject(variant, case, self.outline.seed), described)
        if not self._counts:
            self._count_all()
        return self._counts[variant, case]

    def _count_all(self) -> None:
        """Sets up once on a simulated device, and counts every function and case there."""
        is_held = any(each.tolerance is not None for each in self.outline.variants)
        with SimulatedCuda() as simulated:
            # Anew, as the module may keep tensors, which are of one device; and where it began, as setup may move.
            os.chdir(self._folder)
            file = UserFile.load(self._file.path) if self.file is None else self._file
            state = self._set_up(file, torch.device("cuda"))
            for case in self.outline.cases:
                for name, target in self._targets.items():
                    before = simulated.unjudged.copy()
                    subject = self._shaped(file.subject(target.function, state, case, self.outline.seed))
                    uses: list[str] = []
                    with simulated.uses_to(_noting(uses)):
                        counts = count_simulated(subject, simulated, self._describing(name, case))
                    value = self.copied(counts.value) if is_held else None
                    self._counts[name, case] = dataclasses.replace(
                        _judged(counts, simulated.unjudged - before, is_used=bool(uses)), value=value
                    )

    def loop(self, case: str) -> tuple[str, int] | None:
        """Names no loop."""
        return None

    def describe(self, value: Any) -> Output:
        """Describes whatever a function returned."""
        return describe(value)

    def _describing(self, variant: str, case: str) -> Callable[[Any], Output]:
        def described(value: Any) -> Output:
            with naming(self.outline.place_of(variant), case):
                return describe(value)

        return described

    def copied(self, value: Any) -> Any:
        """Gives a copy on the host: a function may return what its next run writes into."""
        return decode(*encode(value))

    def encode(self, value: Any) -> tuple[bytes, str]:
        """Turns an output into the bytes of a file and its suffix."""
        return encode(value)

    def decode(self, content: bytes, suffix: str) -> Any:
        """Turns the bytes of a file back into an output."""
        return decode(content, suffix)

    def distance(self, value: Any, reference: Any, tolerance: Tolerance) -> Distance:
        """Measures how far two outputs are from each other."""
        return distance(value, reference, tolerance)

    def records(self, variant: str) -> bool:
        """Says that nothing is known to record."""
        return False

    def forget_recordings(self) -> None:
        """Has none."""

    def take_recordings_ms(self, variant: str) -> tuple[float, ...]:
        """Has none."""
        return ()

    def floors(self, values: dict[str, Any]) -> FloorsEvent | None:
        """Has none: what the function has to compute, nobody knows."""
        return None


def _noting(uses: list[str]) -> Callable[[], bool]:
    def note() -> bool:
        uses.append("used")
        return True

    return note


def _judged(counts: Counts, unjudged: Mapping[str, int], *, is_used: bool) -> Counts:
    """Counts of a run, with a note where nothing ran on the device.

    They are unknown where something could not be judged, as there may be more waits than were seen.
    """
    if not unjudged and not is_used:
        return dataclasses.replace(counts, notes=(*counts.notes, UNUSED))
    if not unjudged:
        return counts
    names = ", ".join(sorted(unjudged))
    note = f"host syncs are unknown: the simulated device cannot judge {names}; count on a GPU"
    unknown = tuple(
        replace(each, host_syncs=None, syncs_by_component=None, counters=None) for each in counts.measurements
    )
    return dataclasses.replace(counts, measurements=unknown, sites=(), notes=(note,))
