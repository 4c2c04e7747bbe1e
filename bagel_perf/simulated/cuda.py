"""Runs programs that ask for "cuda" unchanged: for a while the process looks as if it had one CUDA GPU.

``torch.cuda`` and ``torch.accelerator`` are replaced function by function. What is not known here is refused when it is
called, so nothing reaches a real GPU or the host by accident. ``torch.device`` has a stand-in, as torch's own asks a
driver what a bare number is. Profilers that a program starts record the CPU alone: there is no GPU to record, and torch
would say so at every operator.

Fake tensors, of which ``torch.export`` makes use, say "cuda" down to C++. Its autograd then asks CUDA's guard for the
current stream; a torch without CUDA has none, and a torch with CUDA fails to reach a GPU, both where C++ may not raise:
the process is aborted. While the device is open, the CPU's guard answers, which has no streams.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self, SupportsIndex

import torch

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.rules.copies import scalar_sizes
from bagel_perf.simulated import creation, properties, storages, streams
from bagel_perf.simulated.compilers import patch_compilers, patch_graphs_and_collectives, patch_tracers, patch_triton
from bagel_perf.simulated.device import Listener, SimulatedDevice
from bagel_perf.simulated.frontends import patch_autocast, patch_exchange, patch_legacy_types, patch_nested
from bagel_perf.simulated.patches import LatePatches, NotSimulated, Patches, refused_class, refused_function
from bagel_perf.simulated.properties import patch_private_names
from bagel_perf.simulated.storages import patch_sending
from bagel_perf.simulated.streams import patch_threads
from bagel_perf.simulated.tensor import hidden, is_simulated
from bagel_perf.simulated.wrappers import is_passing, patch_aliases

_Native: Any = torch.device


class _SameType(type):
    """Takes the stand-in for torch's own type: devices are instances of that one, also those made here."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Native)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass in (cls, _Native)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is _Native

    def __hash__(cls) -> int:
        return hash(_Native)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_Native, name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """A device of torch's own type."""
        given = args if args else tuple(kwargs.values())
        if len(given) == 1 and isinstance(given[0], SupportsIndex):
            return _Native("cuda", int(given[0]))
        return _Native(*args, **kwargs)


def patch_device_type(patches: Patches) -> None:
    """Replaces ``torch.device``; pickles name it as before."""
    names = {"__module__": "torch", "__qualname__": "device", "__doc__": _Native.__doc__}
    patches.add(torch, "device", _SameType("device", (), names))


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


_MODES = ("default", "warn", "error")
_MESSAGE = "called a synchronizing CUDA operation"


class SyncDebugMode:
    """The mode that is set; 0, 1 and 2 are default, warn and error."""

    def __init__(self) -> None:
        self._mode = 0

    def functions(self) -> dict[str, Any]:
        """The functions of ``torch.cuda`` that set and tell it."""
        return {"set_sync_debug_mode": self._set, "get_sync_debug_mode": lambda: self._mode}

    def _set(self, debug_mode: int | str) -> None:
        known = _MODES if isinstance(debug_mode, str) else range(len(_MODES))
        if debug_mode not in known:
            raise RuntimeError(f"invalid value of debug_mode: {debug_mode!r}, expected one of default, warn, error")
        self._mode = _MODES.index(debug_mode) if isinstance(debug_mode, str) else debug_mode

    def remark(self, kind: Kind) -> None:
        """Warns, or raises RuntimeError, before a wait; torch does not look at explicit synchronization."""
        if self._mode and kind != "explicit_sync":
            if self._mode == _MODES.index("error"):
                raise RuntimeError(_MESSAGE)
            warnings.warn(_MESSAGE, UserWarning, stacklevel=3)


_CPU, _CUDA = 0, 1


@contextmanager
def guarded_by_the_cpu() -> Iterator[bool]:
    """CUDA's guard is the CPU's until the end of the context; gives False where torch has no such table."""
    table = _table()
    if table is None or not table[_CPU]:
        yield False
        return
    before, table[_CUDA] = table[_CUDA], table[_CPU]
    try:
        yield True
    finally:
        table[_CUDA] = before


def _table() -> ctypes.Array[ctypes.c_void_p] | None:
    for library in Path(torch.__file__).parent.glob("lib/*c10.*"):
        try:
            return (ctypes.c_void_p * 2).in_dll(ctypes.CDLL(str(library)), torch_inner_names.C10_GUARDS)
        except (OSError, ValueError):
            continue
    return None


_CUDA_VERSION = "13.0"
_ASKING = ("init", "get_device_name", "get_device_properties", "get_device_capability", "current_device", "set_device")
_NVML_ALONE = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Where it is 1, ``is_available`` leaves the driver alone."""


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
            streams.forget_streams()
            stack.enter_context(_default_device_kept())
            super().__enter__()
            stack.push(super().__exit__)
            late, aliases = LatePatches(), Patches()
            patch_aliases(aliases)
            late.hide(aliases, "torch._dynamo.polyfills.tensor")  # compares signatures, and remembers functions
            patch_triton(late, self)
            patch_tracers(late, self)
            self.misses(stack.enter_context(self._cuda_patches(late)).refused)
            self.misses(stack.enter_context(aliases).refused)
            stack.enter_context(late)
            stack.enter_context(guarded_by_the_cpu())
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._exits.__exit__(*raised)

    def waits(self, kind: Kind, times: int = 1, num_bytes: int | None = None) -> None:
        """The host would wait ``times`` times now; what the program's own sync debug mode says comes first."""
        for _ in range(times):
            self._debug_mode.remark(kind)
            super().waits(kind, 1, num_bytes)

    def _cuda_patches(self, late: LatePatches) -> Patches:
        patches = Patches()
        self._patch_torch_cuda(patches)
        patch_graphs_and_collectives(patches)
        patch_legacy_types(patches)
        patch_device_type(patches)
        patch_compilers(patches, self)
        patch_autocast(patches, self)
        patch_threads(patches, self)
        patch_sending(patches, self)
        patch_profilers(patches, self)
        self._patch_rest(patches)
        patch_private_names(patches, late, self)
        return patches

    def _patch_torch_cuda(self, patches: Patches) -> None:
        functions = {
            **properties.DEVICE_FUNCTIONS,
            **properties.MEMORY_FUNCTIONS,
            **creation.FUNCTIONS,
            **self._stream_functions(),
            **self._debug_mode.functions(),
            torch_names.LAZY_INIT.name: _reached_cuda,
        }
        asking = (*_ASKING, *([] if os.environ.get(_NVML_ALONE) == "1" else ["is_available"]))
        functions |= {name: self._asking(functions[name]) for name in asking}
        _replace(patches, torch.cuda, functions)
        for module in (torch.cuda.memory, torch.cuda.random, torch.cuda.streams):
            _replace(patches, module, functions)
        for module, names in ((torch.cuda.nvtx, _NVTX), (torch.cuda.profiler, _PROFILER)):
            for name, function in names.items():
                patches.add(module, name, function, only_present=True)
        patches.add(torch.cuda, "default_generators", (torch.default_generator,))

    def _asking(self, function: Any) -> Any:
        """A function after which CUDA serves no fork of this process, as was seen on a GPU."""

        @functools.wraps(function)
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked()
            return function(*args, **kwargs)

        return ask

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
        }

    def _reading_limits(self, native: Any) -> Any:
        """``torch.range``, which torch offers to no mode, reads its limits and step."""

        @functools.wraps(native)
        def make(*args: Any, **kwargs: Any) -> Any:
            self.reads("scalar_read", scalar_sizes((args, tuple(kwargs.values())), is_simulated))
            with hidden():
                return native(*args, **kwargs)

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
        patches.replace(torch_names.GET_ACCELERATOR, lambda native: lambda check=None: torch.device("cuda"))
        # All that nn.DataParallel asks for with one device: a copy of its inputs there.
        patches.replace(torch_names.SCATTER, lambda native: _scatter)
        # Torch's argument parser knows no streams but its own, and says so before it offers the call to anyone.
        patches.add(torch.Tensor, "record_stream", lambda tensor, stream: None)
        patches.add(torch, "Stream", streams.SimulatedStream)
        patches.add(torch, "Event", streams.SimulatedEvent)
        patches.add(torch, "range", self._reading_limits(torch.range))
        patch_nested(patches, self)
        patches.add(torch, "Generator", creation.SimulatedGenerator)
        patches.add(torch.backends.cuda, "is_built", lambda: True)
        patches.add(torch.backends.cudnn, "is_available", lambda: True)
        patches.add(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        patches.add(torch.backends.cudnn, "version", lambda: 91000)
        storages.patch_storages(patches, self)
        patch_exchange(patches)
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
    if is_passing():
        return
    raise NotSimulated("a call that reached CUDA itself", "make it on a thread that was started under the device")


@contextlib.contextmanager
def _default_device_kept() -> Iterator[None]:
    """Puts back the default device that was set before."""
    before = torch_names.default_device()
    try:
        yield
    finally:
        if before != torch_names.default_device():
            torch.set_default_device(before)


def _scatter(tensor: torch.Tensor, *where: Any) -> tuple[torch.Tensor, ...]:
    return (tensor.to("cuda", non_blocking=True),)


def _nothing(*args: Any, **kwargs: Any) -> int:
    return 0


@contextlib.contextmanager
def _range(msg: str = "", *args: Any, **kwargs: Any) -> Iterator[None]:
    yield


_NVTX: dict[str, Any] = {
    **dict.fromkeys(("range_push", "range_pop", "range_start", "range_end", "mark"), _nothing),
}
_PROFILER: dict[str, Any] = {"start": _nothing, "stop": _nothing, "init": _nothing, "profile": _range}
