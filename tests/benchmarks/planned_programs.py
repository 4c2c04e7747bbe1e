"""Programs whose device is idle for known times: by the host's clock, by CUDA events, or from the raw trace."""

from __future__ import annotations

import gc
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import profile, record_function, schedule
from torch.utils.data import DataLoader, Dataset

from planned_machines import Gpu, Machine, Simulated
from planned_raw import idle_in_calls_ms, idle_in_capture_ms, made_up, num_launches_captured, read_events

STEPS = 5
"""Recorded ones, after one of the profiler's warm-up."""
SET_UP_STEP = 3
BURST, NUM_CAPTURED = 80, 200
SLEEP_S = {"data_loader": 0.02, "preprocess": 0.025, "after_read": 0.015}
OPERATORS_S = 0.02
HOLD_US = 30_000
ALLOCATOR = "cudaMalloc|cudaFree|cudaHostAlloc"

Step = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Idle time of one cause: how long, how that is known, and what has to be named as most of it (a pattern).

    ``slack_ms`` allows so much for what is too short for a tolerance in percent.
    """

    cause: str
    planned_ms: float
    known_from: str
    named: str
    slack_ms: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Stretches that the host measured since the recording began."""

    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def stretch(self) -> Iterator[None]:
        """Measures what is done inside."""
        begun_s = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - begun_s)

    @property
    def total_ms(self) -> float:
        """The sum of all stretches."""
        return sum(self.seconds) * 1e3


class SlowData(Dataset[torch.Tensor]):
    """Items that take their time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> torch.Tensor:
        with self._ledger.stretch():
            time.sleep(SLEEP_S["data_loader"])
        return torch.full((16,), float(index))


def data_loader(machine: Machine, ledger: Ledger) -> Step:
    """Prepares a loop over batches of two items each."""
    batches = iter(DataLoader(SlowData(ledger), batch_size=2, num_workers=0))

    def step(number: int) -> None:
        next(batches).to(machine.device)
        machine.burst(BURST)

    return step


def dependency(machine: Machine, ledger: Ledger) -> Step:
    """Prepares steps that wait on the device; the host waits in the warm-up, and after all of them."""

    def step(number: int) -> None:
        # Few enough that all steps together stay below the 1024 entries of the launch queue.
        machine.burst(BURST // 2)
        machine.hold(HOLD_US)
        machine.burst(BURST // 2)
        if number in (0, STEPS):
            machine.wait()
        if number == 0:
            machine.held_ms()

    return step


def preprocess(machine: Machine, ledger: Ledger) -> Step:
    """Prepares steps that sleep in an annotation."""

    def step(number: int) -> None:
        with record_function("preprocess"), ledger.stretch():
            time.sleep(SLEEP_S["preprocess"])
        machine.burst(BURST)

    return step


def operators(machine: Machine, ledger: Ledger) -> Step:
    """Prepares steps of many small operators on the CPU."""
    x = torch.rand(128, 128)

    def step(number: int) -> None:
        with ledger.stretch():
            until_s = time.perf_counter() + OPERATORS_S
            while time.perf_counter() < until_s:
                x.mul(1.0001).add(0.5)
        machine.burst(BURST)

    return step


def read(machine: Machine, ledger: Ledger) -> Step:
    """Prepares steps that wait for a long kernel, and do something else before they launch again."""

    def step(number: int) -> None:
        machine.burst(BURST)
        machine.long_kernel()
        machine.read()
        with ledger.stretch():
            time.sleep(SLEEP_S["after_read"])
        machine.burst(BURST)

    return step


def set_up(machine: Machine, ledger: Ledger, *, again: bool) -> Step:
    """Prepares steps of which one, or each, takes memory from the driver and gives it back."""

    def step(number: int) -> None:
        machine.burst(BURST)
        machine.wait()
        if again or number == SET_UP_STEP:
            machine.allocate()
        if not again and number == SET_UP_STEP:
            machine.pin()
        machine.burst(BURST)

    return step


def capture(machine: Machine, ledger: Ledger) -> Step:
    """Prepares steps of small kernels, from one of them on as a graph that is captured there."""

    def step(number: int) -> None:
        if number < SET_UP_STEP:
            machine.burst(NUM_CAPTURED)
            return
        if number == SET_UP_STEP:
            machine.burst(BURST)
            machine.wait()
            machine.capture(NUM_CAPTURED)
        for _ in range(4):
            machine.replay()

    return step


PROGRAMS: dict[str, Callable[[Machine, Ledger], Step]] = {
    "data_loader": data_loader,
    "dependency": dependency,
    "preprocess": preprocess,
    "operators": operators,
    "read": read,
    "set_up_once": partial(set_up, again=False),
    "set_up_again": partial(set_up, again=True),
    "capture": capture,
}

_CLOCK = "the host's clock around each stretch"
_RAW = "the raw trace: length of the calls, less what the device did meanwhile"


def planned(name: str, ledger: Ledger, held_ms: list[float], events: list[Any]) -> list[Planned]:
    """Tells what the idle time of a program has to be, by none of the analyser's code."""
    in_calls = partial(idle_in_calls_ms, events, ALLOCATOR)
    if name == "dependency":
        how = "CUDA events around each host function on the other stream"
        return [Planned(cause="queued", planned_ms=sum(held_ms), known_from=how, named="StreamWaitEvent")]
    if name == "set_up_once":
        return [Planned(cause="one_time_setup", planned_ms=in_calls(), known_from=_RAW, named=ALLOCATOR)]
    if name == "set_up_again":
        first, later = in_calls(lambda step: step == 0), in_calls(lambda step: step > 0)
        return [
            Planned(cause="one_time_setup", planned_ms=first, known_from=f"{_RAW}, first step", named=ALLOCATOR),
            Planned(cause="allocator", planned_ms=later, known_from=f"{_RAW}, later steps", named=ALLOCATOR),
        ]
    if name == "capture":
        how = "the raw trace: from the call that begins the capture to the return of the one that makes the graph"
        return [Planned(cause="graph_capture", planned_ms=idle_in_capture_ms(events), known_from=how, named="")]
    cause = "data_loader" if name == "data_loader" else "cpu_elsewhere"
    named = {"data_loader": r"enumerate\(DataLoader\)", "preprocess": "preprocess", "operators": "operators, mostly"}
    found = [Planned(cause=cause, planned_ms=ledger.total_ms, known_from=_CLOCK, named=named.get(name, ""))]
    if name == "read":
        waiting = idle_in_calls_ms(events, "cudaStreamSynchronize")
        found.append(Planned(cause="host_sync", planned_ms=waiting, known_from=_RAW, named="", slack_ms=0.05))
    return found


def record(name: str, machine: Machine, path: Path) -> dict[str, Any]:
    """Runs a program twice, the second time traced into ``path``, and tells what is planned."""
    ledger = Ledger()
    step = PROGRAMS[name](machine, ledger)
    for number in range(STEPS + 1):
        step(number)
    machine.wait()
    machine.held_ms()
    gc.collect()
    settings = torch._C._profiler._ExperimentalConfig(enable_cuda_sync_events=True)
    with profile(
        activities=[*machine.activities],
        schedule=schedule(wait=0, warmup=1, active=STEPS, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
        experimental_config=settings,
    ) as profiler:
        for number in range(STEPS + 1):
            step(number)
            if number == 0:
                machine.wait()
                ledger.seconds.clear()
            profiler.step()
    held_ms = machine.held_ms()
    events = read_events(path)
    if isinstance(machine, Simulated):
        events = made_up(events)
        path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode("utf-8"), mtime=0))
    found: dict[str, Any] = {"planned": [asdict(each) for each in planned(name, ledger, held_ms, events)]}
    if name == "capture":
        found["captured_launches"] = num_launches_captured(events)
    return found


def record_all(folder: Path, names: list[str], *, is_rehearsal: bool) -> dict[str, Any]:
    """Records programs into a folder; one that fails leaves its error, and the others go on."""
    torch.set_num_threads(1)
    machine: Machine = Simulated() if is_rehearsal else Gpu()
    about = {"device": machine.name, "torch": torch.__version__, "cuda": torch.version.cuda or "none", "steps": STEPS}
    programs: dict[str, Any] = {}
    for name in names:
        begun_s = time.perf_counter()
        try:
            programs[name] = record(name, machine, folder / f"{name}.json.gz")
        except Exception as problem:
            programs[name] = {"error": f"{type(problem).__name__}: {problem}", "planned": []}
        programs[name]["took_s"] = round(time.perf_counter() - begun_s, 2)
    found = {"about": about, "programs": programs}
    (folder / "planned.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found
