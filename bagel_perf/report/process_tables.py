"""The processes of a watched command, with the waits of each."""

from __future__ import annotations

from collections.abc import Iterable

from bagel_perf.records.syncs import Process, SyncReport
from bagel_perf.report.table import Column, Table


def process_table(report: SyncReport) -> Table | None:
    """Shows the processes that used the device, or may have; None where there is but one."""
    shown = _shown(report.processes)
    if len(shown) < 2:
        return None
    rest = len(report.processes) - len(shown)
    return Table(
        title="Processes",
        columns=(Column(header="waits", numeric=True), Column(header="pid", numeric=True), Column(header="process")),
        rows=tuple(map(_row, shown)),
        caption=f"{rest} more did not use the device" if rest else "",
    )


def _shown(processes: Iterable[Process]) -> list[Process]:
    return [each for each in processes if each.used_device is not False or not each.watched]


def _row(process: Process) -> tuple[str, ...]:
    waits = "unknown" if process.host_syncs is None else str(process.host_syncs)
    lines = [process.name if process.watched else f"{process.name}  NOT WATCHED"]
    lines += [f"  {process.why}"] if process.why else []
    return waits, "" if process.pid is None else str(process.pid), "\n".join(lines)
