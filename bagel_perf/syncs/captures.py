"""Records work once and replays it: a CUDA graph on a GPU, the same function again where there is none.

A recording is of launches alone. Whatever makes the host wait, or reads host memory that another request has filled by
the time of a replay, is refused while it is recorded, with the line that asked for it. Where there is no GPU the work
runs again on each replay, under the same refusals, so that its control flow can be tested anywhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any

import torch

from bagel_perf.records.sites import HINTS, Kind
from bagel_perf.rules import torch_names
from bagel_perf.rules.operators import on_gpu, verdict_on
from bagel_perf.simulated import active_device
from bagel_perf.syncs.frames import Folders, line_of, readable_path
from bagel_perf.syncs.regions import region

Work = Callable[[], object]


class CaptureRefused(RuntimeError):
    """Recorded work would wait, or copy from or to the host."""


@dataclass(slots=True, kw_only=True)
class Recording:
    """Work that can be replayed; ``capture_ms`` is the time of recording it, in which nothing else was done."""

    replay: Work
    capture_ms: float
    is_graph: bool


@dataclass(slots=True)
class Recorder:
    """Records work for one device; its CUDA graphs share one memory pool, so they must not be replayed side by side.

    With ``allows_copies`` asynchronous copies of pinned memory are recorded: a replay copies from and to the same
    addresses, whatever is there by then.
    """

    device: torch.device
    allows_copies: bool = False
    _pool: Any = None
    _stream: Any = None
    _anchor: torch.cuda.CUDAGraph | None = None
    """A graph that keeps the pool: the handle of a pool without graphs is of no use any more."""

    def record(self, work: Work) -> Recording:
        """Records ``work`` without running it on the device, on a GPU; it has to have run once before, unrecorded.

        What it reads and writes between calls has to stay where it is. Raises CaptureRefused.
        """
        if not self._is_gpu():
            return Recording(replay=lambda: _run(work), capture_ms=0.0, is_graph=False)
        self._open()
        begun_s = time.perf_counter()
        try:
            graph = self._graph_of(work)
        except BaseException:
            self._open_anew()
            raise
        return Recording(replay=graph.replay, capture_ms=(time.perf_counter() - begun_s) * 1e3, is_graph=True)

    def _is_gpu(self) -> bool:
        return self.device.type == "cuda" and active_device() is None

    def _open(self) -> None:
        if self._anchor is None:
            self._stream, self._pool = torch.cuda.Stream(self.device), torch.cuda.graph_pool_handle()
            self._anchor = self._graph_of(lambda: torch.zeros(1, device=self.device))

    def _open_anew(self) -> None:
        """Records something else, into a pool of its own.

        After a capture that CUDA broke off torch takes its generator to be recorded still, and refuses each random
        number on the device until the next capture that ends.
        """
        self._anchor = None
        with suppress(RuntimeError):  # what is wrong is known
            self._open()

    def _graph_of(self, work: Work) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        # Not ``torch.cuda.graph``: it synchronizes the device and empties the allocator's cache first.
        with torch.cuda.stream(self._stream), _Refusing(allows_copies=self.allows_copies):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
                graph.capture_end()
            except BaseException as problem:  # whatever it is, no capture may stay open
                _abandon(graph)
                if is_refusal(problem):
                    raise CaptureRefused(_refused_by_cuda(problem)) from problem
                raise
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return graph


def _abandon(graph: torch.cuda.CUDAGraph) -> None:
    with suppress(RuntimeError):  # that it was invalidated is known
        graph.capture_end()


def is_refusal(problem: BaseException) -> bool:
    """Whether an error of recorded work is CUDA's against what it does, rather than for want of memory."""
    return isinstance(problem, RuntimeError) and not isinstance(problem, (CaptureRefused, torch.OutOfMemoryError))


def _refused_by_cuda(problem: BaseException) -> str:
    """CUDA's own error, with the line that was under way."""
    folders, line = Folders(), "its end"
    for frame, number in walk_tb(problem.__traceback__):
        if folders.user_frame(frame) is frame:
            line = f"{readable_path(frame.f_code.co_filename)}:{number}"
    return f"recorded work may not do this at {line}; {str(problem).splitlines()[0]}"


def _run(work: Work) -> None:
    """Refuses on the simulated device what a capture refuses; on a plain CPU there is nothing to wait for."""
    simulated = active_device()
    if simulated is None:
        work()
        return
    with region("replay"), simulated.copies_to(_refuse_copy), simulated.listening(_refuse_wait):
        work()


def _refuse_copy(is_download: bool, num_bytes: int | None = None, waits: bool = False) -> None:
    what = "copied to the host" if is_download else "uploaded from host memory"
    raise CaptureRefused(f"recorded work may not be {what} at {_line()}; copy it before or after")


def _refuse_wait(kind: Kind) -> None:
    raise CaptureRefused(_waits(HINTS[kind].label))


def _waits(what: str) -> str:
    remedy = "take out what waits, or use that component of a variant that does not wait"
    return f"recorded work may not wait: {what} at {_line()}; {remedy}"


def _line() -> str:
    frame = Folders().user_frame(sys._getframe(1))
    return "no line of Python" if frame is None else line_of(frame)


_COPIES = ("aten::copy_", "aten::_to_copy")


_DispatchMode: Any = torch_names.DISPATCH_MODE.find()


class _Refusing(_DispatchMode):  # type: ignore[misc]
    """Looks at each operator before CUDA does, whose own error names no line."""

    def __init__(self, *, allows_copies: bool) -> None:
        super().__init__()
        self._allows_copies = allows_copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, verdict = func._schema.name, verdict_on(func)
        if name in _COPIES and not self._allows_copies:
            _check_copy(name, args, kwargs or {})
        if any(map(on_gpu, args)) and verdict.waits(args, kwargs or {}, on_gpu):
            raise CaptureRefused(_waits(HINTS[verdict.kind].label))
        return func(*args, **(kwargs or {}))


def _check_copy(name: str, args: Any, kwargs: Any) -> None:
    if name == "aten::copy_":
        target, source = args[0].device.type, args[1].device.type
    else:
        source = args[0].device.type
        target = torch.device(kwargs.get("device") or args[0].device).type
    if target != source:
        _refuse_copy(target == "cpu")
