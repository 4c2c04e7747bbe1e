"""Autocast for "cuda" is the CPU's autocast with the same dtype, as the tensors are the CPU's.

The CPU's lists differ from CUDA's in some operators (layer_norm, softmax and pow give fp32 on CUDA alone): dtypes of
results may differ, waits do not depend on them. While it is on, the host's operators are cast as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.harness.simulated.patches import Patches

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_NOTE = "torch.autocast ran with the CPU's lists of operators"


def patch_autocast(patches: Patches, device: SimulatedDevice) -> None:
    """What is set for "cuda" is set for "cpu" as well."""
    enable: Any = torch.set_autocast_enabled
    set_dtype: Any = torch.set_autocast_dtype

    def enable_both(*args: Any) -> None:
        enable(*args)
        if len(args) == 1 or args[0] == "cuda":  # one argument: the older form, for CUDA
            enable("cpu", args[-1])
            if args[-1]:
                device.remarks(_NOTE)

    def set_both(device_type: str, dtype: torch.dtype) -> None:
        set_dtype(device_type, dtype)
        if device_type == "cuda":
            set_dtype("cpu", dtype)

    patches.add(torch, "set_autocast_enabled", enable_both)
    patches.add(torch, "set_autocast_dtype", set_both)
    patches.add(torch, "set_autocast_gpu_dtype", lambda dtype: set_both("cuda", dtype), only_present=True)
