"""Counts in memory that two processes share: what a program has counted so far can be read however it ends.

A record names a number; the number is changed in place, by one store of eight bytes, so a process that is killed
between two instructions leaves whole records and numbers behind.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps, loads
from typing import Any

NUM_SLOTS = 16384
_HEAD = 2
"""Words in front of the numbers: how many records there are, and how many bytes of text they take."""
_TEXT_BYTES = 6 * 2**20
SIZE = 8 * (_HEAD + NUM_SLOTS) + _TEXT_BYTES


class Ledger:
    """Numbers by record, in memory of ``SIZE`` bytes that other processes may map.

    Only the process that made it writes; a forked one may ``mark`` the number that it was given. What finds no room is
    counted in ``num_lost``.
    """

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        memory = mmap.mmap(-1, SIZE) if memory is None else memory
        self._words = memoryview(memory).cast("B")[: SIZE - _TEXT_BYTES].cast("Q")
        self._text = memoryview(memory).cast("B")[SIZE - _TEXT_BYTES :]
        self._lock = threading.RLock()  # collecting garbage inside may run a finalizer that counts
        self._words[0] = max(1, self._words[0])
        self._owner = os.getpid()

    def slot(self, record: dict[str, Any]) -> int:
        """The place of a new number, 0 so far; place 0, which has no record, where there is no room."""
        if os.getpid() != self._owner:
            return 0
        line = dumps(record).encode() + b"\n"
        with self._lock:
            number, used = self._words[0], self._words[1]
            if number >= NUM_SLOTS or used + len(line) > len(self._text):
                self._words[_HEAD] += 1
                return 0
            self._text[used : used + len(line)] = line
            self._words[1] = used + len(line)
            self._words[0] = number + 1
            return number

    def add(self, slot: int) -> None:
        """One more."""
        if slot and os.getpid() == self._owner:
            with self._lock:
                self._words[_HEAD + slot] += 1

    def set(self, slot: int, value: int) -> None:
        """Another value."""
        if os.getpid() == self._owner:
            self.mark(slot, value)

    def mark(self, slot: int, value: int) -> None:
        """Another value, from whatever process."""
        if slot:
            self._words[_HEAD + slot] = value

    @property
    def num_lost(self) -> int:
        """Records that found no room."""
        return self._words[_HEAD]

    def read(self) -> list[tuple[dict[str, Any], int]]:
        """All records with their numbers, in the order in which they were made."""
        number, used = self._words[0], self._words[1]
        lines = bytes(self._text[:used]).splitlines()[: number - 1]
        return [(loads(line), self._words[_HEAD + 1 + place]) for place, line in enumerate(lines)]


@contextmanager
def shared_ledger() -> Iterator[tuple[Ledger, int]]:
    """A ledger for another process to write, and the descriptor by which it maps the memory; no file of any folder."""
    descriptor = os.memfd_create("bagel_perf")
    try:
        os.ftruncate(descriptor, SIZE)
        yield Ledger(mmap.mmap(descriptor, SIZE)), descriptor
    finally:
        os.close(descriptor)


def inherited_ledger(descriptor: int) -> Ledger:
    """The ledger of the process that started this one; the descriptor is closed."""
    memory = mmap.mmap(descriptor, SIZE)
    os.close(descriptor)
    return Ledger(memory)
