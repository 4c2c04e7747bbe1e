"""Attributes replaced for a while, and put back exactly as they were."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Self

_ABSENT: Any = object()


class Patches(AbstractContextManager["Patches"]):
    """A context that replaces attributes of modules and classes; on exit each is the identical object again.

    An attribute that an object had only by inheritance, or not at all, is deleted on exit.
    """

    def __init__(self) -> None:
        self._wanted: list[tuple[Any, str, Any]] = []
        self._found: list[tuple[Any, str, Any]] = []
        self._extended: list[tuple[list[Any], Any]] = []

    def add(self, owner: Any, name: str, value: Any, *, only_present: bool = False) -> None:
        """Replaces ``owner.name`` from the start of the context; with ``only_present`` not where torch lacks it."""
        if not only_present or hasattr(owner, name):
            self._wanted.append((owner, name, value))

    def extend(self, members: list[Any], member: Any) -> None:
        """Has ``member`` in the list ``members`` during the context."""
        self._extended.append((members, member))

    def __enter__(self) -> Self:
        for owner, name, value in self._wanted:
            self._found.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, value)
        for members, member in self._extended:
            members.append(member)
        return self

    def __exit__(self, *raised: Any) -> None:
        for members, member in self._extended:
            members.remove(member)
        while self._found:
            owner, name, value = self._found.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
