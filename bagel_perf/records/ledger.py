"""Counts in memory that two processes share: what a program has counted so far can be read however it ends.

A record names a number; the number is changed in place, by one store of eight bytes, so a process that is killed
between two instructions leaves whole records and numbers behind. Where it left no report, the report is made of them.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.copies import CopySite, by_bytes
from bagel_perf.records.runs import SyncDevice
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import UNKNOWN_PID, BudgetCheck, Process, SyncReport, Witnesses

USES = (False, True, None)
"""Whether the device was used, as numbers of a ledger."""
ENDED_AT_ONCE = "a process was killed, ended at once, or still ran: it is counted as far as it came, without times"
COPY_FIELDS = ("count", "num_bytes", "num_waited")
UNKNOWN_BYTES = 2**63
Entries = list[tuple[dict[str, Any], int]]


class Counts(NamedTuple):
    """What a ledger says: its records with their numbers, and how many records found no room."""

    entries: Entries
    num_lost: int = 0


Texts = Callable[[dict[str, Any]], tuple[str, frozenset[str]]]


def unwatched_processes(counts: Counts) -> tuple[Process, ...]:
    """The processes that may have used the device without being watched."""
    found = [
        Process(name=record["process"], argv=tuple(record["argv"]), pid=None if number == UNKNOWN_PID else number)
        for record, number in counts.entries
        if "process" in record and number
    ]
    if counts.num_lost:
        found.append(Process(name=f"whatever came after {len(counts.entries)} records"))
    return tuple(found)


def process_name(entries: Entries) -> str:
    """What the process was called when it met something new the last time, "" before it has told."""
    return next((record["name"] for record, _ in reversed(entries) if "name" in record), "")


COUNTED = ("site", "copy", "unjudged", "hazards", "notes")


def since(entries: Entries, numbers: Sequence[int]) -> Entries:
    """What was counted since the numbers were as given; budgets, which were spent before, are left out."""
    before = [*numbers, *[0] * (len(entries) - len(numbers))]
    return [
        (record, number - earlier if any(name in record for name in COUNTED) and number != UNKNOWN_BYTES else number)
        for (record, number), earlier in zip(entries, before, strict=True)
        if "budget" not in record
    ]


def recovered_report(entries: Entries, subject: str, texts: Texts) -> SyncReport | None:
    """What was counted until the program ended, without times; None if it was not watched yet.

    ``texts`` reads what a record says of the source: the expression that waited, and the words around it.
    """
    device = next((record["device"] for record, _ in entries if "device" in record), None)
    if device is None:
        return None
    sites = sorted(_sites(entries, texts), key=lambda site: -site.count)
    total = sum(site.count for site in sites)
    is_simulated = device == "simulated"
    remarks = {what: _remarks(entries, what) for what in ("unjudged", "hazards", "notes")}
    return SyncReport(
        device=cast(SyncDevice, device),
        host_syncs=total,
        unexplained=0,
        sites=tuple(sites),
        witnesses=Witnesses(simulated=total) if is_simulated else Witnesses(callbacks=total),
        subject=subject,
        budgets=tuple(_budgets(entries)),
        unjudged=remarks["unjudged"],
        hazards=remarks["hazards"],
        notes=(
            ENDED_AT_ONCE,
            *(f"it could not be written: {record['failed']}" for record, _ in entries if "failed" in record),
            *(f"{note} ({calls} x)" for note, calls in remarks["notes"].items()),
        ),
        used_device=next((USES[number] for record, number in entries if "used_device" in record), None),
        not_begun=next((record["after"] for record, number in entries if "after" in record and not number), ""),
        copies=_copies(entries) if any("sees_copies" in record for record, _ in entries) else None,
    )


def _copies(entries: Entries) -> tuple[CopySite, ...]:
    found: dict[str, dict[str, Any]] = {}
    for record, number in entries:
        if "copy" in record:
            key = dumps(record["copy"])
            values = found.setdefault(key, dict(record["copy"]))
            values[record["field"]] = None if number == UNKNOWN_BYTES else number
    whole = [values for values in found.values() if values["count"] and values["num_waited"] <= values["count"]]
    return by_bytes([codec.from_json(CopySite, values) for values in whole])


def _sites(entries: Entries, texts: Texts) -> Iterator[SyncSite]:
    for record, number in entries:
        if "site" in record and number:
            text, around = texts(record["text"]) if "text" in record else ("", frozenset())
            expressions = (text,) if text else ()
            site = codec.from_json(SyncSite, record["site"])
            yield replace(site, count=number, expressions=expressions, around=tuple(sorted(around)))


def _remarks(entries: Entries, what: str) -> dict[str, int]:
    return {record[what]: number for record, number in entries if what in record and number}


def _budgets(entries: Entries) -> Iterator[BudgetCheck]:
    checks: dict[str, dict[str, Any]] = {}
    for record, number in entries:
        if "budget" in record:
            check = checks.setdefault(record["budget"], {"limit": record["limit"]})
            check[record["field"]] = USES[number] if record["field"] == "used_device" else number
    yield from (BudgetCheck(region=region, **values) for region, values in checks.items())


NUM_SLOTS = 16384
_HEAD = 3
"""Words in front of the numbers: how many records there are, how many bytes of text they take, whether it is paused."""
_TEXT_BYTES = 6 * 2**20
SIZE = 8 * (_HEAD + NUM_SLOTS) + _TEXT_BYTES


class Ledger:
    """Numbers by record, in memory of ``SIZE`` bytes that other processes may map.

    Only the process that made it writes; a forked one may ``mark`` the number that it was given. What finds no room is
    counted in ``num_lost``. One that is ``opened`` is another's: not a word is written, which that one may just change.
    """

    def __init__(self, memory: mmap.mmap | None = None, *, opened: bool = False) -> None:
        self._tell_name: Callable[[], str] = str
        self._name = ""
        memory = mmap.mmap(-1, SIZE) if memory is None else memory
        self._words = memoryview(memory).cast("B")[: SIZE - _TEXT_BYTES].cast("Q")
        self._text = memoryview(memory).cast("B")[SIZE - _TEXT_BYTES :]
        self._lock = threading.RLock()  # collecting garbage inside may run a finalizer that counts
        self._owner = 0 if opened else os.getpid()
        if not opened:
            self._words[0] = 1  # place 0 has no record

    def tell_name(self, tell: Callable[[], str]) -> None:
        """Notes what the process is called now, and again with each new record if it has another name by then."""
        self._tell_name = tell
        self._note_name()

    def _note_name(self) -> None:
        name = self._tell_name()
        if name != self._name:
            self._name = name
            self._append({"name": name})

    def slot(self, record: dict[str, Any]) -> int:
        """The place of a new number, 0 so far; place 0, which has no record, where there is no room."""
        if os.getpid() != self._owner:
            return 0
        self._note_name()
        return self._append(record)

    def _append(self, record: dict[str, Any]) -> int:
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
    def is_paused(self) -> bool:
        """Whether nothing is to be counted; any process may say so."""
        return bool(self._words[2])

    @is_paused.setter
    def is_paused(self, value: bool) -> None:
        self._words[2] = int(value)

    @property
    def num_lost(self) -> int:
        """Records that found no room."""
        return self._words[_HEAD]

    def counts(self) -> Counts:
        """All that is in it now."""
        return Counts(self.read(), self.num_lost)

    def read(self) -> Entries:
        """All records with their numbers, in the order in which they were made."""
        number, used = self._words[0], self._words[1]
        lines = bytes(self._text[:used]).splitlines()[: max(0, number - 1)]
        return [(loads(line), self._words[_HEAD + 1 + place]) for place, line in enumerate(lines)]


def new_ledger(path: Path) -> Ledger:
    """Makes a file for a ledger and maps it; it takes the disk no more than what is written into it."""
    with open(path, "xb+") as file:
        file.truncate(SIZE)
        return Ledger(mmap.mmap(file.fileno(), SIZE))


def open_ledger(path: Path) -> Ledger:
    """Maps the ledger of another process, which stays readable when its file is gone."""
    with open(path, "rb+") as file:
        return Ledger(mmap.mmap(file.fileno(), SIZE), opened=True)
