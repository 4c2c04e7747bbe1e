"""Counts the host syncs of a subject, on CUDA by callbacks and elsewhere on the simulated device."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bagel_perf.measure.bench import Counts
from bagel_perf.measure.settings import Watched
from bagel_perf.measure.stages import Stage as SubjectStage
from bagel_perf.measure.stages import Subject, run_stages
from bagel_perf.measure.tally import Tally, tallying
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.runs import CountedStage, Output, SyncDevice
from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedCuda, SimulatedDevice
from bagel_perf.syncs import count_host_syncs
from bagel_perf.syncs.frames import Folders
from bagel_perf.syncs.sites import Counted, Place

ELSEWHERE = ""
"""Key of the waits that happen outside of every part."""

Describe = Callable[[Any], Output]


def count_on(device: torch.device, subject: Subject, describe: Describe, parts: Collection[str] = ()) -> Counts:
    """Counts one run of a subject on a CUDA device; ``parts`` are the regions by which waits are told apart."""
    return _counted(subject, device, "cuda", describe, tallying, parts)


def count_simulated(
    subject: Subject, simulated: SimulatedCuda, describe: Describe, parts: Collection[str] = ()
) -> Counts:
    """Counts one run on a simulated device that is open."""
    return _counted(subject, simulated.device, "simulated", describe, partial(tallying, simulated), parts)


def refuse_unjudged(simulated: SimulatedCuda) -> None:
    """Raises RunFailed where the simulated device met an operation that it cannot judge."""
    if simulated.unjudged:
        raise RunFailed(
            "the simulated device cannot judge an operation",
            value=", ".join(sorted(simulated.unjudged)),
            remedy="count on a GPU, or teach the simulated device the operation",
        )


def count_by_line(
    subject: Subject, simulated: SimulatedDevice, watched: Watched, describe: Describe, parts: Collection[str]
) -> Counts:
    """Counts one run on an open device, whose operators are counters by line, and so is what it cannot judge.

    ``watched`` looks at each operator.
    """
    open_tally = partial(tallying, simulated, by_line=True, watched=watched)
    return _counted(subject, simulated.device, "simulated", describe, open_tally, parts)


def _counted(
    subject: Subject,
    device: torch.device,
    name: SyncDevice,
    describe: Describe,
    open_tally: Callable[[], AbstractContextManager[Tally]],
    parts: Collection[str],
) -> Counts:
    with count_host_syncs(device) as collector, open_tally() as tally:
        astray = _Astray(subject, tally)
        collector.on_wait = (astray.hear,)
        value = run_stages(subject, astray.entering)
    counted = [each for number in collector.counted() for each in astray.placed(number)]
    measurements = tuple(_measurement(stage.name, counted, tally, parts) for stage in subject.stages)
    return Counts(
        output=describe(value),
        value=value,
        device=name,
        measurements=measurements,
        sites=collector.sites_of(counted),
    )


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


def _measurement(stage: str, counted: Sequence[Counted], tally: Tally, parts: Collection[str]) -> CountedStage:
    by_component: Counter[str] = Counter()
    for each in counted:
        if each.place.region[:1] == (stage,):
            by_component[part_of(each.place.region[1:], parts)] += each.count
    counters = dict(sorted(tally.by_stage.get(stage, Counter()).items()))
    return CountedStage(
        stage=stage,
        host_syncs=by_component.total(),
        syncs_by_component=dict(sorted(by_component.items())),
        counters=counters,
    )


def part_of(region: tuple[str, ...], parts: Collection[str]) -> str:
    """The innermost of these parts in a region path, as a loop's own encloses those that it calls.

    Where none are named, the innermost region.
    """
    return next((name for name in reversed(region) if not parts or name in parts), ELSEWHERE)
