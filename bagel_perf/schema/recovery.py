"""What a ledger says of a watched program: its processes, and where it left no report, the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from msgspec.structs import replace

from bagel_perf.schema import codec
from bagel_perf.schema.ledger import Ledger
from bagel_perf.schema.runs import SyncDevice
from bagel_perf.schema.sites import Site
from bagel_perf.schema.syncs import UNKNOWN_PID, BudgetCheck, Process, SyncReport, Witnesses

USES = (False, True, None)
"""Whether the device was used, as numbers of a ledger."""
ENDED_AT_ONCE = "the program ended at once and left no report of its own: no source texts here, and no times"
Entries = list[tuple[dict[str, Any], int]]


def unwatched_processes(ledger: Ledger) -> tuple[Process, ...]:
    """The processes that may have used the device without being watched."""
    found = [
        Process(name=record["process"], argv=tuple(record["argv"]), pid=None if number == UNKNOWN_PID else number)
        for record, number in ledger.read()
        if "process" in record and number
    ]
    if ledger.num_lost:
        found.append(Process(name=f"whatever came after {len(ledger.read())} records"))
    return tuple(found)


def process_id(ledger: Ledger) -> int | None:
    """The number of the process that was watched."""
    return next((number for record, number in ledger.read() if "device" in record), None)


def recovered_report(ledger: Ledger, subject: str) -> SyncReport | None:
    """What was counted until the program ended, without source texts and times; None if it was not watched yet."""
    entries = ledger.read()
    device = next((record["device"] for record, _ in entries if "device" in record), None)
    if device is None:
        return None
    sites = sorted(_sites(entries), key=lambda site: -site.count)
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
        processes=unwatched_processes(ledger),
    )


def _sites(entries: Entries) -> Iterator[Site]:
    for record, number in entries:
        if "site" in record and number:
            yield replace(codec.from_json(Site, record["site"]), count=number)


def _remarks(entries: Entries, what: str) -> dict[str, int]:
    return {record[what]: number for record, number in entries if what in record and number}


def _budgets(entries: Entries) -> Iterator[BudgetCheck]:
    checks: dict[str, dict[str, Any]] = {}
    for record, number in entries:
        if "budget" in record:
            check = checks.setdefault(record["budget"], {"limit": record["limit"]})
            check[record["field"]] = USES[number] if record["field"] == "used_device" else number
    yield from (BudgetCheck(region=region, **values) for region, values in checks.items())
