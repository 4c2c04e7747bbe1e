"""Compilers on the simulated device: ``torch.compile`` runs eagerly; graphs, collectives and Triton are refused.

What ``torch.jit`` made runs as it is, watched. Copies across devices do not show in it, as its tensors are the CPU's:
code that has some is named as unjudged.

Triton's kernels run where the program asks for Triton's interpreter (``TRITON_INTERPRET=1``). It copies the arguments
of a kernel to the host and back; on CUDA nobody does, so kernels are given the device's memory itself and no copy is
counted.
"""

from __future__ import annotations

import copy
import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.rules.own_folders import MEASURING_FOLDERS
from bagel_perf.simulated import properties
from bagel_perf.simulated.calls import CPU, devices_differ
from bagel_perf.simulated.patches import LatePatches, NotSimulated, Patches, refused_class, refused_function
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain, wrap
from bagel_perf.simulated.watch import Watch

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_GRAPHS = "a captured graph replays without Python; capture nothing, and the eager program is counted"


_leaves: Any = torch_inner_names.TREE_LEAVES.find()
_COPYING = ("aten::tensor", "aten::as_tensor", "aten::cpu", "aten::cuda", "aten::pin_memory")
_ASKING = ("prim::is_cuda", "aten::is_cuda")
_Node = Any


def patch_compilers(patches: Patches, device: SimulatedDevice) -> None:
    """``torch.compile`` gives back what it is given; what ``torch.jit`` makes is watched, loaded and saved."""
    patches.add(torch, "compile", _eager(device))
    patches.add(torch.compiler, "compile", _eager(device), only_present=True)
    for name in torch_names.SCRIPTED_CALLS:
        patches.replace(name, lambda native: _watched(device, native))
    for name in torch_inner_names.SCRIPT_SAVES:
        patches.replace(name, lambda native: _saving(device, native))
    patches.add(torch.jit, "load", _loading(device, torch.jit.load))


def _eager(device: SimulatedDevice) -> Any:
    def compile_nothing(model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if model is None:
            return compile_nothing
        device.remarks("torch.compile ran eagerly")
        return model

    return compile_nothing


def _watched(device: SimulatedDevice, native: Any) -> Any:
    def call(scripted: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(scripted, "owner", None)
        kinds = set() if owner is None else {type(tensor) for tensor in _tensors_of(owner) if tensor.dim()}
        if SimulatedTensor not in kinds and SimulatedTensor not in map(type, _leaves((args, kwargs))):
            return native(scripted, *args, **kwargs)
        if kinds - {SimulatedTensor}:
            raise devices_differ(device, scripted)
        for name in _copies_in(scripted):
            device.cannot_judge(f"{name} in torch.jit's {scripted.name}")
        with hidden(), _ScriptWatch(device):
            return wrap(native(scripted, *args, **kwargs))

    return call


class _ScriptWatch(Watch):
    """Factories of a script name the device, which below Python is the CPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None and self._device.owns(kwargs["device"]):
            kwargs["device"] = CPU
        return super().__torch_dispatch__(func, types, args, kwargs)


def _tensors_of(module: Any) -> Iterator[Any]:
    parameters, buffers, modules = (name.find() for name in torch_inner_names.SCRIPT_PARTS)
    for kind in (parameters, buffers):
        yield from (tensor for _, tensor in kind(module).items())
    for _, inner in modules(module).items():
        yield from _tensors_of(inner)


def _copies_in(scripted: Any) -> tuple[str, ...]:
    """Operators of a graph that may copy across devices, or ask where a tensor is, each once."""
    found = _known_copies.get(scripted.graph)
    if found is None:
        found = tuple(dict.fromkeys(node.kind() for node in _nodes_of(scripted.inlined_graph) if _may_copy(node)))
        _known_copies[scripted.graph] = found
    return found


_known_copies: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()


def _nodes_of(block: Any) -> Iterator[_Node]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes_of(inner)


def _may_copy(node: _Node) -> bool:
    kind = node.kind()
    return kind in _COPYING + _ASKING or (kind in ("aten::to", "aten::_to_copy") and _names_device(node))


def _names_device(node: _Node) -> bool:
    """Whether a conversion names a device, or takes it from another tensor."""
    kinds = [str(value.type()) for value in list(node.inputs())[1:]]
    return any(kind in ("Device", "Device?", "Optional[Device]") or "Tensor" in kind for kind in kinds)


def _loading(device: SimulatedDevice, native: Any) -> Any:
    """``torch.jit.load``, which reads each tensor into host memory and copies it to the device that is asked for."""

    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if map_location is None or not device.owns(map_location):
            return native(f, map_location, *args, **kwargs)
        return native(f, "cpu", *args, **kwargs).to("cuda")

    return load


def _saving(device: SimulatedDevice, native: Any) -> Any:
    """Copies each storage to the host first."""

    def save(module: Any, *args: Any, **kwargs: Any) -> Any:
        storages = {
            tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
            for tensor in (*module.parameters(), *module.buffers())
            if type(tensor) is SimulatedTensor and tensor.numel()
        }
        device.reads("d2h_copy", storages.values())
        with hidden():
            return native(module, *args, **kwargs)

    return save


def patch_tracers(late: LatePatches, device: SimulatedDevice) -> None:
    """Dynamo reads Python as it runs, the device's included: what needs it runs without, or is refused."""
    late.add("torch._dynamo", lambda patches, module: _patch_dynamo(patches, module, device))
    late.add("torch.export", lambda patches, module: _patch_export(patches, module, device))
    for module in ("torch.fx.experimental.proxy_tensor", "torch._functorch._aot_autograd.runtime_wrappers"):
        late.add(module, _patch_handled_types)


def _patch_handled_types(patches: Patches, module: Any) -> None:
    """Tracers leave to others what is of a class that they do not know."""
    known = getattr(module, "HANDLED_TYPES", ())
    patches.add(module, "HANDLED_TYPES", (*known, SimulatedTensor), only_present=True)


def _patch_dynamo(patches: Patches, module: Any, device: SimulatedDevice) -> None:
    def optimize(*args: Any, **kwargs: Any) -> Any:
        return _eager(device)()

    for name in ("optimize", "optimize_assert"):
        patches.add(module, name, optimize, only_present=True)
    for name in ("explain", "export"):
        refused = refused_function(f"torch._dynamo.{name}", "functions run eagerly here; call them as they are")
        patches.add(module, name, refused, only_present=True)


def _patch_export(patches: Patches, module: Any, device: SimulatedDevice) -> None:
    native = module.export

    @functools.wraps(native)
    def export(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("strict"):
            device.remarks("torch.export ran with strict=False, without Dynamo")
            kwargs["strict"] = False
        return native(*args, **kwargs)

    patches.add(module, "export", export)
    refused = refused_function("torch.export.draft_export", "use torch.export.export")
    patches.add(module, "draft_export", refused, only_present=True)


def patch_graphs_and_collectives(patches: Patches) -> None:
    """CUDA graphs and collectives over NCCL are refused with a sentence that says so."""
    for name in ("CUDAGraph", "graph"):
        patches.add(torch.cuda, name, refused_class(f"torch.cuda.{name}", _GRAPHS))
        patches.add(torch.cuda.graphs, name, refused_class(f"torch.cuda.{name}", _GRAPHS))
    for name in ("make_graphed_callables", "graph_pool_handle"):
        patches.add(torch.cuda, name, refused_function(f"torch.cuda.{name}", _GRAPHS))
        patches.add(torch.cuda.graphs, name, refused_function(f"torch.cuda.{name}", _GRAPHS))
    patches.add(torch.accelerator, "Graph", refused_class("torch.accelerator.Graph", _GRAPHS), only_present=True)
    if torch.distributed.is_available():
        native = torch.distributed.init_process_group
        patches.add(torch.distributed, "init_process_group", _only_on_host(native))


def _only_on_host(init_process_group: Any) -> Any:
    def init(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
        if backend is None or "nccl" in str(backend):
            raise NotSimulated("torch.distributed over NCCL", "run the script as a single process without it")
        return init_process_group(backend, *args, **kwargs)

    return init


_REMEDY = "kernels need a GPU, or Triton's interpreter: set TRITON_INTERPRET=1 before triton is imported"
_INNER = (str(Path(torch.__file__).parent), *MEASURING_FOLDERS)


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
