"""What the programs with planned idle time run on: a GPU, or for a rehearsal a CPU that stands in for one."""

from __future__ import annotations

import ctypes
import re
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.profiler import ProfilerActivity, record_function

from planned_raw import FAKE_CALL, KERNEL_US

SMALL = 256
LONG_CYCLES = 20_000_000
"""About 10 ms of ``torch.cuda._sleep``."""
BIG_BYTES, PINNED_BYTES = 6 << 30, 64 << 20


class Machine(Protocol):
    """Something that does small and long work in order, and on which idle time can be arranged."""

    device: str
    name: str
    activities: tuple[ProfilerActivity, ...]

    def burst(self, num_kernels: int) -> None:
        """Launches so many small kernels."""

    def long_kernel(self) -> None:
        """Launches a kernel of about 10 ms."""

    def read(self) -> None:
        """Reads one scalar, and so waits."""

    def wait(self) -> None:
        """Waits for the stream."""

    def hold(self, length_us: int) -> None:
        """Lets the stream wait for something outside of the device that takes so long; the host goes on."""

    def held_ms(self) -> list[float]:
        """Tells how long each ``hold`` so far took, and forgets them; nothing may run."""

    def allocate(self) -> None:
        """Takes much memory from the driver, and gives it back to the driver."""

    def pin(self) -> None:
        """Takes pinned memory of the host from the driver, and keeps it."""

    def capture(self, num_kernels: int) -> None:
        """Captures so many small kernels into a graph."""

    def replay(self) -> None:
        """Launches the graph."""


class Gpu:
    """The first GPU."""

    device: str = "cuda"
    activities: tuple[ProfilerActivity, ...] = (ProfilerActivity.CPU, ProfilerActivity.CUDA)

    def __init__(self) -> None:
        torch.cuda.init()
        self.name = torch.cuda.get_device_name()
        self._x = torch.rand(SMALL, SMALL, device="cuda")
        self._side, self._capturing = torch.cuda.Stream(), torch.cuda.Stream()
        self._launch_host_function = _launch_host_function()
        self._usleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p)
        self._held: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._pinned: list[torch.Tensor] = []
        self._graph = torch.cuda.CUDAGraph()
        self._big_bytes = min(BIG_BYTES, torch.cuda.mem_get_info()[0] // 4)
        torch.cuda.synchronize()

    def burst(self, num_kernels: int) -> None:
        _burst(self._x, num_kernels)

    def long_kernel(self) -> None:
        torch.cuda._sleep(LONG_CYCLES)

    def read(self) -> None:
        self._x[0, 0].item()

    def wait(self) -> None:
        torch.cuda.current_stream().synchronize()

    def hold(self, length_us: int) -> None:
        # The host function is libc's own, so that no thread of CUDA needs Python; it begins when the stream is idle.
        main, side = torch.cuda.current_stream(), self._side
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        side.wait_stream(main)
        begun.record(side)
        status = self._launch_host_function(ctypes.c_void_p(side.cuda_stream), self._usleep, ctypes.c_void_p(length_us))
        if status:
            raise RuntimeError(f"the host function was not launched: status {status}")
        ended.record(side)
        main.wait_event(ended)
        self._held.append((begun, ended))

    def held_ms(self) -> list[float]:
        torch.cuda.synchronize()
        found = [begun.elapsed_time(ended) for begun, ended in self._held]
        self._held.clear()
        return found

    def allocate(self) -> None:
        kept = [torch.empty(self._big_bytes, dtype=torch.uint8, device="cuda") for _ in range(2)]
        del kept
        torch.cuda.empty_cache()

    def pin(self) -> None:
        self._pinned.append(torch.empty(PINNED_BYTES, dtype=torch.uint8, pin_memory=True))

    def capture(self, num_kernels: int) -> None:
        # Not torch.cuda.graph(), which collects garbage first.
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._capturing):
            self._graph.capture_begin()
            _burst(self._x, num_kernels)
            self._graph.capture_end()

    def replay(self) -> None:
        self._graph.replay()


class Simulated:
    """A CPU whose calls are annotations; ``planned_raw.made_up`` makes calls and work of a device of them."""

    device: str = "cpu"
    name: str = "none"
    activities: tuple[ProfilerActivity, ...] = (ProfilerActivity.CPU,)

    def __init__(self) -> None:
        self._x = torch.rand(8, 8)
        self._ready_s = 0.0
        self._held: list[float] = []
        self._captured = 0

    def burst(self, num_kernels: int) -> None:
        _burst(self._x, num_kernels)
        self._busy(KERNEL_US)

    def long_kernel(self) -> None:
        self._call("cudaLaunchKernel 10000")
        self._busy(10_000)

    def read(self) -> None:
        self._call("cudaMemcpyAsync")
        self._busy(10)
        self.wait()

    def wait(self) -> None:
        with record_function(f"{FAKE_CALL}cudaStreamSynchronize"):
            time.sleep(max(self._ready_s - time.perf_counter(), 0.0))

    def hold(self, length_us: int) -> None:
        self._call(f"cudaStreamWaitEvent {length_us}")
        self._busy(length_us)
        self._held.append(length_us / 1e3)

    def held_ms(self) -> list[float]:
        found, self._held = self._held, []
        return found

    def allocate(self) -> None:
        for name in ("cudaMalloc", "cudaMalloc", "cudaFree", "cudaFree"):
            self._call(name, 0.002)

    def pin(self) -> None:
        self._call("cudaHostAlloc", 0.01)

    def capture(self, num_kernels: int) -> None:
        self._call("cudaStreamBeginCapture")
        _burst(self._x, num_kernels)
        self._call("cudaStreamEndCapture")
        self._call("cudaGraphInstantiateWithFlags", 0.001)
        self._captured = num_kernels

    def replay(self) -> None:
        self._call(f"cudaGraphLaunch {self._captured}")
        self._busy(KERNEL_US * self._captured)

    def _call(self, name: str, length_s: float = 0.0) -> None:
        with record_function(f"{FAKE_CALL}{name}"):
            time.sleep(length_s)

    def _busy(self, length_us: float) -> None:
        self._ready_s = max(self._ready_s, time.perf_counter()) + length_us / 1e6


def _burst(x: torch.Tensor, num_kernels: int) -> None:
    """Runs the operators of ``planned_raw.LAUNCHED`` in turn, none of which allocates."""
    for i in range(num_kernels):
        if i % 3 == 0:
            x.tanh_()
        elif i % 3 == 1:
            x.mul_(1.5)
        else:
            x.add_(0.1)


def _launch_host_function() -> Any:
    """Finds ``cudaLaunchHostFunc`` in the runtime that torch has loaded, else the driver's own."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    for path in sorted(set(re.findall(r"(/\S*libcudart[\w.-]*\.so[\w.]*)", maps))):
        found = getattr(ctypes.CDLL(path), "cudaLaunchHostFunc", None)
        if found is not None:
            return found
    return ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc
