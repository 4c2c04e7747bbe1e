"""Triton: its kernels need a GPU and are refused by name, or run in Triton's interpreter where the program asks for it.

The interpreter (``TRITON_INTERPRET=1``) copies the arguments of a kernel to the host and back; on CUDA nobody does, so
kernels are given the device's memory itself and no copy is counted.
"""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.harness.simulated import properties
from bagel_perf.harness.simulated.late import LatePatches
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.refusals import NotSimulated
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_REMEDY = "kernels need a GPU, or Triton's interpreter: set TRITON_INTERPRET=1 before triton is imported"
_INNER = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def patch_triton(late: LatePatches, device: SimulatedDevice) -> None:
    """Replaces what launches and what asks for a GPU."""
    late.add("triton.runtime.jit", lambda patches, module: _patch_launches(patches, module, device))
    late.add("triton.runtime.autotuner", lambda patches, module: _patch_tuning(patches, module, device))
    late.add("triton.runtime.driver", _patch_driver)
    late.add("triton.runtime.interpreter", lambda patches, module: _patch_interpreter(patches, module, device))


def _patch_launches(patches: Patches, module: Any, device: SimulatedDevice) -> None:
    def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        raise _refusal(device, kernel)

    patches.add(module.JITFunction, "run", run)


def _refusal(device: SimulatedDevice, kernel: Any) -> NotSimulated:
    """Remarked too: a program that goes another way then does not do what it does on a GPU."""
    device.remarks(f"the launch of the Triton kernel {_name_of(kernel)} was refused")
    return NotSimulated(f"the Triton kernel {_name_of(kernel)}, launched at {_launching_line()},", _REMEDY)


def _name_of(kernel: Any) -> str:
    """Tuned kernels and heuristics hold the kernel as ``fn``."""
    function = kernel
    while not hasattr(function, "__name__") and hasattr(function, "fn"):
        function = function.fn
    return str(getattr(function, "__name__", function))


def _launching_line() -> str:
    frame = sys._getframe(1)
    triton = sys.modules.get("triton")
    inner = (*_INNER, str(Path(triton.__file__).parent)) if triton is not None and triton.__file__ else _INNER
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inner):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_interpreted(kernel: Any) -> bool:
    """Whether the innermost function was made for the interpreter."""
    while hasattr(kernel, "fn") and type(kernel).__name__ not in ("JITFunction", "InterpretedFunction"):
        kernel = kernel.fn
    return type(kernel).__name__ == "InterpretedFunction"


def _patch_tuning(patches: Patches, module: Any, device: SimulatedDevice) -> None:
    native = module.Autotuner.run

    def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_interpreted(tuner):
            raise _refusal(device, tuner)
        return native(tuner, *args, **kwargs)

    def bench(tuner: Any, *args: Any, config: Any, **kwargs: Any) -> list[float]:
        device.remarks("Triton's autotuning measured nothing and took the first configuration")
        return [0.0, 0.0, 0.0]

    for name, value in {"run": run, "_bench": bench}.items():
        patches.add(module.Autotuner, name, value, only_present=True)


class _Driver:
    """Stands for Triton's driver of CUDA: says what the device is."""

    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget(
            "cuda", properties.DeviceProperties().major * 10, 32
        )

    def get_active_torch_device(self) -> torch.device:
        return DEVICE

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return properties.DeviceProperties().major, properties.DeviceProperties().minor

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_device_interface(self) -> Any:
        return torch.cuda

    @property
    def utils(self) -> _Utils:
        return _Utils()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotSimulated(f"triton.runtime.driver.active.{name}", _REMEDY)


class _Utils:
    def get_device_properties(self, device: int = 0) -> dict[str, int]:
        found = properties.DeviceProperties()
        return {
            "max_shared_mem": found.shared_memory_per_block_optin,
            "max_num_regs": found.regs_per_multiprocessor,
            "multiprocessor_count": found.multi_processor_count,
            "warpSize": found.warp_size,
            "sm_clock_rate": 1_980_000,
            "mem_clock_rate": 2_619_000,
            "mem_bus_width": 5120,
        }


def _patch_driver(patches: Patches, module: Any) -> None:
    for name in ("_active", "_default"):
        patches.add(module.driver, name, _Driver(), only_present=True)


def _patch_interpreter(patches: Patches, module: Any, device: SimulatedDevice) -> None:
    native = module.GridExecutor.__call__

    def call(executor: Any, *args: Any, **kwargs: Any) -> Any:
        device.remarks("Triton kernels ran in Triton's interpreter")
        named = {name: _plain(value) for name, value in kwargs.items()}
        with hidden():
            return native(executor, *map(_plain, args), **named)

    patches.add(module.GridExecutor, "__call__", call)


def _plain(value: Any) -> Any:
    """An argument of a kernel with the device's memory as the host's; descriptors and wrappers hold theirs as base."""
    if type(value) is SimulatedTensor:
        return to_plain(value)
    if isinstance(value, tuple):
        items = [_plain(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if type(getattr(value, "base", None)) is SimulatedTensor:
        value = copy.copy(value)
        value.base = to_plain(value.base)
    return value
