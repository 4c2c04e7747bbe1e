"""Counts the host syncs of a request, on CUDA by callbacks and elsewhere on the simulated device."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from bagel_perf.harness.measure import Stage as SubjectStage
from bagel_perf.harness.measure import Subject, run_stages
from bagel_perf.harness.settings import Watched
from bagel_perf.harness.simulated import SimulatedCuda, SimulatedDevice
from bagel_perf.harness.syncs import count_host_syncs
from bagel_perf.harness.syncs.frames import Folders
from bagel_perf.harness.syncs.sites import Counted, Place
from bagel_perf.harness.tally import Tally, tallying
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.parameters import map_tensors
from bagel_perf.schema.errors import RunFailed
from bagel_perf.schema.runs import Measurement, SyncDevice
from bagel_perf.schema.sites import Site
from bagel_perf.schema.slots import SLOTS, Stage, as_stage
from bagel_perf.schema.waits import Kind

ELSEWHERE = ""
"""Key of the waits that happen outside every slot."""

MakeSubject = Callable[[Bagel], Subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Output of a counted run, its host syncs and further counters per stage, and where it waited."""

    output: bytes
    device: SyncDevice
    measurements: tuple[Measurement, ...]
    sites: tuple[Site, ...]


def count_stages(model: Bagel, make_subject: MakeSubject) -> Counts:
    """Counts one run of the subject that ``make_subject`` makes of the model, whose slots must be in regions.

    Raises RunFailed where the simulated device met an operation that it cannot judge.
    """
    if model.device.type == "cuda":
        return _counted(make_subject(model), model.device, "cuda", tallying)
    with SimulatedCuda() as simulated:  # with torch.cuda, so that synchronizations, events and streams are there
        subject = make_subject(map_tensors(model, simulated.wrap))
        counts = _counted(subject, simulated.device, "simulated", partial(tallying, simulated))
    if simulated.unjudged:
        raise RunFailed(
            "the simulated device cannot judge an operation",
            value=", ".join(sorted(simulated.unjudged)),
            remedy="count on a GPU, or teach the simulated device the operation",
        )
    return counts


def count_by_line(subject: Subject, simulated: SimulatedDevice, watched: Watched) -> Counts:
    """Counts one run on an open device, whose operators are counters by line, and so is what it cannot judge.

    ``watched`` looks at each operator.
    """
    return _counted(subject, simulated.device, "simulated", partial(tallying, simulated, by_line=True, watched=watched))


def _counted(
    subject: Subject,
    device: torch.device,
    name: SyncDevice,
    open_tally: Callable[[], AbstractContextManager[Tally]],
) -> Counts:
    with count_host_syncs(device) as collector, open_tally() as tally:
        astray = _Astray(subject, tally)
        collector.on_wait = (astray.hear,)
        output = run_stages(subject, astray.entering)
    counted = [each for number in collector.counted() for each in astray.placed(number)]
    measurements = tuple(_measurement(as_stage(stage.name), counted, tally) for stage in subject.stages)
    return Counts(output=output, device=name, measurements=measurements, sites=collector.sites_of(counted))


class _Astray:
    """Waits on threads that opened no region belong to the stage that ran meanwhile.

    Where such a thread has no line of the program either, as one of a pool that runs a method of torch, they belong to
    the line at which the main thread was.
    """

    def __init__(self, subject: Subject, tally: Tally) -> None:
        self._names = frozenset(stage.name for stage in subject.stages)
        self._tally = tally
        self._folders = Folders()
        self._found: defaultdict[int, dict[Hashable, Place]] = defaultdict(dict)
        self._counts: Counter[Hashable] = Counter()
        self._lock = threading.RLock()
        tally.stage = subject.stages[0].name

    def entering(self, stage: SubjectStage) -> Callable[[Any], Any]:
        """The stage, which from now on is the one that runs."""
        self._tally.stage = stage.name
        return stage.run

    def hear(self, number: int, kind: Kind, place: Place) -> None:
        """Called on the thread that waits."""
        is_inside = bool(place.region) and place.region[0] in self._names
        if is_inside and place.caller is not None:
            return
        if not is_inside:
            place = replace(place, region=(self._tally.stage, *place.region))
        if place.caller is None:
            place = self._at_main(place)
        key = (number, id(place.code), place.line, place.region)
        with self._lock:
            self._found[number].setdefault(key, place)
            self._counts[key] += 1

    def _at_main(self, place: Place) -> Place:
        frame = self._folders.caller_of(sys._current_frames().get(threading.main_thread().ident or 0))
        if frame is None:
            return place
        code, line = frame.f_code, frame.f_lineno
        return replace(place, code=code, line=line, caller=code, caller_line=line)

    def placed(self, counted: Counted) -> Iterator[Counted]:
        """A count as it was heard, or what it falls into."""
        found = self._found.get(counted.number, {})
        rest = counted.count - sum(self._counts[key] for key in found)
        if rest:
            yield replace(counted, count=rest)
        for key, place in found.items():
            instructions = counted.instructions if place.code is counted.place.code else ()
            yield replace(counted, place=place, count=self._counts[key], instructions=instructions)


def _measurement(stage: Stage, counted: Sequence[Counted], tally: Tally) -> Measurement:
    by_slot: Counter[str] = Counter()
    for each in counted:
        if each.place.region[:1] == (stage,):
            by_slot[slot_of(each.place.region)] += each.count
    counters = dict(sorted(tally.by_stage.get(stage, Counter()).items()))
    return Measurement(
        stage=stage, host_syncs=by_slot.total(), syncs_by_slot=dict(sorted(by_slot.items())), counters=counters
    )


def slot_of(region: tuple[str, ...]) -> str:
    """The innermost slot of a region path; the loop's own slot encloses those that it calls."""
    return next((name for name in reversed(region) if name in SLOTS), ELSEWHERE)
