"""A double of pynvml: GPUs whose values a test scripts. As a program it is the telemetry process on that double."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

UUID = "11111111-aaaa-bbbb-cccc-000000000001"
OTHER_UUID = "22222222-aaaa-bbbb-cccc-000000000002"


_T = TypeVar("_T")


class NVMLError(Exception):
    """What a GPU or its driver cannot do."""


@dataclass(slots=True, kw_only=True)
class FakeGpu:
    """Values by reading; the last one stays. None is unreadable."""

    uuid: str = UUID
    prefix: str = "GPU-"
    sm_clock_mhz: list[int | None] = field(default_factory=lambda: [1980])
    memory_clock_mhz: list[int | None] = field(default_factory=lambda: [2619])
    throttle_bits: list[int | None] = field(default_factory=lambda: [0])
    temperature_c: list[int | None] = field(default_factory=lambda: [60])
    power_mw: list[int | None] = field(default_factory=lambda: [500_000])
    average_power_mw: list[int | None] = field(default_factory=lambda: [100_000])
    energy_mj: list[int | None] = field(default_factory=lambda: [7_000])
    pids: list[list[int] | None] = field(default_factory=lambda: [[]])
    is_mute: bool = False
    is_persistent: bool = True
    has_mig: bool = False
    dies_at: int | None = None
    hangs_at: int | None = None
    num_asked: dict[str, int] = field(default_factory=dict)


class FakeNvml:
    """The functions of pynvml that are called, over some GPUs in the order of NVML's indices."""

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_FI_DEV_POWER_INSTANT = 186

    def __init__(self, gpus: Sequence[FakeGpu]) -> None:
        self.gpus = gpus
        self.is_started = False

    def nvmlInit(self) -> None:
        if not self.gpus:
            raise NVMLError("NVML Shared Library Not Found")
        self.is_started = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        assert self.is_started
        found = [gpu for gpu in self.gpus if uuid == gpu.prefix + gpu.uuid]
        if not found:
            raise NVMLError("Not Found")
        return found[0]

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.gpus[index]

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return _told(gpu, "NVIDIA H200")

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return _told(gpu, gpu.prefix + gpu.uuid)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        return _told(gpu, SimpleNamespace(total=140 << 30, used=3 << 29))

    def nvmlDeviceGetMaxClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        return _told(gpu, 1980)

    def nvmlDeviceGetPersistenceMode(self, gpu: FakeGpu) -> int:
        return _told(gpu, int(gpu.is_persistent))

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        return _told(gpu, [int(gpu.has_mig), 0])

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> Any:
        return _next(gpu, {self.NVML_CLOCK_SM: "sm_clock_mhz", self.NVML_CLOCK_MEM: "memory_clock_mhz"}[kind])

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> Any:
        return _next(gpu, "throttle_bits")

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> Any:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return _next(gpu, "temperature_c")

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: list[int]) -> list[Any]:
        assert fields == [self.NVML_FI_DEV_POWER_INSTANT]
        try:
            return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=_next(gpu, "power_mw")))]
        except NVMLError:
            return [SimpleNamespace(nvmlReturn=3, value=SimpleNamespace(uiVal=0))]

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> Any:
        return _next(gpu, "average_power_mw")

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> Any:
        number = gpu.num_asked.get("energy_mj", 0)
        if number == gpu.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == gpu.hangs_at:
            time.sleep(60)
        return _next(gpu, "energy_mj")

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in _next(gpu, "pids")]


def _told(gpu: FakeGpu, value: _T) -> _T:
    if gpu.is_mute:
        raise NVMLError("Not Supported")
    return value


def _next(gpu: FakeGpu, name: str) -> Any:
    values, number = getattr(gpu, name), gpu.num_asked.get(name, 0)
    gpu.num_asked[name] = number + 1
    value = values[min(number, len(values) - 1)]
    if value is None:
        raise NVMLError("Not Supported")
    return value


def sampler_command(*gpus: FakeGpu, period_s: float = 3600.0) -> tuple[str, ...]:
    """Starts the telemetry process on a machine with these GPUs; without any, NVML is not there.

    With the period it has here a GPU is read at each begin and end, and never in between.
    """
    return (sys.executable, __file__, json.dumps({"gpus": [asdict(gpu) for gpu in gpus], "period_s": period_s}))


def main() -> None:
    from bagel_perf.measure import telemetry_process

    scene = json.loads(sys.argv.pop(1))
    telemetry_process.PERIOD_S = scene["period_s"]
    telemetry_process.main(FakeNvml([FakeGpu(**each) for each in scene["gpus"]]))


if __name__ == "__main__":
    main()
