"""What the work of a device and the waits of the host are called: computing, communication or a copy; classes; kinds.

The kind of a wait follows from the operators around it and the direction of the copy that it waited for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bagel_perf.records.results import StageFloor
from bagel_perf.records.sites import KINDS, Kind
from bagel_perf.records.traces import KernelTime
from bagel_perf.rules.table import recorded_names
from bagel_perf.traces.tables import DEVICE_TO_HOST, HOST_TO_DEVICE, MEMCPY, MEMSET, NONE, Ints, Mask
from bagel_perf.traces.trace import Api, Trace

KernelClass = Literal["GEMM", "attention", "convolution", "pointwise"]
CLASSES: tuple[KernelClass, ...] = get_args(KernelClass)

SIGNS: dict[KernelClass, tuple[str, ...]] = {
    "attention": ("sdpa", "flash", "fmha", "attention"),
    "convolution": ("conv", "implicit", "fprop", "winograd", "nchwtonhwc", "nhwctonchw"),
    "GEMM": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}
"""Parts of names by which libraries call their kernels, in the order of asking; whatever has none is pointwise."""

COMPONENTS: dict[KernelClass, tuple[str, ...]] = {
    "GEMM": ("gen GEMMs", "und GEMMs", "ViT"),
    "attention": ("attention",),
    "convolution": ("autoencoder",),
    "pointwise": ("pointwise",),
}
"""Of a floor, by the class of the kernels that do most of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTime:
    """Kernels of a class in one run: number, time in ms, the floor's time, operations and bytes; None where unknown."""

    name: KernelClass
    count: int
    total_ms: float
    floor_ms: float | None
    flops: float | None
    num_bytes: float | None

    @property
    def times_floor(self) -> float | None:
        return self.total_ms / self.floor_ms if self.floor_ms else None

    @property
    def tflops(self) -> float | None:
        """Operations of the floor over the time that the kernels took."""
        return self.flops / self.total_ms / 1e9 if self.flops and self.total_ms else None

    @property
    def intensity(self) -> float | None:
        """Operations per byte."""
        return self.flops / self.num_bytes if self.flops and self.num_bytes else None

    @property
    def tbps(self) -> float | None:
        """Bytes of the floor over the time that the kernels took, in TB/s."""
        return self.num_bytes / self.total_ms / 1e9 if self.num_bytes and self.total_ms else None


def class_of(kernel: str) -> KernelClass:
    """By its name."""
    low = kernel.lower()
    return next((name for name, signs in SIGNS.items() if any(sign in low for sign in signs)), "pointwise")


def class_times(kernels: Iterable[KernelTime], floors: Sequence[StageFloor]) -> Iterator[ClassTime]:
    """Each class that occurs, against the sum of a request's floors over its stages."""
    found = list(kernels)
    for name in CLASSES:
        own = [kernel for kernel in found if class_of(kernel.name) == name]
        parts = [part for floor in floors for part in floor.components if part.name in COMPONENTS[name]]
        if own:
            yield ClassTime(
                name=name,
                count=sum(kernel.count for kernel in own),
                total_ms=sum(kernel.total_ms for kernel in own),
                floor_ms=sum(part.floor_ms for part in parts) if parts else None,
                flops=sum(part.flops or 0.0 for part in parts) or None,
                num_bytes=sum(part.bytes or 0.0 for part in parts) or None,
            )


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


_SCALAR_READS = {"aten::item", *recorded_names("scalar_read")}
_SCATTERS = {"aten::masked_scatter_", *recorded_names("mask_scatter")}
_GATHERS = recorded_names("mask_gather")
_DYNAMIC_SHAPES = recorded_names("nonzero")
_UNIQUE = ("aten::unique", "aten::_unique")


def kinds_of(levels: Ints, api: Ints, direction: Ints, pageable: Mask, names: Sequence[str]) -> Ints:
    """A number into ``KINDS`` for each wait.

    ``levels`` are the operators around each wait as numbers into ``names``, [waits, depths], NONE where there is none.
    """
    known: dict[bytes, int] = {}
    kinds = np.empty(len(levels), np.int64)
    keys = np.column_stack([levels, api, direction, pageable])
    for i, key in enumerate(keys):
        packed = key.tobytes()
        if packed not in known:
            operators = tuple(names[name] for name in levels[i] if name != NONE)
            known[packed] = KINDS.index(kind_of(operators, Api(api[i]), int(direction[i]), pageable=bool(pageable[i])))
        kinds[i] = known[packed]
    return kinds


def kind_of(operators: Sequence[str], api: Api, direction: int, *, pageable: bool) -> Kind:
    """The kind of a wait inside ``operators``, outermost first; ``direction`` is the copy's, NONE without one."""
    around = set(operators)
    if around & _SCALAR_READS:
        return "scalar_read"
    if around & _DYNAMIC_SHAPES or any(name.startswith(_UNIQUE) for name in around):
        return "mask_scatter" if around & _SCATTERS else "mask_gather" if around & _GATHERS else "nonzero"
    if "aten::masked_select" in around:
        return "mask_gather"
    if direction == DEVICE_TO_HOST:
        return "d2h_copy"
    if direction == HOST_TO_DEVICE and (pageable or around):
        return "pageable_upload"
    # Names without a namespace are annotations of older traces, not operators.
    if api != Api.WAIT_COPY and not any("::" in name for name in around):
        return "explicit_sync"
    return "unknown"
