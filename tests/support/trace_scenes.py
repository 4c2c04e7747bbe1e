"""Made-up traces: what a host did and what a GPU did, in whole microseconds, to be written in any format."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

MAIN = 100

Direction = Literal["HtoD", "DtoH", "DtoD"]


@dataclass(frozen=True, slots=True)
class Span:
    """Something on a host thread."""

    name: str
    start: int
    end: int
    thread: int = MAIN


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the runtime or driver."""

    name: str
    start: int
    end: int
    correlation: int
    thread: int = MAIN


@dataclass(frozen=True, slots=True)
class Work:
    """Something on a GPU; ``copy`` is the direction of a copy, ``memory`` the kind of its host side."""

    kind: Literal["kernel", "memcpy", "memset", "graph"]
    name: str
    start: int
    end: int
    correlation: int
    device: int = 0
    stream: int = 7
    num_bytes: int = 4
    copy: Direction | None = None
    memory: Literal["Pageable", "Pinned"] = "Pinned"


@dataclass(frozen=True, slots=True)
class Sync:
    """A row of the GPU side about a wait."""

    name: str
    start: int
    end: int
    correlation: int


@dataclass(slots=True)
class Scene:
    """A whole trace; methods append and hand out correlation numbers."""

    ops: list[Span] = field(default_factory=list)
    annotations: list[Span] = field(default_factory=list)
    frames: list[Span] = field(default_factory=list)
    overhead: list[Span] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    last: int = 0

    def number(self) -> int:
        self.last += 1
        return self.last

    def op(self, name: str, start: int, end: int, thread: int = MAIN) -> None:
        self.ops.append(Span(name, start, end, thread))

    def annotation(self, name: str, start: int, end: int, thread: int = MAIN) -> None:
        self.annotations.append(Span(name, start, end, thread))

    def frame(self, name: str, start: int, end: int, thread: int = MAIN) -> None:
        self.frames.append(Span(name, start, end, thread))

    def call(self, name: str, start: int, end: int, thread: int = MAIN) -> int:
        """A call that launches nothing; gives its correlation."""
        self.calls.append(Call(name, start, end, self.number(), thread))
        return self.last

    def kernel(
        self,
        launch: tuple[int, int],
        run: tuple[int, int],
        *,
        thread: int = MAIN,
        device: int = 0,
        stream: int = 7,
        name: str = "gemm",
        api: str = "cudaLaunchKernel",
    ) -> None:
        """A kernel and the call that launches it."""
        number = self.call(api, *launch, thread)
        self.works.append(Work("kernel", name, *run, number, device, stream))

    def memcpy(
        self,
        launch: tuple[int, int],
        run: tuple[int, int],
        copy: Direction,
        *,
        memory: Literal["Pageable", "Pinned"] = "Pinned",
        thread: int = MAIN,
        api: str = "cudaMemcpyAsync",
    ) -> None:
        """A copy and the call that launches it."""
        number = self.call(api, *launch, thread)
        self.works.append(Work("memcpy", "", *run, number, copy=copy, memory=memory))

    def wait(
        self, api: str, start: int, end: int, *, row: str | None = "Stream Sync", thread: int = MAIN, inset: int = 1
    ) -> None:
        """A blocking call, with the GPU side's row about it unless ``row`` is None."""
        number = self.call(api, start, end, thread)
        if row is not None:
            self.syncs.append(Sync(row, start + inset, end - inset, number))


def item(scene: Scene, start: int, run: tuple[int, int], returned: int) -> None:
    """``.item()`` from ``start``: a copy that runs at ``run`` and a wait that returns at ``returned``."""
    scene.op("aten::item", start, returned + 4)
    scene.op("aten::_local_scalar_dense", start + 1, returned + 3)
    scene.memcpy((start + 3, start + 8), run, "DtoH")
    scene.wait("cudaStreamSynchronize", start + 9, returned)


def two_steps() -> Scene:
    """Two steps of three kernels and a read, with regions; the GPU runs dry in the first read alone.

    GPU work: 20-60, 60-100, 100-140, copy 142-144; 200-260, 260-300, 300-340, copy 342-344.
    """
    scene = Scene()
    for step, (begin, wait_end) in enumerate(((0, 150), (180, 350))):
        gpu = (20, 60, 100) if step == 0 else (200, 260, 300)
        lengths = (40, 40, 40) if step == 0 else (60, 40, 40)
        scene.annotation(f"ProfilerStep#{step}", begin, wait_end + 20)
        scene.annotation("forward", begin + 1, begin + 60)
        for i, (run, length) in enumerate(zip(gpu, lengths, strict=True)):
            at = begin + 4 + 16 * i
            scene.op("aten::mm", at, at + 14)
            scene.kernel((at + 2, at + 10), (run, run + length))
        item(scene, begin + 64, (gpu[2] + 42, gpu[2] + 44), wait_end)
    scene.wait("cudaDeviceSynchronize", 380, 384, row="Context Sync")
    return scene


def requests(number: int) -> Scene:
    """As many regions, each with one wait."""
    scene = Scene()
    for i in range(number):
        scene.annotation(f"request {i}", 40 * i, 40 * i + 38)
        item(scene, 40 * i, (40 * i + 20, 40 * i + 22), 40 * i + 30)
    return scene


def random_scene(seed: int) -> Scene:
    """A random but possible trace: threads that issue and wait, GPUs with streams that do what was launched."""
    rng = random.Random(seed)
    scene = Scene()
    ready = {(device, stream): 0 for device in range(rng.choice((1, 1, 2))) for stream in (7, 20)}
    for thread in range(MAIN, MAIN + rng.randint(1, 3)):
        now = rng.randint(0, 50)
        for _ in range(rng.randint(1, 60)):
            now = _act(scene, rng, thread, now, ready)
    return scene


def _act(scene: Scene, rng: random.Random, thread: int, now: int, ready: dict[tuple[int, int], int]) -> int:
    """One thing that a thread does; gives the time after it."""
    what, begin = rng.random(), now + rng.randint(0, 40)
    if what < 0.6:
        place = rng.choice(list(ready))
        end = begin + rng.randint(4, 30)
        start = max(ready[place], begin + rng.randint(1, 12))
        ready[place] = start + rng.randint(1, 80)
        scene.op("aten::mm", begin, end + 2, thread)
        scene.kernel((begin + 1, end), (start, ready[place]), thread=thread, device=place[0], stream=place[1])
        if rng.random() < 0.1:  # a trace that was cut has work without its launch
            scene.calls.pop()
        return end + 3
    if what < 0.8:
        end = max(begin + 3, max(ready.values()) if rng.random() < 0.7 else 0) + rng.randint(0, 6)
        api = rng.choice(("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"))
        scene.wait(api, begin, end, thread=thread)
        return end + 1
    if what < 0.9:
        scene.op("aten::fill_", begin, begin + 300, thread)
        return begin + 301
    return begin + rng.randint(100, 600)
