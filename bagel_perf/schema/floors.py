"""The floor of a stage: how long its arithmetic and its bytes take at the rates that were measured beside it."""

from __future__ import annotations

import msgspec

from bagel_perf.schema.errors import UsageError


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What the GPU reached: GEMMs and attention at the model's shapes, a large copy (read and written), one launch.

    The first two are means over the work of all requests.
    """

    gemm_tflops: float
    attention_tflops: float
    copy_tbps: float
    launch_us: float


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a stage: floating point operations, bytes that have to be moved, and the least time in ms.

    Operations or bytes are None where they were not counted, because the other decides the time.
    """

    name: str
    flops: float | None
    bytes: float | None
    floor_ms: float

    def __post_init__(self) -> None:
        if not self.floor_ms >= 0:
            raise UsageError(f"floor of {self.name} is negative", value=self.floor_ms)


class StageFloor(msgspec.Struct, frozen=True, kw_only=True):
    """The components of a stage in one case, one after another."""

    case: str
    stage: str
    components: tuple[Component, ...]

    @property
    def floor_ms(self) -> float:
        return sum(component.floor_ms for component in self.components)

    @property
    def flops(self) -> float:
        return sum(component.flops or 0.0 for component in self.components)

    @property
    def bytes(self) -> float:
        return sum(component.bytes or 0.0 for component in self.components)
