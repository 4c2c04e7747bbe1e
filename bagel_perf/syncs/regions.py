"""Names the part of a program that runs now, for counters and profilers that want to know.

Nothing is recorded until someone asks with ``recording``: until then ``region`` returns one shared object that does
nothing.

``with`` blocks of generators that take turns end in another order than they began; a generator may even end in another
thread or task than it started in. So an entry is taken out of the stack by its own name, never by what was there before
it; and a context that several share is open from the first who enters until the last who leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, cast

import torch

T = TypeVar("T")


class Held(Generic[T]):
    """A value on a stack, until it is let go."""

    __slots__ = ("is_open", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.is_open = True


class Stack(Generic[T]):
    """Values that are open in the thread or task that asks, innermost last; one object for all of them, never freed."""

    all: ClassVar[list[Stack[Any]]] = []

    def __init__(self, name: str) -> None:
        self._entries: ContextVar[tuple[Held[T], ...]] = ContextVar(f"bagel_perf_{name}", default=())
        Stack.all.append(self)

    def push(self, value: T) -> Held[T]:
        """Puts a value on top; ``let_go`` takes what this gives."""
        held = Held(value)
        self._entries.set((*self._open(), held))
        return held

    def let_go(self, held: Held[T]) -> None:
        """Takes an entry out, here and wherever else it is seen."""
        held.is_open = False
        self._entries.set(self._open())

    def values(self) -> tuple[T, ...]:
        """The values that are open, innermost last."""
        return tuple(held.value for held in self._entries.get() if held.is_open)

    def stack_up(self, other: tuple[Held[T], ...]) -> None:
        """Puts entries of another thread or task, as ``entries`` gave them there, on top of those here."""
        self._entries.set((*self._open(), *other))

    def entries(self) -> tuple[Held[T], ...]:
        """What is open in the thread or task that asks, for ``stack_up`` elsewhere."""
        return self._open()

    def _open(self) -> tuple[Held[T], ...]:
        return tuple(held for held in self._entries.get() if held.is_open)


class Shared(AbstractContextManager[None]):
    """Enters what ``make`` gives for the first, leaves it after the last; may be entered any number of times."""

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make = make
        self._num_inside = 0
        self._open = ExitStack()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._open.enter_context(self._make())
            self._num_inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                self._open.close()


P = ParamSpec("P")
R = TypeVar("R")


_open: Stack[tuple[int, str]] = Stack("region")
"""Number of the recording, name of the region: a region that outlives its recording is in no later one."""
_is_marking: ContextVar[bool] = ContextVar("bagel_perf_region_marking", default=False)


class Sink(Protocol):
    """Something that marks regions in a profile."""

    def open(self, name: str) -> AbstractContextManager[object]:
        """A context manager that marks one region from entry to exit."""
        ...


class NvtxSink:
    """Marks regions as NVTX ranges, which Nsight Systems shows; needs the package ``nvtx``."""

    def __init__(self) -> None:
        import nvtx

        self._annotate = nvtx.annotate

    def open(self, name: str) -> AbstractContextManager[object]:
        return cast(AbstractContextManager[object], self._annotate(name))


class RecordFunctionSink:
    """Marks regions as user annotations of ``torch.profiler``."""

    def open(self, name: str) -> AbstractContextManager[object]:
        return torch.profiler.record_function(name)


class _Recorders:
    """Who records in this process; ``sinks`` is None while nobody does. ``number`` counts the times somebody began."""

    def __init__(self) -> None:
        self.sinks: tuple[Sink, ...] | None = None
        self.number = 0
        self._asked: dict[object, tuple[Sink, ...]] = {}
        self._lock = threading.Lock()

    def add(self, who: object, sinks: tuple[Sink, ...]) -> None:
        with self._lock:
            self.number += not self._asked
            self._asked[who] = sinks
            self._refresh()

    def remove(self, who: object) -> None:
        with self._lock:
            del self._asked[who]
            self._refresh()

    def _refresh(self) -> None:
        found = dict.fromkeys(sink for sinks in self._asked.values() for sink in sinks)
        self.sinks = tuple(found) if self._asked else None


_recorders = _Recorders()


def forget() -> None:
    """Has nobody record in this process, a fork; regions that were open when it was forked stay open."""
    global _recorders
    number, _recorders = _recorders.number, _Recorders()
    _recorders.number = number - 1


class _Region:
    __slots__ = ("_held", "_marks", "_name", "_sinks")

    def __init__(self, name: str, sinks: tuple[Sink, ...]) -> None:
        self._name = name
        self._sinks = sinks

    def __enter__(self) -> None:
        self._marks = ExitStack()
        with _marking():
            for sink in self._sinks:
                self._marks.enter_context(sink.open(self._name))
        self._held = _open.push((_recorders.number, self._name))

    def __exit__(self, *raised: object) -> None:
        _open.let_go(self._held)
        with _marking():
            self._marks.close()


@contextmanager
def _marking() -> Iterator[None]:
    """A sink's own ranges are not taken for the program's by ``nvtx_ranges``."""
    _is_marking.set(True)
    try:
        yield
    finally:
        _is_marking.set(False)


class _Nothing:
    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        return None


_NOTHING = _Nothing()


def region(name: str) -> AbstractContextManager[None]:
    """Marks the statements under ``with`` as ``name``, inside the regions that are open already."""
    sinks = _recorders.sinks
    return _NOTHING if sinks is None else _Region(name, sinks)


def is_marking() -> bool:
    """Whether a sink is marking a region just now, in this thread or task."""
    return _is_marking.get()


def current_region() -> tuple[str, ...]:
    """Names of the open regions, outermost first; empty while nothing records."""
    if _recorders.sinks is None:
        return ()
    return tuple(name for number, name in _open.values() if number == _recorders.number)


@contextmanager
def recording(*sinks: Sink) -> Iterator[None]:
    """Keeps track of the regions of every thread, and marks them in ``sinks``, until the end of the context."""
    who = object()
    _recorders.add(who, sinks)
    try:
        yield
    finally:
        _recorders.remove(who)


def traced(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """``function`` in a region; if it gives an iterator, each of its steps is in the region as well."""

    @wraps(function)
    def in_region(*args: P.args, **kwargs: P.kwargs) -> R:
        with region(name):
            result = function(*args, **kwargs)
        return cast(R, _TracedIterator(name, result)) if isinstance(result, Iterator) else result

    return in_region


class _TracedIterator(Iterator[T]):
    def __init__(self, name: str, steps: Iterator[T]) -> None:
        self._name = name
        self._steps = steps

    def __next__(self) -> T:
        with region(self._name):
            return next(self._steps)
