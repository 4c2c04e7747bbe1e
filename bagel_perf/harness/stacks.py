"""What is open in a thread or task: a stack whose entries leave by themselves, in any order and from anywhere.

``with`` blocks of generators that take turns end in another order than they began; a generator may even end in another
thread or task than it started in. So an entry is taken out by its own name, never by what was there before it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar

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
