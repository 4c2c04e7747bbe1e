"""What the simulated device says of itself: one GPU of compute capability 9.0 whose memory is never full."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from bagel_perf.harness import torch_names

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
