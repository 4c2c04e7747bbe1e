"""What ``doctor`` says of the machine: CPU, memory and disks as Linux tells it, GPUs and their profiler."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bagel_perf.measure.gpu_lock import holder_of
from bagel_perf.measure.machine import CpuTimes, Gpu, GpuFacts, cpu_loads
from bagel_perf.records.diagnosis import Row, State, TorchFacts

GIB = 2**30
LOOK_S = 0.25
"""In which the load of the others is looked at."""
MAX_LOAD_OF_OTHERS = 0.1
LEAST_CORES = 2
LEAST_MEMORY_BYTES = 4 * GIB
LEAST_DISK_BYTES = GIB


def cores_row(root: Path = Path("/")) -> Row:
    """The cores that may be used: of the affinity, and of the quota of the control group."""
    present, allowed = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    found = f"{allowed} of {present} allowed" + (f", a quota of {quota:g}" if quota is not None else "")
    if quota is not None and quota < allowed:
        means = "whoever uses the quota up stands still for the rest of 100 ms: latencies have steps"
        return _row("CPU cores", "limited", found, means, "give the container whole cores (a cpuset) and no quota")
    if allowed < LEAST_CORES:
        means = "the loop, the telemetry and whatever else runs share a core: launch-bound latencies are too long"
        return _row("CPU cores", "limited", found, means, f"allow {LEAST_CORES} cores or more (taskset, cpuset)")
    return _row("CPU cores", "ok", found, "the loop has a core for itself")


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many cores the control group may use in the mean; None without a limit, or where it is not told."""
    groups = root / "sys/fs/cgroup"
    for folder in _control_groups(root):
        quota, _, period = _text(groups / folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            return int(quota) / int(period)
    quota, period = (_text(groups / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _control_groups(root: Path) -> Iterator[str]:
    """The own group and those around it, as paths below the mount; a container sees its own as the outermost."""
    own = next((line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    parts = Path(own.strip("/")).parts
    yield from (os.path.join(*parts[:end]) for end in range(len(parts), 0, -1) if ".." not in parts)
    yield ""


def load_row() -> Row:
    """How busy others keep the cores just now."""
    start = CpuTimes.now()
    time.sleep(LOOK_S)
    _, others = cpu_loads(start, CpuTimes.now())
    if others is None:
        return _row("CPU load", "limited", "not told here", "nobody sees whether other programs disturb latencies")
    found = f"{others:.0%} of all cores by others, in {LOOK_S:g} s"
    if others > MAX_LOAD_OF_OTHERS:
        means = "host-bound stages take longer and vary; pairs suffer alike, intervals widen"
        return _row("CPU load", "limited", found, means, "stop what else runs (top shows it)")
    return _row("CPU load", "ok", found, "nothing else disturbs latencies")


def clock_row(root: Path = Path("/")) -> Row:
    """How the CPU chooses its frequency."""
    governor = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor:
        return _row("CPU clock", "ok", "no governor, as in a virtual machine", "whoever runs the machine decides it")
    if governor == "performance":
        return _row("CPU clock", "ok", f"governor {governor}", "the clock does not wait for load")
    means = "the clock follows the load: host-bound stages vary with what ran before"
    return _row("CPU clock", "limited", f"governor {governor}", means, "as root: cpupower frequency-set -g performance")


def memory_row(root: Path = Path("/")) -> Row:
    """Memory that a worker can have: of the machine, and of the control group."""
    lines = _text(root / "proc/meminfo").splitlines()
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "")
    rooms = [int(kib) * 1024] if kib.isdecimal() else []
    for folder in _control_groups(root):
        limit, used = (_text(root / "sys/fs/cgroup" / folder / f"memory.{name}") for name in ("max", "current"))
        if limit.isdecimal() and used.isdecimal():
            rooms.append(max(int(limit) - int(used), 0))
    if not rooms:
        return _row("memory", "limited", "not told here", "a worker may be killed for want of it")
    found = f"{min(rooms) / GIB:.1f} GiB free"
    if min(rooms) < LEAST_MEMORY_BYTES:
        means = "a worker may be killed: torch and a small model take 1 to 2 GiB"
        return _row("memory", "limited", found, means, "end other programs, or raise the container's limit")
    return _row("memory", "ok", found, "enough for a worker; a model of yours comes on top")


def disk_rows(folder: Path) -> Iterator[Row]:
    """Where results and temporary files go."""
    yield _disk_row("disk of results", folder, "choose another folder: --out")
    yield _disk_row("temporary folder", Path(tempfile.gettempdir()), "set TMPDIR")


def _disk_row(what: str, folder: Path, remedy: str) -> Row:
    free_bytes = shutil.disk_usage(folder).free
    found = f"{folder}: {free_bytes / GIB:.1f} GiB free"
    if not os.access(folder, os.W_OK):
        return _row(what, "missing", f"{folder} may not be written", "nothing can be kept there", remedy)
    if free_bytes < LEAST_DISK_BYTES:
        return _row(what, "limited", found, "profiles and traces of a long run may not fit", remedy)
    return _row(what, "ok", found, "a result takes some MB, a trace of a long run hundreds")


def _row(what: str, state: State, found: str, means: str, remedy: str = "") -> Row:
    return Row(what=what, state=state, found=found, means=means, remedy=remedy)


def _text(path: Path) -> str:
    """What a file of the kernel says; "" where there is none or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


DRIVER = Path("/proc/driver/nvidia/version")

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
        yield f"{what} are excluded", "stop them, or take another GPU with CUDA_VISIBLE_DEVICES"
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
        return Row(
            what=what,
            state="missing",
            found="not tried without a GPU",
            means="no launches, GPU work or predicted savings",
        )
    if not facts.sees_gpu:
        found = "not tried: torch sees no GPU" + (f" ({facts.problem})" if facts.problem else "")
        return Row(what=what, state="missing", found=found, means="no launches, GPU work or predicted savings")
    if facts.records_kernels:
        return Row(
            what=what, state="ok", found="CUPTI records kernels", means="launches, GPU work, predicted savings of waits"
        )
    found = "CUPTI records no kernel" + (f" ({facts.problem})" if facts.problem else "")
    remedy = "end other profilers (nsys, ncu, DCGM); let users profile: NVreg_RestrictProfilingToAdminUsers=0, or root"
    means = "latencies and host syncs are measured; launches, GPU work and predicted savings are not"
    return Row(what=what, state="limited", found=found, means=means, remedy=remedy)
