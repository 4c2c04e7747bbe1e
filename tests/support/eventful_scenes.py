"""Random traces with everything that decides a cause: captures, set-up, data loaders, stream waits, replays, steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from trace_scenes import MAIN, Scene, Work

Place = tuple[int, int]
"""Device and stream."""


def eventful_scene(rng: random.Random) -> Scene:
    """Makes a possible trace: one to three threads that act one thing after the other, devices that do as launched."""
    return _Story(rng).told()


class _Story:
    """What has happened so far: ``_ready`` says when each stream is through with its work."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._scene = Scene()
        devices = range(rng.choice((1, 1, 2, 3)))
        self._ready: dict[Place, int] = {(device, stream): 0 for device in devices for stream in (7, 20)}

    def told(self) -> Scene:
        """Tells the story of every thread, then adds the profiler's steps."""
        acts: list[Callable[[int, int], int]] = [
            *(self._launch, self._launch, self._wait, self._read, self._compute, self._set_up, self._load),
            *(self._depend, self._capture, self._replay, self._annotate),
        ]
        edges = [0]
        for thread in range(MAIN, MAIN + self._rng.randint(1, 3)):
            now = self._rng.randint(0, 50)
            for _ in range(self._rng.randint(1, 25)):
                now = self._rng.choice(acts)(thread, now + self._rng.choice((1, 3, 40, 150, 600)))
                edges += [now] if thread == MAIN else []
        self._steps(edges)
        return self._scene

    def _steps(self, edges: list[int]) -> None:
        """Adds steps of unequal length, or none, between things that the main thread does."""
        chosen = sorted({0, edges[-1], *self._rng.choices(edges, k=self._rng.choice((0, 2, 4)))})
        for number, (start, stop) in enumerate(pairwise(chosen) if len(chosen) > 2 else ()):
            self._scene.annotation(f"ProfilerStep#{number}", start, stop)

    def _run(self, place: Place, launched: int, correlation: int, kind: str = "kernel") -> None:
        start = max(self._ready[place], launched + self._rng.randint(1, 12))
        self._ready[place] = start + self._rng.randint(1, 80)
        device, stream = place
        made = {"name": kind, "start": start, "end": self._ready[place], "correlation": correlation}
        if kind == "memcpy":
            work = Work("memcpy", **made, device=device, stream=stream, copy="DtoH", memory="Pageable")  # type: ignore[arg-type]
        else:
            work = Work("kernel", **made, device=device, stream=stream)  # type: ignore[arg-type]
        self._scene.works.append(work)

    def _place(self) -> Place:
        return self._rng.choice(list(self._ready))

    def _launch(self, thread: int, now: int) -> int:
        """Launches a kernel by an operator, rarely so slowly that something was loaded first."""
        end = now + self._rng.choice((4, 9, 30, 30, 1500))
        self._scene.op("aten::mm", now, end + 2, thread)
        self._run(self._place(), now + 1, self._scene.call("cudaLaunchKernel", now + 1, end, thread))
        if self._rng.random() < 0.1:  # a trace that was cut has work without its launch
            self._scene.calls.pop()
        return end + 3

    def _wait(self, thread: int, now: int) -> int:
        """Waits for all that runs, or for something that is not recorded."""
        end = max(now + 3, max(self._ready.values()) if self._rng.random() < 0.7 else 0)
        end += self._rng.choice((0, 6, 2500))
        api = self._rng.choice(("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"))
        self._scene.wait(api, now, end, thread=thread)
        return end + 1

    def _read(self, thread: int, now: int) -> int:
        """Copies to the host and waits for it, in one operator."""
        place = self._place()
        self._run(place, now + 3, self._scene.call("cudaMemcpyAsync", now + 2, now + 6, thread), "memcpy")
        end = max(now + 9, self._ready[place]) + self._rng.randint(0, 4)
        self._scene.wait("cudaStreamSynchronize", now + 7, end, thread=thread)
        self._scene.op("aten::item", now, end + 2, thread)
        return end + 3

    def _compute(self, thread: int, now: int) -> int:
        """Does something on the CPU: one long operator, or many short ones."""
        count = self._rng.choice((1, 30))
        for i in range(count):
            self._scene.op("aten::fill_", now + 40 * i, now + 40 * i + (900 if count == 1 else 35), thread)
        return now + (901 if count == 1 else 40 * count)

    def _set_up(self, thread: int, now: int) -> int:
        """Calls something that may take long."""
        end = now + self._rng.choice((20, 60, 3000))
        self._scene.call(self._rng.choice(("cudaMalloc", "cudaFree", "cuLibraryLoadData")), now, end, thread)
        return end + 1

    def _load(self, thread: int, now: int) -> int:
        """Waits for a data loader."""
        end = now + self._rng.choice((30, 4000))
        self._scene.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", now, end, thread)
        return end + 1

    def _depend(self, thread: int, now: int) -> int:
        """Lets one stream wait for something that takes its time, and launches on it."""
        place = self._place()
        self._scene.call("cudaStreamWaitEvent", now, now + 2, thread)
        self._ready[place] = max(self._ready[place], now) + self._rng.choice((5, 700, 5000))
        self._run(place, now + 3, self._scene.call("cudaLaunchKernel", now + 3, now + 8, thread))
        return now + 9

    def _capture(self, thread: int, now: int) -> int:
        """Captures launches, which do nothing, and makes a graph of them."""
        self._scene.call("cudaStreamBeginCapture", now, now + 3, thread)
        now += 4
        for _ in range(self._rng.randint(0, 5)):
            self._scene.call("cudaLaunchKernel", now, now + 5, thread)
            now += self._rng.choice((6, 300))
        self._scene.call("cudaStreamEndCapture", now, now + 3, thread)
        end = now + 4 + self._rng.choice((10, 1200))
        self._scene.call("cudaGraphInstantiate", now + 4, end, thread)
        return end + 1

    def _replay(self, thread: int, now: int) -> int:
        """Launches a graph of several kernels."""
        place, number = self._place(), self._scene.call("cudaGraphLaunch", now, now + 12, thread)
        for _ in range(self._rng.randint(1, 4)):
            self._run(place, now, number)
        return now + 13

    def _annotate(self, thread: int, now: int) -> int:
        """Does something in a region, or in one inside another."""
        outer, inner = self._rng.choice(("forward", "denoise")), self._rng.choice(("attention", "mlp"))
        end = self._rng.choice((self._launch, self._wait, self._compute))(thread, now + 2)
        if self._rng.random() < 0.5:
            self._scene.annotation(inner, now + 1, end + 1, thread)
        self._scene.annotation(outer, now, end + 2, thread)
        return end + 3
