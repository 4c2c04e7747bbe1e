"""What the simulated device says of itself: one GPU of compute capability 9.0 whose memory is never full.

Names below ``torch.cuda`` that packages ask for all the same say what the device is, or refuse by name. A torch without
CUDA lacks them, and a program that asks for one has been told that there is a GPU.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated import streams
from bagel_perf.simulated.patches import LatePatches, Patches, refused_class, refused_function

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

NAME = "simulated CUDA device"
TOTAL_BYTES = 80 * 2**30


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """Those of an H100, so that programs choose as they would there."""

    name: str = NAME
    major: int = 9
    minor: int = 0
    total_memory: int = TOTAL_BYTES
    multi_processor_count: int = 132
    warp_size: int = 32
    max_threads_per_multi_processor: int = 2048
    max_threads_per_block: int = 1024
    regs_per_multiprocessor: int = 65536
    shared_memory_per_block: int = 49152
    shared_memory_per_block_optin: int = 232448
    shared_memory_per_multiprocessor: int = 233472
    L2_cache_size: int = 50 * 2**20
    clock_rate: int = 1_980_000
    memory_clock_rate: int = 2_619_000
    memory_bus_width: int = 5120
    pci_bus_id: int = 0
    pci_device_id: int = 0
    pci_domain_id: int = 0
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    gcnArchName: str = NAME
    uuid: str = "00000000-0000-0000-0000-000000000000"


def _zero(*args: Any, **kwargs: Any) -> int:
    return 0


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _stats(*args: Any, **kwargs: Any) -> dict[str, int]:
    return defaultdict(int)


MEMORY_FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(
        (
            "memory_allocated",
            "max_memory_allocated",
            "memory_reserved",
            "max_memory_reserved",
            "memory_cached",
            "max_memory_cached",
            "device_memory_used",
        ),
        _zero,
    ),
    **dict.fromkeys(
        (
            "empty_cache",
            "empty_host_cache",
            "ipc_collect",
            "reset_peak_memory_stats",
            "reset_accumulated_memory_stats",
            "reset_max_memory_allocated",
            "reset_max_memory_cached",
            "reset_peak_host_memory_stats",
            "reset_accumulated_host_memory_stats",
            "set_per_process_memory_fraction",
        ),
        _nothing,
    ),
    **dict.fromkeys(("memory_stats", "host_memory_stats", "memory_stats_as_nested_dict"), _stats),
    "get_per_process_memory_fraction": lambda device=None: 1.0,
    "mem_get_info": lambda device=None: (TOTAL_BYTES, TOTAL_BYTES),
    "get_memory_info": lambda device=None: (TOTAL_BYTES, TOTAL_BYTES),
    "memory_summary": lambda device=None, abbreviated=False: f"{NAME}: nothing is allocated on a GPU",
    "memory_snapshot": lambda *args, **kwargs: [],
    "list_gpu_processes": lambda device=None: f"{NAME}: no processes",
    "get_allocator_backend": lambda: "native",
}

DEVICE_FUNCTIONS: dict[str, Any] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "init": _nothing,
    torch_names.SLEEP.name: _nothing,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda device=None: NAME,
    "get_device_properties": lambda device=None: DeviceProperties(),
    "get_device_capability": lambda device=None: (9, 0),
    "get_arch_list": lambda: ["sm_90"],
    "get_gencode_flags": lambda: "-gencode compute=compute_90,code=sm_90",
    "can_device_access_peer": lambda device, peer_device: False,
    "is_bf16_supported": lambda including_emulation=True: True,
    "is_tf32_supported": lambda: True,
    "is_current_stream_capturing": lambda: False,
    "utilization": _zero,
    "memory_usage": _zero,
    "temperature": _zero,
    "power_draw": _zero,
    "clock_rate": _zero,
}

_CUDA_VERSION = 13000
_NCCL_VERSION = 2 << 32 | 27 << 16 | 5

_NOTHING = """
init setDevice setStream emptyCache ipc_collect sleep clearCublasWorkspaces setMemoryFraction resetPeakMemoryStats
resetAccumulatedMemoryStats resetPeakHostMemoryStats resetAccumulatedHostMemoryStats record_memory_history
record_memory_history_legacy attach_out_of_memory_observer resetCublasWorkspaceSize resetCublasLtWorkspaceSize
setCublasWorkspaceSize setCublasLtWorkspaceSize set_cudnn_benchmark_limit setMemoryMetadata tunableop_enable
tunableop_tuning_enable record_untuned_enable
"""
_FALSE = """
isInBadFork isHistoryEnabled canDeviceAccessPeer isCurrentStreamCapturing get_conv_benchmark_empty_cache
tunableop_is_enabled tunableop_tuning_is_enabled record_untuned_is_enabled
"""
_ZERO = """
getDevice exchangeDevice maybeExchangeDevice getCublasWorkspaceSize getCublasLtWorkspaceSize get_cudnn_benchmark_limit
"""
_REFUSED = """
getCurrentBlasHandle getCurrentSolverHandle getStreamFromExternal getAllocator getCheckpointState getMemoryMetadata
customAllocator changeCurrentAllocator cudaHostAllocator cudaCachingAllocator_raw_alloc cudaCachingAllocator_raw_delete
cudaCachingAllocator_enable cudaCachingAllocator_is_enabled allocationTraceback beginAllocateToPool
beginAllocateCurrentStreamToPool beginAllocateCurrentThreadToPool endAllocateToPool releasePool setCheckpointPoolState
checkPoolLiveAllocations jiterator_compile_and_launch_kernel tunableop_get_filename tunableop_set_filename
tunableop_get_results tunableop_get_validators tunableop_read_file tunableop_get_max_tuning_duration
tunableop_set_max_tuning_duration tunableop_get_max_tuning_iterations tunableop_set_max_tuning_iterations
tunableop_get_rotating_buffer_size tunableop_set_rotating_buffer_size tunableop_set_numerical_check_tolerances
"""
_REFUSED_OF_NCCL = "unique_id init_rank reduce all_reduce broadcast all_gather reduce_scatter"
_CLASSES = ("_cuda_CUDAAllocator", "_cuda_CUDAAllocator_AllocatorState")


def patch_private_names(patches: Patches, late: LatePatches, device: SimulatedDevice) -> None:
    """Gives ``torch._C`` and ``torch.cuda`` the names that a torch with CUDA and one GPU has."""
    native: Any = torch_inner_names.NATIVE.find()
    known = _values(device)
    refused = {f"_cuda_{name}" for name in _REFUSED.split()} | {f"_nccl_{name}" for name in _REFUSED_OF_NCCL.split()}
    refused |= {name for name in dir(native) if name.startswith("_cuda_")} - known.keys()
    for name in sorted(refused - set(_CLASSES)):
        known[name] = refused_function(f"torch._C.{name}")
    for name in _CLASSES:
        known[name] = refused_class(f"torch._C.{name}")
    for name, value in known.items():
        patches.add(native, name, value)
    for name, value in _OF_TORCH_CUDA.items():
        patches.add(torch.cuda, name, value, only_present=True)
    patches.add(torch.cuda, "cudart", lambda: _cudart(device))
    late.add("torch._dynamo.device_interface", _patch_interface)


def _values(device: SimulatedDevice) -> dict[str, Any]:
    values: dict[str, Any] = {
        **dict.fromkeys(_NOTHING.split(), lambda *args, **kwargs: None),
        **dict.fromkeys(_FALSE.split(), lambda *args, **kwargs: False),
        **dict.fromkeys(_ZERO.split(), lambda *args, **kwargs: 0),
        **dict.fromkeys(("memoryStats", "hostMemoryStats"), lambda *args: {}),
        **dict.fromkeys(("getCompiledVersion", "getDriverVersion"), lambda: _CUDA_VERSION),
        **dict.fromkeys(("getCurrentStream", "getDefaultStream"), lambda index: (_stream(index), index, 1)),
        "getCurrentRawStream": lambda index: _stream(index),
        "getDeviceCount": lambda: 1,
        "getArchFlags": lambda: "sm_90",
        "synchronize": device.synchronize,
        "hasPrimaryContext": lambda index: True,
        "getAllocatorBackend": lambda: "native",
        "getMemoryFraction": lambda index: 1.0,
        "memorySnapshot": lambda *args: {"segments": [], "device_traces": [[]], "allocator_settings": {}},
        "get_sync_debug_mode": lambda: torch.cuda.get_sync_debug_mode(),
        "set_sync_debug_mode": lambda mode: torch.cuda.set_sync_debug_mode(mode),
    }
    return {
        **{f"_cuda_{name}": value for name, value in values.items()},
        "_CudaDeviceProperties": DeviceProperties,
        "_has_cuda": True,
        "_nccl_version": lambda: _NCCL_VERSION,
        "_nccl_version_suffix": lambda: b"",
    }


def _stream(index: int) -> int:
    return streams.current_stream(index).cuda_stream


_OF_TORCH_CUDA: dict[str, Any] = {
    **dict.fromkeys(("_exchange_device", "_maybe_exchange_device"), lambda index: 0),
    **dict.fromkeys(("_raw_device_count_nvml", "_device_count_nvml"), lambda: 1),
    "_initialized": True,
    "_set_stream_by_id": lambda *args: None,
    "check_error": lambda result: None,
}
"""Below the public names of ``torch.cuda``; nothing fails on the device, so no result of a call is an error."""


def _cudart(device: SimulatedDevice) -> SimpleNamespace:
    """The functions of the CUDA runtime that torch binds."""

    def register(address: int, num_bytes: int, flags: int) -> int:
        device.remarks("memory pinned by cudaHostRegister is taken for pageable")
        return 0

    def done(*args: Any, **kwargs: Any) -> int:
        return 0

    return SimpleNamespace(
        cudaError=SimpleNamespace(success=0),
        cudaGetErrorString=lambda error: "no error" if error == 0 else f"error {error}",
        cudaMemGetInfo=lambda index=0: (TOTAL_BYTES, TOTAL_BYTES),
        cudaHostRegister=register,
        cudaHostUnregister=done,
        cudaProfilerStart=done,
        cudaProfilerStop=done,
        cudaStreamCreate=refused_function("cudaStreamCreate", "make a torch.cuda.Stream"),
        cudaStreamDestroy=refused_function("cudaStreamDestroy", "make a torch.cuda.Stream"),
    )


def _patch_interface(patches: Patches, module: Any) -> None:
    """Holds what torch found when it was imported."""
    patches.add(module.CudaInterface, "get_raw_stream", staticmethod(_stream), only_present=True)
