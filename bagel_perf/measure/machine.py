"""Reads how busy the host's cores were, this process left out, and what NVML says of one GPU at one moment.

The kernel counts in ticks of about 10 ms a core, so a window of few ticks gives a coarse share. ``nvml`` is the module
``pynvml``, or a double of it with the same functions. What a GPU or its driver cannot tell is None, each value for
itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since boot of all cores together: all of them, those not idle, and those of this process."""

    total_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> CpuTimes | None:
        """The times at this moment; None where the system does not keep them."""
        try:
            with stat.open() as lines:
                ticks = [int(field) for field in lines.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        if len(ticks) < 8:
            return None
        total, idle = sum(ticks), ticks[3] + ticks[4]
        hertz = os.sysconf("SC_CLK_TCK")
        return cls(total_s=total / hertz, busy_s=(total - idle) / hertz, own_s=time.process_time())


def cpu_loads(start: CpuTimes | None, end: CpuTimes | None) -> tuple[float | None, float | None]:
    """Shares of all cores that were busy between two moments, with this process and without; None where unknown."""
    if start is None or end is None or not end.total_s > start.total_s:
        return None, None
    total_s, busy_s = end.total_s - start.total_s, end.busy_s - start.busy_s
    others_s = busy_s - (end.own_s - start.own_s)
    return min(max(busy_s / total_s, 0.0), 1.0), min(max(others_s / total_s, 0.0), 1.0)


THROTTLE_REASONS = (
    "gpu_idle",
    "application_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake",
    "display_clocks",
    "board_limit",
    "reliability",
)
"""By the number of their bit in ``nvmlClocksEventReasons``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One GPU at ``time_s`` of the monotonic clock; ``energy_j`` counts from when the driver was loaded.

    ``own_pids`` and ``other_pids`` hold a compute context on it, each as NVML numbers processes.
    """

    time_s: float
    energy_j: float | None = None
    power_w: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: frozenset[str] | None = None
    temperature_c: int | None = None
    own_pids: frozenset[int] | None = None
    other_pids: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What a GPU is and how it is set up; ``num_others`` are processes with a context on it that are not the owner's.

    ``has_set_clocks`` says whether a setting of somebody's holds its clocks; an idle GPU does not tell.
    """

    name: str | None = None
    uuid: str | None = None
    driver: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    sm_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    has_set_clocks: bool | None = None
    is_persistent: bool | None = None
    has_mig: bool | None = None
    num_others: int | None = None


def throttle_names(bits: int) -> frozenset[str]:
    """Names of the reasons in a bit mask; a bit that has no name here keeps its number."""
    known = dict(enumerate(THROTTLE_REASONS))
    return frozenset(known.get(bit, f"bit_{bit}") for bit in range(bits.bit_length()) if bits >> bit & 1)


def line_of(pid: int) -> list[int]:
    """A process, its parent, and so on to the first; only itself where /proc does not know it."""
    line = [pid]
    while (parent := _parent(line[-1])) and parent not in line:
        line.append(parent)
    return line


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of NVML, read for the process ``owner``: what descends from it and what it descends from is its own.

    The ancestors are those that wait for it: a notebook, or a test that started the worker.
    """

    nvml: Any
    handle: Any
    owner: int

    @classmethod
    def of_uuid(cls, nvml: Any, uuid: str, owner: int) -> Gpu:
        """The GPU, or part of one, of a UUID without prefix; starts NVML and raises its ``NVMLError``."""
        nvml.nvmlInit()
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except nvml.NVMLError:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        return cls(nvml=nvml, handle=handle, owner=owner)

    @classmethod
    def at(cls, nvml: Any, index: int, owner: int) -> Gpu:
        """The GPU of NVML's index, once NVML is started; raises its ``NVMLError``."""
        return cls(nvml=nvml, handle=nvml.nvmlDeviceGetHandleByIndex(index), owner=owner)

    def facts(self) -> GpuFacts:
        """What it is and how it is set up."""
        nvml = self.nvml
        memory, now = self._ask(nvml.nvmlDeviceGetMemoryInfo), self.read()
        persistence, mig = self._ask(nvml.nvmlDeviceGetPersistenceMode), self._ask(nvml.nvmlDeviceGetMigMode)
        uuid, reasons = self._ask(nvml.nvmlDeviceGetUUID), now.throttle_reasons
        return GpuFacts(
            name=self._ask(nvml.nvmlDeviceGetName),
            uuid=None if uuid is None else str(uuid).removeprefix("GPU-"),
            driver=self._ask(lambda _: nvml.nvmlSystemGetDriverVersion()),
            total_bytes=None if memory is None else memory.total,
            used_bytes=None if memory is None else memory.used,
            sm_clock_mhz=now.sm_clock_mhz,
            max_sm_clock_mhz=self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            has_set_clocks=None if reasons is None or "gpu_idle" in reasons else "application_clocks" in reasons,
            is_persistent=None if persistence is None else bool(persistence),
            has_mig=None if mig is None else bool(mig[0]),
            num_others=None if now.other_pids is None else len(now.other_pids),
        )

    def read(self, *, with_processes: bool = True) -> Reading:
        """All values now; the list of processes costs more than the others together, so it can be left out."""
        nvml = self.nvml
        now, energy_mj = time.monotonic(), self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        bits = self._ask(nvml.nvmlDeviceGetCurrentClocksEventReasons)
        pids = self._pids() if with_processes else None
        own = None if pids is None else frozenset(pid for pid in pids if self._is_own(pid))
        return Reading(
            time_s=now,
            energy_j=None if energy_mj is None else energy_mj / 1e3,
            power_w=self._power_w(),
            sm_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            throttle_reasons=None if bits is None else throttle_names(bits),
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            own_pids=own,
            other_pids=None if pids is None or own is None else pids - own,
        )

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(self.handle, *args)
        except self.nvml.NVMLError:
            return None

    def _power_w(self) -> float | None:
        """Power now; from Ampere on ``nvmlDeviceGetPowerUsage`` is the mean of the last second, so it comes second."""
        fields = self._ask(self.nvml.nvmlDeviceGetFieldValues, [self.nvml.NVML_FI_DEV_POWER_INSTANT])
        if fields is not None and fields[0].nvmlReturn == self.nvml.NVML_SUCCESS:
            return float(fields[0].value.uiVal / 1e3)
        power_mw = self._ask(self.nvml.nvmlDeviceGetPowerUsage)
        return None if power_mw is None else power_mw / 1e3

    def _pids(self) -> frozenset[int] | None:
        processes = self._ask(self.nvml.nvmlDeviceGetComputeRunningProcesses)
        return None if processes is None else frozenset(process.pid for process in processes)

    def _is_own(self, pid: int) -> bool:
        return pid in line_of(self.owner) or self.owner in line_of(pid)
