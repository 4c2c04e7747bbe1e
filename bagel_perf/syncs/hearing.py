"""Hears the waits of a source, and looks at each once for all who count there.

What a wait is depends on the moment: the frame, the regions that are open, the allowance that it uses up. So it is
decided here, and each collector is handed the same ``Wait``.

On CUDA autograd runs on threads of its own, which have no Python frame and know no region. The thread that called
``backward`` waits for them, so while it does, its frame and its context stand in for theirs.

Uploads of a model's set-up are told apart by the functions that are under way. Set-up is the first upload of each
parameter and buffer by ``Module.to``, ``.cuda()`` or ``load_state_dict``, what an optimizer's ``load_state_dict``
uploads, and what ``torch.load`` and the loaders of installed packages do (``from_pretrained`` and its like). Nothing
that happens inside a module's call is: that is a model which is moved while it works. The second upload of the same
parameter is none either.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal, Protocol
from unittest import mock

import torch

from bagel_perf.records.copies import DIRECTIONS, Direction
from bagel_perf.records.sites import Kind, Phase
from bagel_perf.rules import torch_names
from bagel_perf.syncs.budgets import take_allowance
from bagel_perf.syncs.calls import take_held_ms
from bagel_perf.syncs.copying import Copy, CopyListener
from bagel_perf.syncs.frames import Folders
from bagel_perf.syncs.regions import Shared, Stack, current_region
from bagel_perf.syncs.targets import NOWHERE, Target
from bagel_perf.syncs.window import Phases, is_paused, is_warming_up

Reaction = Callable[[], None]
"""What has to be done about a wait; may raise."""


@dataclass(frozen=True, slots=True, eq=False)
class BackwardPass:
    """A backward pass under way: the frame that called torch for it, the context of that thread or task, the thread.

    ``at_end`` is what that thread does once the pass has ended without an error.
    """

    frame: FrameType
    context: contextvars.Context
    thread: int = field(default_factory=threading.get_ident)
    at_end: list[Reaction] = field(default_factory=list)


_under_way: list[BackwardPass] = []


@contextmanager
def _noting() -> Iterator[None]:
    place = torch_names.ENGINE_RUN_BACKWARD.place()
    if place is None:  # such waits stay without a line
        yield
        return
    original: Any = getattr(*place)

    @wraps(original)
    def run_backward(*args: Any, **kwargs: Any) -> Any:
        running = BackwardPass(sys._getframe(1), contextvars.copy_context())
        _under_way.append(running)
        try:
            gradients = original(*args, **kwargs)
        finally:
            _under_way.remove(running)
        for react in running.at_end:
            react()
        return gradients

    with mock.patch.object(*place, run_backward):
        yield


observing_backward = Shared(_noting)
"""A context in which each backward pass is noted."""


def pass_of_this_thread() -> BackwardPass | None:
    """The latest backward pass under way, if this is a thread that Python did not start, as autograd's are."""
    if not _under_way or not isinstance(threading.current_thread(), threading._DummyThread):
        return None
    with suppress(IndexError):  # it may just have ended
        return _under_way[-1]
    return None


def responsible_thread() -> int:
    """This thread; for one of autograd's the one that called ``backward``, the latest where several have."""
    running = pass_of_this_thread()
    return threading.get_ident() if running is None else running.thread


UPLOADS: tuple[Kind, ...] = ("pageable_upload", "unknown")
_TORCH = Path(torch.__file__).parent
_MODULE = str(_TORCH / "nn" / "modules" / "module.py")
_Role = Literal["parameter", "loader", "call", ""]
_ROLES: dict[tuple[str, str], _Role] = {
    (_MODULE, "_apply"): "parameter",
    (_MODULE, "_load_from_state_dict"): "parameter",
    (_MODULE, "_call_impl"): "call",
    (_MODULE, "_wrapped_call_impl"): "call",
    (str(_TORCH / "optim" / "optimizer.py"), "load_state_dict"): "loader",
    **dict.fromkeys(((str(_TORCH / "serialization.py"), name) for name in ("load", "_load", "_legacy_load")), "loader"),
}
_NAMES = """
from_pretrained from_single_file load_checkpoint_in_model load_checkpoint_and_dispatch load_model load_weights load_file
"""
_LOADERS = frozenset(_NAMES.split())
_LOADING = f"{os.sep}transformers{os.sep}core_model_loading.py"
"""It uploads on threads of its own, on which ``from_pretrained`` is not under way."""


class SetUp:
    """Knows what was uploaded before; one for each stretch that is watched."""

    def __init__(self, is_installed: Callable[[CodeType], bool]) -> None:
        self._is_installed = is_installed
        self._roles: dict[int, tuple[CodeType, _Role]] = {}
        self._seen: dict[int, tuple[weakref.ref[Any], set[str]]] = {}

    def holds(self, kind: Kind, frame: FrameType | None) -> bool:
        """Whether a wait of a kind that happens now, below ``frame``, is of the set-up."""
        if kind not in UPLOADS:
            return False
        roles, found = self._roles, False
        parameter: FrameType | None = None
        while frame is not None:
            code = frame.f_code
            known = roles.get(id(code))
            if known is None:
                known = roles[id(code)] = (code, self._look(code))
            role = known[1]
            if role:
                if role == "call":
                    return False
                found = True
                if role == "parameter" and parameter is None:
                    parameter = frame
            frame = frame.f_back
        return found and (parameter is None or self._is_first(parameter))

    def _look(self, code: CodeType) -> _Role:
        role = _ROLES.get((code.co_filename, code.co_name), "")
        if role or not self._is_installed(code):
            return role
        return "loader" if code.co_name in _LOADERS or code.co_filename.endswith(_LOADING) else ""

    def _is_first(self, frame: FrameType) -> bool:
        """Whether the parameter that a function of ``Module`` is at was not met before; notes it."""
        values = frame.f_locals
        module, name = values.get("self"), str(values.get("key"))
        known = self._seen.get(id(module))
        if known is None or known[0]() is not module:
            known = self._seen[id(module)] = (weakref.ref(module), set())
        is_first = name not in known[1]
        known[1].add(name)
        return is_first


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """A wait that happens now: ``frame`` is the innermost outside torch, ``caller`` the innermost outside libraries.

    Both are None where no such frame is on the stack. ``allowed`` is the reason that ``allow_sync`` gave, ``is_setup``
    says that a model is being loaded. ``held_ms`` is how long a staged copy took, of which no profile tells. ``frame``
    is another thread's, where this one has none and waits for the backward pass ``stands_in``. ``num_bytes`` are those
    of a wait that copies, None where they are not known. ``phase`` is "" in the steady state.
    """

    kind: Kind
    frame: FrameType | None
    caller: FrameType | None
    region: tuple[str, ...]
    allowed: str | None
    is_setup: bool = False
    held_ms: float = 0.0
    stands_in: BackwardPass | None = None
    num_bytes: int | None = None
    target: Target = NOWHERE
    phase: Phase = ""


class Collector(Protocol):
    """Something that counts."""

    def take(self, wait: Wait) -> Reaction | None:
        """One wait, on the thread that waits; gives what that has to do."""

    def take_copy(self, copy: Copy) -> None:
        """One copy that is no wait, on the thread that copies."""


Listening = Callable[[Callable[[Kind], None]], AbstractContextManager[object]]
"""Has a function called at each wait of a source, until the end of the context."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Details:
    """What a source tells besides its waits: of its copies those that are none, of a wait its bytes and its target."""

    copies_to: Callable[[CopyListener], AbstractContextManager[object]] | None = None
    num_bytes: Callable[[], int | None] = lambda: None
    target_of: Callable[[FrameType, FrameType | None], Target] = lambda innermost, frame: NOWHERE


NO_DETAILS = Details()


class _Hub:
    def __init__(self, details: Details) -> None:
        self.collectors: tuple[Collector, ...] = ()
        self.listening = ExitStack()
        self._details = details
        self._folders = Folders()
        self._setup = SetUp(self._folders.is_installed)
        self._phases = Phases()

    def hear(self, kind: Kind) -> None:
        if is_paused():
            return
        innermost = sys._getframe(1)
        num_bytes = self._details.num_bytes() if kind in DIRECTIONS else None

        def tell(frame: FrameType | None, running: BackwardPass | None, *, stands_in: bool) -> None:
            wait = Wait(
                kind,
                frame,
                self._folders.caller_of(frame),
                current_region(),
                take_allowance(),
                running is None and self._setup.holds(kind, innermost),
                take_held_ms() if kind == "staged_copy" else 0.0,
                running if stands_in else None,
                num_bytes,
                self._details.target_of(innermost, frame),
                "warm-up" if is_warming_up() else self._phases.of(innermost),
            )
            reactions = [collector.take(wait) for collector in self.collectors]  # all have counted before one raises
            for react in filter(None, reactions):
                react()

        self._in_context(innermost, tell)

    def hear_copy(self, is_download: bool, num_bytes: int | None, waits: bool) -> None:
        """Takes in a copy of which no wait tells."""
        if is_paused():
            return

        def tell(frame: FrameType | None, running: BackwardPass | None, *, stands_in: bool) -> None:
            caller = self._folders.caller_of(frame)
            direction: Direction = "download" if is_download else "upload"
            copy = Copy(direction, num_bytes, waits, frame, caller, current_region())
            for collector in self.collectors:
                collector.take_copy(copy)

        self._in_context(sys._getframe(1), tell)

    def _in_context(self, innermost: FrameType, tell: Callable[..., None]) -> None:
        """Calls with the innermost frame outside torch, of a thread of autograd with that of the backward pass."""
        frame = self._folders.user_frame(innermost)
        running = pass_of_this_thread()
        if running is None:
            tell(frame, None, stands_in=False)
            return
        # A copy: several threads of one pass cannot be in the same context. What a hook opened lies inside.
        context = running.context.copy()
        for stack in Stack.all:
            context.run(stack.stack_up, stack.entries())
        own = self._folders.user_frame(running.frame) if frame is None else frame
        context.run(tell, own, running, stands_in=frame is None)


_hubs: dict[object, _Hub] = {}
_lock = threading.RLock()


def forget() -> None:
    """Has this process, a fork, be heard by nobody; a thread that is not here may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _hubs.clear()
    _under_way.clear()


@contextmanager
def hearing(
    collector: Collector, source: object, listening: Listening, details: Details = NO_DETAILS
) -> Iterator[None]:
    """``collector`` takes all waits of ``source`` until the end of the context; the first one has it ``listening``."""
    with _lock:
        hub = _hubs.get(source)
        if hub is None:
            hub = _Hub(details)
            hub.listening.enter_context(listening(hub.hear))
            if details.copies_to is not None:
                hub.listening.enter_context(details.copies_to(hub.hear_copy))
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
