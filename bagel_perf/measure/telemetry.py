"""Takes down the conditions of timed runs: begin before a run, end after it, nothing inside.

A process of its own reads the GPU meanwhile, so the measured one neither holds its interpreter lock for that nor loads
NVML. The GPU is found by its UUID: NVML's indices know nothing of CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from msgspec.structs import replace

from bagel_perf.measure.machine import CpuTimes, cpu_loads
from bagel_perf.records.codec import from_json
from bagel_perf.records.runs import Conditions

SAMPLER_COMMAND: tuple[str, ...] = (sys.executable, "-m", "bagel_perf.measure.telemetry_process")

START_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 5.0
GRACE_S = 2.0


def gpu_uuid(device: torch.device) -> str | None:
    """UUID of a CUDA device as NVML has it, without its prefix; None off CUDA and on a device that has none."""
    if device.type != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)


class _Lost(Exception):
    """The sampler gives no more answers; the message says why."""


class _Sampler:
    """The other process: a request is a word and its answer a JSON object, each on a line."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0)
        except OSError as problem:
            raise _Lost(f"the telemetry process cannot be started ({problem.strerror})") from problem

    def ask(self, request: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # how it ended is found when its answer is read
            self._process.stdin.write(f"{request}\n".encode())
        return self.answer(REPLY_TIMEOUT_S)

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The next answer; raises ``_Lost`` where none comes, or one that is no JSON object."""
        assert self._process.stdout is not None
        line, deadline = b"", time.monotonic() + timeout_s
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise _Lost(f"the telemetry process did not answer within {timeout_s:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise _Lost(f"the telemetry process ended ({_exit(self._process)})")
            line += part
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise _Lost(f"the telemetry process sent what is no answer ({line[:80]!r})")
        return answer

    def close(self) -> None:
        """Ends the process: it leaves when its input closes, and is killed where it does not."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs keeps even what was killed
                self._process.wait(GRACE_S)
        self._process.stdout.close()


def _exit(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return "its output closed"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class Telemetry:
    """Conditions of runs on a device, as a context: ``begin``, a run, ``end``, as often as needed.

    Off CUDA, without NVML, and after the sampler was lost, conditions hold the load of the CPU only; ``warning`` then
    says why, on CUDA. Nothing here fails a measurement.
    """

    def __init__(self, device: torch.device, command: Sequence[str] = SAMPLER_COMMAND) -> None:
        self.warning: str | None = None
        self._device = device
        self._command = tuple(command)
        self._sampler: _Sampler | None = None
        self._cpu: CpuTimes | None = None
        self._start_s: float | None = None

    def __enter__(self) -> Self:
        uuid = gpu_uuid(self._device)
        if uuid is not None:
            try:
                self._start(uuid)
            except _Lost as lost:
                self._lose(str(lost))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def begin(self) -> None:
        """Returns when the GPU has been read for the first time; call it with no work in flight."""
        self._ask("begin")
        self._cpu, self._start_s = CpuTimes.now(), time.perf_counter()

    def end(self) -> Conditions:
        """Conditions since ``begin``; call it when the device has finished."""
        assert self._start_s is not None, "end without begin"
        answer = self._ask("end")
        window_ms, cpu = (time.perf_counter() - self._start_s) * 1e3, CpuTimes.now()
        conditions = Conditions(window_ms=window_ms) if answer is None else from_json(Conditions, answer)
        load, of_others = cpu_loads(self._cpu, cpu)
        self._start_s = None
        return replace(conditions, cpu_load=load, cpu_load_of_others=of_others)

    def _start(self, uuid: str) -> None:
        self._sampler = _Sampler([*self._command, str(os.getpid()), uuid])
        first = self._sampler.answer(START_TIMEOUT_S)
        if "unusable" in first:
            raise _Lost(f"NVML is not usable ({first['unusable']})")

    def _ask(self, request: str) -> dict[str, Any] | None:
        if self._sampler is None:
            return None
        try:
            return self._sampler.ask(request)
        except _Lost as lost:
            self._lose(str(lost))
            return None

    def _lose(self, why: str) -> None:
        self.warning = f"{why}; conditions hold the load of the CPU only"
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
