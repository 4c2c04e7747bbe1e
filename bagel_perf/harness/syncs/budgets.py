"""Budgets: how many host syncs a region may make each time it is entered."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bagel_perf.harness.stacks import Stack
from bagel_perf.schema.syncs import BudgetCheck

WHOLE = ""
"""Key of the budget of everything that is watched."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One entry into a budgeted region."""

    keeper: BudgetKeeper
    count: int = 0


_open: Stack[_Entry] = Stack("budget")


class BudgetKeeper:
    """Counts waits per entry; a sink of ``regions.recording``, which tells it of every region that opens.

    ``limits`` are host syncs per entry by region name, ``""`` for the whole watch. Raises ValueError for
    anything else.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        if not isinstance(limits, Mapping):
            raise ValueError(
                f'budgets are given by region, as {{"step": 0}}, or {{"": 0}} for the whole; not {limits!r}'
            )
        for name, limit in limits.items():
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
                raise ValueError(f"budget of {name or 'the whole'} is {limit!r}; it has to be 0 or more host syncs")
        self.limits = dict(limits)
        self._counts: dict[str, list[int]] = {name: [] for name in limits}
        self._num_spent = 0
        self._lock = threading.RLock()

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """One entry of a region, if it has a budget."""
        if name not in self.limits or name == WHOLE:
            yield
            return
        entry = _Entry(self)
        held = _open.push(entry)
        try:
            yield
        finally:
            _open.let_go(held)
            with self._lock:
                self._counts[name].append(entry.count)

    def spend(self) -> None:
        """One wait that is not allowed, in the regions that are open in this thread or task."""
        with self._lock:
            self._num_spent += 1
            for entry in _open.values():
                entry.count += entry.keeper is self

    def checks(self) -> tuple[BudgetCheck, ...]:
        """How each budget was kept, over the entries that have ended."""
        with self._lock:
            counts = {name: list(each) for name, each in self._counts.items()}
        if WHOLE in counts:
            counts[WHOLE] = [self._num_spent]
        return tuple(
            BudgetCheck(
                region=name,
                limit=self.limits[name],
                num_entries=len(entries),
                worst=max(entries, default=0),
                num_exceeded=sum(count > self.limits[name] for count in entries),
            )
            for name, entries in counts.items()
        )
