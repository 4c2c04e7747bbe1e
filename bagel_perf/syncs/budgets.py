"""Budgets: how many host syncs a region may make each time it is entered, those left out that are meant.

A wait that is meant is counted and listed with its reason. A program that never used the device waits for nothing, and
that proves nothing; so it is noticed whether anything ran there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from bagel_perf.records.ledger import USES, Ledger
from bagel_perf.records.syncs import BudgetCheck
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs.regions import Stack
from bagel_perf.syncs.window import is_paused, is_warming_up

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager

Notice = Callable[[bool | None], bool]
"""Called with True when the device is used, with None where that cannot be told; gives whether that was news enough."""
Noticing = Callable[[Notice], AbstractContextManager[None]]
"""Has a function called at uses of the device, on the thread that uses it where that is known, until it gives True."""


def uses_of_simulated(device: SimulatedDevice) -> Noticing:
    """Of the simulated device, which sees every call."""
    return lambda notice: device.uses_to(lambda: notice(True))


def uses_of_cuda(allocations: Callable[[], tuple[int, int]] | None = None) -> Noticing:
    """Of CUDA devices, by allocations: (how many so far, how many live).

    Without any, before or since, nothing can have run there; what works in place on memory that was there before
    cannot be told from nothing.
    """
    read = allocations or _allocations

    @contextmanager
    def noticing(notice: Notice) -> Iterator[None]:
        num_before, num_live_before = read()
        try:
            yield
        finally:
            num_after, num_live = read()
            if num_after != num_before:
                notice(True)
            elif num_live or num_live_before:
                notice(None)

    return noticing


def _allocations() -> tuple[int, int]:
    stats = [torch.cuda.memory_stats(number) for number in range(torch.cuda.device_count())]
    num, num_live = (sum(each.get(f"allocation.all.{name}", 0) for each in stats) for name in ("allocated", "current"))
    return num, num_live


@dataclass(slots=True)
class _Allowance:
    """One ``with allow_sync`` that is open; ``left`` is how many waits it still covers, None for any number."""

    reason: str
    left: int | None


_allowances: Stack[_Allowance] = Stack("allow_sync")
_Declaration = tuple[str, int, str]
"""File and line of an ``allow_sync``, and its reason."""
_entered: dict[_Declaration, object] = {}
"""Declarations for the first entry alone that were entered in this process, or in the one that it was forked from."""


def allow_sync(reason: str, *, at_most: int | None = None, first_only: bool = False) -> _GeneratorContextManager[None]:
    """Declares the waits under ``with`` as intended, in this thread or task; ``reason`` is shown beside them.

    With ``at_most``, further waits of the same entry are not allowed. With ``first_only``, as for a warm-up, only the
    process's first entry of this line with this reason allows any, watched or not. The innermost declaration counts,
    also where it allows nothing any more. Raises ValueError for an empty reason or a negative number.
    """
    if not reason.strip():
        raise ValueError('allow_sync needs a reason, as allow_sync("end-token check")')
    if at_most is not None and at_most < 0:
        raise ValueError(f"allow_sync covers at_most 0 or more waits, not {at_most}")
    caller = sys._getframe(1)
    declaration = (caller.f_code.co_filename, caller.f_lineno, reason) if first_only else None
    return _allowing(reason, at_most, declaration)


@contextmanager
def _allowing(reason: str, at_most: int | None, declaration: _Declaration | None) -> Iterator[None]:
    is_spent = declaration is not None and not _is_first(declaration)
    held = _allowances.push(_Allowance(reason, 0 if is_spent else at_most))
    try:
        yield
    finally:
        _allowances.let_go(held)


def _is_first(declaration: _Declaration) -> bool:
    mine = object()
    return _entered.setdefault(declaration, mine) is mine  # a lock that another thread holds would be held in a fork


def take_allowance() -> str | None:
    """The reason why a wait that happens now is allowed, None where it is not; uses up one of ``at_most``."""
    allowances = _allowances.values()
    if not allowances or allowances[-1].left == 0:
        return None
    innermost = allowances[-1]
    if innermost.left is not None:
        innermost.left -= 1
    return innermost.reason


WHOLE = ""
"""Key of the budget of everything that is watched."""

FIELDS = ("num_entries", "worst", "num_exceeded", "used_device")


class _Account:
    """How the entries of a region spent its budget; an entry that is open counts as far as it came."""

    def __init__(self, region: str, limit: int, ledger: Ledger | None) -> None:
        self.check = BudgetCheck(region=region, limit=limit, num_entries=0, worst=0, num_exceeded=0, used_device=False)
        self._ledger = ledger
        record = {"budget": region, "limit": limit}
        self._slots = {} if ledger is None else {name: ledger.slot({**record, "field": name}) for name in FIELDS}

    def change(self, **values: Any) -> None:
        """Sets fields of the check, here and in the ledger."""
        self.check = replace(self.check, **values)
        if self._ledger is not None:
            for name, value in values.items():
                self._ledger.set(self._slots[name], USES.index(value) if name == "used_device" else value)


@dataclass(slots=True, eq=False)
class _Entry:
    """One entry into a budgeted region; one that a fork inherits is an entry once it waits."""

    keeper: BudgetKeeper
    account: _Account
    count: int = 0
    is_inherited: bool = False


_open: Stack[_Entry] = Stack("budget")


class BudgetKeeper:
    """Counts waits per entry; a sink of ``regions.recording``, which tells it of every region that opens.

    ``limits`` are host syncs per entry by region name, ``""`` for the whole watch; ``ledger`` is told of every change.
    ``noticing`` tells of uses of the device, of none where nothing was set. ``counts_here`` says whether the regions
    of the thread that asks have budgets. Raises ValueError for anything else.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        ledger: Ledger | None = None,
        counts_here: Callable[[], bool] = lambda: True,
    ) -> None:
        _check_limits(limits)
        self.limits = dict(limits)
        self.noticing: Noticing = lambda notice: nullcontext()
        self.counts_here = counts_here
        self._lock = threading.RLock()
        self._accounts = {name: _Account(name, limit, ledger) for name, limit in limits.items()}
        self._whole = self._accounts.get(WHOLE)
        if self._whole is not None:
            self._whole.change(num_entries=1, used_device=None)  # what is true of all is the watch's to tell

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """One entry of a region, if it has a budget."""
        if name not in self.limits or name == WHOLE or not self.counts_here() or is_paused() or is_warming_up():
            yield
            return
        entry = _Entry(self, self._accounts[name])
        with self._lock:
            entry.account.change(num_entries=entry.account.check.num_entries + 1)
        held = _open.push(entry)
        is_known = entry.account.check.used_device is True
        try:
            with nullcontext() if is_known else self.noticing(lambda used: self._notice(entry, used)):
                yield
        finally:
            _open.let_go(held)

    def inherit(self, other: BudgetKeeper) -> None:
        """Holds this process, a fork, to the budgets of regions that were open under the other keeper."""
        for entry in _open.values():
            if entry.keeper is other:
                entry.keeper, entry.account = self, self._accounts[entry.account.check.region]
                entry.count, entry.is_inherited = 0, True

    def _notice(self, entry: _Entry, used: bool | None) -> bool:
        """Takes note of a use by the thread or task that the entry is of; gives whether the entry is done with."""
        if entry not in _open.values():
            return False
        with self._lock:
            if entry.account.check.used_device is not True:
                entry.account.change(used_device=used)
        return used is True

    def wait(self, *, is_allowed: bool) -> BudgetCheck | None:
        """One wait, in the regions that are open in this thread or task; gives the innermost budget that it is over.

        The ``worst`` of that is what the entry that is open has spent.
        """
        over: BudgetCheck | None = None
        with self._lock:
            if self._whole is not None and not is_allowed:
                worst = self._whole.check.worst + 1
                self._whole.change(worst=worst, num_exceeded=int(worst > self._whole.check.limit))
                over = self._whole.check if self._whole.check.num_exceeded else None
            for entry in _open.values():
                if entry.keeper is self and self._is_over(entry, is_allowed=is_allowed):
                    over = replace(entry.account.check, worst=entry.count)
        return over

    def _is_over(self, entry: _Entry, *, is_allowed: bool) -> bool:
        account = entry.account
        if account.check.used_device is not True:
            account.change(used_device=True)
        if is_allowed:
            return False
        entry.count += 1
        if entry.is_inherited and entry.count == 1:
            account.change(num_entries=account.check.num_entries + 1)
        if entry.count > account.check.worst:
            account.change(worst=entry.count)
        if entry.count == account.check.limit + 1:
            account.change(num_exceeded=account.check.num_exceeded + 1)
        return entry.count > account.check.limit

    def checks(self) -> tuple[BudgetCheck, ...]:
        """How each budget was kept so far."""
        with self._lock:
            return tuple(account.check for account in self._accounts.values())


def _check_limits(limits: object) -> None:
    if not isinstance(limits, Mapping):
        raise ValueError(f'budgets are given by region, as {{"step": 0}}, or {{"": 0}} for the whole; not {limits!r}')
    for name, limit in limits.items():
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise ValueError(f"budget of {name or 'the whole'} is {limit!r}; it has to be 0 or more host syncs")
