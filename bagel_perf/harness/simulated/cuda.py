"""Runs programs that ask for "cuda" unchanged: for a while the process looks as if it had one CUDA GPU.

``torch.cuda`` and ``torch.accelerator`` are replaced function by function. What is not known here is refused when it is
called, so nothing reaches a real GPU or the host by accident.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import torch
from torch.utils import _device as default_device

from bagel_perf.harness.simulated import generators, properties, storages, streams
from bagel_perf.harness.simulated.autocasts import patch_autocast
from bagel_perf.harness.simulated.calls import holds_simulated
from bagel_perf.harness.simulated.compilers import patch_compilers, patch_graphs_and_collectives
from bagel_perf.harness.simulated.device import Listener, SimulatedDevice
from bagel_perf.harness.simulated.devices import patch_device_type
from bagel_perf.harness.simulated.legacy import patch_legacy_types
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.profilers import patch_profilers
from bagel_perf.harness.simulated.refusals import NotSimulated, refused_class, refused_function
from bagel_perf.harness.simulated.sync_debug_mode import SyncDebugMode
from bagel_perf.harness.simulated.tensor import hidden, wrap
from bagel_perf.harness.simulated.threads import patch_threads
from bagel_perf.schema.waits import Kind

_CUDA_VERSION = "13.0"


class SimulatedCuda(SimulatedDevice):
    """A ``SimulatedDevice`` under which ``torch.cuda`` works as with one GPU; use it as a context.

    Inside, ``torch.cuda.is_available()`` is true; streams and events do nothing but count who waits for them;
    ``torch.compile`` runs eagerly, which ``notes`` says; new threads see the device. CUDA graphs, NCCL and whatever
    else is not simulated raise NotSimulated. On exit every attribute and the default device are as before.
    """

    def __init__(self, on_sync: Listener | None = None) -> None:
        super().__init__(on_sync)
        self._exits = contextlib.ExitStack()
        self._debug_mode = SyncDebugMode()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_default_device_kept())
            super().__enter__()
            stack.push(super().__exit__)
            stack.enter_context(self._cuda_patches())
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._exits.__exit__(*raised)

    def waits(self, kind: Kind, times: int = 1) -> None:
        """The host would wait ``times`` times now; what the program's own sync debug mode says comes first."""
        for _ in range(times):
            self._debug_mode.remark(kind)
            super().waits(kind)

    def _cuda_patches(self) -> Patches:
        patches = Patches()
        self._patch_torch_cuda(patches)
        patch_graphs_and_collectives(patches)
        patch_legacy_types(patches)
        patch_device_type(patches)
        patch_compilers(patches, self)
        patch_autocast(patches, self)
        patch_threads(patches, self)
        patch_profilers(patches, self)
        self._patch_rest(patches)
        return patches

    def _patch_torch_cuda(self, patches: Patches) -> None:
        functions = {
            **properties.DEVICE_FUNCTIONS,
            **properties.MEMORY_FUNCTIONS,
            **generators.FUNCTIONS,
            **self._stream_functions(),
            **self._debug_mode.functions(),
            "_lazy_init": _reached_cuda,
        }
        _replace(patches, torch.cuda, functions)
        for module in (torch.cuda.memory, torch.cuda.random, torch.cuda.streams):
            _replace(patches, module, functions)
        for module, names in ((torch.cuda.nvtx, _NVTX), (torch.cuda.profiler, _PROFILER)):
            for name, function in names.items():
                patches.add(module, name, function, only_present=True)
        patches.add(torch.cuda, "default_generators", (torch.default_generator,))

    def _stream_functions(self) -> dict[str, Any]:
        def synchronize(device: Any = None) -> None:
            self.synchronize()

        def set_device(device: Any) -> None:
            if device is not None and not (isinstance(device, int) and device < 0):
                self.owns(device)

        return {
            "synchronize": synchronize,
            "set_device": set_device,
            "Stream": streams.SimulatedStream,
            "Event": streams.SimulatedEvent,
            "ExternalStream": streams.external_stream,
            "get_stream_from_external": streams.external_stream,
            "StreamContext": streams.StreamContext,
            "stream": streams.StreamContext,
            "current_stream": streams.current_stream,
            "default_stream": streams.default_stream,
            "set_stream": streams.set_stream,
            "device": streams.DeviceContext,
            "device_of": streams.DeviceContext,
            "cudart": lambda: _CUDART,
        }

    def _refusing_nested(self, native: Any) -> Any:
        name, as_nested = f"torch.nested.{native.__name__}", torch.nested.as_nested_tensor

        @functools.wraps(native)
        def make(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if self.owns(kwargs.get("device", default_device.CURRENT_DEVICE)):
                raise NotSimulated(f"{name}(device=...)", "make it of tensors that are there already")
            if not holds_simulated((tensors, *args, *kwargs.values())):
                return native(tensors, *args, **kwargs)
            if name.endswith("jagged") or kwargs.get("layout") is torch.jagged or not isinstance(tensors, list | tuple):
                raise NotSimulated(f"{name} of device tensors", "the strided layout is")
            if native is as_nested:
                return native(tensors, *args, **kwargs)
            with hidden():  # measured: nothing waits
                made = wrap(as_nested([tensor.detach() for tensor in tensors], dtype=kwargs.get("dtype")))
                return made.requires_grad_() if kwargs.get("requires_grad") else made

        return make

    def _patch_rest(self, patches: Patches) -> None:
        of_streams = self._stream_functions()
        accelerator = {
            **properties.DEVICE_FUNCTIONS,
            **properties.MEMORY_FUNCTIONS,
            **of_streams,
            **dict.fromkeys(("current_device_index", "current_device_idx"), lambda: 0),
            **dict.fromkeys(("set_device_index", "set_device_idx"), of_streams["set_device"]),
            "device_index": streams.DeviceContext,
            "current_accelerator": lambda check_available=False: torch.device("cuda"),
        }
        _replace(patches, torch.accelerator, accelerator)
        patches.add(torch._C, "_get_accelerator", lambda check=None: torch.device("cuda"), only_present=True)
        # All that nn.DataParallel asks for with one device: a copy of its inputs there.
        patches.add(torch._C, "_scatter", lambda tensor, *where: (tensor.to("cuda", non_blocking=True),))
        # Torch's argument parser knows no streams but its own, and says so before it offers the call to anyone.
        patches.add(torch.Tensor, "record_stream", lambda tensor, stream: None)
        patches.add(torch, "Stream", streams.SimulatedStream)
        patches.add(torch, "Event", streams.SimulatedEvent)
        for name in ("nested_tensor", "as_nested_tensor", "nested_tensor_from_jagged"):
            patches.add(torch.nested, name, self._refusing_nested(getattr(torch.nested, name)))
        patches.add(torch, "Generator", generators.SimulatedGenerator)
        patches.add(torch.backends.cuda, "is_built", lambda: True)
        patches.add(torch.backends.cudnn, "is_available", lambda: True)
        patches.add(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        patches.add(torch.backends.cudnn, "version", lambda: 91000)
        patches.add(torch.storage._StorageBase, "cuda", storages.to_device(self))
        patches.add(torch.storage._StorageBase, "to", storages.moves(self, torch.storage._StorageBase.to))
        if torch.version.cuda is None:
            patches.add(torch.version, "cuda", _CUDA_VERSION)


def _replace(patches: Patches, module: ModuleType, functions: dict[str, Any]) -> None:
    """Replaces what is known of a module's public names, and has the others refuse; exceptions stay."""
    public = set(getattr(module, "__all__", ()))
    for name, found in list(vars(module).items()):
        if name in functions:
            patches.add(module, name, functions[name])
        elif name in public and callable(found) and not _is_exception(found):
            refused = refused_class if isinstance(found, type) else refused_function
            patches.add(module, name, refused(f"{module.__name__}.{name}"))


def _is_exception(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseException)


def _reached_cuda() -> None:
    raise NotSimulated("a call that reached CUDA itself", "make it on a thread that was started under the device")


@contextlib.contextmanager
def _default_device_kept() -> Iterator[None]:
    """Puts back the default device that was set before."""
    before = default_device.CURRENT_DEVICE
    try:
        yield
    finally:
        if before != default_device.CURRENT_DEVICE:
            torch.set_default_device(before)


def _nothing(*args: Any, **kwargs: Any) -> int:
    return 0


@contextlib.contextmanager
def _range(msg: str = "", *args: Any, **kwargs: Any) -> Iterator[None]:
    yield


_NVTX: dict[str, Any] = {
    **dict.fromkeys(("range_push", "range_pop", "range_start", "range_end", "mark"), _nothing),
}
_PROFILER: dict[str, Any] = {"start": _nothing, "stop": _nothing, "init": _nothing, "profile": _range}
_CUDART = SimpleNamespace(cudaProfilerStart=_nothing, cudaProfilerStop=_nothing, cudaError=SimpleNamespace(success=0))
