"""Compilers, and what replays work without Python: functions run eagerly, graphs and collectives are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.refusals import NotSimulated, refused_class, refused_function
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_GRAPHS = "a captured graph replays without Python; capture nothing, and the eager program is counted"


def patch_compilers(patches: Patches, device: SimulatedDevice) -> None:
    """``torch.compile`` and ``torch.jit`` give back what they are given; what they made before is watched."""
    compile_eagerly = _eager(device, "torch.compile ran eagerly")
    patches.add(torch, "compile", compile_eagerly)
    patches.add(torch.compiler, "compile", compile_eagerly, only_present=True)
    patches.add(torch.jit, "script", _eager(device, "torch.jit.script ran eagerly"))
    patches.add(torch.jit, "trace", _eager(device, "torch.jit.trace ran eagerly"))
    for name in torch_names.SCRIPTED_CALLS:
        patches.replace(name, lambda native: _watched(device, native))


def _eager(device: SimulatedDevice, note: str) -> Any:
    def compile_nothing(model: Any = None, *args: Any, **kwargs: Any) -> Any:
        model = model if model is not None else kwargs.get("obj", kwargs.get("func"))
        if model is None:
            return compile_nothing
        device.remarks(note)
        return model

    return compile_nothing


def _watched(device: SimulatedDevice, native: Any) -> Any:
    def call(scripted: Any, *args: Any, **kwargs: Any) -> Any:
        # A method's module holds its parameters, so whether the device is meant shows in the result's use alone.
        if SimulatedTensor not in map(type, (*args, *kwargs.values())):
            return native(scripted, *args, **kwargs)
        with hidden(), device.watch():
            return wrap(native(scripted, *args, **kwargs))

    return call


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
