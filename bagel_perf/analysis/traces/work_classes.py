"""What the work of a device is: computing, communication or a copy, and kernels by class."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from bagel_perf.analysis.kernel_classes import class_of
from bagel_perf.analysis.traces.table import MEMCPY, MEMSET, Ints, Mask
from bagel_perf.analysis.traces.trace import Trace

COMPUTE, COMMUNICATION, COPY = range(3)

_COMMUNICATION = re.compile(
    r"(?i)nccl|rccl|nvshmem|cross_device_reduce|all_?reduce|reduce_?scatter|all_?gather|all_?to_?all"
)
MAX_READ = 4000
"""Of a name: what a kernel is for stands at its beginning."""
_NAMES = {MEMCPY: "copy", MEMSET: "memset"}


def kinds_of_work(trace: Trace) -> Ints:
    """COMPUTE, COMMUNICATION or COPY for each activity; setting memory is computing."""
    activities = trace.activities
    kinds = np.where(activities.kind == MEMCPY, COPY, COMPUTE)
    communicates = _by_name(trace, is_communication)
    kinds[communicates[activities.name] & (activities.kind != MEMCPY)] = COMMUNICATION
    return kinds


def is_communication(kernel: str) -> bool:
    """Whether a kernel of this name exchanges data with other devices."""
    return _COMMUNICATION.search(kernel, 0, MAX_READ) is not None


def class_names(trace: Trace) -> tuple[Ints, tuple[str, ...]]:
    """The class of each activity, a number into the names that come with it."""
    activities = trace.activities
    names: dict[str, int] = {}
    by_name = np.zeros(max(len(trace.names), 1), np.int64)
    for name in np.flatnonzero(np.bincount(activities.name, minlength=1)):
        text = trace.names[int(name)]
        label: str = "communication" if is_communication(text) else class_of(text)
        by_name[name] = names.setdefault(label, len(names))
    found = by_name[activities.name]
    for kind, label in _NAMES.items():
        found[activities.kind == kind] = names.setdefault(label, len(names))
    return found, tuple(names)


def _by_name(trace: Trace, holds: Callable[[str], bool]) -> Mask:
    found = np.zeros(max(len(trace.names), 1), np.bool_)
    for name in np.flatnonzero(np.bincount(trace.activities.name, minlength=1)):
        found[name] = holds(trace.names[int(name)])
    return found
