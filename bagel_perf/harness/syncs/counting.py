"""Counts host syncs on the device that a program uses: by CUDA's callbacks, or on the simulated device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bagel_perf.harness.regions import Sink, recording
from bagel_perf.harness.simulated import active_device
from bagel_perf.harness.syncs.backward import observing_backward
from bagel_perf.harness.syncs.calls import logging_calls
from bagel_perf.harness.syncs.cuda import listening_to_cuda, require_callbacks, tell_staged
from bagel_perf.harness.syncs.hearing import hearing
from bagel_perf.harness.syncs.sites import SyncCollector


@contextmanager
def count_host_syncs(device: torch.device | str, *sinks: Sink) -> Iterator[SyncCollector]:
    """Counts the host's waits of all threads until the end of the context.

    ``device`` is a CUDA device, and then waits for any CUDA device count, or the device of the ``SimulatedDevice``
    whose context is open. ``sinks`` are told of the regions that open. Raises ValueError for any other, and
    RuntimeError where CUDA's callbacks do not fire.
    """
    device = torch.device(device)
    simulated = active_device()
    if simulated is not None and simulated.owns(device):
        collector = SyncCollector("simulated")
        with recording(*sinks), hearing(collector, simulated, simulated.listening):
            yield collector
        return
    if device.type != "cuda":
        raise ValueError(
            f"no host waits for {device}; give a CUDA device, or open a SimulatedDevice and give its device"
        )
    require_callbacks()
    collector = SyncCollector(device.type)
    with (
        recording(*sinks),
        observing_backward,
        logging_calls(tell_staged),
        hearing(collector, "cuda", listening_to_cuda),
    ):
        yield collector
