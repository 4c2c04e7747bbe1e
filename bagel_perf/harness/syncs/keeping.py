"""Keeps a ledger of what a watch counts as it counts it, so that it outlives a program that is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bagel_perf.harness.simulated import SimulatedDevice
from bagel_perf.harness.syncs.sites import Place, SyncCollector, Texts, site_of
from bagel_perf.harness.syncs.unjudged import UnjudgedCalls
from bagel_perf.schema import codec
from bagel_perf.schema.ledger import Ledger
from bagel_perf.schema.waits import Kind


@contextmanager
def keeping(
    ledger: Ledger, collector: SyncCollector, unjudged: UnjudgedCalls, simulated: SimulatedDevice | None
) -> Iterator[None]:
    """Tells ``ledger`` of each wait, and of what the simulated device remarks, until the end of the context."""
    book = _Book(ledger, unjudged)
    ledger.set(ledger.slot({"device": collector.device}), os.getpid())
    collector.on_wait = (*collector.on_wait, book.wait)
    if simulated is None:
        yield
        return
    with simulated.remarks_to(book.remark):
        yield


class _Book:
    def __init__(self, ledger: Ledger, unjudged: UnjudgedCalls) -> None:
        self._ledger = ledger
        self._unjudged = unjudged
        self._texts = Texts()
        self._of_waits: dict[int, int] = {}
        self._of_remarks: dict[tuple[str, str], int] = {}

    def wait(self, number: int, kind: Kind, place: Place) -> None:
        """One more wait; the first of its kind at its place makes the record."""
        slot = self._of_waits.get(number)
        if slot is None:
            site = site_of(kind, place, 1, (), self._texts)
            slot = self._of_waits.setdefault(number, self._ledger.slot({"site": codec.to_json(site)}))
        self._ledger.add(slot)

    def remark(self, what: str, name: str) -> None:
        """One more remark, unless it is about an operator that the user answers for."""
        if what == "unjudged" and self._unjudged.answered(name) is not None:
            return
        slot = self._of_remarks.get((what, name))
        if slot is None:
            slot = self._of_remarks.setdefault((what, name), self._ledger.slot({what: name}))
        self._ledger.add(slot)
