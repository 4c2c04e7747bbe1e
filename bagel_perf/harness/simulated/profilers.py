"""Profilers that a program starts itself: there is no GPU to record, and torch would say so at every operator."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.patches import Patches

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


def patch_profilers(patches: Patches, device: SimulatedDevice) -> None:
    """``torch.profiler`` and ``torch.autograd.profiler`` record the CPU alone."""
    patches.replace(torch_names.PROFILE_INIT, lambda native: _of_the_cpu(device, native))


def _of_the_cpu(device: SimulatedDevice, native: Any) -> Any:
    signature = inspect.signature(native)

    @functools.wraps(native)
    def init(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs)
        if given.arguments.get("use_device") or given.arguments.get("use_cuda"):
            device.remarks("the program's own profiler recorded the CPU alone")
            given.arguments |= {name: None for name in ("use_device", "use_cuda") if name in given.arguments}
        native(*given.args, **given.kwargs)

    return init
