"""Time on the GPU by class of kernel, against what the floor of a request says that such work takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bagel_perf.schema.floors import StageFloor
from bagel_perf.schema.traces import KernelTime

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
