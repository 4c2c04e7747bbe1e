"""Tells which calls use the simulated device, while somebody wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, holds_simulated, name_of
from bagel_perf.harness.simulated.tensor import SimulatedTensor

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_QUESTIONS = """
dim ndimension size numel nelement stride storage_offset is_contiguous is_floating_point is_complex element_size
data_ptr untyped_storage __len__ __hash__ is_pinned is_shared __dlpack_device__ __format__
"""
_ABOUT_A_TENSOR = frozenset(_QUESTIONS.split())
"""What the host knows of a tensor without the device."""


def telling(handler: Handler) -> Handler:
    """The handler, telling the device of a call that takes or gives one of its tensors."""

    def handle(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        if name in _ABOUT_A_TENSOR or name.startswith("get "):
            return handler(device, func, types, args, kwargs)
        takes = SimulatedTensor in types
        if takes:
            device.used()
        result = handler(device, func, types, args, kwargs)
        if not takes and holds_simulated((result,)):
            device.used()
        return result

    return handle
