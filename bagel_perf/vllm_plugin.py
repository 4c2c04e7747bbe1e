"""What vLLM and vLLM-Omni load of ours: a plugin that watches their processes, and methods for their workers.

The plugin does nothing unless ``BAGEL_PERF_WATCH`` is set. The methods count between two calls of ``collective_rpc``,
without any variable. Importing this costs next to nothing, and no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from bagel_perf.arming.sitecustomize import VARIABLE

MAX_ANSWER = 200
"""Characters of an answer that is no report."""


def register() -> None:
    """Watches this process, and those that it starts, where ``BAGEL_PERF_WATCH`` names a folder.

    It is the entry point of ``vllm.general_plugins`` and of ``vllm_omni.general_plugins``, which between them are
    loaded in every process.
    """
    if os.environ.get(VARIABLE):
        from bagel_perf.watch_orders import watch_where_asked

        watch_where_asked()


class SyncWatchExtension:
    """Counts the host syncs of a worker's process; for ``worker_extension_cls``.

    The methods may be called from different threads. No name here is one of a worker's.
    """

    def start_sync_watch(self, budgets: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Begins to count; gives who counts. Raises ``UsageError`` where this process counts already.

        ``budgets`` are host syncs per entry by the name of a region, ``""`` for the whole; the reports say how they
        were kept, and nothing raises.
        """
        from bagel_perf.worker_watch import of_this_process

        return of_this_process.start(budgets)

    def stop_sync_watch(self) -> dict[str, Any]:
        """Ends counting; gives the report, a JSON object. Raises ``UsageError`` where nothing counts."""
        from bagel_perf.worker_watch import of_this_process

        return of_this_process.stop()

    def sync_report(self) -> dict[str, Any]:
        """Gives the report so far, a JSON object, and goes on. Raises ``UsageError`` where nothing counts."""
        from bagel_perf.worker_watch import of_this_process

        return of_this_process.report()


def merged(results: Any, subject: str = "collective_rpc") -> dict[str, Any]:
    """Makes one report of those that ``collective_rpc`` gave, as deep in lists as they are; a JSON object.

    A worker that answers anything else is listed as one that was not watched, and leaves budgets open.
    """
    from msgspec.structs import replace

    from bagel_perf.records.syncs import SCHEMA, Process, SyncReport
    from bagel_perf.verdicts.merging import Followed
    from bagel_perf.verdicts.merging import merged as one_of

    reports, silent = list[SyncReport](), list[Process]()
    for answer in _flat(results):
        if not isinstance(answer, Mapping) or answer.get("schema") != SCHEMA:
            silent.append(Process(name="a worker", why=f"it answered {answer!r}"[:MAX_ANSWER]))
        elif (report := SyncReport.from_json(answer)) not in reports:  # two workers of one process say the same
            reports.append(report)
    followed = [Followed(process=each.processes[0], report=replace(each, processes=())) for each in reports]
    watched = {each.process.pid for each in followed}
    others = [other for each in reports for other in each.processes[1:] if other.pid not in watched]
    return one_of(subject, followed, (*others, *silent)).to_json()


def _flat(results: Any) -> Iterator[Any]:
    if isinstance(results, (list, tuple)):
        for each in results:
            yield from _flat(each)
    else:
        yield results
