"""Counts each place where the host waits for a device, by source line and region.

On CUDA the callbacks of ``torch.cuda._gpu_trace`` are used. That interface is private, has no off switch and swallows
what its callbacks raise: so one dispatcher is registered per process, it only records, and ``callbacks_fire`` tells
whether it still works.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch

from bagel_perf.harness.regions import current_region, recording
from bagel_perf.harness.simulated import active_device
from bagel_perf.schema.waits import Kind

_INNER_FOLDERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")
_CUDA_STREAMS = str(Path(torch.__file__).parent / "cuda" / "streams.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEvent:
    """One wait: what for, and the innermost line outside torch and outside this package's harness."""

    kind: Kind
    file: str
    line: int
    function: str
    region: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSite:
    """All waits of one kind at one line in one region."""

    event: SyncEvent
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCensus:
    """The waits of one run, most frequent site first; ``device`` is "cuda" or "simulated"."""

    device: str
    sites: tuple[SyncSite, ...]

    def total(self, prefix: tuple[str, ...] = ()) -> int:
        """Waits in the regions that begin with ``prefix``."""
        return sum(site.count for site in self.sites if site.event.region[: len(prefix)] == prefix)

    def by_region(self, depth: int) -> dict[tuple[str, ...], int]:
        """Waits per region path cut after ``depth`` names."""
        counts: Counter[tuple[str, ...]] = Counter()
        for site in self.sites:
            counts[site.event.region[:depth]] += site.count
        return dict(counts)


class SyncCollector:
    """Takes in waits from any thread; ``census`` may be called at any time."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._counts: Counter[tuple[Kind, CodeType | None, int, tuple[str, ...]]] = Counter()
        self._inner: dict[CodeType, bool] = {}
        self._lock = threading.Lock()

    def record(self, kind: Kind) -> None:
        """One wait, at the line that called into torch."""
        frame = self._user_frame(sys._getframe(1))
        site = (None, 0) if frame is None else (frame.f_code, frame.f_lineno)
        key = (kind, *site, current_region())
        with self._lock:
            self._counts[key] += 1

    def _user_frame(self, frame: FrameType | None) -> FrameType | None:
        inner = self._inner
        while frame is not None:
            code = frame.f_code
            is_inner = inner.get(code)
            if is_inner is None:
                is_inner = inner[code] = code.co_filename.startswith(_INNER_FOLDERS)
            if not is_inner:
                return frame
            frame = frame.f_back
        return None

    def census(self) -> SyncCensus:
        """The waits so far."""
        with self._lock:
            counted = self._counts.most_common()
        sites = (
            SyncSite(
                event=SyncEvent(
                    kind=kind,
                    file=code.co_filename if code else "",
                    line=line,
                    function=code.co_qualname if code else "",
                    region=region,
                ),
                count=count,
            )
            for (kind, code, line, region), count in counted
        )
        return SyncCensus(device=self.device, sites=tuple(sites))


@contextmanager
def count_host_syncs(device: torch.device | str) -> Iterator[SyncCollector]:
    """Counts the host's waits for ``device``, of all threads, until the end of the context.

    ``device`` is a CUDA device, or the device of the ``SimulatedDevice`` whose context is open. Raises ValueError for
    any other, and RuntimeError where CUDA's callbacks do not fire.
    """
    device = torch.device(device)
    simulated = active_device()
    is_simulated = simulated is not None and simulated.owns(device)
    collector = SyncCollector("simulated" if is_simulated else device.type)
    with (
        recording(),
        simulated.listening(collector.record) if simulated and is_simulated else _cuda_witness(device, collector),
    ):
        yield collector


def _cuda_witness(device: torch.device, collector: SyncCollector) -> AbstractContextManager[None]:
    if device.type != "cuda":
        raise ValueError(
            f"no host waits for {device}; give a CUDA device, or open a SimulatedDevice and give its device"
        )
    if not _cuda.is_proven and not callbacks_fire():
        raise RuntimeError(
            f"torch {torch.__version__} no longer calls back when the host waits; waits cannot be counted"
        )
    return _listening_to_cuda(collector.record)


class _CudaDispatcher:
    """The one set of callbacks of the process; idle while nobody listens."""

    def __init__(self) -> None:
        self.listeners: tuple[Callable[[Kind], None], ...] = ()
        self.lock = threading.Lock()
        self.is_proven = False
        self._registered = False

    def register(self) -> None:
        """Registers the callbacks, once."""
        with self.lock:
            if self._registered:
                return
            from torch.cuda import _gpu_trace

            _gpu_trace.register_callback_for_stream_synchronization(self._on_stream)
            _gpu_trace.register_callback_for_device_synchronization(self._on_device)
            _gpu_trace.register_callback_for_event_synchronization(self._on_event)
            torch._C._activate_gpu_trace()
            self._registered = True

    def _on_stream(self, stream: int) -> None:
        if self.listeners:
            self._tell("explicit_sync" if _asked_for_by_name() else "unknown")

    def _on_device(self) -> None:
        self._tell("explicit_sync")

    def _on_event(self, event: int) -> None:
        self._tell("explicit_sync")

    def _tell(self, kind: Kind) -> None:
        for listener in self.listeners:
            listener(kind)


_cuda = _CudaDispatcher()


def _asked_for_by_name() -> bool:
    """Whether ``Stream.synchronize`` is on the stack: a stream's callback also stands for implicit waits."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_INNER_FOLDERS):
        if frame.f_code.co_filename == _CUDA_STREAMS:
            return True
        frame = frame.f_back
    return False


@contextmanager
def _listening_to_cuda(listener: Callable[[Kind], None]) -> Iterator[None]:
    _cuda.register()
    with _cuda.lock:
        _cuda.listeners = (*_cuda.listeners, listener)
    try:
        yield
    finally:
        with _cuda.lock:
            _cuda.listeners = tuple(other for other in _cuda.listeners if other != listener)


def callbacks_fire() -> bool:
    """Whether CUDA's callbacks see one ``.item()``; False where there is no CUDA device. Itself waits once."""
    if not torch.cuda.is_available():
        return False
    probe = torch.ones((), device="cuda")
    heard: list[Kind] = []
    with _listening_to_cuda(heard.append):
        probe.item()
    _cuda.is_proven = bool(heard)
    return _cuda.is_proven
