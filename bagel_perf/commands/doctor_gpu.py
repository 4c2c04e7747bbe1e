"""What ``doctor`` says of the GPUs and of their profiler."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bagel_perf.harness.gpu_lock import holder_of
from bagel_perf.harness.nvml import Gpu, GpuFacts
from bagel_perf.schema.diagnosis import Row, TorchFacts

DRIVER = Path("/proc/driver/nvidia/version")
GIB = 2**30
NO_GPU = "host syncs are counted on the simulated device; latencies are the CPU's and mean nothing for a GPU"

Problem = tuple[str, str]
"""What it means, and its remedy; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """``is_there`` says whether NVML knows one, ``may_be_there`` whether a driver does."""

    rows: tuple[Row, ...]
    is_there: bool = False
    may_be_there: bool = False


def look(nvml: Any = None, driver: Path = DRIVER) -> Gpus:
    """Looks at all GPUs that NVML knows, and never raises; ``nvml`` is a double of ``pynvml``."""
    try:
        facts = _facts(nvml)
    except Exception as problem:  # no library, no driver, no permission, or a library of another driver
        return _without(problem, driver)
    if not facts:
        return _without(None, driver)
    return Gpus(rows=tuple(gpu_row(index, each) for index, each in enumerate(facts)), is_there=True, may_be_there=True)


def _facts(nvml: Any) -> list[GpuFacts]:
    if nvml is None:
        import pynvml

        nvml = pynvml
    nvml.nvmlInit()
    return [Gpu.at(nvml, index, os.getpid()).facts() for index in range(nvml.nvmlDeviceGetCount())]


def _without(problem: Exception | None, driver: Path) -> Gpus:
    if not driver.exists():
        found = "none: no NVIDIA driver"
        return Gpus(rows=(Row(what="GPU", state="missing", found=found, means=NO_GPU, remedy=""),))
    why = "it knows no GPU" if problem is None else f"{type(problem).__name__}: {problem}"
    remedy = "look at nvidia-smi; in a container, start it with the GPUs"
    if isinstance(problem, ImportError):
        remedy = "pip install nvidia-ml-py"
    found = f"a driver, but NVML does not answer ({why})"
    means = "clock, temperature and other processes are not seen, and perhaps no GPU"
    return Gpus(rows=(Row(what="GPU", state="limited", found=found, means=means, remedy=remedy),), may_be_there=True)


def gpu_row(index: int, facts: GpuFacts) -> Row:
    """One GPU with all that disturbs a measurement on it."""
    holder = _holder(facts)
    problems = [*_problems(index, facts, holder)]
    return Row(
        what=f"GPU {index}",
        state="limited" if problems else "ok",
        found=", ".join(_found(facts)),
        means="; ".join(means for means, _ in problems) or "nothing here disturbs latencies",
        remedy="; ".join(remedy for _, remedy in problems if remedy),
        is_needed=holder is not None,
    )


def _holder(facts: GpuFacts) -> str | None:
    try:
        return None if facts.uuid is None else holder_of(facts.uuid)
    except OSError:
        return "the lock file cannot be opened by"


def _found(facts: GpuFacts) -> Iterator[str]:
    yield facts.name or "a GPU without a name"
    if facts.driver:
        yield f"driver {facts.driver}"
    if facts.total_bytes and facts.used_bytes is not None:
        yield f"{facts.used_bytes / GIB:.1f} of {facts.total_bytes / GIB:.0f} GiB in use"
    if facts.sm_clock_mhz and facts.max_sm_clock_mhz:
        yield f"{facts.sm_clock_mhz} of {facts.max_sm_clock_mhz} MHz"
    if facts.has_set_clocks is not None:
        yield "clocks are set" if facts.has_set_clocks else "clocks are not locked"
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield f"CUDA_VISIBLE_DEVICES={visible}"


def _problems(index: int, facts: GpuFacts, holder: str | None) -> Iterator[Problem]:
    if holder is not None:
        yield f"{holder} measures on it, so a run is refused", "wait for it, or stop it"
    if facts.num_others:
        num = facts.num_others
        what = f"{num} other {'process has' if num == 1 else 'processes have'} a context on it; pairs beside their work"
        yield f"{what} are dropped", "stop them, or take another GPU with CUDA_VISIBLE_DEVICES"
    if facts.num_others is None:
        yield "NVML does not tell which processes use it", ""
    if facts.has_mig:
        yield "MIG is on: latencies are those of a part of the GPU, and the parts share its power", ""
    if facts.is_persistent is False:
        yield (
            "persistence mode is off: the driver unloads between runs, and starts are slower",
            (f"as root: nvidia-smi -i {index} -pm 1"),
        )


def profiler_row(facts: TorchFacts, *, has_gpu: bool) -> Row:
    """Whether kernels can be recorded, tried where there is a GPU."""
    what = "profiler"
    if not has_gpu:
        return Row(what=what, state="missing", found="not tried without a GPU", means="no launches, GPU work or prices")
    if not facts.sees_gpu:
        found = "not tried: torch sees no GPU" + (f" ({facts.problem})" if facts.problem else "")
        return Row(what=what, state="missing", found=found, means="no launches, GPU work or prices")
    if facts.records_kernels:
        return Row(what=what, state="ok", found="CUPTI records kernels", means="launches, GPU work, prices of waits")
    found = "CUPTI records no kernel" + (f" ({facts.problem})" if facts.problem else "")
    remedy = "end other profilers (nsys, ncu, DCGM); let users profile: NVreg_RestrictProfilingToAdminUsers=0, or root"
    means = "latencies and host syncs are measured; launches, GPU work and prices are not"
    return Row(what=what, state="limited", found=found, means=means, remedy=remedy)
