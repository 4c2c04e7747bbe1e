"""Counts the host syncs of a request, on CUDA by callbacks and elsewhere on the simulated device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bagel_perf.harness.measure import Subject, run_stages
from bagel_perf.harness.simulated import SimulatedCuda, SimulatedDevice
from bagel_perf.harness.syncs import SyncCollector, count_host_syncs
from bagel_perf.harness.tally import Tally, tallying
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.parameters import map_tensors
from bagel_perf.schema.errors import RunFailed
from bagel_perf.schema.runs import Measurement, SyncDevice
from bagel_perf.schema.sites import Site
from bagel_perf.schema.slots import SLOTS, Stage, as_stage

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
        return _counted(make_subject(model), model.device, "cuda")
    with SimulatedCuda() as simulated:  # with torch.cuda, so that synchronizations, events and streams are there
        subject = make_subject(map_tensors(model, simulated.wrap))
        counts = _counted(subject, simulated.device, "simulated", simulated)
    if simulated.unjudged:
        raise RunFailed(
            "the simulated device cannot judge an operation",
            value=", ".join(sorted(simulated.unjudged)),
            remedy="count on a GPU, or teach the simulated device the operation",
        )
    return counts


def _counted(
    subject: Subject, device: torch.device, name: SyncDevice, simulated: SimulatedDevice | None = None
) -> Counts:
    with count_host_syncs(device) as collector, tallying(simulated) as tally:
        output = run_stages(subject)
    measurements = tuple(_measurement(as_stage(stage.name), collector, tally) for stage in subject.stages)
    assert sum(m.host_syncs or 0 for m in measurements) == collector.total(), "a wait happened outside every stage"
    return Counts(output=output, device=name, measurements=measurements, sites=collector.sites())


def _measurement(stage: Stage, collector: SyncCollector, tally: Tally) -> Measurement:
    by_slot: Counter[str] = Counter()
    for each in collector.counted():
        if each.place.region[:1] == (stage,):
            by_slot[slot_of(each.place.region)] += each.count
    counters = dict(sorted(tally.by_stage[stage].items()))
    return Measurement(
        stage=stage, host_syncs=by_slot.total(), syncs_by_slot=dict(sorted(by_slot.items())), counters=counters
    )


def slot_of(region: tuple[str, ...]) -> str:
    """The innermost slot of a region path; the loop's own slot encloses those that it calls."""
    return next((name for name in reversed(region) if name in SLOTS), ELSEWHERE)
