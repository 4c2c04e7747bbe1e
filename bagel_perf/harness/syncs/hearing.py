"""Hears the waits of a source, and looks at each once for all who count there.

What a wait is depends on the moment: the frame, the regions that are open, the allowance that it uses up. So it is
decided here, and each collector is handed the same ``Wait``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from bagel_perf.harness.regions import current_region
from bagel_perf.harness.stacks import Stack
from bagel_perf.harness.syncs.allow import take_allowance
from bagel_perf.harness.syncs.backward import pass_of_this_thread
from bagel_perf.harness.syncs.frames import Folders
from bagel_perf.harness.syncs.setup import SetUp
from bagel_perf.harness.syncs.staging import take_held_ms
from bagel_perf.schema.waits import Kind


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """A wait that happens now: ``frame`` is the innermost outside torch, ``caller`` the innermost outside libraries.

    Both are None where no such frame is on the stack. ``allowed`` is the reason that ``allow_sync`` gave, ``is_setup``
    says that a model is being loaded. ``held_ms`` is how long a staged copy took, of which no profile tells.
    """

    kind: Kind
    frame: FrameType | None
    caller: FrameType | None
    region: tuple[str, ...]
    allowed: str | None
    is_setup: bool = False
    held_ms: float = 0.0


class Collector(Protocol):
    """Something that counts."""

    def take(self, wait: Wait) -> None:
        """One wait, on the thread that waits."""


Listening = Callable[[Callable[[Kind], None]], AbstractContextManager[object]]
"""Has a function called at each wait of a source, until the end of the context."""


class _Hub:
    def __init__(self) -> None:
        self.collectors: tuple[Collector, ...] = ()
        self.listening = ExitStack()
        self._folders = Folders()
        self._setup = SetUp(self._folders.is_installed)

    def hear(self, kind: Kind) -> None:
        innermost = sys._getframe(1)
        frame = self._folders.user_frame(innermost)
        running = pass_of_this_thread()
        if running is None:
            self._tell(kind, frame, is_setup=self._setup.holds(kind, innermost))
        else:
            # A copy: several threads of one pass cannot be in the same context. What a hook opened lies inside.
            context = running.context.copy()
            for stack in Stack.all:
                context.run(stack.stack_up, stack.entries())
            context.run(self._tell, kind, frame or self._folders.user_frame(running.frame))

    def _tell(self, kind: Kind, frame: FrameType | None, *, is_setup: bool = False) -> None:
        held_ms = take_held_ms() if kind == "staged_copy" else 0.0
        caller = self._folders.caller_of(frame)
        wait = Wait(kind, frame, caller, current_region(), take_allowance(), is_setup, held_ms)
        for collector in self.collectors:
            collector.take(wait)


_hubs: dict[object, _Hub] = {}
_lock = threading.RLock()


@contextmanager
def hearing(collector: Collector, source: object, listening: Listening) -> Iterator[None]:
    """``collector`` takes all waits of ``source`` until the end of the context; the first one has it ``listening``."""
    with _lock:
        hub = _hubs.get(source)
        if hub is None:
            hub = _Hub()
            hub.listening.enter_context(listening(hub.hear))
            _hubs[source] = hub
        hub.collectors = (*hub.collectors, collector)
    try:
        yield
    finally:
        with _lock:
            hub.collectors = tuple(other for other in hub.collectors if other is not collector)
            if not hub.collectors:
                del _hubs[source]
                hub.listening.close()
